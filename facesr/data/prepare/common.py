"""What `facesr prepare` and `facesr patches` share: folders, progress, and what is said at the end."""

import argparse
import csv
import shutil
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Annotated

import numpy as np
from tqdm import tqdm

from facesr.arguments import number
from facesr.data.packed.dataset_format import REJECTED, SHARD
from facesr.data.packed.shard import FinishedShard, Shard, shard_of
from facesr.data.packed.writer import DatasetWriter
from facesr.errors import DataError, exit_code_of
from facesr.ranges import Range

Margin = Annotated[int, Range(0, 1_024)]
LINE_SECONDS = 10.0  # between lines of progress where there is no terminal


def add_folders(parser: argparse.ArgumentParser, source: str) -> None:
    """Adds the folder of pictures, called `source`, and the folder to write."""
    parser.add_argument(source, type=as_path, help="folder of pictures; sub-folders count")
    add_out(parser)


def add_out(parser: argparse.ArgumentParser) -> None:
    """Adds the folder to write."""
    parser.add_argument("out", type=as_path, help="folder for the prepared dataset")


def add_margin(parser: argparse.ArgumentParser, around: str, default: int) -> None:
    """Adds --margin, pixels stored around each crop or patch."""
    parser.add_argument(
        "--margin",
        type=number(Margin),
        default=default,
        metavar="N",
        help=f"pixels stored around {around} on each side (default {default})",
    )


def add_overwrite(parser: argparse.ArgumentParser) -> None:
    """Adds --overwrite."""
    parser.add_argument("--overwrite", action="store_true", help="replace a set that was made with other settings")


def add_shard(parser: argparse.ArgumentParser) -> None:
    """Adds --shard K/N."""
    parser.add_argument(
        "--shard",
        type=_shard,
        metavar="K/N",
        help="do only part K of N, from 1 to N, in a folder of its own; facesr prepare merge makes the set of all N",
    )


def _shard(text: str) -> Shard:
    try:
        return shard_of(text)
    except DataError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def with_options(arguments: Sequence[str] | None) -> list[str]:
    """Returns a command line, by default this program's, on which shard=K/N has become --shard=K/N."""
    given = sys.argv[1:] if arguments is None else arguments
    return [f"--{word}" if word.startswith("shard=") else word for word in given]


def as_path(text: str) -> Path:
    """Returns the path that a word of the command line means."""
    return Path(text).expanduser()


def check_out(out: Path) -> None:
    """Raises DataError where the dataset cannot be written at `out`."""
    if out.exists() and not out.is_dir():
        raise DataError(f"{out} is a file; give a folder for the prepared dataset.")


def check_folders(source: Path, out: Path) -> None:
    """Raises DataError where the dataset cannot be written at `out`."""
    check_out(out)
    if source.is_dir() and out.resolve().is_relative_to(source.resolve()):
        raise DataError(f"{out} lies inside {source}; put the prepared dataset elsewhere.")


def facts_of(source: Path, sources: Sequence[str]) -> dict[str, object]:
    """Returns what set.json says of the pictures that a dataset is made from.

    Args:
        source: their folder.
        sources: their paths in it, as `facesr.photos.decode.list_pictures` gives them.

    Raises:
        DataError: there are none.
    """
    if not sources:
        raise DataError(f"{source} holds no pictures; give the folder that holds them.")
    return {
        "source": source.resolve().name.encode("utf-8", "backslashreplace").decode(),
        "pictures": len(sources),
        "names_sha256": names_sha256(sources),
    }


def names_sha256(sources: Sequence[str]) -> str:
    """Returns the sha256 of sources' names in order."""
    return sha256("\n".join(sources).encode("utf-8", "surrogateescape")).hexdigest()


def note_space(writer: DatasetWriter) -> None:
    """Says so where the disk may be too small for what a dataset still lacks, at one picture a source."""
    num_left = len(writer.plan.sources) - writer.num_done
    need, free = num_left * int(np.prod(writer.plan.picture_shape)), shutil.disk_usage(writer.folder).free
    if need > free:
        print(f"note: up to {need / 1e9:.1f} GB are needed, {free / 1e9:.1f} GB are free", file=sys.stderr)


@contextmanager
def progress(num_pictures: int, num_done: int) -> Iterator[Callable[..., None]]:
    """Yields a function that moves a bar on by so many pictures, or tells it in lines where there is no terminal.

    The second argument is told in the line, the pace without it.
    """
    shown = sys.stderr.isatty()
    started = last_line = time.monotonic()
    done = num_done
    with tqdm(total=num_pictures, initial=num_done, unit=" pictures", disable=not shown) as bar:

        def advance(count: int, told: str = "") -> None:
            nonlocal done, last_line
            done += count
            bar.update(count)
            now = time.monotonic()
            if not shown and now - last_line > LINE_SECONDS:
                pace = (done - num_done) / (now - started)
                told = told or f"{pace:.3g} pictures/s"
                left = f"{(num_pictures - done) / pace:.0f} s left"
                print(f"{done} of {num_pictures} pictures, {told}, {left}", file=sys.stderr, flush=True)
                last_line = now

        yield advance


def left_out(out: Path) -> dict[str, int]:
    """Returns the number of pictures that a dataset or a shard leaves out by kind of reason, the most common first."""
    if (out / SHARD).exists():
        reasons = [row.reason for row in FinishedShard.open(out).rows() if row.reason]
    else:
        with (out / REJECTED).open(newline="", encoding="utf-8-sig") as file:
            reasons = [row["reason"] for row in csv.DictReader(file)]
    return dict(Counter(reason.split(":")[0] for reason in reasons).most_common())


def tell(
    out: Path,
    holds: str,
    num_pictures: int,
    num_found_done: int,
    kinds: dict[str, int],
    seconds: float,
    shard: Shard | None = None,
) -> None:
    """Says what a dataset holds, and what was left out.

    Args:
        out: its folder.
        holds: in words.
        num_pictures: that it was made from.
        num_found_done: of them and of those left out, how many an earlier run had done.
        kinds: see `left_out`.
        seconds: that it took.
        shard: which part it is; None for a whole dataset.
    """
    num_left_out = sum(kinds.values())
    if num_found_done == num_pictures + num_left_out:
        print(f"{out} was complete already")
    elif num_found_done:
        print(f"went on after {num_found_done} pictures")
    part = "" if shard is None else f"shard {shard}, "
    print(f"{out}: {part}{holds} in {seconds:.1f} s")
    if num_left_out:
        told = ", ".join(f"{count} {kind}" for kind, count in kinds.items())
        where = f"; reasons are in {out / REJECTED}" if shard is None else ""
        print(f"left out {num_left_out} ({told}){where}")
    if shard is not None:
        print(f"when all {shard.count} are done: facesr prepare merge OUT SHARD...")


def run_command(work: Callable[[], None]) -> int:
    """Returns a command's exit code: 0, 2 after an error that is the user's to mend, 130 after Ctrl-C."""
    try:
        return exit_code_of(work)
    except KeyboardInterrupt:
        print("stopped; the same command goes on where it was", file=sys.stderr)
        return 130
