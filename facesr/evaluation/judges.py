"""The judges that an evaluation asks, built from their configurations."""

from typing import Any

import torch
from torch import nn

from facesr import dist
from facesr.build import build, load_group
from facesr.config import EvaluateSettings
from facesr.errors import ConfigError
from facesr.places import Place
from facesr.protocols import Embedder


def open_judges(settings: EvaluateSettings, device: torch.device) -> list[Embedder]:
    """Returns the judges on the device, the ranking one first; none where the perceptual index is the score.

    Raises:
        FaceSRError: a name is unknown, or weights are missing or wrong.
    """
    if settings.protocol.perceptual is not None:
        return []

    def make() -> list[Embedder]:
        found: list[Embedder] = [build(judge_node("embedder=none", settings.embedder), Place.EMBEDDER)]
        for name in settings.judges:
            if name not in [judge.name for judge in found]:
                found.append(named_judge(name, f"judges=[{name}]"))
        return found

    return [on_device(judge, device) for judge in dist.in_turn(make)]


def named_judge(name: str, key: str) -> Embedder:
    """Returns the judge of configs/embedder/<name>.yaml; `key` is what the user calls it.

    Raises:
        FaceSRError: there is none of that name, or its weights are missing or wrong.
    """
    judge: Embedder = build(judge_node(key, load_group("embedder", name)), Place.EMBEDDER)
    return judge


def on_device(judge: Embedder, device: torch.device) -> Embedder:
    """Returns the judge, moved to the device where it is a network of PyTorch's."""
    if isinstance(judge, nn.Module):
        judge.to(device)
    return judge


def judge_node(key: str, node: dict[str, Any]) -> dict[str, Any]:
    """Returns a judge's configuration.

    Raises:
        ConfigError: it is empty, as that of `none` is, which is for training on general pictures.
    """
    if not node:
        raise ConfigError(f"{key} is no judge; choose another one, or protocol=asc19_preliminary, which asks none.")
    return node
