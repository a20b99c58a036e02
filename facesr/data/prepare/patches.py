"""Makes a prepared dataset out of large general pictures (DIV2K and the like): square patches of one size, and an
index.

Run: ``facesr patches PICTURES OUT [--size 128] [--margin 8]``; ``--help`` tells the rest. Patches lie on
a fixed grid, and each is stored with a margin around it, so that training shifts them within the margin
(``data.augmentation.shift_px``) and never has to open a picture again. The same command goes on with a run that
was stopped; one picture is in memory at a time. ``--shard K/N`` and ``facesr prepare merge`` share the work.
"""

import argparse
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
from numpy.typing import NDArray

from facesr.arguments import Parser, number
from facesr.data.packed.dataset_format import Row, SetPlan
from facesr.data.packed.shard import Shard, ShardWriter
from facesr.data.packed.writer import DatasetWriter
from facesr.data.prepare.common import (
    Margin,
    add_folders,
    add_margin,
    add_overwrite,
    add_shard,
    check_folders,
    facts_of,
    left_out,
    progress,
    run_command,
    tell,
    with_options,
)
from facesr.errors import DataError
from facesr.photos.decode import Unusable, list_pictures, read_picture
from facesr.ranges import Count, Range, check_number
from facesr.task import LUMA, SCALE

PATCHES_VERSION = 3  # raised when the same settings give other patches
PatchSide = Annotated[int, Range(4, 4_096)]
Stride = Annotated[int, Range(1, 65_536)]
Detail = Annotated[float, Range(0, 255)]


@dataclass(frozen=True)
class Cutting:
    """How pictures are cut.

    Attributes:
        size: side of a patch in pixels, a multiple of 4.
        margin: pixels stored around it on each side.
        stride: pixels from one patch to the next; equal to `size` the patches tile the picture.
        max_per_picture: at most so many of a picture, spread evenly over it; None for all.
        min_detail: patches with less `detail_of` are left out; 0 keeps all.
    """

    size: int = 128
    margin: int = 8
    stride: int = 128
    max_per_picture: int | None = None
    min_detail: float = 0.0

    @property
    def stored(self) -> int:
        """Side of a stored patch in pixels, with its margin."""
        return self.size + 2 * self.margin


@dataclass(frozen=True)
class Outcome:
    """What a set of patches holds.

    Attributes:
        num_patches: patches in the set.
        num_pictures: pictures they were cut out of.
        num_found_done: pictures that an earlier run had done already.
        left_out: number of pictures left out by kind of reason.
    """

    num_patches: int
    num_pictures: int
    num_found_done: int
    left_out: dict[str, int]


def cut_folder(
    pictures: Path, out: Path, cutting: Cutting, *, overwrite: bool = False, shard: Shard | None = None
) -> Outcome:
    """Returns what the prepared dataset at `out` holds, or one shard of it, cut out of the pictures below a folder.

    Raises:
        DataError: a folder or a number is not as it has to be, no picture is usable, or the disk is full.
    """
    _check(pictures, out, cutting)
    sources = list_pictures(pictures)
    settings = {
        **facts_of(pictures, sources),
        **{key: value for key, value in asdict(cutting).items() if key not in ("size", "margin")},
    }
    plan = SetPlan(cutting.size, cutting.size, cutting.margin, sources, [""] * len(sources), settings, PATCHES_VERSION)
    with (
        DatasetWriter(out, plan, overwrite=overwrite)
        if shard is None
        else ShardWriter(out, plan, shard, 1, overwrite=overwrite)
    ) as writer:
        num_found_done = writer.num_done
        if not writer.is_complete:
            _fill(writer, pictures, cutting)
            writer.finish()
        num_pictures = len(writer.plan.sources) - writer.num_rejected
        return Outcome(writer.num_kept, num_pictures, num_found_done, left_out(out))


def _check(pictures: Path, out: Path, cutting: Cutting) -> None:
    for name, value, hint in (
        ("size", cutting.size, PatchSide),
        ("margin", cutting.margin, Margin),
        ("stride", cutting.stride, Stride),
        ("max-per-picture", cutting.max_per_picture, Count | None),
        ("min-detail", cutting.min_detail, Detail),
    ):
        check_number(f"--{name}", value, hint)
    if cutting.size % SCALE:
        raise DataError(f"--size {cutting.size} must be a multiple of {SCALE}, the scale of the task.")
    check_folders(pictures, out)


def _fill(writer: DatasetWriter, folder: Path, cutting: Cutting) -> None:
    """Adds every picture that is not in the set yet, and says how it goes."""
    sources = writer.plan.sources
    with progress(len(sources), writer.num_done) as advance:
        for source in sources[writer.num_done :]:
            # A shard does not know what the others hold; copies are dropped when shards are merged.
            seen = {} if isinstance(writer, ShardWriter) else writer.digests
            patches, row = cut_file(folder / source, cutting, seen)
            writer.append(patches, [row])
            advance(1, f"{writer.num_kept} patches")


def cut_file(path: Path, cutting: Cutting, seen: dict[str, str]) -> tuple[NDArray[np.uint8], Row]:
    """Returns a file's patches, uint8 (n, S + 2m, S + 2m, 3), and its row, which has the reason where there are none.

    Args:
        path: the picture.
        cutting: how it is cut.
        seen: sha256 of earlier files and their names; a copy of one is left out.
    """
    try:
        picture, digest = read_picture(path)
        if digest in seen:
            raise Unusable(f"duplicate: same file as {seen[digest]}")
        places = choose_places(picture, cutting)
    except Unusable as reason:
        none = np.empty((0, cutting.stored, cutting.stored, 3), np.uint8)
        return none, Row(reason.sha256, str(reason))
    patches = np.stack([picture[y : y + cutting.stored, x : x + cutting.stored] for x, y in places])
    return patches, Row(digest, parts=tuple(f"{x},{y}" for x, y in places))


