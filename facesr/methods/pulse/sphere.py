"""What is searched: each latent vector and each trained noise map keeps the length that it was drawn with, on a sphere.

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


class Variables:
    """What is searched for several faces at once: rows of latents and of trained noise maps, each on its own sphere.

    Attributes:
        latents: (N, L, D), or (N, 1, D) where all vectors of a face are one.
        noises: maps (N, M, h, w) in the generator's order; only the first `num_trained` are searched.
        num_trained: how many maps are searched.
    """

    def __init__(self, latents: Tensor, noises: Sequence[Tensor], num_trained: int, on_spheres: bool = True) -> None:
        """Takes the start.

        Args:
            latents: as above.
            noises: as above.
            num_trained: as above.
            on_spheres: whether `project_` keeps the lengths of the start; a prior bounds them otherwise.
        """
        self.latents: Tensor = nn.Parameter(latents)
        self.noises: list[Tensor] = [
            nn.Parameter(noise) if number < num_trained else noise for number, noise in enumerate(noises)
        ]
        self.num_trained = num_trained
        self._on_spheres = on_spheres
        self._latent_radii = lengths(latents, 1)
        self._noise_radii = [lengths(noise, 2) for noise in noises[:num_trained]]

    @property
    def searched(self) -> list[Tensor]:
        """The latents and the trained maps, for an optimiser."""
        return [self.latents, *self.noises[: self.num_trained]]

    @torch.no_grad()
    def project_(self) -> None:
        """Brings every vector and map back to its sphere, where there are spheres."""
        if not self._on_spheres:
            return
        project_(self.latents, self._latent_radii, 1)
        for noise, radii in zip(self.noises, self._noise_radii, strict=False):
            project_(noise, radii, 2)

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
