"""Restoring pictures with a method: in batches and tiles, with its mirror image, under its guard.

A method of a snapshot that states a bound is guarded: a picture whose consistency with its input is below that bound is
restored by a fallback, and never silently (facesr.guard).
"""

import math
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from facesr.guard import Finding, GuardWarning, guard_line
from facesr.image import to_float, to_uint8
from facesr.methods.method import Method, guard_record
from facesr.metrics.consistency import consistency_of_pictures
from facesr.task import SCALE
from facesr.tiles import Stretch, Tiles, pictures_at_once

# So many faces at once by one thread: features of more leave its caches between two layers (docs/performance.md).
CPU_FACES = 16


def restore_pictures(
    method: Method,
    low: NDArray[np.uint8],
    *,
    device: torch.device,
    batch_size: int = 64,
    self_ensemble: bool = False,
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
    which sees 29 low-resolution pixels far (91 with hourglasses), more values may be off: docs/submission.md has each
    generator's radius, and what was measured.

    Args:
        self_ensemble: average with the mirrored restoration of the mirrored input; twice the cost.
        tiles: the largest picture that is restored at once; `Tiles()` when not given.
        on_batch: called after each batch with the number of its pictures.
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
    way = _Way(device, self_ensemble, tiles)
    found: list[Finding] = []
    for start in range(0, num, step):
        batch, answers = low[start : start + step], restored[start : start + step]
        is_finite = _fill(answers, method, batch, way)
        for finding in _guarded(answers, method, batch, is_finite, way):
            found.append(replace(finding, place=start + finding.place))
            if on_finding is not None:
                on_finding(found[-1])
        if on_batch is not None:
            on_batch(len(batch))
    record = guard_record(method, {f"picture {finding.place}": finding for finding in found})
    if found and on_finding is None and record is not None:
        warnings.warn(f"{method.name}: {guard_line(record, num)}", GuardWarning, stacklevel=2)
    return restored


class _Way(NamedTuple):
    """How pictures are restored, whatever restores them."""

    device: torch.device
    self_ensemble: bool
    tiles: Tiles


def _fill(restored: NDArray[np.uint8], method: Method, low: NDArray[np.uint8], way: _Way) -> NDArray[np.bool_]:
    """Writes the method's own pictures into `restored` and returns which of them are finite, (N,).

    Raises:
        ImageError: one is not, and no guard is there to replace it.
    """
    device, self_ensemble, tiles = way
    height, width = low.shape[1:3]
    is_finite = np.ones(len(low), np.bool_)
    for rows in tiles.along(height):
        for columns in tiles.along(width):
            core = _core(method.generator, low, rows, columns, device)
            if self_ensemble:
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
    """Returns the restored batch (N, 3, 4h, 4w), float32, unclamped, for `low` (N, 3, h, w) in [0, 1].

    On a CPU in parts of at most the pixels of `CPU_FACES` faces, each by one thread: threads that share a layer wait
    for each other at every one. A generator whose ``whole_batches`` is true shares its work out itself.
    """
    num_threads = torch.get_num_threads()
    if low.device.type != "cpu" or len(low) < 2 or getattr(generator, "whole_batches", False):
        restored: Tensor = generator(low)
        return restored
    step = min(pictures_at_once(CPU_FACES, *low.shape[-2:]), math.ceil(len(low) / num_threads))
    parts = [low[start : start + step] for start in range(0, len(low), step)]
    if num_threads == 1:
        return torch.cat([generator(part) for part in parts])
    try:
        # How many threads an operation takes is known to each thread by itself.
        with ThreadPoolExecutor(num_threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            return torch.cat(list(pool.map(torch.no_grad()(generator.__call__), parts)))
    finally:
        # For this thread it has not changed, but for threads that are yet to come.
        torch.set_num_threads(num_threads)
