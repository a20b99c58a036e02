"""``facesr prepare merge OUT SHARD...``: the shards of one set become the set, with the bytes that one machine writes.

The set is written as any other (`facesr.data.packed.writer`): a run that was stopped goes on with the same command.
"""

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from facesr.arguments import Parser
from facesr.data.packed.shard import FinishedShard, in_order, joined_plan
from facesr.data.packed.writer import DatasetWriter
from facesr.data.prepare.common import (
    add_out,
    add_overwrite,
    as_path,
    check_out,
    left_out,
    names_sha256,
    note_space,
    progress,
    run_command,
    tell,
)
from facesr.errors import DataError


class Merged(NamedTuple):
    """What a merged dataset holds.

    Attributes:
        num_kept: pictures in the set.
        num_used: sources that they come from.
        num_found_done: sources that an earlier run had done already.
    """

    num_kept: int
    num_used: int
    num_found_done: int


def merge(out: Path, parts: Sequence[Path], *, overwrite: bool = False) -> Merged:
    """Returns what the prepared dataset at `out` holds, which is made of all its shards.

    Raises:
        DataError: a folder is no finished shard, they are not all shards of one set, each once, `out` is one of them
            or holds another set, or the disk is full. But for the last, nothing is written then.
    """
    shards = in_order([FinishedShard.open(part) for part in parts])
    check_out(out)
    for one in shards:
        if out.resolve() == one.path.resolve():
            raise DataError(f"{out} is one of the shards; give another folder for the prepared dataset.")
    plan = joined_plan(shards)
    if plan.settings.get("names_sha256") != names_sha256(plan.sources):
        raise DataError(f"the sources of {shards[0].path} and the others are not those of one folder; make them again.")
    with DatasetWriter(out, plan, overwrite=overwrite) as writer:
        num_found_done = writer.num_done
        if not writer.is_complete:
            note_space(writer)
            _fill(writer, shards)
            writer.finish()
        return Merged(writer.num_kept, len(plan.sources) - writer.num_rejected, num_found_done)


def _fill(writer: DatasetWriter, shards: Sequence[FinishedShard]) -> None:
    drops = writer.plan.settings.get("duplicates", "drop") == "drop"
    place, start = 0, writer.num_done
    with progress(len(writer.plan.sources), start) as advance:
        for one in shards:
            for pictures, rows in one.pieces():
                # What was begun by `facesr prepare` itself need not end where a piece of a shard does.
                done = min(max(start - place, 0), len(rows))
                place += len(rows)
                pictures, rows = pictures[sum(row.num_pictures for row in rows[:done]) :], rows[done:]
                if rows:
                    writer.append(*(writer.without_duplicates(pictures, rows) if drops else (pictures, rows)))
                    advance(len(rows))


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Returns the command line's options."""
    parser = Parser(
        prog="facesr prepare merge",
        description="Make a prepared dataset out of all its shards, which facesr prepare (or facesr patches) SOURCE "
        "SHARD --shard K/N has made. The same command goes on with a stopped run; the shards are left as they are.",
    )
    add_out(parser)
    parser.add_argument("shards", type=as_path, nargs="+", metavar="SHARD", help="folders of all shards, in any order")
    add_overwrite(parser)
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line and returns the exit code of `run_command`."""
    given = parse_arguments(arguments)
    return run_command(lambda: run(given))


def run(given: argparse.Namespace) -> None:
    """Merges the shards and says what the dataset holds."""
    started = time.monotonic()
    merged = merge(given.out, given.shards, overwrite=given.overwrite)
    seconds = time.monotonic() - started
    holds = f"{merged.num_kept} pictures of {len(given.shards)} shards"
    tell(given.out, holds, merged.num_used, merged.num_found_done, left_out(given.out), seconds)
