"""Ranks as torchrun describes them in the environment, for code that must not load torch.

How ranks work together is in `facesr.dist`.
"""

import os


def rank() -> int:
    """Returns this process's rank, 0 when alone."""
    return int(os.environ.get("RANK", "0"))


def world_size() -> int:
    """Returns the number of ranks, 1 when alone."""
    return int(os.environ.get("WORLD_SIZE", "1"))
