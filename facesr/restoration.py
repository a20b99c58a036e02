"""Restoring low-resolution pictures with a method: an interpolation, a trained generator, or a blend of two.

A method of a snapshot that states a bound is guarded: a picture whose consistency with its input is below that bound is
restored by a fallback, and never silently (facesr.guard).
"""

import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from facesr.blend import blended, check_same_network, parts_of
from facesr.blend_parts import BlendParts
from facesr.checkpoint import Snapshot, read_snapshot
from facesr.errors import CheckpointError, ConfigError
from facesr.guard import Fallback, Finding, GuardRecord, GuardWarning, guard_line, replaced_of
from facesr.image import to_float, to_uint8
from facesr.metrics.consistency import consistency_of_pictures
from facesr.models.interpolation import Bicubic, Nearest
from facesr.pretrained.shipped import PREFIX, snapshot_file
from facesr.snapshot_network import network_of
from facesr.task import SCALE
from facesr.tiles import Stretch, Tiles, pictures_at_once
from facesr.weights import sha256_of

INTERPOLATIONS: dict[str, type[nn.Module]] = {"bicubic": Bicubic, "nearest": Nearest}
# The search of facesr.latent, which the scripts open: its generator has settings of its own.
PULSE = "pulse"
EQUAL_SHARES = 0.5
# What restores a picture that its snapshot's bound does not let pass; where that does not pass either, bicubic does.
FALLBACK = f"{PREFIX}asc19_psnr"
LAST_FALLBACK = "bicubic"
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
class Guard:
    """What the pictures of a snapshot are checked with.

    Attributes:
        on: whether they are checked at all.
        bound_db: lowest consistency that passes, 0 to 100; None where the snapshot states none, and everything passes.
        fallback: restores what does not pass; it may have a guard itself. None without a bound.
    """

    on: bool = True
    bound_db: float | None = None
    fallback: "Method | None" = None


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
        guard: what its pictures are checked with; None for a method without a snapshot, which has no guard.
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
    guard: Guard | None = None

    @property
    def bound_db(self) -> float | None:
        """The consistency in dB that a picture has to have; None where none is asked for."""
        return None if self.guard is None else self.guard.bound_db


def open_method(
    spec: str,
    device: torch.device,
    blend_with: str | None = None,
    blend_weight: float = EQUAL_SHARES,
    *,
    guard: bool = True,
) -> Method:
    """Returns the method that `spec` names: ``bicubic``, ``nearest``, a snapshot or a run folder (its best).

    A snapshot is a file or ``pretrained:NAME``, one that comes with the package.

    Args:
        spec: what is opened.
        device: where its network goes.
        blend_with: a second snapshot file or run folder, of the same network, blended into the first (`facesr.blend`).
        blend_weight: the second one's share of the weights, 0 to 1.
        guard: whether a picture below the bound that the snapshot states is restored by a fallback.

    Raises:
        CheckpointError: nothing of that name exists, or a snapshot, or that of the fallback, is damaged or does not fit
            its network.
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
        guard=_guard_of(snapshot, device) if guard else Guard(on=False),
    )


def _guard_of(snapshot: Snapshot, device: torch.device) -> Guard:
    bound = snapshot.consistency_bound_db
    if bound is None:
        return Guard()
    # The fallback's own fallback, and that of a copy of it, is the last one.
    is_fallback = snapshot.sha256 == sha256_of(snapshot_file(FALLBACK))
    spec = LAST_FALLBACK if is_fallback else FALLBACK
    return Guard(True, bound, replace(open_method(spec, device), name=spec))


def guard_record(method: Method, findings: Mapping[str, Finding]) -> GuardRecord | None:
    """Returns what is recorded of a method's guard and its findings by picture, None for a method without a guard."""
    guard = method.guard
    if guard is None:
        return None
    fallbacks: list[Fallback] = []
    fallback = guard.fallback
    while fallback is not None:
        fallbacks.append(Fallback(fallback.name, fallback.weights_sha256))
        fallback = None if fallback.guard is None else fallback.guard.fallback
    replaced = {name: replaced_of(finding) for name, finding in sorted(findings.items())}
    return GuardRecord(guard.on, guard.bound_db, tuple(fallbacks), replaced)


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
    on_finding: Callable[[Finding], None] | None = None,
) -> NDArray[np.uint8]:
    """Returns restored pictures, uint8 (N, 4h, 4w, 3), for low-resolution ones, uint8 (N, h, w, 3), of any size.

    A picture that the method's guard does not let pass, or that holds values which are not finite, is the fallback's:
    the one that `restore_pictures` of that method gives for this picture alone, so what else is restored with it moves
    nothing.

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
        on_finding: called for each picture that a fallback restored; without it they are told as a `GuardWarning`.

    Raises:
        ImageError: the network's answer holds values that are not finite, and no guard with a bound is on.
    """
    tiles = tiles or Tiles()
    num, height, width = low.shape[:3]
    if method.whole_only:
        tiles = Tiles(max(height, width, tiles.side_px), tiles.overlap_px)
    restored = np.empty((num, SCALE * height, SCALE * width, 3), np.uint8)
    step = pictures_at_once(batch_size, height, width)
    way = _Way(device, flip_ensemble, tiles)
    found: list[Finding] = []
    for start in range(0, num, step):
        batch, answers = low[start : start + step], restored[start : start + step]
        is_finite = _fill(answers, method, batch, way)
        for finding in _guarded(answers, method, batch, is_finite, way):
            found.append(replace(finding, place=start + finding.place))
            if on_finding is not None:
                on_finding(found[-1])
        if on_batch is not None:
            on_batch(min(start + step, num))
    record = guard_record(method, {f"picture {finding.place}": finding for finding in found})
    if found and on_finding is None and record is not None:
        warnings.warn(f"{method.name}: {guard_line(record, num)}", GuardWarning, stacklevel=2)
    return restored


