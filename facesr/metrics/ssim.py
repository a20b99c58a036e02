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


def _blur(maps: Tensor) -> Tensor:
    """Returns the Gaussian-weighted mean of every whole window, (..., H - 10, W - 10)."""
    weights = _window_weights()
    height, width = maps.shape[-2] - WINDOW + 1, maps.shape[-1] - WINDOW + 1
    # Sums of shifted pictures rather than a convolution: element-wise, so the same bits in any batch.
    rows = sum((weight * maps[..., k : k + height, :] for k, weight in enumerate(weights)), torch.zeros(()).to(maps))
    return sum((weight * rows[..., k : k + width] for k, weight in enumerate(weights)), torch.zeros(()).to(maps))


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
    mean_x, mean_y = _blur(x), _blur(y)
    mean_xx, mean_yy, mean_xy = mean_x.square(), mean_y.square(), mean_x * mean_y
    variance_x = _blur(x.square()) - mean_xx
    variance_y = _blur(y.square()) - mean_yy
    covariance = _blur(x * y) - mean_xy
    similarity = ((2.0 * mean_xy + C1) * (2.0 * covariance + C2)) / (
        (mean_xx + mean_yy + C1) * (variance_x + variance_y + C2)
    )
    return mean_per_picture(similarity)


class Ssim:
    """`ssim` as a metric."""

    name = "ssim"
    unit = "1"
    higher_is_better = True
    version = 1
    needs_low = False

    def __call__(self, inputs: MetricInputs) -> NDArray[np.float64]:
        """Returns the mean SSIM per picture, float64 (N,)."""
        return ssim(inputs.restored, inputs.high)
