"""Makes a prepared dataset out of a folder of pictures: one array of crops, an index, and what was left out and why.

Run: ``facesr prepare SOURCE OUT [--crop as-is|ffhq|detect|template]``; ``--help`` tells the rest,
``data/README.md`` has the commands for FFHQ. The same command goes on with a run that was stopped.
"""

import argparse
import csv
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Annotated

import numpy as np
from numpy.typing import NDArray

from facesr.arguments import Parser, number
from facesr.data.packed.dataset_format import INDEX, Row, SetPlan
from facesr.data.packed.writer import DatasetWriter
from facesr.data.prepare.annotations import identities_from_folders, match_annotations, read_annotations
from facesr.data.prepare.common import (
    Margin,
    add_folders,
    add_margin,
    add_overwrite,
    check_folders,
    facts_of,
    left_out,
    progress,
    run_command,
    tell,
)
from facesr.data.prepare.workers import PIECE, Piece, crop_all
from facesr.errors import DataError
from facesr.photos.crop import CROPS, Framing
from facesr.photos.decode import list_pictures
from facesr.processes import num_cores
from facesr.ranges import Count, Range, check_number

PREPARE_VERSION = 1  # raised when the same settings give other pictures
POOL_FROM = {False: 4 * PIECE, True: PIECE // 2}  # by detection: fewer pictures are done before processes start
CropSide = Annotated[int, Range(4, 4_096)]
Enlargement = Annotated[float, Range(0, 1_000, above=True)]
Workers = Annotated[int, Range(1, 1_024)]


@dataclass(frozen=True)
class Options:
    """What is prepared beside the framing; `num_workers`, `device` and `overwrite` do not change the result.

    Attributes:
        identity: ``auto``, ``folder`` or ``none``, see `identities_from_folders`.
        duplicates: ``drop`` or ``keep`` files of equal bytes.
        index: CSV table of identities and landmarks, or None.
        limit: take only the first so many pictures, or None.
        num_workers: processes, or None for every core that this process may use.
        device: where faces are detected, e.g. ``cpu`` or ``cuda``.
        overwrite: replace what another run has left at the output folder.
    """

    identity: str = "auto"
    duplicates: str = "drop"
    index: Path | None = None
    limit: int | None = None
    num_workers: int | None = None
    device: str = "cpu"
    overwrite: bool = False


@dataclass(frozen=True)
class Outcome:
    """What a prepared dataset holds.

    Attributes:
        num_kept: pictures in the set.
        num_identities: different persons known by name.
        num_found_done: sources that an earlier run had done already.
        left_out: number of pictures left out by kind of reason.
    """

    num_kept: int
    num_identities: int
    num_found_done: int
    left_out: dict[str, int]


def prepare(source: Path, out: Path, framing: Framing, options: Options) -> Outcome:
    """Returns what the prepared dataset at `out` holds, which is made from the pictures below `source`.

    Raises:
        ConfigError: a number is out of range.
        DataError: a folder or an option is not as it has to be, no picture is usable, or the disk is full.
    """
    _check(source, out, framing, options)
    sources = list_pictures(source)[: options.limit]
    facts = facts_of(source, sources)
    identities = identities_from_folders(sources, options.identity)
    known: list[tuple[float, ...]] = [()] * len(sources)
    if options.index is not None:
        annotations = match_annotations(sources, source, read_annotations(options.index))
        if not any(annotations):
            raise DataError(
                f"{options.index} names none of the pictures in {source}; its column 'file' must end like their paths."
            )
        known = [line.landmarks if line else () for line in annotations]
        if options.identity != "none":
            pairs = zip(annotations, identities, strict=True)
            identities = [line.identity if line and line.identity else name for line, name in pairs]
    plan = SetPlan(
        framing.width,
        framing.height,
        framing.margin,
        sources,
        identities,
        {**facts, **_settings(framing, options)},
        PREPARE_VERSION,
    )
    with DatasetWriter(out, plan, overwrite=options.overwrite) as writer:
        num_found_done = writer.num_done
        if not writer.is_complete:
            _note_space(writer)
            _fill(writer, _pieces(source, known, framing, options.device, writer), options)
            writer.finish()
        return _outcome(out, num_found_done)


def _check(source: Path, out: Path, framing: Framing, options: Options) -> None:
    if framing.crop not in CROPS:
        raise DataError(f"--crop {framing.crop} is unknown; choose one of {', '.join(CROPS)}.")
    for name, value, hint in (
        ("width", framing.width, CropSide),
        ("height", framing.height, CropSide),
        ("margin", framing.margin, Margin),
        ("max-enlargement", framing.max_enlargement, Enlargement),
        ("limit", options.limit, Count | None),
        ("workers", options.num_workers, Workers | None),
    ):
        check_number(f"--{name}", value, hint)
    if framing.width % 4 or framing.height % 4:
        raise DataError(
            f"--width {framing.width} --height {framing.height}: both must be multiples of 4, the scale of the task."
        )
    check_folders(source, out)
    if options.device != "cpu":
        import torch  # only here, because starting without it is faster

        try:
            torch.empty(0, device=options.device)
        except (RuntimeError, AssertionError) as error:
            raise DataError(f"--device {options.device} is not usable on this machine; give --device cpu.") from error


def _settings(framing: Framing, options: Options) -> dict[str, object]:
    return {
        "crop": framing.crop,
        "max_enlargement": framing.max_enlargement if framing.crop != "as-is" else None,
        "identity": options.identity,
        "duplicates": options.duplicates,
        "index_sha256": sha256(options.index.read_bytes()).hexdigest() if options.index else None,
    }


def _pieces(
    folder: Path, known: Sequence[tuple[float, ...]], framing: Framing, device: str, writer: DatasetWriter
) -> Iterator[Piece]:
    sources = writer.plan.sources
    for first in range(writer.num_done, len(sources), PIECE):
        last = first + PIECE
        paths = tuple(str(folder / source) for source in sources[first:last])
        yield Piece(paths, tuple(known[first:last]), framing, device)


def _note_space(writer: DatasetWriter) -> None:
    num_left = len(writer.plan.sources) - writer.num_done
    need, free = num_left * int(np.prod(writer.plan.picture_shape)), shutil.disk_usage(writer.folder).free
    if need > free:
        print(f"note: up to {need / 1e9:.1f} GB are needed, {free / 1e9:.1f} GB are free", file=sys.stderr)


def _num_workers(options: Options, num_left: int, detects: bool) -> int:
    if options.num_workers is not None:
        return options.num_workers
    return num_cores() if num_left >= POOL_FROM[detects] else 1


def _fill(writer: DatasetWriter, pieces: Iterator[Piece], options: Options) -> None:
    total = len(writer.plan.sources)
    detects = writer.plan.settings["crop"] in ("detect", "template")
    num_workers = _num_workers(options, total - writer.num_done, detects)
    with progress(total, writer.num_done) as advance:
        for crops, rows in crop_all(pieces, num_workers):
            if options.duplicates == "drop":
                crops, rows = _without_duplicates(crops, rows, writer)
            writer.append(crops, rows)
            advance(len(rows))


def _without_duplicates(
    crops: NDArray[np.uint8], rows: list[Row], writer: DatasetWriter
) -> tuple[NDArray[np.uint8], list[Row]]:
    """Returns crops and rows where a file that equals an earlier kept one has become a reason."""
    seen: dict[str, str] = {}
    kept: list[int] = []
    cleaned: list[Row] = []
    position = 0
    for offset, row in enumerate(rows):
        if row.reason:
            cleaned.append(row)
            continue
        first = writer.digests.get(row.sha256) or seen.get(row.sha256)
        if first is None:
            seen[row.sha256] = writer.plan.sources[writer.num_done + offset]
            kept.append(position)
            cleaned.append(row)
        else:
            cleaned.append(Row(row.sha256, f"duplicate: same file as {first}"))
        position += 1
    return (crops if len(kept) == len(crops) else crops[kept]), cleaned


def _outcome(out: Path, num_found_done: int) -> Outcome:
    with (out / INDEX).open(newline="", encoding="utf-8-sig") as file:
        names = [row["identity"] for row in csv.DictReader(file)]
    return Outcome(len(names), len(set(names) - {""}), num_found_done, left_out(out))


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Returns the command line's options."""
    parser = Parser(
        prog="facesr prepare",
        description="Make a prepared dataset out of a folder of pictures. The same command goes on with a stopped run.",
    )
    add = parser.add_argument
    add_folders(parser, "source")
    add(
        "--crop",
        choices=CROPS,
        default="as-is",
        help="as-is (default): pictures are crops already; ffhq: the competition's framing out of FFHQ-aligned "
        "pictures of any size; detect: a detected face in the competition's framing, not rotated; template: a "
        "face turned upright onto 5 points",
    )
    add("--width", type=number(CropSide), default=96, metavar="N", help="of the crop in pixels (default 96)")
    add("--height", type=number(CropSide), default=112, metavar="N", help="of the crop in pixels (default 112)")
    add_margin(parser, "the crop", 0)
    add(
        "--max-enlargement",
        type=number(Enlargement),
        default=1.25,
        metavar="X",
        help="leave out faces that would be enlarged more than this (default 1.25)",
    )
    add(
        "--identity",
        choices=("auto", "folder", "none"),
        default="auto",
        help="whether folder names are persons (default auto: if there are several such folders)",
    )
    add("--index", type=Path, metavar="CSV", help="table with the columns file, identity, landmarks")
    add("--duplicates", choices=("drop", "keep"), default="drop", help="files of equal bytes (default drop)")
    add("--limit", type=number(Count), metavar="N", help="take only the first N pictures in sorted order")
    add("--workers", type=number(Workers), metavar="N", help="processes (default: every core this process may use)")
    add("--device", default="cpu", help="where faces are detected: cpu (default), cuda or cuda:N")
    add_overwrite(parser)
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line and returns the exit code of `run_command`."""
    given = parse_arguments(arguments)
    return run_command(lambda: run(given))


def run(given: argparse.Namespace) -> None:
    """Prepares the pictures and says what the dataset holds."""
    framing = Framing(given.crop, given.width, given.height, given.margin, given.max_enlargement)
    options = Options(
        given.identity, given.duplicates, given.index, given.limit, given.workers, given.device, given.overwrite
    )
    started = time.monotonic()
    outcome = prepare(given.source, given.out, framing, options)
    seconds = time.monotonic() - started
    persons = f" of {outcome.num_identities} named persons" if outcome.num_identities else ""
    holds = f"{outcome.num_kept} pictures{persons}"
    tell(given.out, holds, outcome.num_kept, outcome.num_found_done, outcome.left_out, seconds)
