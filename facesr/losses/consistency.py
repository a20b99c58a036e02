"""Consistency: the restored face, downscaled as the competition does, must be the input again."""

from torch import Tensor

from facesr.losses.term import LossInputs, LossTerm
from facesr.resample import downscale


class Consistency(LossTerm):
    """Mean absolute difference between downscale(restored) and the input, less the rounding of the input.

    The input is rounded to whole grey levels, so differences within half a level are no fault and cost nothing.
    """

    half_level = 0.5 / 255.0

    def forward(self, inputs: LossInputs) -> Tensor:
        """Returns the scalar mean of max(abs(downscale(restored) - low) - half a grey level, 0)."""
        difference = (downscale(inputs.restored) - inputs.low).abs()
        return (difference - self.half_level).clamp_min(0.0).mean()
