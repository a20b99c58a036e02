"""Pixel losses: mean difference between restored and true colour values, in [0, 1] units."""

import torch
from torch import Tensor

from facesr.losses.term import LossInputs, LossTerm
from facesr.ranges import Kimg, Positive


class L1(LossTerm):
    """Mean absolute difference."""

    def forward(self, inputs: LossInputs) -> Tensor:
        """Returns the scalar mean of abs(restored - high)."""
        return (inputs.restored - inputs.high).abs().mean()


class MeanSquare(LossTerm):
    """Mean squared difference, on colour values scaled to a range of `value_range`.

    Args:
        weight: see `LossTerm`.
        start_kimg: see `LossTerm`.
        value_range: 1 for [0, 1]; 2 for [-1, 1], as SICNN's pixel term is defined.
    """

    def __init__(self, weight: Positive, start_kimg: Kimg, value_range: Positive = 1.0) -> None:
        super().__init__(weight, start_kimg)
        self.value_range = value_range

    def forward(self, inputs: LossInputs) -> Tensor:
        """Returns the scalar mean of (value_range * (restored - high))^2."""
        return (self.value_range * (inputs.restored - inputs.high)).square().mean()


class Charbonnier(LossTerm):
    """Smooth absolute difference sqrt(d^2 + epsilon^2).

    Source: Lai et al., "Deep Laplacian pyramid networks", CVPR 2017, section 3.2 (epsilon 1e-3).
    """

    def __init__(self, weight: Positive, start_kimg: Kimg, epsilon: Positive = 1e-3) -> None:
        super().__init__(weight, start_kimg)
        self.epsilon = epsilon

    def forward(self, inputs: LossInputs) -> Tensor:
        """Returns the scalar mean of the smooth absolute difference."""
        return self.between(inputs.restored, inputs.high)

    def between(self, first: Tensor, second: Tensor) -> Tensor:
        """Returns the scalar mean of sqrt(d^2 + epsilon^2) over the differences d of two batches."""
        return torch.sqrt((first - second).square() + self.epsilon**2).mean()
