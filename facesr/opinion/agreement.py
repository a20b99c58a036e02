"""How far raters agree with each other: Krippendorff's alpha.

Source: K. Krippendorff, "Computing Krippendorff's alpha-reliability", 2011.
"""

from dataclasses import dataclass

import numpy as np

from facesr.opinion.cells import Cells, Floats
from facesr.opinion.intervals import t_interval


@dataclass(frozen=True)
class Alpha:
    """Agreement: 1 for perfect, 0 for that of chance, below 0 for less.

    Attributes:
        level: ``ordinal`` or ``interval``, how answers differ.
        value: None where it is not defined: equal answers everywhere, or no picture with two answers.
        low: lower end of the 95 % interval, raters and faces left out one by one; None where it cannot be told.
        high: upper end.
    """

    level: str
    value: float | None
    low: float | None
    high: float | None


def krippendorff(ratings: Floats, level: str) -> float:
    """Returns alpha of ratings (R, J), NaN for missing ones; NaN where it is not defined.

    Args:
        ratings: of whole numbers for ``ordinal``.
        level: ``ordinal`` or ``interval``.
    """
    values = np.unique(ratings[np.isfinite(ratings)])
    counts = (
        np.stack([(ratings == value).sum(axis=0) for value in values], axis=1).astype(np.float64)
        if len(values)
        else np.zeros((0, 0))
    )
    return _alpha(
        counts, _distances(values, counts[counts.sum(axis=1) > 1].sum(axis=0), level) if len(values) else counts
    )


def _alpha(counts: Floats, distances: Floats) -> float:
    """Returns alpha of (J, V), how often each picture got each value."""
    answers = counts.sum(axis=1)
    pairable = counts[answers > 1]
    answers = answers[answers > 1]
    total, marginal = answers.sum(), pairable.sum(axis=0)
    if total < 2:
        return float("nan")
    # Distances of a value to itself are 0, so that no value has to be taken from its own pairs.
    observed = (np.einsum("jv,vw,jw->j", pairable, distances, pairable) / (answers - 1)).sum() / total
    expected = (marginal @ distances @ marginal) / (total * (total - 1))
    return float(1.0 - observed / expected) if expected > 0 else float("nan")


def _distances(values: Floats, marginal: Floats, level: str) -> Floats:
    if level == "interval":
        return np.asarray(np.square(values[:, None] - values), np.float64)
    # Ordinal: the answers that lie between two values, those of the two themselves by half.
    middle = np.cumsum(marginal) - marginal / 2.0
    return np.asarray(np.square(middle[:, None] - middle), np.float64)


def alpha_of(cells: Cells, level: str) -> Alpha:
    """Returns the agreement on a table's pictures (method x face), with its interval.

    The interval is the delete-one jackknife's over raters and over faces, both variances added.
    """
    raters, _, faces = cells.values.shape
    values = np.unique(cells.values[np.isfinite(cells.values)])
    if raters < 2 or len(values) < 2:
        return Alpha(level, None, None, None)
    each = (cells.values[..., None] == values).astype(np.float64)

    def alpha(counts: Floats) -> float:
        flat = counts.reshape(-1, len(values))
        return _alpha(flat, _distances(values, flat[flat.sum(axis=1) > 1].sum(axis=0), level))

    counts = each.sum(axis=0)
    found = alpha(counts)
    if not np.isfinite(found):
        return Alpha(level, None, None, None)
    variance = 0.0
    for parts in (
        [alpha(counts - each[r]) for r in range(raters)],
        [alpha(np.delete(counts, f, axis=1)) for f in range(faces)],
    ):
        size = len(parts)
        variance += (size - 1) / size * float(np.square(np.array(parts) - np.mean(parts)).sum())
    if raters < 3 or faces < 3 or not np.isfinite(variance):
        return Alpha(level, found, None, None)
    low, high = t_interval(np.array(found), np.array(variance), np.array(min(raters, faces) - 1.0))
    return Alpha(level, found, float(low), min(float(high), 1.0))
