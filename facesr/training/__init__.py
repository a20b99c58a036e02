"""Training: the loop, one step, validation, and what a run leaves behind. Start with ``uv run train.py``."""
