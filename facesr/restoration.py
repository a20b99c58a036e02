"""Restoring low-resolution pictures with a method: an interpolation, a trained generator, or a blend of two."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from facesr.blend import blended, check_same_network, parts_of
from facesr.blend_parts import BlendParts
from facesr.checkpoint import read_snapshot
from facesr.errors import CheckpointError, ConfigError
from facesr.image import to_float, to_uint8
from facesr.models.interpolation import Bicubic, Nearest
from facesr.pretrained.shipped import PREFIX, snapshot_file
from facesr.snapshot_network import network_of
from facesr.task import SCALE
from facesr.tiles import Stretch, Tiles, pictures_at_once

INTERPOLATIONS: dict[str, type[nn.Module]] = {"bicubic": Bicubic, "nearest": Nearest}
# The search of facesr.latent, which the scripts open: its generator has settings of its own.
PULSE = "pulse"
EQUAL_SHARES = 0.5
# What the remark of a picture begins with whose face a method has invented.
SYNTHETIC = "synthetic face"


@dataclass(frozen=True)
class Blend:
    """The second snapshot of a blend.

    Attributes:
        path: its file.
        parts: digests of both snapshots, and the second one's share.
    """

    path: Path
    parts: BlendParts


@dataclass(frozen=True)
class Method:
    """A way to restore pictures.

    Attributes:
        name: ``bicubic``, ``nearest``, the name of the run, or ``FIRST+WEIGHT*SECOND`` for a blend.
        generator: network in evaluation mode, on its device.
        weights_sha256: of the snapshot file, of a blend as `facesr.blend_parts` says; empty without weights.
        loss_judges: recognisers that were part of its training loss.
        config_sha256: digest of the run's configuration; empty for a method without weights.
        kimg: thousands of images it was trained on.
        path: the snapshot, of a blend the first one, or None.
        blend: the second snapshot, None for a method that is no blend.
        remark: what the PNG files of its pictures say about them; for a method that invents faces, that it does.
        whole_only: whether a picture must not be cut into tiles.
    """

    name: str
    generator: nn.Module
    weights_sha256: str = ""
    loss_judges: tuple[str, ...] = ()
    config_sha256: str = ""
    kimg: float = 0.0
    path: Path | None = None
    blend: Blend | None = None
    remark: str = ""
    whole_only: bool = False


def open_method(
    spec: str, device: torch.device, blend_with: str | None = None, blend_weight: float = EQUAL_SHARES
) -> Method:
    """Returns the method that `spec` names: ``bicubic``, ``nearest``, a snapshot or a run folder (its best).

    A snapshot is a file or ``pretrained:NAME``, one that comes with the package.

    Args:
        spec: what is opened.
        device: where its network goes.
        blend_with: a second snapshot file or run folder, of the same network, blended into the first (`facesr.blend`).
        blend_weight: the second one's share of the weights, 0 to 1.

    Raises:
        CheckpointError: nothing of that name exists, or a snapshot is damaged or does not fit its network.
        ConfigError: the two cannot be blended, or the share is out of range or without a second snapshot.
    """
    if not 0.0 <= blend_weight <= 1.0:
        raise ConfigError(f"blend_weight={blend_weight:g} is out of range; give a share from 0 to 1.")
    if blend_with is None and blend_weight != EQUAL_SHARES:
        raise ConfigError(f"blend_weight={blend_weight:g} needs blend_with=RUN, the second snapshot or run.")
    if blend_with is not None:
        for name in (spec, blend_with):
            if name in INTERPOLATIONS:
                raise ConfigError(f"{name} has no weights and cannot be blended; give two snapshots or runs.")
    if spec in INTERPOLATIONS:
        return Method(spec, INTERPOLATIONS[spec]().eval().to(device))
    path = _snapshot_path(spec)
    snapshot, blend = read_snapshot(path), None
    if blend_with is not None:
        second_path = _snapshot_path(blend_with)
        second = read_snapshot(second_path)
        check_same_network(snapshot, path, second, second_path)
        blend = Blend(second_path, parts_of(snapshot, second, blend_weight))
        snapshot = blended(snapshot, second, blend.parts.weight)
    return Method(
        name=snapshot.run,
        generator=network_of(snapshot, path).to(device),
        weights_sha256=snapshot.sha256,
        loss_judges=snapshot.loss_judges,
        config_sha256=snapshot.config_sha256,
        kimg=snapshot.kimg,
        path=path,
        blend=blend,
    )


def _snapshot_path(spec: str) -> Path:
    path = snapshot_file(spec)
    if not path.is_file():
        raise CheckpointError(
            f"{spec} is neither {' nor '.join(INTERPOLATIONS)} nor a snapshot file, run folder or {PREFIX}NAME; "
            "give one of them, for example runs/NAME."
        )
    return path


def restore_pictures(
    method: Method,
    low: NDArray[np.uint8],
    *,
    device: torch.device,
    batch_size: int = 64,
    flip_ensemble: bool = False,
    tiles: Tiles | None = None,
    on_batch: Callable[[int], None] | None = None,
) -> NDArray[np.uint8]:
    """Returns restored pictures, uint8 (N, 4h, 4w, 3), for low-resolution ones, uint8 (N, h, w, 3), of any size.

    Computed in float32, in batches of at most the pixels of `batch_size` faces of 24x28 (`pictures_at_once`).
    Pictures larger than a tile are restored tile by tile: only tiles are ever held as floats, so memory beside the
    result does not grow with the picture. Where the overlap covers the network's receptive radius, tiles give the whole
    picture's answer but for roundings of one grey level. Where it does not, as with the default overlap for facesr,
    which sees 29 low-resolution pixels far (89 with hourglasses), more values may be off: docs/submission.md has each
    generator's radius, and what was measured.

    Args:
        flip_ensemble: average with the mirrored restoration of the mirrored input; twice the cost.
        tiles: the largest picture that is restored at once; `Tiles()` when not given.
        on_batch: called after each batch with the number of pictures restored so far.

    Raises:
        ImageError: the network's answer holds values that are not finite.
    """
    tiles = tiles or Tiles()
    num, height, width = low.shape[:3]
    if method.whole_only:
        tiles = Tiles(max(height, width, tiles.side_px), tiles.overlap_px)
    restored = np.empty((num, SCALE * height, SCALE * width, 3), np.uint8)
    step = pictures_at_once(batch_size, height, width)
    for start in range(0, num, step):
        batch = low[start : start + step]
        for rows in tiles.along(height):
            for columns in tiles.along(width):
                core = _core(method.generator, batch, rows, columns, device)
                if flip_ensemble:
                    # Tiles of the mirrored picture, not mirrored tiles: those would begin off the alignment.
                    mirrored = tiles.mirrored(columns, width)
                    core = 0.5 * (core + _core(method.generator, batch[:, :, ::-1], rows, mirrored, device).flip(-1))
                place = (slice(start, start + step), rows.written(SCALE), columns.written(SCALE))
                restored[place] = to_uint8(core)
        if on_batch is not None:
            on_batch(min(start + step, num))
    return restored


def _core(
    generator: nn.Module, low: NDArray[np.uint8], rows: Stretch, columns: Stretch, device: torch.device
) -> Tensor:
    """Returns the core of one tile's answer, float32 (N, 3, ., .), unclamped, for pictures uint8 (N, h, w, 3)."""
    seen = to_float(low[:, rows.read, columns.read]).to(device)
    return restore_batch(generator, seen)[..., rows.kept(SCALE), columns.kept(SCALE)]


@torch.no_grad()
def restore_batch(generator: nn.Module, low: Tensor) -> Tensor:
    """Returns the restored batch (N, 3, 4h, 4w), float32, unclamped, for `low` (N, 3, h, w) in [0, 1]."""
    restored: Tensor = generator(low)
    return restored
