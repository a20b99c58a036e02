"""Scores per group of faces: a CSV file says which face belongs to which group.

The file's header is ``id,NAME,...``; each further line is a face's id and its value of each attribute (a word, not a
measurement). Every scored face needs a line; further lines are ignored; an empty cell is the group ``not given``.
"""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from facesr.errors import DataError
from facesr.evaluation.bootstrap import Statistics, describe
from facesr.names import shown

EMPTY = "not given"
MOST_GROUPS = 30


def read_attributes(path: Path, ids: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Returns {attribute: group of each of `ids`}.

    Raises:
        DataError: the file is missing, is no such table, lacks an id, names one twice, or has too many groups.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = [row for row in csv.reader(file) if row]
    except OSError as error:
        raise DataError(f"attributes={path} cannot be read: {error.strerror}.") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"attributes={path} is no CSV file in UTF-8: {error}.") from error
    if not rows or rows[0][0] != "id" or len(rows[0]) < 2 or len(set(rows[0])) < len(rows[0]):
        raise DataError(f"attributes={path} needs a first line id,NAME,... with different names of attributes.")
    names = rows[0][1:]
    groups: dict[str, list[str]] = {}
    for number, row in enumerate(rows[1:], start=2):
        key = row[0].removesuffix(".png")
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
    for name, members in found.items():
        if len(set(members)) > MOST_GROUPS:
            raise DataError(
                f"attributes={path}: {name} has {len(set(members))} different values, more than {MOST_GROUPS}; "
                "give groups, not measurements."
            )
    return found


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
