"""Snapshot files as a stranger could write them: any weights, any metadata."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

from facesr.build import build
from facesr.places import Place
from facesr.snapshots.rules import FORMAT

NODE = {"_target_": "facesr.models.sicnn.SICNN", "num_channels": 8, "growth": 4, "num_layers": 1}


def honest_about() -> dict[str, Any]:
    """Returns the metadata of an honest snapshot."""
    return {
        "format": FORMAT, "generator": dict(NODE), "run": "tester", "kimg": 1.5, "config_sha256": "c" * 64,
        "loss_judges": ["builtin"], "scores": {"is/builtin": 0.5},
    }  # fmt: skip


def honest_weights() -> dict[str, Tensor]:
    """Returns the weights that go with them."""
    torch.manual_seed(0)
    weights: dict[str, Tensor] = build(NODE, Place.GENERATOR).state_dict()
    return weights


def write_raw(path: Path, about: object, weights: Mapping[str, Tensor] | None = None) -> Path:
    """Writes a snapshot without asking whether it is one, and returns its path."""
    weights = honest_weights() if weights is None else weights
    path.write_bytes(save({name: value.contiguous() for name, value in weights.items()}, {"facesr": json.dumps(about)}))
    return path
