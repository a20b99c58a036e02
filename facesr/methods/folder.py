"""Restoring a folder of low-resolution pictures into a folder that can be scored and packed again and again.

    <folder>/pictures/<id>.png    the restored pictures
    <folder>/restoration.json     how they were made and what was measured (`facesr.methods.record`)
    <folder>/energy.json          the energy of every rank and node (`facesr.energy`)

Restoring is measured, so it never gives the same figures twice; scoring and packing that folder are functions of it.
The folder's name is derived from everything that decides its pixels: asking for the same restoration again finds it, so
evaluate.py and submit.py restore the same pictures once.
"""

import contextlib
import hashlib
import json
import math
import re
import shutil
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from facesr import dist
from facesr.energy import FILE as ENERGY
from facesr.energy import EnergyLog, Reading, energy_bytes, in_turn, total_joules
from facesr.errors import DataError, SubmissionError
from facesr.files import unfinished_folder
from facesr.guard import Finding
from facesr.methods.low import LowPictures
from facesr.methods.method import Method, guard_record
from facesr.methods.provenance import PACKAGE_DIR, code_sha256, commit_of, device_name, package_versions
from facesr.methods.record import Restoration, parse_restoration, restoration_bytes
from facesr.methods.restore import restore_pictures
from facesr.names import is_passed_over
from facesr.png import encode_png
from facesr.power import PowerMeter
from facesr.processes import num_cores
from facesr.tiles import Tiles, pictures_at_once

PICTURES = "pictures"
RECORD = "restoration.json"
# Faces of 24x28, or as many pixels of larger pictures, held restored in memory at once: 33 MB.
_CHUNK = 1024


# Of the record: the first three move no pixel, an interpolation stands in its digests, and the guard is added in plain
# form.
_NOT_DECIDING = frozenset({"commit", "dirty", "files", "blend", "guard", "num_parameters"})


@dataclass(frozen=True)
class RestoredFolder:
    """A restored folder and whether it was there before."""

    path: Path
    restoration: Restoration
    reused: bool


@dataclass(frozen=True)
class RestoreOptions:
    """How to restore: where, in batches of how many, with or without the mirror image's answer, in which tiles."""

    device: torch.device
    batch_size: int
    self_ensemble: bool
    tiles: Tiles = field(default_factory=Tiles)


def restore_folder(
    method: Method,
    low: LowPictures,
    options: RestoreOptions,
    kept_in: Path,
    *,
    reuse: bool = True,
    on_batch: Callable[[int], None] | None = None,
) -> RestoredFolder:
    """Returns the restored folder below `kept_in`, made now or found intact when `reuse` allows it.

    Args:
        method: what restores.
        low: the pictures to restore.
        options: device, batch size, self-ensemble and tiles.
        kept_in: folder that collects restored folders.
        reuse: whether an intact folder of the same restoration is taken as it is, measured figures included, where
            the method's `may_reuse` allows it, too.
        on_batch: called after each batch of this rank with the number of its pictures.

    Ranks share the pictures; all files are there when any rank returns.

    Raises:
        DataError: a file cannot be read or written.
        ImageError: a picture cannot be read or restored.
    """
    # Rank 0's on all ranks: another machine's device would give the folder another name.
    record = dist.once(lambda: _facts(method, low, options))
    target = kept_in / _folder_name(record, options)

    def found() -> Restoration | None:
        kept = read_restored(target) if reuse else None
        return kept if kept is not None and list(kept.files) == list(low.paths) else None

    kept = dist.once(found)
    if kept is not None and (method.may_reuse is None or method.may_reuse(low.by_id)):
        return RestoredFolder(target, kept, reused=True)
    with contextlib.ExitStack() as stack:

        def begin() -> Path:
            with _writing(kept_in):
                kept_in.mkdir(parents=True, exist_ok=True)
                unfinished = stack.enter_context(unfinished_folder(kept_in, target.name))
                (unfinished / PICTURES).mkdir()
            return unfinished

        # One folder for all ranks: each writes its part there.
        unfinished = dist.once(begin)
        parts = dist.together(lambda: _restored_part(unfinished / PICTURES, method, low, options, kept_in, on_batch))
        done, energy = dist.from_main(None if parts is None else _joined(parts, record, method, low))

        def finish() -> None:
            with _writing(kept_in):
                (unfinished / ENERGY).write_bytes(energy_bytes(energy))
                (unfinished / RECORD).write_bytes(restoration_bytes(done))
                if target.exists():
                    shutil.rmtree(target)
                unfinished.rename(target)

        dist.by_main(finish)
    return RestoredFolder(target, done, reused=False)


