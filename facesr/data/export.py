"""Writes pictures as the two folders that evaluate.py and submit.py read: OUT/high and OUT/low, PNG files.

    facesr pairs synthetic OUT [--num 96] [--first 100000] [--seed 1]
    facesr pairs dead_leaves OUT [--num 8] [--size 256x224] [--first 100000] [--seed 1]
    facesr pairs DATASET OUT [--num N] [--first K]

The low-resolution pictures are made by the competition's downscaling. OUT/identities.csv says who is in which picture,
where that is known; study=verification reads it. The default synthetic faces are those that train.py validates on. They
and the general pictures of `dead_leaves` are drawn, and no benchmark.
"""

import argparse
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from facesr.arguments import Parser, number
from facesr.data.packed.reader import PackedDataset
from facesr.data.synthetic.dead_leaves import MIN_SIDE, render_pictures
from facesr.data.synthetic.face.render import render_faces
from facesr.errors import DataError, exit_code_of
from facesr.files import whole_file
from facesr.names import is_left_behind
from facesr.png import write_png
from facesr.ranges import Count, CountFromZero, Seed
from facesr.resample import downscale_uint8
from facesr.task import SCALE

IDENTITIES = "identities.csv"
# The validation faces of configs/data/synthetic.yaml: persons that training does not show.
NUM_SYNTHETIC = 96
FIRST_SYNTHETIC = 100_000
SEED = 1
# General pictures that training does not show, large enough for NIQE: 2x2 blocks of 96 pixels and a border of 4.
NUM_DEAD_LEAVES = 8
FIRST_DEAD_LEAVES = 100_000
SIZE_DEAD_LEAVES = (256, 224)
# Pictures downscaled at once.
_CHUNK = 256


def export_synthetic(out: Path, num_faces: int = NUM_SYNTHETIC, first: int = FIRST_SYNTHETIC, seed: int = SEED) -> int:
    """Writes synthetic faces first..first+num_faces-1 below `out`; returns how many.

    Raises:
        DataError: a number is out of range, or `out` holds other files or cannot be written.
    """
    if num_faces < 1 or first < 0 or seed < 0:
        raise DataError("--num has to be at least 1, --first and --seed at least 0.")
    faces, persons = render_faces(num_faces, seed=seed, first=first)
    return _write(out, faces, persons)


def export_dead_leaves(
    out: Path,
    num_pictures: int = NUM_DEAD_LEAVES,
    width: int = SIZE_DEAD_LEAVES[0],
    height: int = SIZE_DEAD_LEAVES[1],
    first: int = FIRST_DEAD_LEAVES,
    seed: int = SEED,
) -> int:
    """Writes synthetic general pictures first..first+num_pictures-1 below `out`; returns how many.

    Raises:
        DataError: a number is out of range, or `out` holds other files or cannot be written.
    """
    if num_pictures < 1 or first < 0 or seed < 0:
        raise DataError("--num has to be at least 1, --first and --seed at least 0.")
    if min(width, height) < MIN_SIDE or width % SCALE or height % SCALE:
        raise DataError(f"--size {width}x{height}: both sides have to be multiples of {SCALE} and at least {MIN_SIDE}.")
    return _write(out, render_pictures(num_pictures, width, height, seed, first))


def export_set(folder: Path, out: Path, num_faces: int | None = None, first: int = 0) -> int:
    """Writes faces of a prepared dataset below `out`, without their margin; returns how many.

    Raises:
        DataError: the set is none, holds no such faces, or `out` holds other files or cannot be written.
    """
    faces = PackedDataset.open(folder)
    count = len(faces) - first if num_faces is None else num_faces
    if first < 0 or count < 1 or first + count > len(faces):
        raise DataError(f"{folder} holds {len(faces)} faces; choose --first and --num within them.")
    margin = faces.margin
    height, width = (side - 2 * margin for side in faces.images.shape[1:3])
    if height % SCALE or width % SCALE:
        raise DataError(f"{folder} holds {width}x{height} faces; their sides have to be multiples of {SCALE}.")
    some = slice(first, first + count)
    return _write(out, faces.images[some, margin : margin + height, margin : margin + width], faces.identity[some])


