"""Scores per group of faces: a CSV file says which face belongs to which group.

The file's header is ``id,NAME,...``; each further line is a face's id and its value of each attribute. Every scored
face needs a line; further lines are ignored; an empty cell is the group ``not given``. Numbers become groups: by the
thresholds of the file's sidecar (`facesr.evaluation.appearance.column`), else a column of more than 30 different
numbers by thirds of the scored faces.
"""

import csv
import itertools
import math
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from facesr.errors import DataError
from facesr.evaluation.appearance.column import Bins, read_bins
from facesr.evaluation.bootstrap import Statistics, describe
from facesr.names import plain_cell, shown

EMPTY = "not given"
MOST_GROUPS = 30
# Share of the numbers that a rounded edge may put into another third.
_MOST_MOVED = 0.01


def rows_of(path: Path, key: str) -> list[list[str]]:
    """Returns the lines of a CSV file that are not empty; `key` is the setting that names it.

    Raises:
        DataError: it cannot be read, or is no CSV file in UTF-8.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            return [row for row in csv.reader(file) if row]
    except OSError as error:
        raise DataError(f"{key}={path} cannot be read: {error.strerror}.") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{key}={path} is no CSV file in UTF-8: {error}.") from error


def id_of(cell: str) -> str:
    """Returns the picture's id that a cell names, in Unicode form C, as the ids of pictures are.

    Names of files of macOS are in form D.
    """
    return unicodedata.normalize("NFC", plain_cell(cell).removesuffix(".png"))


def read_attributes(path: Path, ids: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Returns {attribute: group of each of `ids`}.

    Raises:
        DataError: the file is missing, is no such table, lacks an id, names one twice, or has too many groups; its
            sidecar is none, or a number is no number.
    """
    rows = rows_of(path, "attributes")
    if not rows or rows[0][0] != "id" or len(rows[0]) < 2 or len(set(rows[0])) < len(rows[0]):
        raise DataError(f"attributes={path} needs a first line id,NAME,... with different names of attributes.")
    names = rows[0][1:]
    groups: dict[str, list[str]] = {}
    for number, row in enumerate(rows[1:], start=2):
        key = id_of(row[0])
        if len(row) != len(rows[0]):
            raise DataError(
                f"attributes={path}: line {number} has {len(row)} cells where the first has {len(rows[0])}."
            )
        if key in groups:
            raise DataError(f"attributes={path} names id {key} twice; keep one line.")
        groups[key] = [cell.strip() or EMPTY for cell in row[1:]]
    lacking = [key for key in ids if key not in groups]
    if lacking:
        raise DataError(f"attributes={path} has no line for id {shown(lacking)}; every scored face needs one.")
    found = {name: tuple(groups[key][i] for key in ids) for i, name in enumerate(names)}
    bins = read_bins(path)
    for name, members in found.items():
        is_long = len(set(members)) > MOST_GROUPS
        if name in bins or (is_long and all(_number(cell) is not None for cell in members if cell != EMPTY)):
            found[name] = members = binned(members, bins.get(name), f"attributes={path}: {name}")
        if len(set(members)) > MOST_GROUPS:
            raise DataError(
                f"attributes={path}: {name} has {len(set(members))} different values, more than {MOST_GROUPS}; "
                "give groups, not measurements."
            )
    return found


def _number(cell: str) -> float | None:
    try:
        value = float(cell)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def binned(cells: Sequence[str], bins: Bins | None, what: str) -> tuple[str, ...]:
    """Returns the group of each number, named by its ends and numbered so that names sort as numbers do.

    Args:
        cells: numbers as text, or `EMPTY`, which stays.
        bins: thresholds; None takes those that part the numbers into thirds, rounded to four digits, or
            to more where these would put more than 1 % of the numbers into another third.
        what: the column, for errors.

    Raises:
        DataError: a cell is no number.
    """
    numbers = [None if cell == EMPTY else _number(cell) for cell in cells]
    for cell, value in zip(cells, numbers, strict=True):
        if value is None and cell != EMPTY:
            raise DataError(
                f"{what} is a column of numbers, and {shown([cell])} is none; mend the cell or leave it empty."
            )
    known = [value for value in numbers if value is not None]
    if not known:
        return tuple(cells)
    edges = bins.edges if bins is not None else _thirds(known)
    told = [f"{edge:.12g}" for edge in edges]
    ends = [f"below {told[0]}", *(f"{low} to {high}" for low, high in itertools.pairwise(told)), f"from {told[-1]}"]
    words = [f" ({name})" for name in bins.names] if bins is not None and bins.names else [""] * len(ends)
    names = [f"{place + 1}: {end}{word}" for place, (end, word) in enumerate(zip(ends, words, strict=True))]
    places = np.searchsorted(edges, [0.0 if value is None else value for value in numbers], side="right")
    return tuple(EMPTY if value is None else names[place] for value, place in zip(numbers, places, strict=True))


def _thirds(known: Sequence[float]) -> tuple[float, ...]:
    """Returns the two edges that part numbers into thirds, in as few digits as leave (nearly) all in their third."""
    exact = np.quantile(known, [1 / 3, 2 / 3])
    for digits in range(4, 12):
        edges = [float(f"{edge:.{digits}g}") for edge in exact]
        moved = np.searchsorted(edges, known, side="right") != np.searchsorted(exact, known, side="right")
        if moved.mean() <= _MOST_MOVED:
            return tuple(edges)
    return tuple(exact.tolist())


def scores_by_group(
    attributes: Mapping[str, Sequence[str]],
    values: Mapping[str, NDArray[np.float64]],
    num_resamples: int,
    seed: int,
) -> dict[str, dict[str, dict[str, Statistics]]]:
    """Returns {attribute: {group: {metric: statistics}}}, groups sorted by name."""
    return {
        attribute: {
            group: {
                metric: describe(column[[member == group for member in members]], num_resamples, seed)
                for metric, column in values.items()
            }
            for group in sorted(set(members))
        }
        for attribute, members in attributes.items()
    }
