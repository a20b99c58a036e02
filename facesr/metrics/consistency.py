"""Consistency: does the restored picture, downscaled as the competition does it, give the input again?

A generator that invents another face scores low here however sharp that face is.
"""

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from facesr.image import to_float
from facesr.metrics.psnr import psnr_rgb
from facesr.protocols import MetricInputs
from facesr.resample import downscale_to_grey_levels, downscale_uint8
from facesr.task import SCALE

# Rows of a low-resolution picture that are made at once: what is held in float64 does not grow with the picture.
_BAND = 128
# A row is made of 6 high-resolution rows above its own four and 6 below.
_CONTEXT = 2


def consistency(restored: Tensor, low: Tensor) -> NDArray[np.float64]:
    """Returns the RGB PSNR between downscaled `restored` and `low` in dB, 0..100, higher is better, float64 (N,).

    Shapes: restored (N, 3, 4h, 4w), low (N, 3, h, w). The downscaling is the exact one of facesr.resample,
    rounded to grey levels, so an unaltered original reaches 100.
    """
    return psnr_rgb(downscale_to_grey_levels(restored), low)


def consistency_of_pictures(restored: NDArray[np.uint8], low: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Returns `consistency` of uint8 pictures in dB, float64 (N,): restored (N, 4h, 4w, 3), low (N, h, w, 3).

    The very same values, in bands of rows: the downscaling is exact in float64, so bands cannot move it.
    """
    bands: list[NDArray[np.uint8]] = []
    height = low.shape[1]
    for start in range(0, height, _BAND):
        top, end = max(start - _CONTEXT, 0), min(start + _BAND, height)
        band = downscale_uint8(restored[:, SCALE * top : SCALE * (end + _CONTEXT)])
        bands.append(band[:, start - top : end - top])
    return psnr_rgb(to_float(np.concatenate(bands, axis=1)), to_float(low))


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
