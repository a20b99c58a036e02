"""What every loss term of the generator has: inputs, weight and start."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from torch import Tensor, nn

from facesr.ranges import Kimg, Positive


@dataclass(frozen=True)
class LossInputs:
    """One batch as the loss terms see it.

    Attributes:
        low: float32 (N, 3, h, w) in [0, 1], what the generator was given.
        high: float32 (N, 3, 4h, 4w) in [0, 1], the truth.
        restored: float32 (N, 3, 4h, 4w), the generator's output, unclamped.
        extras: what else the generator gave, by name, float32; empty for most generators.
        landmarks: float32 (N, 5, 2), x and y in pixels of `high`, NaN where unknown; None where no term needs them.
        seed: of the run, for a term that draws, together with
        position: the place of the batch's first face in the run; the others follow. A draw that depended on anything
            else would differ between ranks, or with the number of parts.
    """

    low: Tensor
    high: Tensor
    restored: Tensor
    extras: Mapping[str, Tensor] = field(default_factory=dict)
    landmarks: Tensor | None = None
    seed: int = 0
    position: int = 0


class LossTerm(nn.Module):
    """Base of the generator's loss terms.

    Attributes:
        needs: names of `LossInputs.extras` that the generator has to give.
        needs_landmarks: whether the training faces need landmarks.

    Args:
        weight: factor of the term in the sum.
        start_kimg: thousands of images after which the term takes part.
    """

    needs: ClassVar[tuple[str, ...]] = ()
    needs_landmarks: ClassVar[bool] = False

    def __init__(self, weight: Positive, start_kimg: Kimg) -> None:
        super().__init__()
        if not weight > 0:
            raise ValueError(f"weight={weight} must be above 0; leave the term out instead")
        self.weight, self.start_kimg = float(weight), float(start_kimg)

    def active(self, kimg: float) -> bool:
        """Returns whether the term takes part at `kimg` thousand images."""
        return kimg >= self.start_kimg
