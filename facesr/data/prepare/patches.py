"""Makes a prepared dataset out of large general pictures (DIV2K and the like): square patches of one size, and an
index.

Run: ``facesr patches PICTURES OUT [--size 128] [--margin 8]``; ``--help`` tells the rest. Patches lie on
a fixed grid, and each is stored with a margin around it, so that training shifts them within the margin
(``data.augmentation.shift_px``) and never has to open a picture again. The same command goes on with a run that
was stopped; one picture is in memory at a time.
"""

import argparse
import csv
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from facesr.arguments import Parser, number
from facesr.data.packed.dataset_format import Row, SetPlan
from facesr.data.packed.writer import DatasetWriter
from facesr.errors import DataError, exit_code_of
from facesr.photos.decode import Unusable, list_pictures, read_picture
from facesr.ranges import Count, Range, check_number
from facesr.task import LUMA, SCALE

PATCHES_VERSION = 2  # raised when the same settings give other patches
PatchSide = Annotated[int, Range(4, 4_096)]
PatchMargin = Annotated[int, Range(0, 1_024)]
Stride = Annotated[int, Range(1, 65_536)]
Detail = Annotated[float, Range(0, 255)]
LINE_SECONDS = 10.0  # between lines of progress where there is no terminal


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


def cut_folder(pictures: Path, out: Path, cutting: Cutting, *, overwrite: bool = False) -> Outcome:
    """Returns what the prepared dataset at `out` holds, which is cut out of the pictures below a folder.

    Raises:
        DataError: a folder or a number is not as it has to be, no picture is usable, or the disk is full.
    """
    _check(pictures, out, cutting)
    sources = list_pictures(pictures)
    if not sources:
        raise DataError(f"{pictures} holds no pictures; give the folder that holds them.")
    names = "\n".join(sources).encode("utf-8", "surrogateescape")
    settings = {
        "source": pictures.resolve().name.encode("utf-8", "backslashreplace").decode(),
        "pictures": len(sources),
        "names_sha256": sha256(names).hexdigest(),
        **{key: value for key, value in asdict(cutting).items() if key not in ("size", "margin")},
    }
    plan = SetPlan(cutting.size, cutting.size, cutting.margin, sources, [""] * len(sources), settings, PATCHES_VERSION)
    with DatasetWriter(out, plan, overwrite=overwrite) as writer:
        num_found_done = writer.num_done
        if not writer.is_complete:
            _fill(writer, pictures, cutting)
            writer.finish()
        with (out / "rejected.csv").open(newline="", encoding="utf-8-sig") as file:
            kinds = Counter(row["reason"].split(":")[0] for row in csv.DictReader(file))
        num_pictures = len(sources) - writer.num_rejected
        return Outcome(writer.num_kept, num_pictures, num_found_done, dict(kinds.most_common()))


def _check(pictures: Path, out: Path, cutting: Cutting) -> None:
    for name, value, hint in (
        ("size", cutting.size, PatchSide),
        ("margin", cutting.margin, PatchMargin),
        ("stride", cutting.stride, Stride),
        ("max-per-picture", cutting.max_per_picture, Count | None),
        ("min-detail", cutting.min_detail, Detail),
    ):
        check_number(f"--{name}", value, hint)
    if cutting.size % SCALE:
        raise DataError(f"--size {cutting.size} must be a multiple of {SCALE}, the scale of the task.")
    if out.exists() and not out.is_dir():
        raise DataError(f"{out} is a file; give a folder for the prepared dataset.")
    if pictures.is_dir() and out.resolve().is_relative_to(pictures.resolve()):
        raise DataError(f"{out} lies inside {pictures}; put the prepared dataset elsewhere.")


def _fill(writer: DatasetWriter, folder: Path, cutting: Cutting) -> None:
    """Adds every picture that is not in the set yet, and says how it goes."""
    sources = writer.plan.sources
    started = last_line = time.monotonic()
    done_before = writer.num_done
    shown = sys.stderr.isatty()
    with tqdm(total=len(sources), initial=done_before, unit=" pictures", disable=not shown) as bar:
        for source in sources[done_before:]:
            patches, row = cut_file(folder / source, cutting, writer.digests)
            writer.append(patches, [row])
            bar.update(1)
            now = time.monotonic()
            if not shown and now - last_line > LINE_SECONDS:
                left = (len(sources) - writer.num_done) * (now - started) / (writer.num_done - done_before)
                told = f"{writer.num_done} of {len(sources)} pictures, {writer.num_kept} patches, {left:.0f} s left"
                print(told, file=sys.stderr, flush=True)
                last_line = now


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
        spread = np.linspace(0, len(places) - 1, cutting.max_per_picture).round().astype(int)
        places = [places[index] for index in spread]
    return places


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
    add("pictures", type=Path, help="folder of pictures; sub-folders count")
    add("out", type=Path, help="folder for the prepared dataset")
    add(
        "--size",
        type=number(PatchSide),
        default=128,
        metavar="N",
        help="side of a patch in pixels, a multiple of 4 (default 128)",
    )
    add(
        "--margin",
        type=number(PatchMargin),
        default=8,
        metavar="N",
        help="pixels stored around it on each side (default 8)",
    )
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
    add("--overwrite", action="store_true", help="replace a set that was made with other settings")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line and returns the exit code: 0, 2 after a user's error, 130 after Ctrl-C."""
    given = parse_arguments(arguments)
    try:
        return exit_code_of(lambda: run(given))
    except KeyboardInterrupt:
        print("stopped; the same command goes on where it was", file=sys.stderr)
        return 130


def run(given: argparse.Namespace) -> None:
    """Cuts the pictures and says what the set holds."""
    stride = given.size if given.stride is None else given.stride
    cutting = Cutting(given.size, given.margin, stride, given.max_per_picture, given.min_detail)
    started = time.monotonic()
    outcome = cut_folder(given.pictures.expanduser(), given.out.expanduser(), cutting, overwrite=given.overwrite)
    seconds = time.monotonic() - started
    num_left_out = sum(outcome.left_out.values())
    if outcome.num_found_done == outcome.num_pictures + num_left_out:
        print(f"{given.out} was complete already")
    elif outcome.num_found_done:
        print(f"went on after {outcome.num_found_done} pictures")
    print(f"{given.out}: {outcome.num_patches} patches of {outcome.num_pictures} pictures in {seconds:.1f} s")
    if num_left_out:
        kinds = ", ".join(f"{count} {kind}" for kind, count in outcome.left_out.items())
        print(f"left out {num_left_out} ({kinds}); reasons are in {given.out / 'rejected.csv'}")
