"""The face generator that this repository trains on a CPU, 96x112: the decoder of a variational autoencoder.

    uv run facesr face-generator faces=data/faces
    uv run evaluate.py method=pulse generator=faces generator.weights=runs/face_generator/latest.safetensors ...

Its latents are standard normal, so there is no mapping network beyond a mean and a covariance; and all of its maps are
searched, because they are latents that belong to a place, and no noise.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import torch
from torch import Tensor, nn

from facesr.errors import WeightsError
from facesr.methods.pulse.style_space import dimension
from facesr.models.face_vae import FaceDecoder
from facesr.ranges import Range
from facesr.weights import find_weights, load_into, read_state_dict, sha256_of

FILE_NAME = "face_decoder.safetensors"
_WHAT = "a face decoder (facesr face-generator)"


class Faces(nn.Module):
    """A face decoder as a `facesr.protocols.LatentGenerator`; ``to(device)`` moves all of it.

    Attributes:
        maps_are_latents: a search moves all of its maps, and stays inside the spheres instead of on them.
    """

    mapped_mean: Tensor
    mapped_std: Tensor
    maps_are_latents = True

    def __init__(
        self,
        weights: str | Path | None = None,
        spread: Annotated[float, Range(0, 1_000, above=True)] = 1.0,
        map_spread: Annotated[float, Range(0, 1_000, above=True)] = 1.0,
        name: str = "faces",
    ) -> None:
        """Reads the decoder's file.

        Args:
            weights: the file, of `facesr face-generator`; None looks for `FILE_NAME` in $FACESR_WEIGHTS and the cache.
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
        path = find_weights(FILE_NAME, key="generator.weights", configured=weights)
        self.name, self.weights_sha256 = name, sha256_of(path)
        self.network = decoder_of(path)
        # One vector holds the numbers of all resolutions, because their covariance is one.
        self.num_latents, self.latent_dim = 1, self.network.num_latents * self.network.latent_dim
        self.size, self.noise_shapes = self.network.size, self.network.noise_shapes
        self.noise_constants: tuple[Tensor, ...] = ()
        self.register_buffer("mapped_mean", torch.zeros(self.latent_dim))
        self.register_buffer("mapped_std", torch.ones(self.latent_dim))
        self.eval().requires_grad_(False)

    def map(self, latents: Tensor) -> Tensor:
        """Returns the decoder's vectors (N, resolutions, d) for standard normal latents (N, 1, resolutions * d)."""
        return self.network.vectors_of(self.spread * latents[:, 0])

    def synthesise(self, mapped: Tensor, noises: Sequence[Tensor]) -> Tensor:
        """Returns pictures (N, 3, height, width), about [0, 1] and not clamped, differentiable in both arguments.

        Args:
            mapped: what `map` gave.
            noises: the latent maps, (N, M, h, w) for each of `noise_shapes`.
        """
        pictures: Tensor = self.network(mapped, [self.map_spread * noise for noise in noises])
        return pictures


def decoder_of(path: Path) -> FaceDecoder:
    """Returns the decoder of a file, of whatever widths it holds.

    Raises:
        WeightsError: the file is damaged or of another network.
    """
    state = read_state_dict(path)
    height, width = (dimension(state, "constant", axis, path, _WHAT) for axis in (2, 3))
    latent_dim = dimension(state, "begin.weight", 1, path, _WHAT)
    channels: list[int] = []
    num_maps: list[int] = []
    while (name := f"blocks.{len(channels)}.first.weight") in state:
        maps = f"blocks.{len(channels)}.maps.weight"
        if maps in state:
            num_maps.append(dimension(state, maps, 1, path, _WHAT))
        channels.append(dimension(state, name, 0, path, _WHAT))
    if min(height, width, latent_dim, *channels, *num_maps, len(channels), len(num_maps)) < 1:
        raise WeightsError(f"{path} does not fit {_WHAT}: a layer has no channels.")
    network = FaceDecoder(channels, num_maps, latent_dim, height, width)
    load_into(network, state, path)
    return network
