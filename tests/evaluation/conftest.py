"""Folders of small faces and a judge without weights."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

from facesr.config import EvaluationProtocol
from facesr.png import write_png
from facesr.resample import downscale_uint8

IDS = ("a", "b", "c", "d", "e", "f", "g")
WIDTH, HEIGHT = 24, 28


@dataclass(frozen=True)
class Faces:
    """Three folders that belong together."""

    restored: Path
    high: Path
    low: Path


def smooth(seed: int, height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    """Returns a smooth random picture, uint8 (height, width, 3)."""
    coarse = torch.rand(1, 3, 5, 4, generator=torch.Generator().manual_seed(seed))
    large = torch.nn.functional.interpolate(coarse, size=(height, width), mode="bilinear")[0]
    return (large * 255).round().byte().permute(1, 2, 0).numpy()


def write_faces(root: Path, width: int = WIDTH, height: int = HEIGHT, ids: tuple[str, ...] = IDS) -> Faces:
    """Writes originals, their low-resolution pictures, and restored ones with noise that differs per face."""
    faces = Faces(root / "restored", root / "high", root / "low")
    for folder in (faces.restored, faces.high, faces.low):
        folder.mkdir(parents=True)
    for seed, key in enumerate(ids):
        high = smooth(seed, height, width)
        noise = np.random.default_rng(seed).normal(0, 4 + 6 * seed, high.shape)
        write_png(faces.high / f"{key}.png", high)
        write_png(faces.low / f"{key}.png", downscale_uint8(high[None])[0])
        write_png(faces.restored / f"{key}.png", (high + noise).clip(0, 255).round().astype(np.uint8))
    return faces


@pytest.fixture
def faces(tmp_path: Path) -> Faces:
    return write_faces(tmp_path / "faces")


@pytest.fixture
def protocol() -> EvaluationProtocol:
    """Small pictures, strict."""
    return EvaluationProtocol("tiny", strict=True, width=WIDTH, height=HEIGHT, num_pictures=None)


@pytest.fixture
def any_size() -> EvaluationProtocol:
    return EvaluationProtocol("open", strict=True, width=None, height=None, num_pictures=None)


@pytest.fixture
def make_faces() -> Callable[..., Faces]:
    return write_faces
