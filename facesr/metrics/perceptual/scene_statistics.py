"""Natural scene statistics of picture blocks: the 36 features that NIQE compares.

A picture is normalised by its local mean and deviation; in natural pictures what is left, and its products with
its neighbours, follow generalised Gaussian distributions whose shape tells blur and noise apart. 18 figures describe
a block at full size and 18 at half size.

Source: A. Mittal, R. Soundararajan, A. Bovik, "Making a completely blind image quality analyzer", IEEE SPL 2013,
section II; constants, border and order of the features as in the authors' MATLAB program (NIQE release, 2012).
"""

import functools

import torch
from torch import Tensor

from facesr.resample import resize

BLOCK = 96
NUM_FEATURES = 36
# Radius and deviation of the local window.
_RADIUS = 3
_SIGMA = 7.0 / 6.0
# In grey levels: sums of 49 products round at 1e-13; a pixel that differs from its surroundings does so by 1e-8 at
# least, the product of the smallest weights of the window and of the halving.
_ROUNDING = 1e-9
_SHIFTS = ((0, 1), (1, 0), (1, 1), (1, -1))
_SHAPES = (0.2, 10.0, 0.001)


def num_blocks(height: int, width: int) -> int:
    """Returns how many whole blocks a picture holds."""
    return (height // BLOCK) * (width // BLOCK)


def block_features(levels: Tensor, strip_blocks: int = 64) -> tuple[Tensor, Tensor]:
    """Returns features (N, B, 36) and sharpness (N, B) of the B whole blocks of pictures, row by row, in float64.

    A feature is NaN where a block is so flat that it has no values of one sign.

    Args:
        levels: grey levels 0..255, (N, H, W).
        strip_blocks: blocks worked on at once; bounds memory at about 10 MB for every 8 blocks, beside the picture
            itself, and never moves a value.

    Raises:
        ValueError: a picture is smaller than one block.
    """
    if levels.ndim != 3 or num_blocks(*levels.shape[-2:]) == 0:
        raise ValueError(f"need pictures (N, H, W) of at least {BLOCK}x{BLOCK}, got {tuple(levels.shape)}")
    rows, columns = levels.shape[-2] // BLOCK, levels.shape[-1] // BLOCK
    full = levels[:, : rows * BLOCK, : columns * BLOCK].double()
    half = resize(full, rows * BLOCK // 2, columns * BLOCK // 2)
    at_full, sharpness = _at_one_size(full, BLOCK, strip_blocks)
    at_half, _ = _at_one_size(half, BLOCK // 2, strip_blocks)
    return torch.cat([at_full, at_half], dim=-1), sharpness


def _at_one_size(levels: Tensor, size: int, strip_blocks: int) -> tuple[Tensor, Tensor]:
    """Returns 18 features (N, B, 18) and the sharpness (N, B) of blocks of `size` pixels."""
    rows, columns = levels.shape[-2] // size, levels.shape[-1] // size
    step = max(1, strip_blocks // columns)
    features: list[Tensor] = []
    sharpness: list[Tensor] = []
    for picture in levels:
        for first in range(0, rows, step):
            last = min(rows, first + step)
            normalised, deviation = _normalised(picture, first * size, last * size)
            features.append(_features(_blocks(normalised, size)))
            sharpness.append(_blocks(deviation, size).mean(dim=(1, 2)))
    shape = (len(levels), rows * columns)
    return torch.cat(features).reshape(*shape, -1), torch.cat(sharpness).reshape(shape)


def _normalised(picture: Tensor, first: int, last: int) -> tuple[Tensor, Tensor]:
    """Returns rows first..last of a picture (H, W) normalised by their surroundings, and the local deviation."""
    height, width = picture.shape
    place = functools.partial(torch.arange, device=picture.device)
    rows = place(first - _RADIUS, last + _RADIUS).clamp(0, height - 1)
    columns = place(-_RADIUS, width + _RADIUS).clamp(0, width - 1)
    wide = picture[rows][:, columns]
    mean = _blur(wide)
    deviation = (_blur(wide * wide) - mean * mean).abs().sqrt()
    difference = picture[first:last] - mean
    # Where a picture is flat, or rises evenly, the last bit of the sums would decide whether a value is above or below
    # zero, and so which side of the fit it counts for; that bit is another one with fused multiply-add or without.
    difference[difference.abs() < _ROUNDING] = 0.0
    return difference / (deviation + 1.0), deviation


@functools.cache
def _window() -> tuple[float, ...]:
    place = torch.arange(-_RADIUS, _RADIUS + 1, dtype=torch.float64)
    weights = torch.exp(-0.5 * (place / _SIGMA) ** 2)
    return tuple((weights / weights.sum()).tolist())


def _blur(wide: Tensor) -> Tensor:
    """Returns the Gaussian-weighted mean around each pixel that has whole surroundings, (H - 6, W - 6)."""
    # Sums of shifted pictures: torch has no fast float64 convolution on a CPU.
    for axis in (0, 1):
        length = wide.shape[axis] - 2 * _RADIUS
        parts = (wide.narrow(axis, i, length) for i in range(2 * _RADIUS + 1))
        total = torch.zeros_like(wide.narrow(axis, 0, length))
        for weight, part in zip(_window(), parts, strict=True):
            total.add_(part, alpha=weight)
        wide = total
    return wide


def _blocks(picture: Tensor, size: int) -> Tensor:
    """Returns (H, W) as blocks (B, size, size), row by row."""
    rows, columns = picture.shape[0] // size, picture.shape[1] // size
    return picture.reshape(rows, size, columns, size).transpose(1, 2).reshape(-1, size, size)


def _features(blocks: Tensor) -> Tensor:
    """Returns (B, 18): shape and scale of the values, then shape, mean and both scales of four kinds of products."""
    shape, left, right = fit_asymmetric(blocks.flatten(1))
    found = [shape, (left + right) / 2.0]
    for shift in _SHIFTS:
        # Neighbours across the block's border are those of the opposite side, as in the authors' program.
        products = blocks * torch.roll(blocks, shift, dims=(1, 2))
        shape, left, right = fit_asymmetric(products.flatten(1))
        mean = (right - left) * torch.exp(torch.lgamma(2.0 / shape) - torch.lgamma(1.0 / shape))
        found += [shape, mean, left, right]
    return torch.stack(found, dim=1)


@functools.cache
def _shape_table(device: torch.device) -> tuple[Tensor, Tensor]:
    """Returns the shapes that may be found, and the ratio E|x|^2 / E x^2 of each, both rising."""
    low, high, step = _SHAPES
    shapes = low + step * torch.arange(round((high - low) / step) + 1, dtype=torch.float64, device=device)
    log_ratio = 2.0 * torch.lgamma(2.0 / shapes) - torch.lgamma(1.0 / shapes) - torch.lgamma(3.0 / shapes)
    return shapes, log_ratio.exp()


def fit_asymmetric(values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Returns shape, left scale and right scale (B,) of asymmetric generalised Gaussians fitted to values (B, n).

    The shape is the nearest of 0.2, 0.201 .. 10 by the ratio of moments. Rows without a negative or without a positive
    value have NaN for that scale, and shape 0.2.

    Source: N. Lasmar, Y. Stitou, Y. Berthoumieu, "Multiscale skewed heavy tailed model for texture analysis",
    ICIP 2009.
    """
    squares = values * values
    is_left, is_right = values < 0.0, values > 0.0
    left = ((squares * is_left).sum(1) / is_left.sum(1)).sqrt()
    right = ((squares * is_right).sum(1) / is_right.sum(1)).sqrt()
    skew = left / right
    ratio = values.abs().mean(1).square() / squares.mean(1)
    wanted = ratio * (skew**3 + 1.0) * (skew + 1.0) / (skew**2 + 1.0).square()
    shapes, ratios = _shape_table(values.device)
    shape = torch.where(wanted.isfinite(), shapes[_nearest(ratios, wanted)], shapes[0])
    scale = torch.exp(0.5 * (torch.lgamma(1.0 / shape) - torch.lgamma(3.0 / shape)))
    return shape, left * scale, right * scale


@functools.cache
def _ratio_table(device: torch.device) -> tuple[Tensor, Tensor]:
    """Returns the shapes 0.03, 0.031 .. 10 and minus the ratio E x^2 / E|x|^2 of each, both rising."""
    shapes = 0.03 + 0.001 * torch.arange(9971, dtype=torch.float64, device=device)
    log_ratio = torch.lgamma(1.0 / shapes) + torch.lgamma(3.0 / shapes) - 2.0 * torch.lgamma(2.0 / shapes)
    return shapes, -log_ratio.exp()


def shape_by_ratio(ratio: Tensor) -> Tensor:
    """Returns the shape 0.03 .. 10 of the generalised Gaussian whose variance over squared mean size is `ratio` (B,).

    Source: K. Sharifi, A. Leon-Garcia, "Estimation of shape parameter for generalized Gaussian distributions in
    subband decompositions of video", IEEE TCSVT 1995.
    """
    shapes, ratios = _ratio_table(ratio.device)
    return shapes[_nearest(ratios, -ratio)]


def _nearest(rising: Tensor, wanted: Tensor) -> Tensor:
    """Returns the position in a rising table that is nearest to each wanted value, the lower one of two as near."""
    above = torch.searchsorted(rising, wanted).clamp(1, len(rising) - 1)
    below = above - 1
    return torch.where((rising[below] - wanted).abs() <= (rising[above] - wanted).abs(), below, above)
