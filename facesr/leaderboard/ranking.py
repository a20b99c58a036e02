"""Ranks with ties: entries that the faces cannot tell apart share a range of places, such as 1-3.

Two entries are compared face by face: the bootstrap draws faces with replacement, the same ones for every entry, and an
entry is better than another one where it has the better mean in at least 97.5 % of the draws. What is
drawn depends on the number of faces and the seed alone, so what two entries are to each other depends on no third
one. Sums are exact: scores are put on a grid on which float64 loses nothing, whatever the order of addition. So ranks
depend neither on the order of the entries nor on the machine, and equal entries have equal ranks.

Source: B. Efron, R. Tibshirani, "An Introduction to the Bootstrap", 1993, chapters 8.3 and 13 (paired data, percentile
interval); A. Blum, M. Hardt, "The Ladder: A Reliable Leaderboard for Machine Learning Competitions", ICML 2015,
algorithm 1.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from facesr.evaluation.bootstrap import CONFIDENCE

# One of so many resamples may contradict a difference: 2.5 %, the tail of a two-sided interval of 95 %.
_RESAMPLES_PER_DOUBT = 40
# Resampled faces held at once, 32 MB.
_MOST_VALUES = 4_000_000
# Scores are multiples of 2^-32 where their size allows it, far below what float32 judges resolve.
_GRID_BITS = 32
# Whole numbers up to 2^53 are exact in float64.
_EXACT_BITS = 53


@dataclass(frozen=True)
class Rank:
    """The places that an entry may claim, with its score.

    Attributes:
        first: best place, from 1: one more than there are entries that are better than it.
        last: worst place: the number of entries that it is not better than, itself included.
        score: mean over the faces, in the metric's unit.
        low: lower end of the 95 % percentile bootstrap interval of the mean.
        high: upper end.
    """

    first: int
    last: int
    score: float
    low: float
    high: float


def ranks(
    scores: NDArray[np.float64], *, higher_is_better: bool, num_resamples: int = 2000, seed: int = 0
) -> list[Rank]:
    """Returns the ranks of entries, in the order of the rows.

    Args:
        scores: (E, N), a row for each entry, a column for each face; finite, N >= 1.
        higher_is_better: direction of the metric.
        num_resamples: of the bootstrap, at least 40.
        seed: of the bootstrap.

    Raises:
        ValueError: the table has another shape or a value that is not finite, or there are too few resamples.
    """
    table = _checked(scores)
    if num_resamples < _RESAMPLES_PER_DOUBT:
        raise ValueError(f"num_resamples={num_resamples} cannot tell anything apart; at least 40 are needed")
    if len(table) == 0:
        return []
    grid, step = _on_grid(table)
    sums = _resampled_sums(grid, num_resamples, seed)
    is_better = _is_better(sums if higher_is_better else -sums)
    first = 1 + is_better.sum(axis=0)
    last = len(table) - is_better.sum(axis=1)
    tail = (1.0 - CONFIDENCE) / 2.0
    ends = np.quantile(sums, [tail, 1.0 - tail], axis=1) * (step / table.shape[1])
    return [
        Rank(int(first[i]), int(last[i]), mean, float(ends[0, i]), float(ends[1, i]))
        for i, mean in enumerate(_means(table))
    ]


def order(scores: NDArray[np.float64], *, higher_is_better: bool) -> list[int]:
    """Returns the rows of a table (E, N) of finite scores by their means, the best first, equal ones as they come.

    Raises:
        ValueError: the table has another shape or a value that is not finite.
    """
    means = _means(_checked(scores))
    sign = -1.0 if higher_is_better else 1.0
    return sorted(range(len(means)), key=lambda row: sign * means[row])


def ladder(
    scores: Sequence[float], step: float, higher_is_better: bool, stands: Sequence[bool] | None = None
) -> list[float | None]:
    """Returns what is shown for each score of a team, so that many submissions tell little about the public faces.

    The first score is shown, rounded to a multiple of `step`; a later one only where it beats the one that was shown
    last by more than `step`, and otherwise that one stands again. Decimal numbers are taken as they are written.

    A score that is taken off the board stays what later ones have to beat, because it has been shown. It is no more
    shown for others: those have the last step before it that still stands, or None. So what is shown follows from the
    paper's own output and from who stands, and taking scores off tells nothing of the others.

    Args:
        scores: of one team, in the order in which they were shown, finite.
        step: the paper's eta, above 0.
        higher_is_better: direction of the metric.
        stands: which of them are on the board, by default all; one that is not has its own step, or None.

    Raises:
        ValueError: `step` is not above 0, a score is not finite, or `stands` is not as long as `scores`.
    """
    if not step > 0 or not all(map(math.isfinite, [step, *scores])):
        raise ValueError("a ladder needs a step above 0 and finite scores")
    exact_step = Fraction(repr(float(step)))
    sign = 1 if higher_is_better else -1
    to_beat: Fraction | None = None
    standing: Fraction | None = None
    shown: list[Fraction | None] = []
    for score, is_on_board in zip(scores, [True] * len(scores) if stands is None else stands, strict=True):
        exact = Fraction(repr(float(score)))
        own = None
        if to_beat is None or sign * (exact - to_beat) > exact_step:
            own = to_beat = round(exact / exact_step) * exact_step
        if own is not None and is_on_board:
            standing = own
        shown.append(standing if is_on_board else own)
    return [None if value is None else float(value) for value in shown]


def _checked(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    table = np.ascontiguousarray(scores, np.float64)
    if table.ndim != 2 or table.shape[1] == 0 or not np.isfinite(table).all():
        raise ValueError("ranks need a table of entries and faces, at least one face, all scores finite")
    return table


def _means(table: NDArray[np.float64]) -> list[float]:
    """Returns the rows' means, rounded once, so that they do not depend on the order of the faces."""
    return [math.fsum(row) / table.shape[1] for row in table.tolist()]


