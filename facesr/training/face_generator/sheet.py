"""Sheets to judge a face generator by: random faces, and the way from one face to another.

A generator that has learned faces, and not the training pictures, passes from one to another through faces.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from facesr.image import to_uint8
from facesr.models.face_vae import FaceDecoder
from facesr.models.style_generator import StyleGenerator

SEED = 20
BATCH = 32


def sample_sheet(generator: StyleGenerator | FaceDecoder, rows: int = 5, columns: int = 10) -> NDArray[np.uint8]:
    """Returns rows x columns random faces as one picture, uint8 (H, W, 3); always the same latents, none chosen."""
    random = torch.Generator().manual_seed(SEED)
    if isinstance(generator, FaceDecoder):
        return _sheet(_decoded(generator, generator.draw(rows * columns, random)[0]), columns)
    latents = torch.randn(rows * columns, generator.latent_dim, generator=random)
    mapped = _map(generator, latents)
    return _sheet(_draw(generator, mapped, random), columns)


def interpolation_sheet(generator: StyleGenerator | FaceDecoder, rows: int = 5, columns: int = 10) -> NDArray[np.uint8]:
    """Returns one picture, uint8 (H, W, 3), whose rows go from one random face to another by equal steps of w.

    The noise is the same along a row, so what changes is what the latent says. A decoder's latents go along an arc: on
    the straight line between two they would be too short.
    """
    random = torch.Generator().manual_seed(SEED + 1)
    if isinstance(generator, FaceDecoder):
        angle = torch.linspace(0.0, torch.pi / 2.0, columns)[None, :, None]
        first, last = generator.draw(2 * rows, random)[0][:, None].chunk(2)
        return _sheet(_decoded(generator, (angle.cos() * first + angle.sin() * last).flatten(0, 1)), columns)
    ends = _map(generator, torch.randn(2 * rows, generator.latent_dim, generator=random))
    share = torch.linspace(0.0, 1.0, columns, device=ends.device)[None, :, None]
    first, last = ends[:rows, None], ends[rows:, None]
    mapped = first + share * (last - first)
    return _sheet(_draw(generator, mapped.flatten(0, 1), random, same_noise=columns), columns)


def _map(generator: StyleGenerator, latents: Tensor) -> Tensor:
    with torch.no_grad():
        return generator.map(latents.to(generator.input.input.device))


def _draw(generator: StyleGenerator, mapped: Tensor, random: torch.Generator, same_noise: int = 1) -> NDArray[np.uint8]:
    """Returns faces, uint8 (N, H, W, 3), for w (N, D); each run of `same_noise` faces has one noise."""
    device = mapped.device
    noises = [
        torch.randn(len(mapped) // same_noise, *shape, generator=random).repeat_interleave(same_noise, 0).to(device)
        for shape in generator.noise_shapes
    ]
    parts = []
    with torch.no_grad():
        for start in range(0, len(mapped), BATCH):
            part = slice(start, start + BATCH)
            styles = mapped[part, None].expand(-1, generator.num_latents, -1)
            pictures = generator(styles, [noise[part] for noise in noises])
            parts.append(to_uint8(((pictures.float() + 1.0) / 2.0).clamp(0.0, 1.0).cpu()))
    return np.concatenate(parts)


@torch.no_grad()
def _decoded(decoder: FaceDecoder, numbers: Tensor) -> NDArray[np.uint8]:
    """Returns faces, uint8 (N, H, W, 3), of numbers that `FaceDecoder.draw` gives, without maps.

    Maps are what one face alone has at one place, and random ones are noise.
    """
    device = decoder.mean.device
    parts = []
    for part in torch.split(numbers.to(device), BATCH):
        parts.append(to_uint8(decoder(decoder.vector_of(part), []).clamp(0.0, 1.0).cpu()))
    return np.concatenate(parts)


def _sheet(faces: NDArray[np.uint8], columns: int) -> NDArray[np.uint8]:
    rows = [np.concatenate(list(faces[start : start + columns]), axis=1) for start in range(0, len(faces), columns)]
    return np.concatenate(rows)
