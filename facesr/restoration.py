"""Restoring low-resolution faces with a method: an interpolation, or a trained generator from a snapshot."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from facesr.build import build
from facesr.checkpoint import Snapshot, read_snapshot
from facesr.errors import CheckpointError
from facesr.image import to_float, to_uint8
from facesr.models.interpolation import Bicubic, Nearest
from facesr.weights import load_into

INTERPOLATIONS: dict[str, type[nn.Module]] = {"bicubic": Bicubic, "nearest": Nearest}
BEST = Path("snapshots") / "best.safetensors"


@dataclass(frozen=True)
class Method:
    """A way to restore faces.

    Attributes:
        name: ``bicubic``, ``nearest`` or the name of the run.
        generator: network in evaluation mode, on its device.
        weights_sha256: of the snapshot file; empty for a method without weights.
        loss_judges: recognisers that were part of its training loss.
        config_sha256: digest of the run's configuration; empty for a method without weights.
        kimg: thousands of images it was trained on.
        path: the snapshot, or None.
    """

    name: str
    generator: nn.Module
    weights_sha256: str = ""
    loss_judges: tuple[str, ...] = ()
    config_sha256: str = ""
    kimg: float = 0.0
    path: Path | None = None


def open_method(spec: str, device: torch.device) -> Method:
    """Returns the method that `spec` names: ``bicubic``, ``nearest``, a snapshot file or a run folder (its best).

    Raises:
        CheckpointError: nothing of that name exists, or the snapshot is damaged or does not fit its network.
    """
    if spec in INTERPOLATIONS:
        return Method(spec, INTERPOLATIONS[spec]().eval().to(device))
    path = Path(spec).expanduser()
    if path.is_dir():
        if not (path / BEST).is_file():
            raise CheckpointError(f"{path} holds no {BEST}; give a run folder that has been validated once.")
        path = path / BEST
    if not path.is_file():
        raise CheckpointError(
            f"{spec} is neither {' nor '.join(INTERPOLATIONS)} nor a snapshot file or run folder; "
            "give one of them, for example runs/NAME."
        )
    snapshot = read_snapshot(path)
    return Method(
        name=snapshot.run,
        generator=generator_of(snapshot, path).to(device),
        weights_sha256=snapshot.sha256,
        loss_judges=snapshot.loss_judges,
        config_sha256=snapshot.config_sha256,
        kimg=snapshot.kimg,
        path=path,
    )


def generator_of(snapshot: Snapshot, path: Path) -> nn.Module:
    """Returns the network of a snapshot with its weights, in evaluation mode, on the CPU.

    Raises:
        ConfigError: the snapshot names a network that this version does not have.
        WeightsError: the weights do not fit that network.
    """
    generator = build(snapshot.generator)
    assert isinstance(generator, nn.Module)
    load_into(generator, snapshot.state, path)
    return generator.eval().requires_grad_(False)


def restore_pictures(
    method: Method,
    low: NDArray[np.uint8],
    *,
    device: torch.device,
    batch_size: int = 64,
    flip_ensemble: bool = False,
    on_batch: Callable[[int], None] | None = None,
) -> NDArray[np.uint8]:
    """Returns restored pictures, uint8 (N, 4h, 4w, 3), for low-resolution ones, uint8 (N, h, w, 3).

    Computed in float32 in batches of at most `batch_size`.

    Args:
        flip_ensemble: average with the mirrored restoration of the mirrored input; twice the cost.
        on_batch: called after each batch with the number of faces restored so far.
    """
    parts: list[NDArray[np.uint8]] = []
    done = 0
    for start in range(0, len(low), batch_size):
        batch = to_float(low[start : start + batch_size]).to(device)
        parts.append(to_uint8(restore_batch(method.generator, batch, flip_ensemble=flip_ensemble)))
        done += len(batch)
        if on_batch is not None:
            on_batch(done)
    return np.concatenate(parts)


@torch.no_grad()
def restore_batch(generator: nn.Module, low: Tensor, *, flip_ensemble: bool = False) -> Tensor:
    """Returns the restored batch (N, 3, 4h, 4w), float32, unclamped, for `low` (N, 3, h, w) in [0, 1]."""
    restored: Tensor = generator(low)
    if flip_ensemble:
        mirrored: Tensor = generator(low.flip(-1))
        restored = 0.5 * (restored + mirrored.flip(-1))
    return restored
