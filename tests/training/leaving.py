"""A rank that joins, loads what torch's optimizers load, sends something and leaves; prints whether the group is gone.

tests/training/test_ranks.py runs it.
"""

import importlib
import weakref

import torch

from facesr import dist

if __name__ == "__main__":
    dist.initialise(torch.device("cpu"))
    importlib.import_module("torch._dynamo")
    group = weakref.ref(dist.td.group.WORLD)
    assert dist.any_rank(True, torch.device("cpu"))
    before = group() is not None
    dist.shutdown()
    print(before, group() is None)
