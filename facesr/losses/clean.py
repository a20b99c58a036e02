"""Clean loss: the official downscaling of the truth, enlarged, is what a network that only cleans has to give."""

import torch

from facesr.losses.pixel import Charbonnier
from facesr.losses.term import LossInputs
from facesr.resample import downscale_to_grey_levels, upscale


class CleanInput(Charbonnier):
    """Smooth absolute difference to the bicubic picture of a clean input; for `CleanedBicubic`.

    Args:
        weight: see `LossTerm`.
        start_kimg: see `LossTerm`.
        epsilon: see `Charbonnier`.
    """

    def forward(self, inputs: LossInputs) -> torch.Tensor:
        """Returns the scalar mean of the smooth absolute difference."""
        clean = upscale(downscale_to_grey_levels(inputs.high).float())
        return self.between(inputs.restored, clean)
