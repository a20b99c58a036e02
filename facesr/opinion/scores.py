"""What every question gives: a value per method with its interval, and the differences between methods."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from facesr.evaluation.bootstrap import holm
from facesr.opinion.cells import Cells
from facesr.opinion.intervals import Crossed, crossed_mean, draw, resampled_interval
from facesr.opinion.ratings import ORIGINAL

# Of each measure: its name for people, its lowest and its highest value.
MEASURES = {
    "mos": ("MOS", 1.0, 5.0),
    "dmos": ("DMOS", -math.inf, math.inf),
    "bradley_terry": ("Bradley-Terry strength", -math.inf, math.inf),
    "hit_rate": ("Hit rate", 0.0, 1.0),
    "false_alarm": ("False alarm rate", 0.0, 1.0),
    "d_prime": ("d'", -math.inf, math.inf),
}


@dataclass(frozen=True)
class Score:
    """A value of one method.

    Attributes:
        measure: a key of MEASURES.
        method: its name; ``original`` is the hidden reference.
        value: estimate.
        low: lower end of the 95 % interval; None where there are fewer than two raters or faces.
        high: upper end.
        resampled_low: lower end by resampling raters and faces; None where that is not done.
        resampled_high: upper end.
        answers: how many.
        raters: who gave them.
        faces: on which.
        counts: acr: how often 1, 2, 3, 4 and 5; otherwise empty.
    """

    measure: str
    method: str
    value: float
    low: float | None
    high: float | None
    answers: int
    raters: int
    faces: int
    resampled_low: float | None = None
    resampled_high: float | None = None
    counts: tuple[int, ...] = ()


@dataclass(frozen=True)
class Difference:
    """The first method's value minus the second one's, over the same raters and faces.

    Attributes:
        measure: a key of MEASURES.
        first: method.
        second: method.
        value: estimate.
        low: lower end of the 95 % interval, None where it cannot be told.
        high: upper end.
        p: two-sided p value of no difference, None where it cannot be told.
        p_holm: the same, corrected for all differences of the measure (Holm).
    """

    measure: str
    first: str
    second: str
    value: float
    low: float | None
    high: float | None
    p: float | None
    p_holm: float | None = None


def finite(value: float) -> float | None:
    """Returns a number, None for one that is not finite."""
    return float(value) if math.isfinite(value) else None


def ends(crossed: Crossed, lowest: float = -math.inf, highest: float = math.inf) -> tuple[float | None, float | None]:
    """Returns the interval's ends inside what the scale allows, None where there is none."""
    low, high = (finite(float(end)) for end in crossed.interval())
    return (None if low is None else max(low, lowest), None if high is None else min(high, highest))


def mean_scores(cells: Cells, measure: str, num_resamples: int, seed: int) -> list[Score]:
    """Returns each method's mean with its intervals, in their order; those without an answer are left out."""
    _, lowest, highest = MEASURES[measure]
    found = []
    draws = draw(max(len(cells.raters), 1), len(cells.faces), num_resamples, seed) if cells.raters else None
    for method in cells.methods:
        values = cells.of(method)
        there = np.isfinite(values)
        if not there.any() or draws is None:
            continue
        raters, faces = int(there.any(axis=1).sum()), int(there.any(axis=0).sum())
        crossed = crossed_mean(values)
        low, high = ends(crossed, lowest, highest)
        drawn = resampled_interval(values, draws) if low is not None else (math.nan, math.nan)
        found.append(
            Score(
                measure=measure,
                method=method,
                value=float(crossed.mean),
                low=low,
                high=high,
                answers=int(there.sum()),
                raters=raters,
                faces=faces,
                resampled_low=finite(drawn[0]),
                resampled_high=finite(drawn[1]),
                counts=tuple(int((values == star).sum()) for star in range(1, 6)) if measure == "mos" else (),
            )
        )
    return found


def hidden_reference_scores(cells: Cells) -> list[Score]:
    """Returns each method's DMOS, ``rating - that of the original + 5`` of one rater on one face (P.910)."""
    if ORIGINAL not in cells.methods:
        return []
    found = []
    for method in cells.methods:
        values = cells.of(method) - cells.of(ORIGINAL) + 5.0
        there = np.isfinite(values)
        if method == ORIGINAL or not there.any():
            continue
        crossed = crossed_mean(values)
        low, high = ends(crossed)
        counted = int(there.sum()), int(there.any(axis=1).sum()), int(there.any(axis=0).sum())
        found.append(Score("dmos", method, float(crossed.mean), low, high, *counted))
    return found


def mean_differences(cells: Cells, measure: str) -> list[Difference]:
    """Returns the paired differences between all methods but the original, Holm's p values over all of them."""
    methods = [name for name in cells.methods if name != ORIGINAL]
    found = []
    for i, first in enumerate(methods):
        for second in methods[i + 1 :]:
            values = cells.of(first) - cells.of(second)
            if not np.isfinite(values).any():
                continue
            crossed = crossed_mean(values)
            p_value = finite(float(crossed.p_value()))
            found.append(Difference(measure, first, second, float(crossed.mean), *ends(crossed), p_value))
    return corrected(found)


def corrected(differences: Sequence[Difference]) -> list[Difference]:
    """Returns the differences with their p values corrected for their number by Holm's method."""
    p_values = np.array([math.nan if one.p is None else one.p for one in differences], np.float64)
    return [replace(one, p_holm=finite(p)) for one, p in zip(differences, holm(p_values), strict=True)]
