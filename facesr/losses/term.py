"""What every loss term of the generator has: inputs, weight and start."""

from dataclasses import dataclass

from torch import Tensor, nn


@dataclass(frozen=True)
class LossInputs:
    """One batch as the loss terms see it.

    Attributes:
        low: float32 (N, 3, h, w) in [0, 1], what the generator was given.
        high: float32 (N, 3, 4h, 4w) in [0, 1], the truth.
        restored: float32 (N, 3, 4h, 4w), the generator's output, unclamped.
    """

    low: Tensor
    high: Tensor
    restored: Tensor


class LossTerm(nn.Module):
    """Base of the generator's loss terms.

    Args:
        weight: factor of the term in the sum.
        start_kimg: thousands of images after which the term takes part.
    """

    def __init__(self, weight: float, start_kimg: float) -> None:
        super().__init__()
        if not weight > 0:
            raise ValueError(f"weight={weight} must be above 0; leave the term out instead")
        self.weight, self.start_kimg = float(weight), float(start_kimg)

    def active(self, kimg: float) -> bool:
        """Returns whether the term takes part at `kimg` thousand images."""
        return kimg >= self.start_kimg
