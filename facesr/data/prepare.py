"""Makes a prepared set out of a folder of pictures: one array of crops, an index, and what was left out and why.

Run: ``python -m facesr.data.prepare SOURCE OUT [--crop as-is|ffhq|detect|template]``; ``--help`` tells the rest,
``data/README.md`` has the commands for FFHQ. The same command goes on with a run that was stopped.
"""

import argparse
import os
import sys
import time
from collections.abc import Iterator, Sequence
from hashlib import sha256
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from facesr.data.annotations import identities_from_folders, match_annotations, read_annotations
from facesr.data.crop import Framing
from facesr.data.picture_files import list_pictures
from facesr.data.pieces import PIECE, Piece, crop_all
from facesr.data.set_writer import Row, SetPlan, SetWriter
from facesr.errors import EXIT_USER_ERROR, DataError

PREPARE_VERSION = 1  # raised when the same settings give other pictures
POOL_FROM = 4 * PIECE  # fewer pictures are done sooner than worker processes start


def prepare(
    source: Path,
    out: Path,
    framing: Framing,
    *,
    identity: str = "auto",
    duplicates: str = "drop",
    index: Path | None = None,
    limit: int | None = None,
    num_workers: int | None = None,
    overwrite: bool = False,
) -> tuple[int, int]:
    """Returns how many pictures the prepared set at `out` holds, and how many were left out.

    Raises:
        DataError: the source or the output folder is not as it has to be, or no picture is usable.
    """
    _check_folders(source, out)
    sources = list_pictures(source)[:limit]
    if not sources:
        raise DataError(f"{source} holds no pictures; give the folder that holds them.")
    identities = identities_from_folders(sources, identity)
    known: list[tuple[float, ...]] = [()] * len(sources)
    if index is not None:
        annotations = match_annotations(sources, source, read_annotations(index))
        if not any(annotations):
            raise DataError(f"{index} names none of the pictures in {source}; its column 'file' must end like them.")
        known = [line.landmarks if line else () for line in annotations]
        identities = [
            line.identity if line and line.identity else name
            for line, name in zip(annotations, identities, strict=True)
        ]
    settings = {
        "crop": framing.crop,
        "identity": identity,
        "duplicates": duplicates,
        "limit": limit,
        "index": sha256(index.read_bytes()).hexdigest() if index else None,
        "num_sources": len(sources),
        "sources": sha256("\n".join(sources).encode("utf-8", "surrogateescape")).hexdigest(),
    }
    plan = SetPlan(framing.width, framing.height, framing.margin, sources, identities, settings, PREPARE_VERSION)
    with SetWriter(out, plan, overwrite=overwrite) as writer:
        if not writer.is_complete:
            pieces = _pieces(source, sources, known, framing, writer.num_done)
            _fill(writer, pieces, duplicates, _num_workers(num_workers, len(sources) - writer.num_done))
            writer.finish()
        return writer.num_kept, writer.num_done - writer.num_kept


def _check_folders(source: Path, out: Path) -> None:
    if out.exists() and not out.is_dir():
        raise DataError(f"{out} is a file; give a folder for the prepared set.")
    if out.resolve().is_relative_to(source.resolve()):
        raise DataError(f"{out} lies inside {source}; put the prepared set elsewhere.")


def _num_workers(asked: int | None, num_pictures: int) -> int:
    if asked is not None:
        return asked
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return cores if num_pictures >= POOL_FROM else 1


def _pieces(
    folder: Path, sources: Sequence[str], known: Sequence[tuple[float, ...]], framing: Framing, start: int
) -> Iterator[Piece]:
    for first in range(start, len(sources), PIECE):
        last = first + PIECE
        paths = tuple(str(folder / source) for source in sources[first:last])
        yield Piece(paths, tuple(known[first:last]), framing)


def _fill(writer: SetWriter, pieces: Iterator[Piece], duplicates: str, num_workers: int) -> None:
    total = len(writer.plan.sources)
    with tqdm(total=total, initial=writer.num_done, unit="picture", disable=not sys.stderr.isatty()) as bar:
        last_line = time.monotonic()
        for crops, rows in crop_all(pieces, num_workers):
            if duplicates == "drop":
                crops, rows = _without_duplicates(crops, rows, writer)
            writer.append(crops, rows)
            bar.update(len(rows))
            if bar.disable and time.monotonic() - last_line > 10.0:
                print(f"{writer.num_done} of {total} pictures", file=sys.stderr, flush=True)
                last_line = time.monotonic()


def _without_duplicates(
    crops: NDArray[np.uint8], rows: list[Row], writer: SetWriter
) -> tuple[NDArray[np.uint8], list[Row]]:
    seen: dict[str, str] = {}
    kept: list[int] = []
    cleaned: list[Row] = []
    position = 0
    for offset, row in enumerate(rows):
        if not row.reason:
            first = writer.digests.get(row.sha256) or seen.get(row.sha256)
            if first is None:
                seen[row.sha256] = writer.plan.sources[writer.num_done + offset]
                kept.append(position)
            else:
                row = Row(row.sha256, f"same file as {first}")
            position += 1
        cleaned.append(row)
    return (crops if len(kept) == len(crops) else crops[kept]), cleaned


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Returns the command line's options."""
    parser = argparse.ArgumentParser(prog="python -m facesr.data.prepare", description=__doc__.split("\n", 1)[0])
    parser.add_argument("source", type=Path, help="folder of pictures; sub-folders count")
    parser.add_argument("out", type=Path, help="folder for the prepared set")
    parser.add_argument("--crop", choices=("as-is",), default="as-is", help="which part of a picture is taken")
    parser.add_argument("--width", type=int, default=96, help="of the crop in pixels (default 96)")
    parser.add_argument("--height", type=int, default=112, help="of the crop in pixels (default 112)")
    parser.add_argument("--margin", type=int, default=0, help="pixels stored around the crop (default 0)")
    parser.add_argument("--identity", choices=("auto", "folder", "none"), default="auto")
    parser.add_argument("--index", type=Path, help="CSV with the columns file, identity, landmarks")
    parser.add_argument("--duplicates", choices=("drop", "keep"), default="drop", help="files with equal bytes")
    parser.add_argument("--limit", type=int, help="take only the first so many pictures")
    parser.add_argument("--workers", type=int, help="processes (default: all cores)")
    parser.add_argument("--overwrite", action="store_true", help="replace the set at OUT")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0, or 2 after an error that is the user's to mend."""
    options = parse_arguments(arguments)
    started = time.monotonic()
    try:
        kept, rejected = prepare(
            options.source,
            options.out,
            Framing(options.crop, options.width, options.height, options.margin),
            identity=options.identity,
            duplicates=options.duplicates,
            index=options.index,
            limit=options.limit,
            num_workers=options.workers,
            overwrite=options.overwrite,
        )
    except DataError as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_USER_ERROR
    except KeyboardInterrupt:
        print("stopped; the same command goes on where it was", file=sys.stderr)
        return 130
    left_out = f", {rejected} left out (see {options.out / 'rejected.csv'})" if rejected else ""
    print(f"{options.out}: {kept} pictures{left_out}; {time.monotonic() - started:.1f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
