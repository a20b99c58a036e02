"""Structural similarity (SSIM) on luma.

Luma is BT.601 studio range, unrounded, of range 255; the window is an 11x11 Gaussian of sigma 1.5; only windows
that lie wholly inside the picture count, as in the authors' program; covariances use the window's weights.

Source: Z. Wang, A. C. Bovik, H. R. Sheikh, E. P. Simoncelli, "Image quality assessment: from error visibility to
structural similarity", IEEE TIP 2004, equation 13, K1 = 0.01, K2 = 0.03.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from facesr.errors import ImageError
from facesr.metrics.pixels import PEAK, grey_levels, luma, mean_per_picture, require_same_shape
from facesr.protocols import MetricInputs

WINDOW = 11
SIGMA = 1.5
C1 = (0.01 * PEAK) ** 2
C2 = (0.03 * PEAK) ** 2


def _window_weights() -> list[float]:
    distance = np.arange(WINDOW) - WINDOW // 2
    weights = np.exp(-0.5 * (distance / SIGMA) ** 2)
    return [float(weight) for weight in weights / weights.sum()]


def windowed_mean(maps: Tensor) -> Tensor:
    """Returns the Gaussian-weighted mean of every whole window, (..., H - 10, W - 10)."""
    # Sums of shifted pictures rather than a convolution: element-wise, so the same bits in any batch.
    return _weighted_sum(_weighted_sum(maps, -2), -1)


def _weighted_sum(maps: Tensor, axis: int) -> Tensor:
    length = maps.shape[axis] - WINDOW + 1
    first, *others = _window_weights()
    total = maps.narrow(axis, 0, length) * first
    part = torch.empty_like(total)
    for offset, weight in enumerate(others, start=1):
        total += torch.mul(maps.narrow(axis, offset, length), weight, out=part)
    return total


def ssim(restored: Tensor, high: Tensor) -> NDArray[np.float64]:
    """Returns the mean SSIM of luma, -1..1, higher is better, 1 for equal pictures, float64 (N,).

    Raises:
        ImageError: a picture is smaller than the window.
    """
    require_same_shape(restored, high)
    height, width = restored.shape[-2:]
    if min(height, width) < WINDOW:
        raise ImageError(f"SSIM needs pictures of at least {WINDOW}x{WINDOW}, these are {width}x{height}.")
    x, y = luma(grey_levels(restored)), luma(grey_levels(high))
    mean_x, mean_y, mean_xy, mean_of_squares = windowed_mean(torch.stack((x, y, x * y, x * x + y * y)))
    products, squares = mean_x * mean_y, mean_x.square() + mean_y.square()
    # Only the sum of the two variances occurs in the equation.
    covariance, variances = mean_xy - products, mean_of_squares - squares
    similarity = ((2.0 * products + C1) * (2.0 * covariance + C2)) / ((squares + C1) * (variances + C2))
    return mean_per_picture(similarity)


class Ssim:
    """`ssim` as a metric."""

    name = "ssim"
    unit = "1"
    higher_is_better = True
    version = 1
    conditions = "Y of BT.601 16..235, unrounded, 11x11 Gaussian windows inside the picture"
    needs_low = False

    def __call__(self, inputs: MetricInputs) -> NDArray[np.float64]:
        """Returns the mean SSIM per picture, float64 (N,)."""
        return ssim(inputs.restored, inputs.high)
