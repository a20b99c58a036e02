"""Answers as tables: raters x methods x faces, NaN where there is no answer."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from facesr.opinion.ratings import ACR, ORIGINAL, SAME, Rating, Records

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Cells:
    """Answers to one question.

    Attributes:
        raters: R names, those who gave an answer, sorted.
        methods: M names.
        faces: F names.
        values: (R, M, F), NaN where there is no answer; the mean where there are several.
    """

    raters: tuple[str, ...]
    methods: tuple[str, ...]
    faces: tuple[str, ...]
    values: Floats

    def of(self, method: str) -> Floats:
        """Returns (R, F), the answers for a method."""
        return self.values[:, self.methods.index(method), :]


def main_part(records: Records, kind: str, raters: Collection[str]) -> list[Rating]:
    """Returns the answers that count: those of the main part by these raters, no training, repeat or trap."""
    return [one for one in records.ratings if one.part == "main" and one.kind == kind and one.rater in raters]


def acr_cells(records: Records, raters: Collection[str]) -> Cells:
    """Returns the ratings from 1 to 5 by these raters, the original among the methods where it was rated."""
    found = main_part(records, ACR, raters)
    methods = [*records.methods, *([ORIGINAL] if any(one.method == ORIGINAL for one in found) else [])]
    return cells_of(found, [name for name in methods if any(one.method == name for one in found)], records.faces)


def same_cells(records: Records, raters: Collection[str]) -> tuple[Cells, Cells]:
    """Returns how often a face was called the same person (1, else 0): where it was, and where it was another one."""
    found = main_part(records, SAME, raters)
    methods = [name for name in (*records.methods, ORIGINAL) if any(one.method == name for one in found)]
    same, other = ([one for one in found if one.expected == truth] for truth in (1, 0))
    return cells_of(same, methods, records.faces), cells_of(other, methods, records.faces)


def cells_of(ratings: Iterable[Rating], methods: Sequence[str], faces: Sequence[str]) -> Cells:
    """Returns the answers for these methods and faces as a table."""
    place = {name: i for i, name in enumerate(methods)}, {name: i for i, name in enumerate(faces)}
    known = [one for one in ratings if one.method in place[0] and one.face in place[1]]
    raters = sorted({one.rater for one in known})
    row = {name: i for i, name in enumerate(raters)}
    total, count = np.zeros((2, len(raters), len(methods), len(faces)))
    index = (
        np.array([row[one.rater] for one in known], np.intp),
        np.array([place[0][one.method] for one in known], np.intp),
        np.array([place[1][one.face] for one in known], np.intp),
    )
    np.add.at(total, index, [float(one.answer) for one in known])
    np.add.at(count, index, 1.0)
    with np.errstate(invalid="ignore"):
        values = total / count
    return Cells(tuple(raters), tuple(methods), tuple(faces), values)