class _Way(NamedTuple):
    """How pictures are restored, whatever restores them."""

    device: torch.device
    flip_ensemble: bool
    tiles: Tiles


def _fill(restored: NDArray[np.uint8], method: Method, low: NDArray[np.uint8], way: _Way) -> NDArray[np.bool_]:
    """Writes the method's own pictures into `restored` and returns which of them are finite, (N,).

    Raises:
        ImageError: one is not, and no guard is there to replace it.
    """
    device, flip_ensemble, tiles = way
    height, width = low.shape[1:3]
    is_finite = np.ones(len(low), np.bool_)
    for rows in tiles.along(height):
        for columns in tiles.along(width):
            core = _core(method.generator, low, rows, columns, device)
            if flip_ensemble:
                # Tiles of the mirrored picture, not mirrored tiles: those would begin off the alignment.
                mirrored = tiles.mirrored(columns, width)
                core = 0.5 * (core + _core(method.generator, low[:, :, ::-1], rows, mirrored, device).flip(-1))
            if method.bound_db is not None:
                is_finite &= torch.isfinite(core).flatten(1).all(1).cpu().numpy()
                core = torch.nan_to_num(core)
            restored[:, rows.written(SCALE), columns.written(SCALE)] = to_uint8(core)
    return is_finite


def _guarded(
    restored: NDArray[np.uint8], method: Method, low: NDArray[np.uint8], is_finite: NDArray[np.bool_], way: _Way
) -> Iterator[Finding]:
    """Puts the fallback's picture in the place of each that does not pass, and yields what was found."""
    bound, fallback = method.bound_db, None if method.guard is None else method.guard.fallback
    if bound is None or fallback is None:
        return
    measured = np.where(is_finite, consistency_of_pictures(restored, low), 0.0)
    for place in np.flatnonzero(measured < bound):
        inner: list[Finding] = []
        # One picture at a time: what shares a batch with it would move its last digits.
        one = low[place : place + 1]
        restored[place] = restore_pictures(fallback, one, on_finding=inner.append, **way._asdict())[0]
        restored_by = inner[0].restored_by if inner else fallback.name
        yield Finding(int(place), float(measured[place]), bound, restored_by)


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
