"""Fits eigenfaces to a prepared dataset: principal components without a covariance matrix, and what they leave over.

    picture = mean + basis @ (std * latent) + coarse noise + fine noise

A 96x112 picture has 32,256 values, so its covariance is never formed. The search for the principal components starts
from the scores of the pictures at a quarter of their size, where nearly all variance is, and takes one step of
subspace iteration: three readings of the set, each a few matrix products. A share of the faces is held out, and tells
how far faces stray from the components (`spread`) and what noise they need beyond them.

Source: Halko, Martinsson, Tropp, "Finding structure with randomness", SIAM Review 2011, algorithm 4.4, with a sketch
of downscaled pictures in place of a random one; Tipping and Bishop, "Probabilistic principal component analysis",
JRSS B 1999: components and noise make one linear-Gaussian model.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from facesr.errors import DataError
from facesr.resample import downscale, upscale
from facesr.task import SCALE

NUM_LATENTS = 512
# More directions than are kept: the last ones of a subspace iteration are the least exact.
_NUM_DIRECTIONS = 608
_CHUNK = 500
# Every 12th block of 16 faces is held out: blocks, because neighbours in a set are often one person.
_BLOCK, _SHARE, _MOST_HELD_OUT = 16, 12, 1200
_WORKING_PRECISION = torch.float32


def fit(images: NDArray[np.uint8]) -> dict[str, Tensor]:
    """Returns the tensors of eigenfaces for pictures, uint8 (N, H, W, 3), both sides multiples of 4.

    ``mean`` (3, H, W); ``basis`` (512, 3, H, W), orthonormal, float16; ``std`` (512,), falling: the standard deviation
    of held-out faces along the basis; ``axes`` (3, 3): rows are the colour axes of the coarse noise; ``coarse_std``
    (3, H/4, W/4) along them, ``fine_std`` (H, W). Components that a small set, or pictures of
    fewer than 512 low-resolution values, cannot show are zero.

    Raises:
        DataError: there are fewer than 2 faces, or a side is no multiple of 4.
    """
    num, height, width = images.shape[:3]
    if num < 2 or height % SCALE or width % SCALE:
        raise DataError(
            f"eigenfaces need at least 2 faces with sides that are multiples of {SCALE}, not {num} of {width}x{height}."
        )
    held_out = (np.arange(num) // _BLOCK) % _SHARE == _SHARE - 1
    seen = np.flatnonzero(~held_out)
    unseen = np.flatnonzero(held_out)[:_MOST_HELD_OUT] if held_out.any() else seen
    mean, basis = _components(images, seen)
    rank = len(basis)
    padded = torch.zeros(NUM_LATENTS, basis.shape[1])
    padded[:rank] = basis
    std, left_over = _left_over(images, unseen, mean, basis)
    return {
        "mean": mean.view(3, height, width),
        "basis": padded.view(NUM_LATENTS, 3, height, width).half(),
        "std": torch.cat([std, torch.zeros(NUM_LATENTS - rank)]),
        **left_over,
    }


def _flat_chunks(images: NDArray[np.uint8], rows: NDArray[np.int64]) -> Iterator[Tensor]:
    """Yields pictures as float rows (n, 3 * H * W) in [0, 1], channel after channel."""
    for start in range(0, len(rows), _CHUNK):
        chunk = torch.from_numpy(images[rows[start : start + _CHUNK]])
        yield chunk.permute(0, 3, 1, 2).to(_WORKING_PRECISION).flatten(1).div_(255.0)


def _components(images: NDArray[np.uint8], rows: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
    """Returns the mean, (P,), and the orthonormal principal directions, (rank, P), largest variance first."""
    height, width = images.shape[1:3]
    total = torch.zeros(3 * height * width, dtype=torch.float64)
    small: list[Tensor] = []
    for chunk in _flat_chunks(images, rows):
        total += chunk.sum(0, dtype=torch.float64)
        small.append(downscale(chunk.view(-1, 3, height, width)).flatten(1))
    mean = (total / len(rows)).to(_WORKING_PRECISION)
    scores = _sketch(torch.cat(small))
    directions = torch.zeros(scores.shape[1], len(mean))
    start = 0
    for chunk in _flat_chunks(images, rows):
        directions.addmm_(scores[start : start + len(chunk)].t(), chunk.sub_(mean))
        start += len(chunk)
    directions = torch.linalg.qr(directions.t()).Q.t().contiguous()
    gram = torch.zeros(len(directions), len(directions), dtype=torch.float64)
    for chunk in _flat_chunks(images, rows):
        seen = (chunk.sub_(mean) @ directions.t()).double()
        gram += seen.t() @ seen
    variance, turn = torch.linalg.eigh(gram)
    # A set of N faces spans N - 1 directions; what is beyond them is rounding.
    rank = min(NUM_LATENTS, len(rows) - 1, int((variance > variance[-1] * 1e-10).sum()))
    turn = turn.flip(1)[:, :rank].to(_WORKING_PRECISION)
    return mean, turn.t() @ directions


def _sketch(small: Tensor) -> Tensor:
    """Returns orthonormal scores (N, k) of small pictures (N, p) along their own leading components."""
    small = (small - small.mean(0)).double()
    most = min(_NUM_DIRECTIONS, *small.shape)
    if len(small) < small.shape[1]:
        scores: Tensor = torch.linalg.eigh(small @ small.t()).eigenvectors[:, -most:]
    else:
        scores = torch.linalg.qr(small @ torch.linalg.eigh(small.t() @ small).eigenvectors[:, -most:]).Q
    return scores.to(_WORKING_PRECISION)


def _left_over(
    images: NDArray[np.uint8], rows: NDArray[np.int64], mean: Tensor, basis: Tensor
) -> tuple[Tensor, dict[str, Any]]:
    """Returns the standard deviation along each direction, (rank,), and the three tensors of the noise."""
    height, width = images.shape[1:3]
    squares = torch.zeros(len(basis), dtype=torch.float64)
    fine = torch.zeros(height, width, dtype=torch.float64)
    coarse_parts: list[Tensor] = []
    for chunk in _flat_chunks(images, rows):
        scores = chunk.sub_(mean) @ basis.t()
        squares += scores.double().square().sum(0)
        residual = (chunk - scores @ basis).view(-1, 3, height, width)
        coarse = downscale(residual)
        coarse_parts.append(coarse)
        fine += (residual - upscale(coarse)).double().square().mean(1).sum(0)
    coarse = torch.cat(coarse_parts).double()
    axes = torch.linalg.eigh(torch.einsum("nchw,ndhw->cd", coarse, coarse)).eigenvectors.flip(1).t()
    along = torch.einsum("ac,nchw->nahw", axes, coarse)
    noise = {
        "axes": axes.float().contiguous(),
        "coarse_std": along.square().mean(0).sqrt().float(),
        "fine_std": (fine / len(rows)).sqrt().float(),
    }
    return (squares / len(rows)).sqrt().float(), noise
