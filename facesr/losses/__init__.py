"""Loss terms of the generator; each knows its weight and the clock at which it begins.

A term is called with `LossInputs` and returns a scalar that is not yet multiplied by its weight.
"""
