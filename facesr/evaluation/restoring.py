"""Restoring a folder of low-resolution pictures before it is scored: PNG files first, scores from the files."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from facesr import dist
from facesr.evaluation.pairs import Pair, Pairs, batches, list_pictures, png_size
from facesr.evaluation.result import Subject
from facesr.evaluation.scoring import together
from facesr.files import make_empty
from facesr.guard import Finding
from facesr.png import read_png, write_png
from facesr.restoration import Method, guard_record, restore_pictures
from facesr.tiles import Tiles, pictures_at_once


def restore_folder(
    method: Method,
    low: Path,
    folder: Path,
    device: torch.device,
    batch_size: int,
    flip_ensemble: bool = False,
    on_batch: Callable[[int], None] = lambda count: None,
    tiles: Tiles | None = None,
) -> Subject:
    """Writes <folder>/<id>.png for every picture of `low` and returns that folder as a subject.

    Batches are shared among ranks; all files are there when any rank returns. Earlier PNG files are removed. Pictures
    larger than `tiles` (`Tiles()` when not given) are restored tile by tile. The subject holds what the guard found; a
    picture that a fallback restored says so in its file, too.

    Raises:
        DataError: a folder is missing, empty or not writable.
        ImageError: a picture cannot be read or written.
    """
    files = list_pictures(low)
    pairs = Pairs(tuple(Pair(key, path, path, path, png_size(path)) for key, path in files.items()))
    if dist.is_main():
        make_empty(folder)
    dist.barrier()

    def work() -> dict[str, Finding]:
        replaced: dict[str, Finding] = {}
        parts = [part for batch in batches(pairs, batch_size) for part in _parts(batch, batch_size)]
        for batch in parts[dist.rank() :: dist.world_size()]:
            pictures = np.stack([read_png(pair.restored) for pair in batch])
            found: list[Finding] = []
            restored = restore_pictures(
                method,
                pictures,
                device=device,
                batch_size=batch_size,
                flip_ensemble=flip_ensemble,
                tiles=tiles,
                on_finding=found.append,
            )
            remarks = {batch[finding.place].id: finding.remark for finding in found}
            for pair, picture in zip(batch, restored, strict=True):
                write_png(folder / f"{pair.id}.png", picture, remarks.get(pair.id, method.remark))
            replaced |= {batch[finding.place].id: finding for finding in found}
            on_batch(len(batch))
        return replaced

    of_ranks: list[dict[str, Finding]] = dist.from_main(together(work))
    findings = {key: finding for part in of_ranks for key, finding in part.items()}
    facts: dict[str, Any] = {
        "path": "" if method.path is None else str(method.path),
        "weights_sha256": method.weights_sha256,
        "config_sha256": method.config_sha256,
        "kimg": method.kimg,
        "flip_ensemble": flip_ensemble,
    }
    if method.blend is not None:
        parts = method.blend.parts
        facts |= {
            "blend_with": str(method.blend.path),
            "blend_weight": parts.weight,
            "blend_sha256": parts.weights_sha256[1],
        }
    guard = guard_record(method, findings)
    return Subject("method", method.name, folder, method.loss_judges, facts, guard=guard)


def _parts(batch: list[Pair], batch_size: int) -> list[list[Pair]]:
    """Returns a batch as it is restored: large pictures are few at a time, so that few answers wait to be written."""
    width, height = batch[0].size
    most = pictures_at_once(batch_size, height, width)
    return [batch[start : start + most] for start in range(0, len(batch), most)]
