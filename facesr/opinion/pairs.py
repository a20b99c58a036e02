"""Which of two pictures is better: Bradley-Terry strengths, with the side on which a picture stood as one more cause.

    log odds of left before right = strength(left) - strength(right) + side

There are no ties: the page asks for a choice. `side` is what being left is worth, so that a habit of the raters does
not move the strengths. The strengths' mean is 0; a difference of 1 means chosen in 73 % of the comparisons.

Intervals take raters and faces as samples (two-way cluster-robust variance), not comparisons as independent.

Sources: R. Bradley, M. Terry, "Rank analysis of incomplete block designs", Biometrika 39, 1952. R. Davidson, R. Beaver,
"On extending the Bradley-Terry model to incorporate within-pair order effects", Biometrics 33, 1977. L. Ford, "Solution
of a ranking problem from binary comparisons", American Mathematical Monthly 64, 1957 (when strengths alone are
finite). A. Albert, J. Anderson, "On the existence of maximum likelihood estimates in logistic regression models",
Biometrika 71, 1984 (when those of any logistic model are).
"""

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from facesr.opinion.cells import Floats, main_part
from facesr.opinion.intervals import t_interval, t_p_value, two_way_variance
from facesr.opinion.ratings import PAIR, Rating, Records
from facesr.opinion.scores import Difference, Score, corrected, finite

_MOST_ROUNDS = 100
_CONVERGED = 1e-12


@dataclass(frozen=True)
class Preferences:
    """What comparisons say.

    Attributes:
        scores: strength of each method that was compared.
        differences: between all of them.
        side: log odds of the left picture between two equal ones, None where it cannot be told.
        side_low: lower end of its 95 % interval.
        side_high: upper end.
        is_bounded: whether strengths and side have finite estimates (`is_bounded`); otherwise half a win was added to
            both methods of each pair that was compared, seen from both sides, which keeps them finite.
        wins: (M, M), how often the row's method was chosen before the column's.
    """

    scores: list[Score]
    differences: list[Difference]
    side: float | None
    side_low: float | None
    side_high: float | None
    is_bounded: bool
    wins: NDArray[np.int64]


def preferences(records: Records, raters: Collection[str]) -> Preferences | None:
    """Returns the strengths by these raters' comparisons; None where no two methods were compared."""
    found = main_part(records, PAIR, raters)
    named = {name for one in found for name in (one.method, one.other)}
    methods = [name for name in (*records.methods, *sorted(named - set(records.methods))) if name in named]
    if len(methods) < 2:
        return None
    left, right = (np.array([methods.index(name) for name in names], np.intp) for names in _sides(found))
    won = np.array([one.answer == 0 for one in found], np.float64)
    _, rater = np.unique([one.rater for one in found], return_inverse=True)
    _, face = np.unique([one.face for one in found], return_inverse=True)
    wins = np.zeros((len(methods), len(methods)), np.int64)
    np.add.at(wins, (np.where(won > 0, left, right), np.where(won > 0, right, left)), 1)
    bounded = is_bounded(left, right, won, len(methods))
    fit = fit_strengths(left, right, won, len(methods), half_wins=not bounded)
    return _described(methods, found, fit, rater, face, bounded, wins)


def _sides(found: Sequence[Rating]) -> tuple[list[str], list[str]]:
    return [one.method for one in found], [one.other for one in found]


def is_bounded(left: NDArray[np.intp], right: NDArray[np.intp], won: Floats, num_methods: int) -> bool:
    """Returns whether strengths and side have finite maximum likelihood estimates, so that no direction separates.

    With the side held, strengths have them if every method is reached from every other by a chain of wins. A side that
    grows separates unless some cycle of wins has more of them on the right than on the left: else strengths can take
    back what the side costs every win on the right. One that falls separates likewise.

    Args:
        left: (N,), number of the method on the left.
        right: of the one on the right.
        won: 1 where left was chosen, 0 where right was.
        num_methods: M.
    """
    on_left, on_right = np.zeros((2, num_methods, num_methods), bool)
    on_left[left[won > 0], right[won > 0]] = True
    on_right[right[won == 0], left[won == 0]] = True
    if not np.isfinite(_least_sums(np.where(on_left | on_right, 0.0, np.inf))).all():
        return False
    design = _design(left, right, num_methods)
    if np.linalg.matrix_rank(design) == np.linalg.matrix_rank(design[:, :-1]):
        # The side cannot be told from the strengths, so it separates nothing.
        return True
    growing = np.where(on_right, -1.0, np.where(on_left, 1.0, np.inf))
    falling = np.where(on_left, -1.0, np.where(on_right, 1.0, np.inf))
    return all(bool((np.diag(_least_sums(steps)) < 0).any()) for steps in (growing, falling))


def _least_sums(steps: Floats) -> Floats:
    """Returns the least sums of steps (M, M) along the ways between methods (Floyd, Warshall), infinite without a way.

    The diagonal is below 0 where a cycle has a negative sum.
    """
    least = steps.copy()
    np.fill_diagonal(least, 0.0)
    for through in range(len(least)):
        # Of a negative cycle the sign counts; its sum has no least.
        least = np.maximum(np.minimum(least, least[:, through, None] + least[None, through]), -1e9)
    return least


