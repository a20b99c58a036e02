"""The competition's downscaling (MATLAB-style ``imresize``), and the bicubic upscaling that is its inverse guess.

Resizing along one axis is a small matrix, so a whole batch is resized by two matrix products, on any device
and differentiably. In float64, heights first and rounded half up, the x1/4 downscaling reproduces the
official low-resolution pictures without one differing value.

Source: MATLAB's documentation of imresize ('bicubic', antialiasing on, symmetric border); kernel of
R. Keys, "Cubic convolution interpolation for digital image processing", IEEE TASSP 1981, equation 4, a = -0.5.
"""

import functools
import sys
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from facesr.task import SCALE


def cubic_kernel(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns Keys' cubic convolution kernel (a = -0.5) at x, which is zero for abs(x) >= 2."""
    distance = np.abs(x)
    near = 1.5 * distance**3 - 2.5 * distance**2 + 1.0
    far = -0.5 * distance**3 + 2.5 * distance**2 - 4.0 * distance + 2.0
    return np.where(distance <= 1.0, near, np.where(distance < 2.0, far, 0.0))


@functools.lru_cache(maxsize=256)
def resize_matrix(size_in: int, size_out: int) -> NDArray[np.float64]:
    """Returns the (size_out, size_in) matrix that resizes one axis; each row sums to 1.

    When shrinking, the kernel is stretched by the factor (antialiasing). The border is symmetric: sample -1
    is sample 0, sample -2 is sample 1.
    """
    factor = size_out / size_in
    stretch = min(factor, 1.0)
    support = 4.0 / stretch
    centre = (np.arange(size_out) + 0.5) / factor - 0.5
    first = np.floor(centre - support / 2.0).astype(np.int64)
    taps = first[:, None] + np.arange(int(np.ceil(support)) + 2)
    weights = stretch * cubic_kernel(stretch * (centre[:, None] - taps))
    weights /= weights.sum(axis=1, keepdims=True)
    period = np.mod(taps, 2 * size_in)
    mirrored = np.where(period < size_in, period, 2 * size_in - 1 - period)
    matrix = np.zeros((size_out, size_in))
    np.add.at(matrix, (np.arange(size_out)[:, None], mirrored), weights)
    matrix.setflags(write=False)
    return matrix


@functools.lru_cache(maxsize=256)
def _cached_matrix(size_in: int, size_out: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    # A matrix first needed under inference_mode (a validation) must serve autograd later (the training).
    with torch.inference_mode(False):
        return torch.from_numpy(resize_matrix(size_in, size_out).copy()).to(device=device, dtype=dtype)


@functools.cache
def _untraced_matrix() -> Callable[[int, int, torch.dtype, torch.device], Tensor]:
    untraced: Callable[[int, int, torch.dtype, torch.device], Tensor] = torch.compiler.disable(_cached_matrix)  # type: ignore[no-untyped-call]
    return untraced


def _matrix(size_in: int, size_out: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    # Only where a compiler is loaded can it be tracing; to load it takes 2 s, which no other command should wait for.
    cached = _untraced_matrix() if "torch._dynamo" in sys.modules else _cached_matrix
    return cached(size_in, size_out, dtype, device)


def _matrices(
    rows: tuple[int, int], columns: tuple[int, int], dtype: torch.dtype, device: torch.device
) -> tuple[Tensor, Tensor]:
    # In one call, because torch 2.11 refuses a second constant of one function in a graph.
    return _matrix(*rows, dtype, device), _matrix(*columns, dtype, device)


# torch.compile can trace neither the cache nor NumPy: a compiled graph of fixed size takes the matrices as constants,
# one of varying size calls the cache outside the graph. This is the mark of torch.compiler.assume_constant_result,
# which itself would load the compiler.
_matrices._dynamo_marked_constant = True  # type: ignore[attr-defined]


def resize(batch: Tensor, height: int, width: int) -> Tensor:
    """Returns the batch (..., H, W) resized to (..., height, width), heights first, unrounded and unclamped.

    Differentiable; computed in the batch's own dtype, outside autocast.

    Raises:
        TypeError: the batch holds whole numbers, in which the weights could not be held.
    """
    if not batch.is_floating_point():
        raise TypeError(f"resize needs floating-point pictures, not {batch.dtype}")
    rows, columns = _matrices((batch.shape[-2], height), (batch.shape[-1], width), batch.dtype, batch.device)
    with torch.autocast(batch.device.type, enabled=False):
        return torch.matmul(torch.matmul(rows, batch), columns.t())


def downscale(high: Tensor) -> Tensor:
    """Returns `high` (N, 3, 4h, 4w) at a quarter of its size, (N, 3, h, w), unrounded: for losses and searches.

    Raises:
        ValueError: a side is not a multiple of 4.
    """
    height, width = high.shape[-2:]
    if height % SCALE or width % SCALE:
        raise ValueError(f"{width}x{height} is not a multiple of {SCALE}")
    return resize(high, height // SCALE, width // SCALE)


def downscale_to_grey_levels(high: Tensor, dtype: torch.dtype = torch.float64) -> Tensor:
    """Returns the official low-resolution batch, float32 (N, 3, h, w), whole multiples of 1/255 in [0, 1].

    Works on grey levels 0..255 so that the rounding is that of uint8 pictures. float64 reproduces the official
    pictures exactly; float32 may differ by one level where the exact value lies on a half
    (``tests/test_resample.py`` counts how often).
    """
    # A value k/255 in float32 times 255 is not quite k; the pictures are whole grey levels.
    levels = (high.to(dtype) * 255.0).round()
    low = (downscale(levels) + 0.5).floor().clamp(0.0, 255.0)
    return (low / 255.0).float()


def downscale_uint8(pictures: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Returns the official low-resolution pictures, uint8 (N, h, w, 3), for uint8 (N, 4h, 4w, 3)."""
    # A copy, because torch refuses read-only memory such as a memory-mapped set.
    levels = torch.from_numpy(np.array(pictures)).permute(0, 3, 1, 2).to(torch.float64)
    low = (downscale(levels) + 0.5).floor().clamp(0.0, 255.0).to(torch.uint8)
    return np.ascontiguousarray(low.permute(0, 2, 3, 1).numpy())


def upscale(low: Tensor) -> Tensor:
    """Returns `low` (N, 3, h, w) four times as large by cubic interpolation, (N, 3, 4h, 4w), unclamped."""
    return resize(low, low.shape[-2] * SCALE, low.shape[-1] * SCALE)
