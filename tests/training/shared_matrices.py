"""Three steps of Muon; writes each rank's weights, state and how many matrices it made orthogonal, into a folder.

A program for `tests/training/test_muon.py`, started once a rank.
"""

import sys
from pathlib import Path

import torch
from torch import Tensor

from facesr import dist
from facesr.training import muon
from tests.training.test_muon import three_steps

if __name__ == "__main__":
    dist.initialise(torch.device("cpu"))
    computed = 0
    plain = muon.orthogonal

    def counted(matrices: Tensor) -> Tensor:
        """Returns what it would, and counts."""
        global computed
        computed += len(matrices)
        return plain(matrices)

    muon.orthogonal = counted
    network, optimizer = three_steps()
    left = (network.state_dict(), optimizer.state_dict(), computed)
    torch.save(left, Path(sys.argv[1], f"{dist.rank()}.pt"))
    dist.shutdown()
