"""Portraits that a generator makes itself, of fixed seeds: faces whose latents are known, and who are nobody.

A style-based generator draws z and maps it, as it was trained to; its w is then brought into the space that a search
walks in, which is exact. Any other generator draws a latent of that space. All vectors of a portrait are one.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from facesr.methods.pulse.style_space import StyleLatentSpace
from facesr.methods.record import SYNTHETIC
from facesr.models.style_layers import SLOPE
from facesr.protocols import LatentGenerator


def portrait_remark(name: str, seed: int) -> str:
    """Returns what a portrait's file says about itself."""
    return f"{SYNTHETIC}: a portrait that {name} made of seed {seed}; nobody"


def drawn_latents(generator: LatentGenerator, seeds: Sequence[int]) -> Tensor:
    """Returns the latents of a portrait for each seed, float32 (N, L, D), on the CPU; a seed's are its own."""
    draws = [torch.randn(1, generator.latent_dim, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
    latents = torch.cat(draws)
    mapping = getattr(generator.network, "map", None) if isinstance(generator, StyleLatentSpace) else None
    if isinstance(generator, StyleLatentSpace) and mapping is not None:
        with torch.no_grad():
            latents = searched_of(generator, mapping(latents.to(generator.mapped_mean.device))).cpu()
    return latents[:, None].repeat(1, generator.num_latents, 1)


def searched_of(generator: StyleLatentSpace, mapped: Tensor) -> Tensor:
    """Returns the latents (..., D) that `generator.map` takes to w (..., D), the inverse of its activation."""
    before: Tensor = F.leaky_relu(mapped / generator.gain, 1.0 / SLOPE)
    return (before - generator.mapped_mean) / generator.mapped_std


@torch.no_grad()
def portraits(generator: LatentGenerator, latents: Tensor) -> Tensor:
    """Returns pictures (N, 3, H, W) in [0, 1] of latents (N, L, D), with the generator's own noise maps or none."""
    device = generator.mapped_mean.device
    maps = generator.noise_constants or tuple(torch.zeros(shape) for shape in generator.noise_shapes)
    noises = [one.to(device).repeat(len(latents), 1, 1, 1) for one in maps]
    return generator.synthesise(generator.map(latents.to(device)), noises).float().clamp(0.0, 1.0)
