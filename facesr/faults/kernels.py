"""Kernels of blur, and the ways to make a picture smaller."""

import functools
import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from facesr.errors import ConfigError
from facesr.resample import resize, resize_matrix

DOWNSCALERS = ("official", "bicubic", "nearest", "bilinear", "area", "lanczos")
LANCZOS_LOBES = 3
# Kernels end where a Gaussian has fallen to a hundredth.
_SIGMAS = 3.0


def shrink(batch: Tensor, downscaler: str, height: int, width: int) -> Tensor:
    """Returns the batch (N, 3, H, W) resized to (N, 3, height, width), unrounded and unclamped.

    ``official`` is the competition's antialiased cubic interpolation (`facesr.resample`), ``lanczos`` antialiased with
    three lobes, ``area`` the mean over a pixel's area; ``bicubic`` (a = -0.75), ``bilinear`` and ``nearest`` (the pixel
    at or after the centre) look at the neighbours only and alias.

    Raises:
        ConfigError: the downscaler is unknown.

    Source: OpenCV's resize with INTER_CUBIC, INTER_LINEAR and INTER_AREA, and Pillow's with LANCZOS and NEAREST, which
    ``tests/faults/test_kernels.py`` compares with.
    """
    match downscaler:
        case "official":
            return resize(batch, height, width)
        case "lanczos":
            rows, columns = (
                torch.from_numpy(lanczos_matrix(*sizes)).to(batch)
                for sizes in ((batch.shape[-2], height), (batch.shape[-1], width))
            )
            return torch.matmul(torch.matmul(rows, batch), columns.t())
        case "bicubic" | "bilinear":
            return functional.interpolate(batch, (height, width), mode=downscaler, align_corners=False)
        case "area":
            return functional.interpolate(batch, (height, width), mode="area")
        case "nearest":
            return functional.interpolate(batch, (height, width), mode="nearest-exact")
    raise ConfigError(f"downscaler {downscaler} is unknown; choose one of {', '.join(DOWNSCALERS)}.")


@functools.lru_cache(maxsize=4096)
def axis_matrix(downscaler: str, size_in: int, size_out: int) -> NDArray[np.float64]:
    """Returns the (size_out, size_in) matrix by which `shrink` resizes one axis."""
    if downscaler == "official":
        return resize_matrix(size_in, size_out)
    if downscaler == "lanczos":
        return lanczos_matrix(size_in, size_out)
    # One row of a picture for every pixel of the axis: what each of them gives to each new one.
    each = torch.eye(size_in, dtype=torch.float64)[:, None, None, :]
    matrix: NDArray[np.float64] = shrink(each, downscaler, 1, size_out)[:, 0, 0].t().numpy()
    return matrix


def lanczos_matrix(size_in: int, size_out: int) -> NDArray[np.float64]:
    """Returns the (size_out, size_in) matrix that resizes one axis with a Lanczos window of three lobes, rows sum to 1.

    When shrinking, the kernel is stretched by the factor; at the border it is cut off.

    Source: C. E. Duchon, "Lanczos filtering in one and two dimensions", J. Appl. Meteor. 18, 1979, equation 9.
    """
    stretch = max(size_in / size_out, 1.0)
    centre = (np.arange(size_out) + 0.5) * size_in / size_out
    x = (np.arange(size_in) + 0.5 - centre[:, None]) / stretch
    weights = np.where(np.abs(x) < LANCZOS_LOBES, np.sinc(x) * np.sinc(x / LANCZOS_LOBES), 0.0)
    matrix: NDArray[np.float64] = weights / weights.sum(axis=1, keepdims=True)
    return matrix


def gaussian_kernel(sigma_x: float, sigma_y: float, radians: float = 0.0) -> NDArray[np.float64]:
    """Returns a Gaussian kernel (K, K) that sums to 1; its standard deviations, in pixels, lie along turned axes."""
    reach = np.arange(-math.ceil(_SIGMAS * max(sigma_x, sigma_y)), math.ceil(_SIGMAS * max(sigma_x, sigma_y)) + 1)
    y, x = np.meshgrid(reach, reach, indexing="ij")
    along = math.cos(radians) * x + math.sin(radians) * y
    across = math.cos(radians) * y - math.sin(radians) * x
    # A width of zero leaves the middle alone.
    kernel = np.exp(-0.5 * ((along / max(sigma_x, 1e-6)) ** 2 + (across / max(sigma_y, 1e-6)) ** 2))
    total: NDArray[np.float64] = kernel / kernel.sum()
    return total


def motion_kernel(length_px: int, degrees: float) -> NDArray[np.float64]:
    """Returns the kernel (K, K) of a straight, even movement over `length_px` pixels, which sums to 1.

    0 degrees is sideways and 90 upright. The path's points, one pixel apart, are shared among their four neighbours.
    """
    radius = (length_px - 1) // 2 + 1
    kernel = np.zeros((2 * radius + 1, 2 * radius + 1))
    for offset in np.arange(length_px) - (length_px - 1) / 2:
        # Rounded, so that a sine of 1e-17 does not spread a straight path over two rows.
        x = round(radius + offset * math.cos(math.radians(degrees)), 9)
        y = round(radius - offset * math.sin(math.radians(degrees)), 9)
        left, top = math.floor(x), math.floor(y)
        for row, share_y in ((top, 1 - (y - top)), (top + 1, y - top)):
            for column, share_x in ((left, 1 - (x - left)), (left + 1, x - left)):
                kernel[row, column] += share_y * share_x / length_px
    return kernel
