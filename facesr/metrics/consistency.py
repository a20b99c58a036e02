"""Consistency: does the restored picture, downscaled as the competition does it, give the input again?

A generator that invents another face scores low here however sharp that face is.
"""

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from facesr.metrics.psnr import psnr_rgb
from facesr.protocols import MetricInputs
from facesr.resample import downscale_to_grey_levels


def consistency(restored: Tensor, low: Tensor) -> NDArray[np.float64]:
    """Returns the RGB PSNR between downscaled `restored` and `low` in dB, 0..100, higher is better, float64 (N,).

    Shapes: restored (N, 3, 4h, 4w), low (N, 3, h, w). The downscaling is the exact one of facesr.resample,
    rounded to grey levels, so an unaltered original reaches 100.
    """
    return psnr_rgb(downscale_to_grey_levels(restored), low)


class Consistency:
    """`consistency` as a metric."""

    name = "consistency"
    unit = "dB"
    higher_is_better = True
    version = 1
    conditions = "RGB, after the official downscaling"
    needs_low = True

    def __call__(self, inputs: MetricInputs) -> NDArray[np.float64]:
        """Returns dB per picture, float64 (N,).

        Raises:
            ValueError: the inputs have no low-resolution pictures.
        """
        if inputs.low is None:
            raise ValueError("consistency needs the low-resolution pictures")
        return consistency(inputs.restored, inputs.low)
