"""Small generators to search: a toy with four vectors and three noise maps, and eigenfaces of random faces."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from facesr.build import load_settings
from facesr.config import EvaluateSettings, PulseSettings
from facesr.embedders.builtin import SmallRecogniser
from facesr.methods.pulse.eigenfaces import Eigenfaces, write_fit
from facesr.methods.pulse.eigenfaces_fit import fit
from facesr.png import write_png
from facesr.resample import downscale_uint8


class Toy(nn.Module):
    """A smooth generator of 16x16 pictures from four vectors of 32 numbers and three noise maps."""

    name = "toy"
    weights_sha256 = "a" * 64
    num_latents, latent_dim = 4, 32
    size = (16, 16)
    noise_shapes = ((1, 4, 4), (1, 8, 8), (1, 16, 16))
    noise_constants = ()

    def __init__(self) -> None:
        super().__init__()
        draw = torch.Generator().manual_seed(7)
        self.mapped_mean, self.mapped_std = torch.full((32,), 0.1), torch.full((32,), 0.9)
        self.basis = torch.randn(4 * 32, 3 * 16 * 16, generator=draw) * 0.03

    def map(self, latents: Tensor) -> Tensor:
        """Returns mapped latents."""
        return nn.functional.leaky_relu(latents * self.mapped_std + self.mapped_mean, 0.2)

    def synthesise(self, mapped: Tensor, noises: Sequence[Tensor]) -> Tensor:
        """Returns pictures."""
        picture = 0.5 + (mapped.flatten(1) @ self.basis).view(-1, 3, 16, 16)
        for noise in noises:
            picture = picture + 0.02 * nn.functional.interpolate(noise, size=(16, 16))
        return picture


@pytest.fixture
def toy() -> Toy:
    return Toy()


@pytest.fixture
def low() -> Tensor:
    """Eight inputs of 4x4 as the toy makes them from other latents, grey levels."""
    toy, draw = Toy(), torch.Generator().manual_seed(1)
    latents = torch.randn(8, 4, 32, generator=draw)
    pictures = toy.synthesise(toy.map(latents), []).clamp(0, 1)
    return (nn.functional.avg_pool2d(pictures, 4) * 255).round() / 255


@pytest.fixture(scope="session")
def pulse_settings() -> PulseSettings:
    """PULSE as published, on the CPU in little time."""
    return load_settings("evaluate", EvaluateSettings, ["generator=stylegan", "pulse.steps=40"]).pulse


def random_faces(num: int, height: int = 28, width: int = 24, seed: int = 0) -> np.ndarray:
    """Returns smooth random pictures, uint8 (num, height, width, 3)."""
    draw = torch.Generator().manual_seed(seed)
    coarse = torch.rand(num, 3, 4, 4, generator=draw)
    large = nn.functional.interpolate(coarse, size=(height, width), mode="bicubic").clamp(0, 1)
    grain = 0.02 * torch.randn(large.shape, generator=draw)
    return ((large + grain).clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).numpy()


def write_folders(folder: Path, num_faces: int) -> None:
    """Writes originals high/ and inputs low/ of random faces, and a recogniser that has learnt nothing, judge.pt."""
    high = random_faces(num_faces, seed=4)
    for name, pictures in (("high", high), ("low", downscale_uint8(high))):
        (folder / name).mkdir()
        for number, picture in enumerate(pictures):
            write_png(folder / name / f"{number}.png", picture)
    torch.manual_seed(0)
    torch.save(SmallRecogniser().state_dict(), folder / "judge.pt")


@pytest.fixture(scope="session")
def eigenfaces_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eigenfaces of 24x28 pictures."""
    path = tmp_path_factory.mktemp("eigenfaces") / "small.safetensors"
    write_fit(fit(random_faces(300)), path)
    return path


@pytest.fixture
def eigenfaces(eigenfaces_file: Path) -> Eigenfaces:
    return Eigenfaces(eigenfaces_file, spread=1.2, noise_spread=3.0).eval()
