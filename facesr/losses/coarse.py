"""Coarse loss: the picture that a generator draws on its way against the truth."""

from typing import ClassVar

from torch import Tensor

from facesr.losses.term import LossInputs, LossTerm


class Coarse(LossTerm):
    """Mean squared difference between the coarse and the true picture, on colour values in [0, 1].

    Source: Chen et al., "FSRNet", arXiv 1711.10703, section 3, the summand of the coarse picture, of weight 1.
    """

    needs: ClassVar[tuple[str, ...]] = ("coarse",)

    def forward(self, inputs: LossInputs) -> Tensor:
        """Returns the scalar mean of (coarse - high)^2."""
        return (inputs.extras["coarse"] - inputs.high).square().mean()
