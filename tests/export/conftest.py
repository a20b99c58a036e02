"""Snapshots of small networks to export."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from facesr.build import build
from facesr.export.model import export
from facesr.photos.trained import TrainedFraming
from facesr.places import Place
from facesr.snapshots.snapshot import Snapshot, write_snapshot

SMALL = {
    "_target_": "facesr.models.facesr.FaceSR",
    "channels": 32,
    "num_groups": 1,
    "num_blocks": 1,
    "channels_up": 32,
}
Write = Callable[..., Path]


def write_at(
    folder: Path,
    name: str = "small",
    bound: float | None = None,
    node: Any = None,
    framing: TrainedFraming | None = None,
    **changes: Any,
) -> Path:
    """Writes a snapshot of a network whose last layer is no longer zero, so that it restores in its own way."""
    node = {**SMALL, **changes} if node is None else node
    torch.manual_seed(0)
    state = build(node, Place.GENERATOR).state_dict()
    for key in state:
        if key.startswith("to_rgb"):
            state[key] = 0.01 * torch.randn_like(state[key])
    path = folder / f"{name}.safetensors"
    write_snapshot(path, Snapshot(state, node, "tester", 1.5, "c" * 64, ("builtin",), {}, "", bound, framing))
    return path


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes snapshots into the folder of the test."""
    return functools.partial(write_at, tmp_path)


@pytest.fixture(scope="session")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A snapshot and its export."""
    folder = tmp_path_factory.mktemp("pair")
    snapshot = write_at(folder, bound=12.5, num_hourglass_blocks=1, rms_limit=1.0)
    return snapshot, export(str(snapshot), folder / "small.onnx").path