def _write(out: Path, faces: NDArray[np.uint8], persons: NDArray[np.int64] | None = None) -> int:
    """Writes <out>/high/000000.png and so on, and the same names in <out>/low; <out>/identities.csv of known persons.

    That file is what study=verification reads; a person is a number, -1 where not known.
    """
    names = [f"{number:06d}.png" for number in range(len(faces))]
    folders = [out / "high", out / "low"]
    try:
        for folder in folders:
            folder.mkdir(parents=True, exist_ok=True)
            strange = sorted({path.name for path in folder.iterdir() if not is_left_behind(path.name)} - set(names))
            if strange:
                raise DataError(f"{folder} holds {strange[0]!r} from elsewhere; give another folder.")
    except OSError as error:
        raise DataError(f"{out} cannot be written: {error.strerror}.") from error
    for start in range(0, len(faces), _CHUNK):
        high = np.ascontiguousarray(faces[start : start + _CHUNK])
        for folder, pictures in zip(folders, (high, downscale_uint8(high)), strict=True):
            for name, picture in zip(names[start : start + _CHUNK], pictures, strict=True):
                write_png(folder / name, picture)
    _write_identities(out / IDENTITIES, names, persons)
    return len(faces)


def _write_identities(path: Path, names: Sequence[str], persons: NDArray[np.int64] | None) -> None:
    """Writes who is in each picture, or removes what an earlier set left where nobody is known."""
    try:
        if persons is None or not (persons >= 0).any():
            path.unlink(missing_ok=True)
            return
        shown = ["" if person < 0 else f"person_{person}" for person in persons.tolist()]
        lines = [f"{name.removesuffix('.png')},{person}" for name, person in zip(names, shown, strict=True)]
        with whole_file(path) as temporary:
            temporary.write_text("\n".join(["id,identity", *lines]) + "\n", encoding="utf-8")
    except OSError as error:
        raise DataError(f"{path} cannot be written: {error.strerror}.") from error


def main(arguments: list[str] | None = None) -> int:
    """Runs the command line and returns the exit code."""
    parser = Parser(prog="facesr pairs", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("source", help="`synthetic`, `dead_leaves`, or the folder of a prepared dataset")
    parser.add_argument("out", type=Path, help="folder to write high/ and low/ into")
    parser.add_argument(
        "--num",
        type=number(Count),
        help=f"how many (synthetic: {NUM_SYNTHETIC}; dead_leaves: {NUM_DEAD_LEAVES}; else all)",
    )
    parser.add_argument(
        "--first", type=number(CountFromZero), help=f"the first one (synthetic ones: {FIRST_SYNTHETIC}; else 0)"
    )
    parser.add_argument("--seed", type=number(Seed), default=SEED, help="synthetic ones only: which world")
    size = "x".join(map(str, SIZE_DEAD_LEAVES))
    parser.add_argument("--size", metavar="WxH", help=f"dead_leaves only: width x height in pixels (default {size})")
    chosen = parser.parse_args(arguments)
    return exit_code_of(lambda: run_export(chosen))


def run_export(chosen: argparse.Namespace) -> None:
    """Writes the folders and says how many pictures they hold."""
    what = "faces"
    if chosen.size is not None and chosen.source != "dead_leaves":
        raise DataError(f"--size has no meaning for {chosen.source}; leave it out.")
    if chosen.source == "synthetic":
        num_faces = NUM_SYNTHETIC if chosen.num is None else chosen.num
        first = FIRST_SYNTHETIC if chosen.first is None else chosen.first
        count = export_synthetic(chosen.out, num_faces, first, chosen.seed)
    elif chosen.source == "dead_leaves":
        what = "pictures"
        num_pictures = NUM_DEAD_LEAVES if chosen.num is None else chosen.num
        first = FIRST_DEAD_LEAVES if chosen.first is None else chosen.first
        width, height = SIZE_DEAD_LEAVES if chosen.size is None else _size_of(chosen.size)
        count = export_dead_leaves(chosen.out, num_pictures, width, height, first, chosen.seed)
    else:
        count = export_set(Path(chosen.source).expanduser(), chosen.out, chosen.num, chosen.first or 0)
    print(f"{count} {what}: {chosen.out / 'high'} and {chosen.out / 'low'}")


def _size_of(text: str) -> tuple[int, int]:
    found = re.fullmatch(r"(\d{1,5})x(\d{1,5})", text)
    if not found:
        raise DataError(f"--size {text} is no size; write width x height like 256x224.")
    return int(found[1]), int(found[2])
