"""Evaluation: pairing and checking folders, scoring them, and telling the result.

`facesr.evaluation.flow` is the place to start reading; evaluate.py is its command line.
"""
