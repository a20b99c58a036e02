"""The face generator that this repository trains on a CPU, 96x112: the decoder of a variational autoencoder.

    uv run facesr face-generator faces=data/faces
    uv run evaluate.py method=pulse generator=faces generator.weights=runs/face_generator/latest.safetensors ...

Its latents are standard normal, so there is no mapping network beyond a mean and a covariance; and its maps are latents
that belong to a place, and no noise, so they are searched as well.
"""

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import torch
from torch import Tensor, nn

from facesr.errors import ConfigError, WeightsError
from facesr.methods.pulse.style_space import dimension
from facesr.models.face_vae import FaceDecoder
from facesr.ranges import Range
from facesr.resample import resize
from facesr.snapshots.rules import SHIPPED_FACES
from facesr.snapshots.snapshot import digests_beside
from facesr.weights import load_into, read_state_dict, sha256_of

_WHAT = "a face decoder (facesr face-generator)"


class Faces(nn.Module):
    """A face decoder as a `facesr.protocols.LatentGenerator`; ``to(device)`` moves all of it."""

    mapped_mean: Tensor
    mapped_std: Tensor

    def __init__(
        self,
        weights: str | Path | None = None,
        spread: Annotated[float, Range(0, 1_000, above=True)] = 1.0,
        map_spread: Annotated[float, Range(0, 1_000, above=True)] = 1.0,
        name: str = "faces",
    ) -> None:
        """Reads the decoder's file.

        Args:
            weights: the file, of `facesr face-generator`; None takes the one that comes with the package.
            spread: factor on the standard deviations of the vector.
            map_spread: factor on those of the maps.
            name: the generator's name in reports.

        Raises:
            WeightsError: the file is missing, damaged or of another network.
            ValueError: a spread is not above 0.
        """
        super().__init__()
        if spread <= 0 or map_spread <= 0:
            raise ValueError(f"spread and map_spread must be above 0, not {spread} and {map_spread}")
        self.spread, self.map_spread = spread, map_spread
        path = SHIPPED_FACES if weights is None else Path(weights).expanduser()
        if not path.is_file():
            raise WeightsError(f"generator.weights={path} is not a file; give one of facesr face-generator.")
        self.name, self.weights_sha256 = name, sha256_of(path)
        if weights is None and self.weights_sha256 not in digests_beside(path):
            raise WeightsError(
                f"{path} is not the file that was shipped; restore it with git checkout or install anew."
            )
        self.network = decoder_of(path)
        self.num_latents, self.latent_dim = 1, self.network.latent_dim
        self.size, self.noise_shapes = self.network.size, self.network.noise_shapes
        self.noise_constants: tuple[Tensor, ...] = ()
        self.register_buffer("mapped_mean", torch.zeros(self.latent_dim))
        self.register_buffer("mapped_std", torch.ones(self.latent_dim))
        self.eval().requires_grad_(False)

    def map(self, latents: Tensor) -> Tensor:
        """Returns the decoder's vectors (N, 1, D) for standard normal latents (N, 1, D)."""
        return self.network.vector_of(self.spread * latents)

    def synthesise(self, mapped: Tensor, noises: Sequence[Tensor]) -> Tensor:
        """Returns pictures (N, 3, height, width), about [0, 1] and not clamped, differentiable in both arguments.

        Args:
            mapped: what `map` gave.
            noises: the latent maps, (N, 3, h, w).
        """
        pictures: Tensor = self.network(mapped[:, 0], [self.map_spread * noise for noise in noises])
        return pictures

    def guess(self, low: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Returns latents (N, 1, D) and maps whose small pictures are the inputs (N, 3, h, w), enlarged if need be."""
        height, width = self.noise_shapes[0][1:]
        numbers, maps = self.network.latents_of(resize(low, height, width))
        return numbers[:, None] / self.spread, [one / self.map_spread for one in maps]


def decoder_of(path: Path) -> FaceDecoder:
    """Returns the decoder of a file, of whatever widths it holds.

    Raises:
        WeightsError: the file is damaged or of another network.
    """
    state = read_state_dict(path)

    def side(name: str, axis: int) -> int:
        return dimension(state, name, axis, path, _WHAT)

    counts = {
        "channels": (side("enter.weight", 0), side("up.weight", 0)),
        "num_blocks": (_num_blocks(state, "blocks"), _num_blocks(state, "fine_blocks")),
        "latent_dim": side("style.weight", 1),
        "num_styles": side("style.weight", 0),
        "small_height": side("mean", 1),
        "small_width": side("mean", 2),
    }
    try:
        network = FaceDecoder(**counts)  # type: ignore[arg-type]
    except ConfigError as error:
        raise WeightsError(f"{path} does not fit {_WHAT}: {error}") from error
    load_into(network, state, path)
    factor = network.prior_factor
    if bool((factor.triu(1) != 0).any()) or not bool((factor.diagonal() > 0).all()):
        raise WeightsError(f"{path} does not fit {_WHAT}: 'prior_factor' is not a Cholesky factor.")
    if not bool((network.leftover > 0).all()):
        raise WeightsError(f"{path} does not fit {_WHAT}: 'leftover' has to be above 0.")
    return network


def _num_blocks(state: Mapping[str, Tensor], name: str) -> int:
    """Returns how many blocks of a name there are, from 0 on without a gap."""
    return next(count for count in itertools.count() if f"{name}.{count}.first.weight" not in state)
