"""facesr: the harness of a face super-resolution competition (train, evaluate, submit)."""

__version__ = "0.1.0"
