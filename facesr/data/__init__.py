"""Faces: built-in ones, prepared sets, and what feeds them to the training."""
