"""Searching on spheres: each latent vector and each trained noise map keeps the length that it was drawn with.

Source: Menon et al., "PULSE: self-supervised photo upsampling via latent space exploration of generative models",
CVPR 2020, section 3.2: a Gaussian of many dimensions lies near a sphere, so a search that stays on it stays among
what the generator was made for. The step is that of a plain optimiser, followed by a projection.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn


def lengths(batch: Tensor, num_own: int) -> Tensor:
    """Returns the Euclidean lengths over the last `num_own` dimensions, which stay as dimensions of size 1."""
    found: Tensor = torch.linalg.vector_norm(batch.float(), dim=tuple(range(-num_own, 0)), keepdim=True)
    return found


def project_(batch: Tensor, radii: Tensor, num_own: int) -> None:
    """Scales the vectors of a batch in place so that their lengths over the last `num_own` dimensions are `radii`.

    A vector of length zero has no direction and stays.
    """
    tiny = torch.finfo(torch.float32).tiny
    batch.mul_(radii / lengths(batch, num_own).clamp_min(tiny))


def shrink_(batch: Tensor, radii: Tensor, num_own: int) -> None:
    """Scales the vectors of a batch in place whose lengths over the last `num_own` dimensions exceed `radii`."""
    tiny = torch.finfo(torch.float32).tiny
    batch.mul_((radii / lengths(batch, num_own).clamp_min(tiny)).clamp_max(1.0))


class Variables:
    """What is searched for several faces at once: rows of latents and of trained noise maps, each on its own sphere.

    Where a generator's maps are latents, everything stays inside its sphere instead of on it.

    Attributes:
        latents: (N, L, D), or (N, 1, D) where all vectors of a face are one.
        noises: maps (N, 1, h, w) in the generator's order; only the first `num_trained` are searched.
        num_trained: how many maps are searched.
    """

    def __init__(
        self, latents: Tensor, noises: Sequence[Tensor], num_trained: int, inside: Sequence[Tensor] | None = None
    ) -> None:
        """Takes the start.

        Args:
            latents: as above.
            noises: as above.
            num_trained: as above.
            inside: radii that are not exceeded, (N, L, 1) and (N, M, 1, 1) for each of the noises; None: the lengths of
                the start are kept.
        """
        self.latents: Tensor = nn.Parameter(latents)
        self.noises: list[Tensor] = [
            nn.Parameter(noise) if number < num_trained else noise for number, noise in enumerate(noises)
        ]
        self.num_trained = num_trained
        self._is_inside = inside is not None
        kept = [lengths(latents, 1), *(lengths(noise, 2) for noise in noises[:num_trained])]
        self._latent_radii, *self._noise_radii = kept if inside is None else inside

    @property
    def searched(self) -> list[Tensor]:
        """The latents and the trained maps, for an optimiser."""
        return [self.latents, *self.noises[: self.num_trained]]

    @torch.no_grad()
    def project_(self) -> None:
        """Brings every vector and map back to its sphere, or into it."""
        bring_ = shrink_ if self._is_inside else project_
        bring_(self.latents, self._latent_radii, 1)
        for noise, radii in zip(self.noises, self._noise_radii, strict=False):
            bring_(noise, radii, 2)

    @torch.no_grad()
    def keep_(self, rows: Tensor, optimizer: torch.optim.Optimizer) -> None:
        """Leaves the faces `rows`, whole numbers (M,), and what the optimiser remembers of them."""
        before = self.searched
        self.latents = nn.Parameter(self.latents[rows])
        self.noises = [
            nn.Parameter(noise[rows]) if number < self.num_trained else noise[rows]
            for number, noise in enumerate(self.noises)
        ]
        self._latent_radii = self._latent_radii[rows]
        self._noise_radii = [radii[rows] for radii in self._noise_radii]
        for old, new in zip(before, self.searched, strict=True):
            state = optimizer.state.pop(old, {})
            # Moments have the shape of what they belong to; the count of steps is a scalar.
            optimizer.state[new] = {
                name: value[rows] if isinstance(value, Tensor) and value.shape == old.shape else value
                for name, value in state.items()
            }
        optimizer.param_groups[0]["params"] = self.searched
