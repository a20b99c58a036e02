"""The features of Ma's metric for super-resolved pictures: local frequencies, wavelet statistics, and singular values.

138 figures describe a grey picture: 18 of 7x7 cosine transforms, 45 of a steerable pyramid, 75 singular values.

Source: C. Ma, C. Yang, X. Yang, M. Yang, "Learning a no-reference quality metric for single-image super-resolution",
CVIU 2017, section 4; the first kind after M. Saad, A. Bovik, C. Charrier (BLIINDS-II), IEEE TIP 2012, the second after
A. Moorthy, A. Bovik (DIIVINE), IEEE TIP 2011. Constants follow the authors' MATLAB program
(github.com/chaoma99/sr-metric) as pyiqa transcribes it; one departure, at the border of blocks, is named below.
"""

import functools
import math

import torch
from torch import Tensor
from torch.nn import functional

from facesr.metrics.perceptual.scene_statistics import shape_by_ratio
from facesr.metrics.perceptual.steerable import steerable_bands
from facesr.metrics.pixels import PEAK
from facesr.metrics.ssim import C2, WINDOW, windowed_mean
from facesr.resample import resize

NUM_LEVELS = 3
NUM_BANDS = 6
NUM_SCALES = 2
# Pixels cut off around the finest bands, where the transform wraps around.
_GUARD = 16


def frequency_features(levels: Tensor) -> Tensor:
    """Returns the 18 figures of local cosine transforms, float64, of grey levels 0..255 (H, W).

    Six for each of three sizes: the mean over all blocks and over the worst tenth of the shape, the variation and the
    spread over orientations of a block's coefficients.
    """
    return torch.cat([_of_one_size(picture) for picture in _pyramid(levels)])


def singular_values(levels: Tensor) -> Tensor:
    """Returns the 25 singular values of the 5x5 blocks of each of three sizes, float64 (75,)."""
    found: list[Tensor] = []
    for picture in _pyramid(levels):
        height, width = picture.shape
        padded = functional.pad(picture, (0, -width % 5, 0, -height % 5))
        blocks = functional.unfold(padded[None, None], 5, stride=5)[0]
        found.append(torch.linalg.svdvals(blocks))
    return torch.cat(found)


def _pyramid(levels: Tensor) -> list[Tensor]:
    """Returns the picture in [0, 1] at full, half and quarter size: slightly blurred, every second pixel."""
    place = torch.arange(-1, 2, dtype=torch.float64, device=levels.device)
    weights = torch.exp(-0.5 * (place / 0.5) ** 2)
    window = torch.outer(weights, weights)
    window = (window / window.sum())[None, None]
    found = [levels.double() / PEAK]
    for _ in range(NUM_LEVELS - 1):
        found.append(functional.conv2d(found[-1][None, None], window, padding=1)[0, 0, 1::2, 1::2])
    return found


@functools.cache
def _cosines() -> Tensor:
    """Returns the orthonormal cosine transform of length 7, (7, 7)."""
    place = torch.arange(7, dtype=torch.float64)
    matrix = torch.cos(math.pi * (2.0 * place[None] + 1.0) * place[:, None] / 14.0) * math.sqrt(2.0 / 7.0)
    matrix[0] /= math.sqrt(2.0)
    return matrix


def _of_one_size(picture: Tensor) -> Tensor:
    height, width = picture.shape
    # 3x3 blocks with two pixels around them, zeros beyond the border. MATLAB's blkproc completes the last blocks on the
    # right and below; pyiqa moves the grid of a picture whose sides are no multiple of 3 instead.
    padded = functional.pad(picture, (2, 2 + -width % 3, 2, 2 + -height % 3))
    blocks = functional.unfold(padded[None, None], 7, stride=3)[0].t().reshape(-1, 7, 7)
    cosines = _cosines().to(picture.device)
    coefficients = cosines @ blocks @ cosines.t()
    without_mean = coefficients.flatten(1)[:, 1:]
    shape = _gaussian_shape(without_mean).sort().values
    variation = _variation(without_mean, 1e-7).sort().values
    oriented = torch.stack([_variation(coefficients[:, rows, columns], 1e-8) for rows, columns in _fans()], dim=1)
    spread = oriented.var(dim=1).sort().values
    # The lowest shapes and the highest others are the worst; the tenths are those of the authors' program.
    first = math.ceil(0.1 * len(shape)) + 1
    last = math.floor(0.9 * len(shape))
    return torch.stack(
        [
            shape[:first].mean(),
            shape.mean(),
            variation[last:].mean(),
            variation.mean(),
            spread[last:].mean(),
            spread.mean(),
        ]
    )


