"""Three steps in fp16 whose first overflows on rank 0 alone; prints each rank's weight and loss scale after each step.

A program for `tests/training/test_ranks.py`, started once a rank.
"""

import json

import torch
from torch import Tensor

from facesr import dist
from facesr.losses.pixel import L1
from facesr.losses.term import LossInputs
from facesr.training.step import GanState, train_step
from tests.training.test_step import GREY, LR, OneWeight


class Planted(L1):
    """L1, which on rank 0 is so large in its first step that its scaled gradient is infinite."""

    num_calls = 0

    def forward(self, inputs: LossInputs) -> Tensor:
        """Returns the mean, times 1e36 where it shall overflow."""
        self.num_calls += 1
        return super().forward(inputs) * (1e36 if dist.rank() == 0 and self.num_calls == 1 else 1.0)


if __name__ == "__main__":
    dist.initialise(torch.device("cpu"))
    generator = OneWeight()
    gan = GanState(generator, torch.optim.SGD(generator.parameters(), LR), {"pixel": Planted(1.0, 0.0)}, "fp16", 0.0)
    seen = []
    for _ in range(3):
        train_step(gan, [GREY], 0.0)
        seen.append([generator.w.item(), gan.scaler.get_scale()])
    print(json.dumps(seen))
    dist.shutdown()
