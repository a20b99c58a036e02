"""A complex steerable pyramid: a picture's bands by scale and orientation, made in the frequency domain.

Source: J. Portilla, E. Simoncelli, "A parametric texture model based on joint statistics of complex wavelet
coefficients", IJCV 2000, section 2.1; radial and angular tables as in matlabPyrTools' buildSCFpyr.
"""

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

# Steps of the radial and of the angular table.
_RADIAL, _ANGULAR = 256, 1024


def steerable_bands(picture: Tensor, num_scales: int, num_bands: int) -> tuple[Tensor, list[Tensor]]:
    """Returns the high-pass residual (H, W) and, finest first, the real bands (num_bands, h, w) of each scale.

    Args:
        picture: float64 (H, W).
        num_scales: how often the picture is halved.
        num_bands: orientations.

    Raises:
        ValueError: the picture is too small for so many scales.
    """
    height, width = picture.shape
    if num_scales > math.floor(math.log2(min(height, width))) - 2:
        raise ValueError(f"{width}x{height} is too small for {num_scales} scales")
    log_radius, angle = _polar_grid(height, width)
    spectrum = torch.fft.fftshift(torch.fft.fft2(picture))
    place, rise = _raised_cosine()
    fall = np.sqrt(1.0 - rise**2)
    high_pass = _real(spectrum * _looked_up(log_radius, place, rise, picture.device))
    low = spectrum * _looked_up(log_radius, place, fall, picture.device)
    scales: list[Tensor] = []
    for _ in range(num_scales):
        place = place - 1.0  # an octave lower
        ring = low * _looked_up(log_radius, place, rise, picture.device)
        scales.append(
            torch.stack([_real(ring * mask * (-1j) ** (num_bands - 1)) for mask in _fans(angle, num_bands, low.device)])
        )
        rows, columns = (_kept_half(size) for size in low.shape)
        log_radius, angle = log_radius[rows, columns], angle[rows, columns]
        low = low[rows, columns] * _looked_up(log_radius, place, fall, picture.device)
    return high_pass, scales


def _real(shifted: Tensor) -> Tensor:
    """Returns the real part of the picture with a centred spectrum."""
    picture: Tensor = torch.fft.ifft2(torch.fft.ifftshift(shifted)).real
    return picture


def _polar_grid(height: int, width: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Returns log2 of the radius, 1 at half the sampling rate, and the angle of each centred frequency."""
    y, x = np.meshgrid(
        *((np.arange(size) - size // 2) / (size / 2.0) for size in (height, width)), indexing="ij", sparse=True
    )
    radius = np.sqrt(x**2 + y**2)
    # The mean has no logarithm; the tables are flat there.
    radius[height // 2, width // 2] = radius[height // 2, width // 2 - 1]
    return np.log2(radius), np.arctan2(y, x)


def _raised_cosine() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Returns the table (log2 radius, amplitude) that rises from 0 at -1 to 1 at 0."""
    phase = np.pi * np.arange(-_RADIAL - 1, 2) / (2 * _RADIAL)
    power = np.cos(phase) ** 2
    power[0], power[-1] = power[1], power[-2]
    return -0.5 + 2.0 / np.pi * (phase + np.pi / 4.0), np.sqrt(power)


def _fans(angle: NDArray[np.float64], num_bands: int, device: torch.device) -> list[Tensor]:
    """Returns the angular mask of each orientation; it covers half of the plane, which makes the bands complex."""
    order = num_bands - 1
    strength = 2.0 ** (2 * order) * math.factorial(order) ** 2 / (num_bands * math.factorial(2 * order))
    phase = np.pi * np.arange(-2 * _ANGULAR - 1, _ANGULAR + 2) / _ANGULAR
    wrapped = (phase + np.pi) % (2.0 * np.pi) - np.pi
    table = 2.0 * np.sqrt(strength) * np.cos(phase) ** order * (np.abs(wrapped) < np.pi / 2.0)
    return [_looked_up(angle, phase + np.pi * band / num_bands, table, device) for band in range(num_bands)]


def _looked_up(
    where: NDArray[np.float64], place: NDArray[np.float64], table: NDArray[np.float64], device: torch.device
) -> Tensor:
    return torch.from_numpy(np.interp(where, place, table)).to(device)


def _kept_half(size: int) -> slice:
    """Returns the low frequencies of a centred spectrum that a picture of half the size holds."""
    half = math.ceil((size - 0.5) / 2.0)
    start = math.ceil((size + 0.5) / 2.0) - math.ceil((half + 0.5) / 2.0)
    return slice(start, start + half)