def choose_places(picture: NDArray[np.uint8], cutting: Cutting) -> list[tuple[int, int]]:
    """Returns the left upper corners (x, y) of the stored patches of a picture (H, W, 3), row by row.

    Raises:
        Unusable: the picture is smaller than one stored patch, of one colour, or nowhere as detailed as asked for.
    """
    height, width = picture.shape[:2]
    side = cutting.stored
    if min(height, width) < side:
        raise Unusable(f"too small: {width}x{height} pixels, a patch with its margin takes {side}x{side}")
    if (picture == picture[0, 0]).all():  # there is nothing in it to restore
        raise Unusable("flat: of one colour")
    places = [
        (x, y) for y in _starts(height, side, cutting.stride) for x in _starts(width, side, cutting.stride)
    ]  # fmt: skip
    if cutting.min_detail > 0:
        places = [(x, y) for x, y in places if detail_of(picture[y : y + side, x : x + side]) >= cutting.min_detail]
        if not places:
            raise Unusable(f"flat: no patch has a detail of {cutting.min_detail:g}")
    if cutting.max_per_picture is not None and len(places) > cutting.max_per_picture:
        places = sorted(spread_over(places, cutting.max_per_picture), key=lambda place: place[::-1])
    return places


def spread_over(places: Sequence[tuple[int, int]], count: int) -> list[tuple[int, int]]:
    """Returns `count` of the places (x, y), at least as many, spread evenly over the area that they take.

    The area is cut into cells that hold about as many places each, and each cell gives one next to its middle; where
    several are equally near, the cells take turns. The same places always give the same answer.
    """
    chosen: list[tuple[int, int]] = []
    for turn, cell in enumerate(_cells(places, count)):
        twice_middle = [min(axis) + max(axis) for axis in zip(*cell, strict=True)]
        away = [sum((2 * at - middle) ** 2 for at, middle in zip(place, twice_middle, strict=True)) for place in cell]
        nearest = [place for place, distance in zip(cell, away, strict=True) if distance == min(away)]
        chosen.append(nearest[turn % len(nearest)])
    return chosen


def _cells(places: Sequence[tuple[int, int]], count: int) -> list[Sequence[tuple[int, int]]]:
    """Returns the places in `count` cells, halved across the longer side again and again."""
    if count == 1:
        return [places]
    width, height = (max(axis) - min(axis) for axis in zip(*places, strict=True))
    ordered = sorted(places) if width >= height else sorted(places, key=lambda place: place[::-1])
    first = count // 2
    cut = round(len(places) * first / count)
    return [*_cells(ordered[:cut], first), *_cells(ordered[cut:], count - first)]


def _starts(length: int, side: int, stride: int) -> range:
    """Where patches begin along an axis; what is left over is shared between both ends."""
    count = (length - side) // stride + 1
    first = (length - side - (count - 1) * stride) // 2
    return range(first, first + count * stride, stride)


def detail_of(patch: NDArray[np.uint8]) -> float:
    """Returns the mean absolute difference of neighbouring pixels' luma, in grey levels, higher for more detail.

    A clear sky has about 0.5, a wall of bricks 4, grass 15 and more.
    """
    luma = patch.astype(np.float32) @ np.array(LUMA, np.float32)
    return float((np.abs(np.diff(luma, axis=0)).mean() + np.abs(np.diff(luma, axis=1)).mean()) / 2.0)


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Returns the command line's options."""
    parser = Parser(
        prog="facesr patches",
        description="Cut a folder of large pictures into a prepared dataset of patches. "
        "The same command goes on with a stopped run.",
    )
    add = parser.add_argument
    add_folders(parser, "pictures")
    add(
        "--size",
        type=number(PatchSide),
        default=128,
        metavar="N",
        help="side of a patch in pixels, a multiple of 4 (default 128)",
    )
    add_margin(parser, "it", 8)
    add("--stride", type=number(Stride), metavar="N", help="pixels from one patch to the next (default: the size)")
    add(
        "--max-per-picture",
        type=number(Count),
        metavar="N",
        help="at most so many of a picture, spread evenly (default: all)",
    )
    add(
        "--min-detail",
        type=number(Detail),
        default=0.0,
        metavar="X",
        help="leave out patches whose neighbouring pixels differ by less than X grey levels on average (default 0)",
    )
    add_shard(parser)
    add_overwrite(parser)
    return parser.parse_args(with_options(arguments))


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line and returns the exit code of `run_command`."""
    given = parse_arguments(arguments)
    return run_command(lambda: run(given))


def run(given: argparse.Namespace) -> None:
    """Cuts the pictures and says what the set holds."""
    stride = given.size if given.stride is None else given.stride
    cutting = Cutting(given.size, given.margin, stride, given.max_per_picture, given.min_detail)
    started = time.monotonic()
    outcome = cut_folder(given.pictures, given.out, cutting, overwrite=given.overwrite, shard=given.shard)
    seconds = time.monotonic() - started
    holds = f"{outcome.num_patches} patches of {outcome.num_pictures} pictures"
    tell(given.out, holds, outcome.num_pictures, outcome.num_found_done, outcome.left_out, seconds, given.shard)
