"""What the pixel metrics share: exact grey levels, luma, and a mean per picture that no batch size can move.

Everything is element-wise until the last mean, which NumPy takes in float64, one picture at a time. So a value is
the same to the last bit whatever pictures share its batch, on any number of threads.
"""

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

PEAK = 255.0
# Finite stand-in for the PSNR of identical pictures; one differing level in a 96x112 picture is 93 dB.
PSNR_OF_IDENTICAL = 100.0
# k/255 in float32, times 255, is off by less than 2e-5.
_WHOLE_LEVEL_TOLERANCE = 1e-3


def grey_levels(batch: Tensor) -> Tensor:
    """Returns whole grey levels 0..255 as float32, same shape, for a batch of k/255.

    Raises:
        ValueError: a value is not finite, outside [0, 1], or no multiple of 1/255.
    """
    scaled = batch.float() * PEAK
    levels = scaled.round()
    lowest, highest = levels.aminmax()
    # Written so that NaN, which spreads to all three, fails too.
    is_whole = (scaled - levels).abs().max() < _WHOLE_LEVEL_TOLERANCE
    if not bool(is_whole & (lowest >= 0.0) & (highest <= PEAK)):
        raise ValueError("metrics score 8-bit pictures: every value has to be k/255 with k in 0..255")
    return levels


def squared_error(restored: Tensor, high: Tensor) -> NDArray[np.float64]:
    """Returns the mean squared error of grey levels over pixels and channels, float64 (N,), for (N, 3, H, W).

    Differences and squares are whole numbers below 2^24, so float32 holds them exactly.
    """
    require_same_shape(restored, high)
    return mean_per_picture((grey_levels(restored) - grey_levels(high)).square())


def luma(levels: Tensor) -> Tensor:
    """Returns BT.601 studio-range luma 16..235 as float64 (N, H, W), unrounded, for grey levels (N, 3, H, W).

    Source: ITU-R BT.601-7, section 2.5; the coefficients as in MATLAB's rgb2ycbcr, which the field uses.
    """
    red, green, blue = levels.double().unbind(1)
    return (65.481 * red + 128.553 * green + 24.966 * blue) / 255.0 + 16.0


def mean_per_picture(values: Tensor) -> NDArray[np.float64]:
    """Returns the mean of each picture's values, float64 (N,), for (N, ...)."""
    rows = np.ascontiguousarray(values.detach().cpu().numpy()).reshape(len(values), -1)
    return np.array([row.mean(dtype=np.float64) for row in rows], dtype=np.float64)


def psnr_of(mean_squared_error: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns the peak signal-to-noise ratio in dB, at most 100, higher is better, of squared grey levels (N,)."""
    with np.errstate(divide="ignore"):
        psnr = 10.0 * np.log10(PEAK**2 / mean_squared_error)
    return np.minimum(psnr, PSNR_OF_IDENTICAL)


def require_same_shape(first: Tensor, second: Tensor) -> None:
    """Raises ValueError unless both batches have one shape (N, 3, H, W)."""
    if first.shape != second.shape or first.ndim != 4 or first.shape[1] != 3:
        raise ValueError(f"need two batches of one shape (N, 3, H, W), got {tuple(first.shape)}, {tuple(second.shape)}")