def _on_grid(table: NDArray[np.float64]) -> tuple[NDArray[np.float64], float]:
    """Returns the scores as whole numbers, small enough for exact sums of N of them, and what 1 stands for."""
    _, exponent = math.frexp(float(np.abs(table).max(initial=0.0)))
    # A value is at most 2^exponent, a sum at most 2^exponent * N.
    spare = _EXACT_BITS - exponent - math.ceil(math.log2(table.shape[1]))
    bits = min(_GRID_BITS, spare)
    return np.rint(np.ldexp(table, bits)), math.ldexp(1.0, -bits)


def _resampled_sums(grid: NDArray[np.float64], num_resamples: int, seed: int) -> NDArray[np.float64]:
    """Returns the sums of each entry over the faces of each resample, (E, num_resamples), exact."""
    num_faces = grid.shape[1]
    # The very draws of `facesr.evaluation.bootstrap`, so that intervals agree with those of a report.
    random = np.random.default_rng(seed)
    rows = max(1, _MOST_VALUES // num_faces)
    parts: list[NDArray[np.float64]] = []
    for start in range(0, num_resamples, rows):
        count = min(rows, num_resamples - start)
        drawn = random.integers(0, num_faces, (count, num_faces))
        drawn += np.arange(0, count * num_faces, num_faces)[:, None]
        times = np.bincount(drawn.ravel(), minlength=count * num_faces).reshape(count, num_faces)
        parts.append(grid @ times.T.astype(np.float64))
    return np.concatenate(parts, axis=1)


def _is_better(sums: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Returns (E, E): whether the row's entry is better than the column's, where larger sums are better."""
    found = np.empty((len(sums), len(sums)), np.bool_)
    for i, own in enumerate(sums):
        found[i] = _RESAMPLES_PER_DOUBT * np.count_nonzero(own <= sums, axis=1) <= sums.shape[1]
    return found
