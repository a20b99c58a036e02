"""The face generator that comes with this repository, 96x112: the decoder of a variational autoencoder.

    uv run evaluate.py method=pulse generator=faces low=DIR high=DIR
    uv run evaluate.py method=pulse generator=faces generator.weights=runs/face_generator/latest.safetensors ...
    uv run facesr ship runs/face_generator/latest.safetensors faces

Its latents are standard normal, so there is no mapping network beyond a mean and a covariance; and all of its maps are
searched, because they are latents that belong to a place, and no noise.
"""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from facesr.errors import WeightsError
from facesr.methods.pulse.style_space import dimension
from facesr.models.face_vae import FaceDecoder
from facesr.snapshots.shipped import SHIPPED_FACES
from facesr.snapshots.snapshot import digests_beside
from facesr.weights import load_into, read_state_dict, sha256_of

_WHAT = "a face decoder (facesr face-generator)"


class Faces(nn.Module):
    """A face decoder as a `facesr.protocols.LatentGenerator`; ``to(device)`` moves all of it.

    Attributes:
        maps_are_latents: a search moves all of its maps.
    """

    mapped_mean: Tensor
    mapped_std: Tensor
    maps_are_latents = True

    def __init__(self, weights: str | Path | None = None, name: str = "faces") -> None:
        """Reads the file `weights`, or the one that comes with the package.

        Args:
            weights: the state dict's file, of `facesr face-generator`.
            name: the generator's name in reports.

        Raises:
            WeightsError: the file is missing, damaged or of another network.
        """
        super().__init__()
        path = SHIPPED_FACES if weights is None else Path(weights).expanduser()
        if not path.is_file():
            raise WeightsError(f"generator.weights={path} is not a file; give one of facesr face-generator.")
        self.name, self.weights_sha256 = name, sha256_of(path)
        if weights is None and self.weights_sha256 not in digests_beside(path):
            raise WeightsError(
                f"{path} is not the file that was shipped; restore it with git checkout or install anew."
            )
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
        return self.network.vectors_of(latents[:, 0])

    def synthesise(self, mapped: Tensor, noises: Sequence[Tensor]) -> Tensor:
        """Returns pictures (N, 3, height, width), about [0, 1] and not clamped, differentiable in both arguments.

        Args:
            mapped: what `map` gave.
            noises: the latent maps, (N, M, h, w) for each of `noise_shapes`.
        """
        pictures: Tensor = self.network(mapped, noises)
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