def _design(left: NDArray[np.intp], right: NDArray[np.intp], num_methods: int) -> Floats:
    """Returns what the log odds of each comparison are made of, (N, M + 1): the strengths, and the side."""
    rows = np.arange(len(left))
    design = np.zeros((len(left), num_methods + 1))
    design[rows, left] += 1.0
    design[rows, right] -= 1.0
    design[:, -1] = 1.0
    return design


@dataclass(frozen=True)
class Fit:
    """Maximum likelihood estimates.

    Attributes:
        strengths: (M,), their mean 0.
        side: log odds of left; 0 where it was not estimated.
        influence: (N, M + 1), what each comparison moves the strengths and the side by.
    """

    strengths: Floats
    side: float
    influence: Floats


def fit_strengths(
    left: NDArray[np.intp],
    right: NDArray[np.intp],
    won: Floats,
    num_methods: int,
    *,
    half_wins: bool = False,
    with_side: bool = True,
) -> Fit:
    """Returns the strengths of methods from comparisons (N,).

    Args:
        left: number of the method on the left.
        right: of the one on the right.
        won: 1 where left was chosen, 0 where right was.
        num_methods: M.
        half_wins: add half a win to both methods of each pair that was compared.
        with_side: estimate what being left is worth.
    """
    num_answers = len(won)
    design = _design(left, right, num_methods)
    design[:, -1] *= float(with_side)
    weight = np.ones(num_answers)
    if half_wins:
        pairs = np.unique(np.sort(np.stack([left, right], axis=1), axis=1), axis=0)
        # Half a win each on both sides: as many comparisons seen from the left as from the right.
        more = np.zeros((4 * len(pairs), num_methods + 1))
        for k, (a, b) in enumerate(np.tile(pairs, (4, 1))):
            sign = 1.0 if k < 2 * len(pairs) else -1.0
            more[k, a], more[k, b], more[k, -1] = sign, -sign, float(with_side)
        won = np.concatenate([won, np.tile(np.repeat([1.0, 0.0], len(pairs)), 2)])
        design, weight = np.concatenate([design, more]), np.concatenate([weight, np.full(len(more), 0.25)])
    # The mean of the strengths is held at 0, the side where it is not asked for.
    held = np.zeros((num_methods + 1, num_methods + 1))
    held[:-1, :-1] = 1.0
    held[-1, -1] = 0.0 if with_side else 1.0
    found = np.zeros(num_methods + 1)
    for _ in range(_MOST_ROUNDS):
        chance = 1.0 / (1.0 + np.exp(-(design @ found)))
        hessian = (design * (weight * chance * (1.0 - chance))[:, None]).T @ design
        inverse = np.linalg.pinv(hessian + held)
        step = inverse @ (design.T @ (weight * (won - chance)) - held @ found)
        # A long step could leave the region where the chances differ from 0 and 1.
        found = found + step / max(1.0, float(np.abs(step).max()) / 2.0)
        if np.abs(step).max() < _CONVERGED:
            break
    chance = 1.0 / (1.0 + np.exp(-(design @ found)))
    influence = ((weight * (won - chance))[:, None] * design) @ inverse
    return Fit(found[:-1] - found[:-1].mean(), float(found[-1]), influence[:num_answers])


def _described(
    methods: Sequence[str],
    found: Sequence[Rating],
    fit: Fit,
    rater: NDArray[np.intp],
    face: NDArray[np.intp],
    bounded: bool,
    wins: NDArray[np.int64],
) -> Preferences:
    count = len(methods)
    pairs = [(i, j) for i in range(count) for j in range(i + 1, count)]
    # Rows: the strengths about their mean, the differences, the side.
    contrasts = np.zeros((count + len(pairs) + 1, count + 1))
    contrasts[:count, :count] = np.eye(count) - 1.0 / count
    for row, (i, j) in enumerate(pairs):
        contrasts[count + row, [i, j]] = 1.0, -1.0
    contrasts[-1, -1] = 1.0
    values = contrasts @ np.append(fit.strengths, fit.side)
    variance = two_way_variance(fit.influence @ contrasts.T, rater, face)
    variance = np.where(variance > 0, variance, np.nan)
    freedom = np.full(len(values), float(min(rater.max(), face.max())))
    low, high = t_interval(values, variance, freedom)
    p_value = t_p_value(values, variance, freedom)
    sides = _sides(found)
    scores = []
    for i, method in enumerate(methods):
        own = [k for k in range(len(found)) if method in (sides[0][k], sides[1][k])]
        counted = len(own), len(set(rater[own])), len(set(face[own]))
        scores.append(Score("bradley_terry", method, float(values[i]), finite(low[i]), finite(high[i]), *counted))
    differences = [
        Difference(
            "bradley_terry",
            methods[i],
            methods[j],
            float(values[k]),
            finite(low[k]),
            finite(high[k]),
            finite(p_value[k]),
        )
        for k, (i, j) in enumerate(pairs, start=count)
    ]
    side = finite(low[-1]), finite(high[-1])
    return Preferences(scores, corrected(differences), fit.side, *side, bounded, wins)


def share_chosen(strength_difference: float) -> float:
    """Returns the share of comparisons that a method wins whose strength is larger by so much, 0 to 1."""
    return 1.0 / (1.0 + math.exp(-strength_difference))
