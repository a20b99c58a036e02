"""Makes a prepared dataset out of a folder of pictures: one array of crops, an index, and what was left out and why.

Run: ``facesr prepare SOURCE OUT [--crop as-is|ffhq|detect|template]``; ``--help`` tells the rest,
``data/README.md`` has the commands for FFHQ. The same command goes on with a run that was stopped. Many machines share
the work with ``--shard K/N`` and ``facesr prepare merge OUT SHARD...`` (`facesr.data.prepare.merge`).
"""

import argparse
import csv
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Annotated

from facesr.arguments import Parser, number
from facesr.data.packed.dataset_format import INDEX, SetPlan
from facesr.data.packed.shard import FinishedShard, Shard, ShardWriter
from facesr.data.packed.writer import DatasetWriter
from facesr.data.prepare import cluster, merge
from facesr.data.prepare.annotations import identities_from_folders, match_annotations, read_annotations
from facesr.data.prepare.common import (
    Margin,
    add_folders,
    add_margin,
    add_overwrite,
    add_shard,
    check_folders,
    facts_of,
    left_out,
    note_space,
    progress,
    run_command,
    tell,
    with_options,
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
        decode: ``full``, or ``reduced``: a JPEG much larger than its crop is decoded at a reduced size.
        shard: do only this part, in a folder for `facesr.data.prepare.merge`; None for the whole set.
        dask: address of a dask cluster whose workers do the work; None to do it here.
    """

    identity: str = "auto"
    duplicates: str = "drop"
    index: Path | None = None
    limit: int | None = None
    num_workers: int | None = None
    device: str = "cpu"
    overwrite: bool = False
    decode: str = "full"
    shard: Shard | None = None
    dask: str | None = None


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
    """Returns what the prepared dataset, or the shard, at `out` holds, which is made from the pictures below `source`.

    Raises:
        ConfigError: a number is out of range.
        DataError: a folder or an option is not as it has to be, no picture is usable, or the disk is full.
    """
    _check(source, out, framing, options)
    plan, known = _planned(source, framing, options)
    with (
        DatasetWriter(out, plan, overwrite=options.overwrite)
        if options.shard is None
        else ShardWriter(out, plan, options.shard, PIECE, overwrite=options.overwrite)
    ) as writer:
        num_found_done = writer.num_done
        if not writer.is_complete and options.dask is None:
            note_space(writer)
            _fill(writer, _pieces(source, known, framing, options, writer), options)
            writer.finish()
    if not writer.is_complete:
        _fill_on_cluster(source, out, framing, options, plan)
    return _outcome(out, num_found_done, options.shard)


def _planned(source: Path, framing: Framing, options: Options) -> tuple[SetPlan, dict[str, tuple[float, ...]]]:
    """Returns the plan of the whole set, and the landmarks that are known by source."""
    sources = list_pictures(source)[: options.limit]
    facts = facts_of(source, sources)
    identities = identities_from_folders(sources, options.identity)
    known: dict[str, tuple[float, ...]] = {}
    if options.index is not None:
        annotations = match_annotations(sources, source, read_annotations(options.index))
        if not any(annotations):
            raise DataError(
                f"{options.index} names none of the pictures in {source}; its column 'file' must end like their paths."
            )
        known = {name: line.landmarks for name, line in zip(sources, annotations, strict=True) if line}
        if options.identity != "none":
            pairs = zip(annotations, identities, strict=True)
            identities = [line.identity if line and line.identity else name for line, name in pairs]
    settings = {**facts, **_settings(framing, options)}
    plan = SetPlan(framing.width, framing.height, framing.margin, sources, identities, settings, PREPARE_VERSION)
    return plan, known


def _fill_on_cluster(source: Path, out: Path, framing: Framing, options: Options, plan: SetPlan) -> None:
    """Has a dask cluster make the shards of a set, and makes the set of them."""
    assert options.dask is not None
    index = None if options.index is None else options.index.resolve()
    theirs = replace(options, index=index, num_workers=1, dask=None)
    make = partial(_make_shard, source.resolve(), framing, theirs)
    with progress(len(plan.sources), 0) as advance:
        folders = cluster.prepare_shards(options.dask, out, len(plan.sources), PIECE, make, advance)
    cluster.merge_shards(out, folders)


def _make_shard(source: Path, framing: Framing, options: Options, folder: Path, shard: Shard) -> None:
    """Makes one shard, on whatever machine."""
    prepare(source, folder, framing, replace(options, shard=shard))


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
    if options.dask is not None:
        if options.shard is not None or options.num_workers is not None:
            raise DataError("--dask shares the work out among its own workers; leave out --shard and --workers.")
        cluster.check_address(options.dask)
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
        # Sets of before this key are whole ones, and stay the same sets.
        **({} if options.decode == "full" else {"decode": options.decode}),
    }


def _pieces(
    folder: Path, known: Mapping[str, tuple[float, ...]], framing: Framing, options: Options, writer: DatasetWriter
) -> Iterator[Piece]:
    for first in range(writer.num_done, len(writer.plan.sources), PIECE):
        sources = writer.plan.sources[first : first + PIECE]
        paths = tuple(str(folder / source) for source in sources)
        landmarks = tuple(known.get(source, ()) for source in sources)
        yield Piece(paths, landmarks, framing, options.device, options.decode == "reduced")


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
            if options.duplicates == "drop" and options.shard is None:  # else when shards are merged
                crops, rows = writer.without_duplicates(crops, rows)
            writer.append(crops, rows)
            advance(len(rows))


def _outcome(out: Path, num_found_done: int, shard: Shard | None) -> Outcome:
    if shard is not None:
        part = FinishedShard.open(out)
        names = [name for name, row in zip(part.plan.identities, part.rows(), strict=True) if not row.reason]
    else:
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
    add(
        "--decode",
        choices=("full", "reduced"),
        default="full",
        help="reduced: decode a JPEG that is much larger than its crop at a half, a quarter or an eighth of its size "
        "(crop as-is and ffhq): faster, and the crops differ a little (default full)",
    )
    add("--limit", type=number(Count), metavar="N", help="take only the first N pictures in sorted order")
    add("--workers", type=number(Workers), metavar="N", help="processes (default: every core this process may use)")
    add("--device", default="cpu", help="where faces are detected: cpu (default), cuda or cuda:N")
    add_shard(parser)
    add("--dask", metavar="CLUSTER", help="local:N, or the address of a dask scheduler whose workers do the work")
    add_overwrite(parser)
    return parser.parse_args(with_options(arguments))


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line, that of ``merge`` if it begins so, and returns the exit code of `run_command`."""
    words = sys.argv[1:] if arguments is None else list(arguments)
    if words[:1] == ["merge"]:
        return merge.main(words[1:])
    given = parse_arguments(arguments)
    return run_command(lambda: run(given))


def run(given: argparse.Namespace) -> None:
    """Prepares the pictures and says what the dataset holds."""
    framing = Framing(given.crop, given.width, given.height, given.margin, given.max_enlargement)
    options = Options(
        given.identity,
        given.duplicates,
        given.index,
        given.limit,
        given.workers,
        given.device,
        given.overwrite,
        given.decode,
        given.shard,
        given.dask,
    )
    started = time.monotonic()
    outcome = prepare(given.source, given.out, framing, options)
    seconds = time.monotonic() - started
    persons = f" of {outcome.num_identities} named persons" if outcome.num_identities else ""
    holds = f"{outcome.num_kept} pictures{persons}"
    tell(given.out, holds, outcome.num_kept, outcome.num_found_done, outcome.left_out, seconds, given.shard)
