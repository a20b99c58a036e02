"""Whether people see the same person: hits, false alarms, and d', which no habit of saying yes can raise.

    d' = z(hit rate) - z(false alarm rate),  z the inverse of the normal distribution

over all raters and faces together, with half an answer added to each of the four counts, so that no rate is 0 or 1. 0
is guessing. Intervals take raters and faces as samples.

Sources: N. Macmillan, C. Creelman, "Detection Theory", 2005. M. Hautus, "Corrections for extreme proportions and their
biasing effects on estimated values of d'", Behavior Research Methods 27, 1995.
"""

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from facesr.opinion.cells import Floats, main_part, same_cells
from facesr.opinion.intervals import t_interval, t_p_value, two_way_variance
from facesr.opinion.ratings import ORIGINAL, SAME, Rating, Records
from facesr.opinion.scores import Difference, Score, corrected, finite, mean_differences, mean_scores


@dataclass(frozen=True)
class Recognition:
    """How well people tell persons apart by each method's pictures.

    Attributes:
        scores: hit rates, false alarm rates and d'.
        differences: between methods, of hit rates and d'.
    """

    scores: list[Score]
    differences: list[Difference]


def recognition(records: Records, raters: Collection[str], num_resamples: int, seed: int) -> Recognition | None:
    """Returns what these raters saw; None where the question was not answered."""
    found = main_part(records, SAME, raters)
    if not found:
        return None
    same, other = same_cells(records, raters)
    scores = mean_scores(same, "hit_rate", num_resamples, seed) + mean_scores(other, "false_alarm", num_resamples, seed)
    d_prime_scores, d_prime_differences = _d_primes(found, [*records.methods, ORIGINAL])
    return Recognition(scores + d_prime_scores, mean_differences(same, "hit_rate") + d_prime_differences)


def _d_primes(found: list[Rating], methods: list[str]) -> tuple[list[Score], list[Difference]]:
    _, rater = np.unique([one.rater for one in found], return_inverse=True)
    _, face = np.unique([one.face for one in found], return_inverse=True)
    answer = np.array([one.answer for one in found], np.float64)
    is_same = np.array([one.expected == 1 for one in found])
    named = np.array([one.method for one in found])
    values: dict[str, tuple[float, Floats]] = {}
    scores = []
    for method in methods:
        own = named == method
        if not (own & is_same).any() or not (own & ~is_same).any():
            continue
        value, influence = d_prime(answer, own & is_same, own & ~is_same)
        values[method] = value, influence
        low, high, _ = _interval(value, influence, rater, face, own)
        counted = int(own.sum()), len(set(rater[own])), len(set(face[own]))
        scores.append(Score("d_prime", method, value, low, high, *counted))
    compared = [name for name in values if name != ORIGINAL]
    differences = []
    for i, first in enumerate(compared):
        for second in compared[i + 1 :]:
            (a, own), (b, others) = values[first], values[second]
            within = (named == first) | (named == second)
            differences.append(
                Difference("d_prime", first, second, a - b, *_interval(a - b, own - others, rater, face, within))
            )
    return scores, corrected(differences)


def d_prime(answer: Floats, same: NDArray[np.bool_], other: NDArray[np.bool_]) -> tuple[float, Floats]:
    """Returns d' and what each answer (N,) moves it by.

    Args:
        answer: 1 for "the same person".
        same: where it was the same person.
        other: where it was another one.
    """
    influence = np.zeros(len(answer))
    value = 0.0
    for sign, where in ((1.0, same), (-1.0, other)):
        count = float(where.sum())
        rate = (answer[where].sum() + 0.5) / (count + 1.0)
        z = float(ndtri(rate))
        value += sign * z
        density = np.exp(-z * z / 2.0) / np.sqrt(2.0 * np.pi)
        influence[where] = sign * (answer[where] - answer[where].mean()) / (count + 1.0) / density
    return value, influence


def _interval(
    value: float, influence: Floats, rater: NDArray[np.intp], face: NDArray[np.intp], within: NDArray[np.bool_]
) -> tuple[float | None, float | None, float | None]:
    """Returns both ends of the 95 % interval and the p value, each None where it cannot be told."""
    variance = two_way_variance(influence[within][:, None], rater[within], face[within])
    variance = np.where(variance > 0, variance, np.nan)
    freedom = np.array([min(len(set(rater[within])), len(set(face[within]))) - 1.0])
    low, high = t_interval(np.array([value]), variance, freedom)
    p_value = t_p_value(np.array([value]), variance, freedom)
    return finite(low[0]), finite(high[0]), finite(p_value[0])
