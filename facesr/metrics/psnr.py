"""Peak signal-to-noise ratio on RGB and on luma.

No border is cut off. Pictures that are equal have 100 dB, so that means stay finite.
"""

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from facesr.metrics.pixels import grey_levels, luma, mean_per_picture, psnr_of, require_same_shape, squared_error
from facesr.protocols import MetricInputs


def psnr_rgb(restored: Tensor, high: Tensor) -> NDArray[np.float64]:
    """Returns the PSNR over all pixels and channels in dB, 0..100, higher is better, float64 (N,)."""
    return psnr_of(squared_error(restored, high))


def psnr_y(restored: Tensor, high: Tensor) -> NDArray[np.float64]:
    """Returns the PSNR of BT.601 studio-range luma in dB, peak 255, 0..100, higher is better, float64 (N,).

    Source: the convention of the super-resolution literature (Y of MATLAB's rgb2ycbcr, peak 255), luma unrounded
    as in BasicSR's `to_y_channel`.
    """
    require_same_shape(restored, high)
    return psnr_of(mean_per_picture((luma(grey_levels(restored)) - luma(grey_levels(high))).square()))


class PsnrRgb:
    """`psnr_rgb` as a metric."""

    name = "psnr_rgb"
    unit = "dB"
    higher_is_better = True
    version = 1
    conditions = "RGB, no border cut off"
    needs_low = False

    def __call__(self, inputs: MetricInputs) -> NDArray[np.float64]:
        """Returns dB per picture, float64 (N,)."""
        return psnr_rgb(inputs.restored, inputs.high)


class PsnrY:
    """`psnr_y` as a metric."""

    name = "psnr_y"
    unit = "dB"
    higher_is_better = True
    version = 1
    conditions = "Y of BT.601 16..235, unrounded, no border cut off"
    needs_low = False

    def __call__(self, inputs: MetricInputs) -> NDArray[np.float64]:
        """Returns dB per picture, float64 (N,)."""
        return psnr_y(inputs.restored, inputs.high)
