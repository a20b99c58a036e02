"""One pass of blur, resizing, noise and JPEG over a batch of pictures, each with parameters of its own."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from facesr.faults.canvas import Sizes, blurred, resized
from facesr.faults.jpeg import compress
from facesr.faults.kernels import axis_matrix
from facesr.image import luma

Generator = np.random.Generator


@dataclass(frozen=True)
class Pass:
    """What one pass does to one picture."""

    size: tuple[int, int]  # height and width after it
    kernel: NDArray[np.float64] | None
    downscaler: str
    noise_sigma: float  # grey levels; 0 for none
    photons: float  # of a white pixel; 0 where the noise does not vary with the light
    grey: bool
    quality: int  # of JPEG; 0 for none


def through(
    canvas: Tensor,
    before: Sizes,
    steps: Sequence[Pass],
    generators: Sequence[Generator],
    shape: tuple[int, int],
) -> Tensor:
    """Returns a canvas (N, 3, *shape) with the pictures after a pass each, in [0, 1]."""
    after = [step.size for step in steps]
    canvas = blurred(canvas, before, [step.kernel for step in steps])
    matrices = [functools.partial(axis_matrix, step.downscaler) for step in steps]
    canvas = resized(canvas, before, after, matrices, shape).clamp(0.0, 1.0)
    canvas = canvas + _noise(canvas, steps, generators)
    return saved(canvas.clamp(0.0, 1.0), after, [step.quality for step in steps])


def _noise(canvas: Tensor, steps: Sequence[Pass], generators: Sequence[Generator]) -> Tensor:
    drawn = np.zeros(canvas.shape, np.float32)
    for i, (step, generator) in enumerate(zip(steps, generators, strict=True)):
        if step.noise_sigma or step.photons:
            height, width = step.size
            width_at_white = step.photons**-0.5 if step.photons else step.noise_sigma / 255.0
            values = generator.standard_normal((1 if step.grey else 3, height, width), np.float32)
            drawn[i, :, :height, :width] = values * np.float32(width_at_white)
    noise = torch.from_numpy(drawn).to(canvas)
    places = [i for i, step in enumerate(steps) if step.photons]
    if places:
        some = canvas[places]
        # Grey noise is that of the luma.
        greys = torch.tensor([steps[i].grey for i in places], device=canvas.device)[:, None, None, None]
        noise[places] *= torch.where(greys, luma(some), some).sqrt()
    return noise


def saved(canvas: Tensor, sizes: Sizes, qualities: Sequence[int]) -> Tensor:
    """Returns the canvas with those pictures compressed whose quality is not 0."""
    places = [i for i, quality in enumerate(qualities) if quality]
    if places:
        values = torch.tensor([float(qualities[i]) for i in places], device=canvas.device)
        canvas = canvas.clone()
        canvas[places] = compress(canvas[places], [sizes[i] for i in places], values)
    return canvas