@functools.cache
def _fans() -> tuple[tuple[list[int], list[int]], ...]:
    """Returns the coefficients of flat, diagonal and steep waves as (rows, columns)."""
    flat = [(0, range(1, 7)), (1, range(2, 7)), (2, range(4, 7)), (3, range(5, 7))]
    diagonal = [
        *((1, range(1, 2)), (2, range(2, 4)), (3, range(2, 5))),
        *((4, range(3, 7)), (5, range(4, 7)), (6, range(4, 7))),
    ]
    places = [[(row, column) for row, columns in fan for column in columns] for fan in (flat, diagonal)]
    places.append([(column, row) for row, column in places[0]])
    return tuple(([row for row, _ in fan], [column for _, column in fan]) for fan in places)


def _variation(values: Tensor, epsilon: float) -> Tensor:
    """Returns the deviation of absolute values over their mean, (B,), for (B, n)."""
    sizes = values.abs()
    return sizes.std(dim=1) / (sizes.mean(dim=1) + epsilon)


def _gaussian_shape(values: Tensor) -> Tensor:
    """Returns the shape 0.03 .. 10 of generalised Gaussians fitted to values (B, n), (B,)."""
    centred = values - values.mean(dim=1, keepdim=True)
    return shape_by_ratio(values.var(dim=1) / (centred.abs().mean(dim=1).square() + 1e-7))


def wavelet_features(levels: Tensor) -> Tensor:
    """Returns the 45 figures of the steerable pyramid, float64, of grey levels 0..255 (H, W).

    Shapes of the 12 normalised bands, shapes of the 6 orientations over both scales, likeness of the high-pass residual
    with each band, and likeness of every two orientations of the finer scale. NaN for a flat picture.

    Raises:
        ValueError: a side is below 45 pixels, where no window of 11 fits inside the guarded border.
    """
    if min(levels.shape) < 2 * (1 + _GUARD) + WINDOW:
        raise ValueError(f"need at least 45x45 pixels, got {tuple(levels.shape)}")
    high_pass, scales = steerable_bands(levels.double(), NUM_SCALES, NUM_BANDS)
    normalised = [_normalised(scales, scale) for scale in range(NUM_SCALES)]
    flat = [bands.flatten(1) for bands in normalised]
    found = [_gaussian_shape(values) for values in flat]
    found.append(_gaussian_shape(torch.cat(flat, dim=1)))
    height, width = high_pass.shape
    enlarged = torch.cat([resize(bands, height, width) for bands in scales])
    found.append(_likeness(enlarged, high_pass.expand_as(enlarged)))
    first, second = torch.triu_indices(NUM_BANDS, NUM_BANDS, offset=1, device=levels.device)
    found.append(_likeness(normalised[0][first], normalised[0][second]))
    return torch.cat(found)


def _normalised(scales: list[Tensor], scale: int) -> Tensor:
    """Returns a scale's bands (6, h, w) divided by what their surroundings predict, without the wrapped border."""
    bands = scales[scale]
    inside = bands[:, 1:-1, 1:-1]
    parents = resize(scales[scale + 1], *bands.shape[1:])[:, 1:-1, 1:-1] if scale + 1 < len(scales) else None
    found: list[Tensor] = []
    for number, band in enumerate(bands):
        around = functional.unfold(band[None, None], 3)[0]
        parent = parents[number].reshape(1, -1) if parents is not None else around[:0]
        others = torch.cat([inside[:number], inside[number + 1 :]]).flatten(1)
        neighbours = torch.cat([around, parent, others])
        covariance = _without_negative_directions(neighbours @ neighbours.t() / neighbours.shape[1])
        solved, failed = torch.linalg.solve_ex(covariance, neighbours)
        # A flat band has no covariance and no score.
        weighted = torch.where(failed == 0, solved, torch.nan) * neighbours
        # The orientations beside it are not counted in the authors' program.
        size = weighted.sum(dim=0).div(len(around) + len(parent)).sqrt()
        own = inside[number].flatten()
        own = own - own.mean()
        divided = torch.where(size != 0.0, own / (size + 1e-12), 0.0)
        guard = _GUARD >> scale
        cut = divided.reshape(inside.shape[1:])[guard:-guard, guard:-guard]
        found.append(cut - cut.mean())
    return torch.stack(found)


def _without_negative_directions(covariance: Tensor) -> Tensor:
    """Returns the nearest covariance of the same trace whose eigenvalues are not negative."""
    values, directions = torch.linalg.eigh(covariance)
    positive = values.clamp_min(0.0)
    total = positive.sum()
    values = positive * values.sum() / torch.where(total == 0.0, 1.0, total)
    nearest: Tensor = directions @ torch.diag(values) @ directions.t()
    return nearest


def _likeness(first: Tensor, second: Tensor) -> Tensor:
    """Returns the mean contrast-and-structure term of SSIM, (B,), for (B, h, w); negative places count as 0."""
    mean_first, mean_second = windowed_mean(first), windowed_mean(second)
    covariance = windowed_mean(first * second) - mean_first * mean_second
    variances = (
        windowed_mean(first * first) - mean_first.square() + windowed_mean(second * second) - mean_second.square()
    )
    return ((2.0 * covariance + C2) / (variances + C2)).clamp_min(0.0).mean(dim=(1, 2))
