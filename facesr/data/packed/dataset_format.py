"""The format of a prepared dataset: the names of its files, the columns of its tables, and what set.json says.

``images.npy`` holds the pictures, ``index.csv`` a line for each of them, ``rejected.csv`` the sources that gave none,
and ``set.json`` what they are; it is written last. A dataset that is made piece by piece is written by
`facesr.data.packed.writer`, one that is in memory by `write_dataset`; `facesr.data.packed.reader` reads both.
"""

import csv
import json
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from numpy.typing import NDArray

FORMAT = 1
HEADER_BYTES = 256  # of images.npy; fixed, so that the number of pictures can be filled in at the end
IMAGES, INDEX, REJECTED, ABOUT = "images.npy", "index.csv", "rejected.csv", "set.json"
SHARD = "shard.json"  # instead of set.json in the folder of a part, see facesr.data.packed.shard


@dataclass(frozen=True)
class Row:
    """What became of one source file: its place in the set, or the reason why it has none.

    Attributes:
        sha256: of the file, "" if it could not be read.
        reason: why it was left out, "" if it was not.
        landmarks: 10 numbers "x y x y ..." in pixels of the centre crop, or "".
        parts: names of the pictures that were cut out of this source; empty where the source is one picture.
    """

    sha256: str
    reason: str = ""
    landmarks: str = ""
    parts: Sequence[str] = ()

    @property
    def num_pictures(self) -> int:
        """How many pictures of the set come from this source."""
        return 0 if self.reason else max(len(self.parts), 1)

    def journal_values(self) -> list[Any]:
        """Returns the plain values that `Row(*values)` is made of."""
        values: list[Any] = [self.sha256, self.reason, self.landmarks]
        return [*values, list(self.parts)] if self.parts else values


@dataclass(frozen=True)
class SetPlan:
    """What a set is made of; a run goes on only under an equal plan.

    Attributes:
        width, height, margin: of the crop, in pixels.
        sources: relative POSIX paths in order.
        identities: name of each source's person, "" where unknown.
        settings: everything else that decides what is written, as plain values.
        version: of the preparation; raised when the same settings give other pictures.
    """

    width: int
    height: int
    margin: int
    sources: Sequence[str]
    identities: Sequence[str]
    settings: Mapping[str, Any]
    version: int

    @property
    def picture_shape(self) -> tuple[int, int, int]:
        """(height, width, 3) of a stored picture, with its margin."""
        return self.height + 2 * self.margin, self.width + 2 * self.margin, 3

    def identity_card(self) -> dict[str, Any]:
        """Returns what a later run's plan is compared with."""
        size = {"width": self.width, "height": self.height, "margin": self.margin}
        return {**size, **self.settings, "version": self.version}


def write_dataset(folder: Path, plan: SetPlan, images: NDArray[np.uint8], rows: Sequence[Row]) -> None:
    """Writes a dataset that is in memory into a folder that gets its name when it is whole (`cached_set`).

    Args:
        folder: a new one.
        plan: what the set is made of.
        images: uint8 (N, height, width, 3), margins included, one for each source.
        rows: N, none with a reason.

    Raises:
        OSError: it cannot be written.
    """
    np.save(folder / IMAGES, images)
    with table(folder / INDEX) as kept:
        write_tables(plan, rows, kept, None)
    (folder / ABOUT).write_text(about(plan, len(images)), encoding="utf-8")


def table(path: Path) -> TextIO:
    """Returns a table opened for writing."""
    # A file name that is no UTF-8 is written with its strange bytes as \xNN.
    return path.open("w", newline="", encoding="utf-8", errors="backslashreplace")


def write_tables(plan: SetPlan, rows: Iterable[Row], kept: TextIO, rejected: TextIO | None) -> None:
    """Writes index.csv and rejected.csv, which may be None where no row has a reason.

    Args:
        plan: has the sources and persons that the rows belong to, in order.
        rows: one for each source.
        kept, rejected: the open tables.
    """
    kept_table, rejected_table = csv.writer(kept), None if rejected is None else csv.writer(rejected)
    kept_table.writerow(["position", "source", "sha256", "identity", "landmarks"])
    if rejected_table is not None:
        rejected_table.writerow(["source", "reason"])
    position = 0
    for source, person, row in zip(plan.sources, plan.identities, rows, strict=True):
        if row.reason and rejected_table is not None:
            rejected_table.writerow([source, row.reason])
        for name in [f"{source}#{part}" for part in row.parts] or [source] * row.num_pictures:
            kept_table.writerow([position, name, row.sha256, person, row.landmarks])
            position += 1


def about(plan: SetPlan, count: int, num_rejected: int | None = None) -> str:
    """Returns the text of set.json; `num_rejected` is None where the set has no rejected.csv."""
    facts = {
        "format": FORMAT,
        "width": plan.width,
        "height": plan.height,
        "count": count,
        "margin": plan.margin,
        **({} if num_rejected is None else {"rejected": num_rejected}),
        "settings": dict(plan.settings),
        "version": plan.version,
    }
    return json.dumps(facts, indent=2) + "\n"


def npy_header(shape: tuple[int, ...]) -> bytes:
    """Returns the header of a uint8 .npy file, HEADER_BYTES long.

    Source: NumPy Enhancement Proposal 1, "A Simple File Format for NumPy Arrays", format version 1.0.
    """
    text = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}".encode("ascii")
    length = HEADER_BYTES - 10
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", length) + text.ljust(length - 1) + b"\n"