@contextlib.contextmanager
def _writing(kept_in: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DataError(f"{kept_in} cannot be written ({error.strerror}); give restored_dir=DIR.") from error


def read_restored(folder: Path) -> Restoration | None:
    """Returns the record of a restored folder whose pictures are exactly those it names, None for any other."""
    try:
        record = parse_restoration((folder / RECORD).read_bytes(), str(folder / RECORD))
        names = {path.name for path in (folder / PICTURES).iterdir() if not is_passed_over(path.name)}
        if names != set(record.files):
            return None
        for name, sha256 in record.files.items():
            if hashlib.sha256((folder / PICTURES / name).read_bytes()).hexdigest() != sha256:
                return None
    except (OSError, SubmissionError):
        return None
    return record


def _facts(method: Method, low: LowPictures, options: RestoreOptions) -> Restoration:
    """Returns what is known before restoring; seconds, energy and files are still empty."""
    commit, dirty = commit_of(PACKAGE_DIR)
    return Restoration(
        model=method.name,
        weights_sha256=method.weights_sha256,
        config_sha256=method.config_sha256,
        kimg=float(method.kimg),
        loss_judges=tuple(method.loss_judges),
        flip_ensemble=options.self_ensemble,
        low_sha256=low.sha256,
        device=device_name(options.device),
        seconds=0.0,
        energy_joules=None,
        commit=commit,
        dirty=dirty,
        code_sha256=code_sha256(),
        packages={**package_versions(), **method.packages},
        files={},
        blend=None if method.interpolation is None else method.interpolation.parts,
        guard=guard_record(method, {}),
        num_parameters=sum(parameter.numel() for parameter in method.generator.parameters()) or None,
    )


def _folder_name(facts: Restoration, options: RestoreOptions) -> str:
    """Returns a name that changes with whatever may change a pixel; the commit does not, the code's digest does."""
    deciding = {key: value for key, value in vars(facts).items() if key not in _NOT_DECIDING}
    guard = {} if facts.guard is None else {"guard": facts.guard.as_dict()}
    text = json.dumps(
        {**deciding, **guard, "batch_size": options.batch_size, "tiles": vars(options.tiles)}, sort_keys=True
    )
    readable = re.sub(r"[^A-Za-z0-9._-]+", "-", facts.model).strip(".-")[:60] or "method"
    return f"{readable}-{hashlib.sha256(text.encode()).hexdigest()[:16]}"


class _Part(NamedTuple):
    """What one rank has restored.

    Attributes:
        reading: its time of restoring, and the energy meanwhile.
        files: name -> sha256 of the PNG file.
        findings: name -> what the guard found.
    """

    reading: Reading
    files: dict[str, str]
    findings: dict[str, Finding]


def _restored_part(
    folder: Path,
    method: Method,
    low: LowPictures,
    options: RestoreOptions,
    kept_in: Path,
    on_batch: Callable[[int], None] | None,
) -> _Part:
    """Restores this rank's share of the pictures into `folder`: every so-manieth batch, the batches of one rank."""
    seconds = 0.0
    measured: list[Reading] = []
    files: dict[str, str] = {}
    findings: dict[str, Finding] = {}
    meter = PowerMeter(options.device, with_cpu=dist.is_first_on_machine())
    width, height = max(low.sizes.values(), key=math.prod)
    # Whole batches, so that no batch depends on how many are held at once or on the number of ranks.
    batch, held = (pictures_at_once(count, height, width) for count in (options.batch_size, _CHUNK))
    batch = min(batch, held)
    most = batch if dist.world_size() > 1 else held // batch * batch
    parts = list(low.parts(most))[dist.rank() :: dist.world_size()]
    with ThreadPoolExecutor(num_cores()) as pool:
        for names in parts:
            pictures = low.read(names)
            found: list[Finding] = []
            with meter:
                start = time.perf_counter()
                restored = restore_pictures(
                    method,
                    pictures,
                    device=options.device,
                    batch_size=options.batch_size,
                    self_ensemble=options.self_ensemble,
                    tiles=options.tiles,
                    on_batch=on_batch,
                    on_finding=found.append,
                )
                seconds += time.perf_counter() - start
            measured.append(meter.reading(dist.rank()))
            findings |= {names[finding.place]: finding for finding in found}
            remarks = [findings[name].remark if name in findings else method.remark for name in names]
            with _writing(kept_in):
                digests = list(pool.map(_write_picture, [folder / name for name in names], restored, remarks))
            files.update(zip(names, digests, strict=True))
    reading = replace(in_turn(measured, meter.reading(dist.rank())), seconds=seconds)
    return _Part(reading, files, findings)


def _joined(parts: list[_Part], facts: Restoration, method: Method, low: LowPictures) -> tuple[Restoration, EnergyLog]:
    """Returns the record of all ranks' parts, the longest time and the energy of all, and the energy of each."""
    files = {name: sha256 for part in parts for name, sha256 in part.files.items()}
    findings = {name: finding for part in parts for name, finding in part.findings.items()}
    readings = [part.reading for part in parts]
    energy = EnergyLog()
    energy.add(readings, len(files))
    record = replace(
        facts,
        seconds=max(reading.seconds for reading in readings),
        energy_joules=total_joules(readings),
        files={name: files[name] for name in low.paths},
        guard=guard_record(method, findings),
    )
    return record, energy


def _write_picture(path: Path, picture: NDArray[np.uint8], remark: str) -> str:
    """Writes a PNG and returns the sha256 of its bytes."""
    data = encode_png(picture, remark)
    path.write_bytes(data)
    return hashlib.sha256(data).hexdigest()
