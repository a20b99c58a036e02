"""Verification rates: how often two pictures of one person are accepted, and how often those of two persons are.

A pair is accepted where the cosine of its embeddings is above a threshold. The false acceptance rate (FAR) is the share
that is accepted of the pairs of two persons. The true acceptance rate (TAR) is that of the pairs of one person, where
each person counts once, however many pictures of them there are. Intervals resample persons, not pairs: pairs that
share a person are not independent.

Source: N. Poh and S. Bengio, "Estimating the confidence interval of expected performance curve in biometric
authentication using joint bootstrap", ICASSP 2007.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from facesr.evaluation.bootstrap import Estimate, middle_of

LEAST_ACCEPTED = 10  # a FAR at which fewer pairs would be accepted is not measured
# Of the pairs of two persons, those above the threshold of so many times the largest FAR are kept: resampled thresholds
# move about it.
_SPARE = 4.0

Values = NDArray[np.float64]
Numbers = NDArray[np.int64]


@dataclass(frozen=True)
class Verified:
    """What one judge makes of one kind of probe at one FAR.

    Attributes:
        far: the rate that thresholds are set for.
        tar: with the threshold that this kind's own pairs set.
        gain: its difference from that of the first kind.
        tar_as_set, far_as_set: with the threshold that the originals' pairs set, as that of a system in use was.
    """

    far: float
    tar: Estimate
    gain: Estimate
    tar_as_set: Estimate
    far_as_set: Estimate


def rates(
    scores: Mapping[str, Values], persons: Numbers, fars: Sequence[float], originals: str, num_resamples: int, seed: int
) -> dict[str, list[Verified]]:
    """Returns what is found for each kind of probe, at each FAR.

    Args:
        scores: kind of probe -> float64 (N, N), the cosine of probe i with original j. No probe is compared with its
            own original. `gain` is over the first kind.
        persons: int64 (N,), 0..P-1, whose pictures they are.
        fars: false acceptance rates, 0..1.
        originals: the kind whose probes are the originals.
        num_resamples: of the intervals.
        seed: of them; kinds share their resamples.
    """
    weights = _drawn(int(persons.max()) + 1, num_resamples, seed)
    totals = _num_impostors(np.bincount(persons), weights)
    most = min(1.0, _SPARE * max(fars))
    least = float(np.quantile(scores[originals][persons[:, None] != persons], 1.0 - most))
    pairs = {name: _Pairs.of(matrix, persons, most, least) for name, matrix in scores.items()}
    as_set = pairs[originals].thresholds(weights, totals, fars)
    found: dict[str, list[Verified]] = {}
    first: list[Values] = []
    for name, own in pairs.items():
        tars = own.tars(weights, own.thresholds(weights, totals, fars))
        first = first or tars
        tars_as_set, fars_as_set = own.tars(weights, as_set), own.fars(weights, totals, as_set)
        found[name] = [
            Verified(far, *map(_rate, (tars[k], tars[k] - first[k], tars_as_set[k], fars_as_set[k])))
            for k, far in enumerate(fars)
        ]
    return found


def can_be_measured(persons: Numbers, far: float) -> bool:
    """Returns whether there are enough pairs of two persons for a FAR."""
    per_person = np.bincount(persons)
    return float(_num_impostors(per_person, np.ones((1, len(per_person))))[0]) * far >= LEAST_ACCEPTED


def _drawn(num_persons: int, num_resamples: int, seed: int) -> Values:
    """Returns how often each resample has each person, (1 + num_resamples, P); the first is the sample itself."""
    drawn = np.random.default_rng(seed).multinomial(num_persons, np.full(num_persons, 1 / num_persons), num_resamples)
    return np.concatenate([np.ones((1, num_persons)), drawn.astype(np.float64)])


def _num_impostors(per_person: Numbers, weights: Values) -> Values:
    """Returns the number of pairs of two persons in each resample, (R,), for the pictures of each person, (P,)."""
    pictures = per_person * weights
    found: Values = pictures.sum(1) ** 2 - (pictures**2).sum(1)
    return found


def _rate(values: Values) -> Estimate:
    """Returns the rate of resamples (R,), of which the first is the sample itself."""
    return Estimate(float(values[0]), *middle_of(values[1:]))


@dataclass(frozen=True)
class _Pairs:
    """The pairs of one kind of probe.

    Attributes:
        impostors: scores of pairs of two persons, falling, as many as thresholds can reach.
        first, second: the persons of each.
        genuine: scores of pairs of one person.
        owners: the person of each.
    """

    impostors: Values
    first: Numbers
    second: Numbers
    genuine: Values
    owners: Numbers

    @classmethod
    def of(cls, matrix: Values, persons: Numbers, most: float, least: float) -> "_Pairs":
        """Returns the pairs of a matrix (N, N); of two persons the share `most`, and all with a score from `least`."""
        same = persons[:, None] == persons
        others = matrix[~same]
        kept = matrix >= min(least, float(np.quantile(others, 1.0 - most)))
        rows, columns = np.nonzero(kept & ~same)
        order = np.argsort(-matrix[rows, columns], kind="stable")
        rows, columns = rows[order], columns[order]
        np.fill_diagonal(same, False)
        probes, references = np.nonzero(same)
        return cls(matrix[rows, columns], persons[rows], persons[columns], matrix[probes, references], persons[probes])

    def thresholds(self, weights: Values, totals: Values, fars: Sequence[float]) -> list[Values]:
        """Returns the threshold (R,) of each FAR: the lowest that does not accept more of the impostors."""
        found = np.empty((len(fars), len(weights)))
        for number, (weight, total) in enumerate(zip(weights, totals, strict=True)):
            accepted = np.cumsum(weight[self.first] * weight[self.second])
            places = np.searchsorted(accepted, np.array(fars) * total * (1.0 + 1e-12), side="right")
            found[:, number] = self.impostors[np.minimum(places, len(self.impostors) - 1)]
        return list(found)

    def fars(self, weights: Values, totals: Values, thresholds: Sequence[Values]) -> list[Values]:
        """Returns the FAR (R,) at each of the thresholds (R,)."""
        found = np.zeros((len(thresholds), len(weights)))
        places = [np.searchsorted(-self.impostors, -one, side="left") for one in thresholds]
        for number, (weight, total) in enumerate(zip(weights, totals, strict=True)):
            accepted = np.concatenate([[0.0], np.cumsum(weight[self.first] * weight[self.second])])
            found[:, number] = [accepted[place[number]] / max(total, 1.0) for place in places]
        return list(found)

    def tars(self, weights: Values, thresholds: Sequence[Values]) -> list[Values]:
        """Returns the TAR (R,) at each of the thresholds (R,)."""
        num_pairs = np.bincount(self.owners, minlength=weights.shape[1])
        has_pairs = num_pairs > 0
        persons = weights * has_pairs
        found = []
        for one in thresholds:
            shares = [
                np.bincount(self.owners, self.genuine > threshold, weights.shape[1]) / np.maximum(num_pairs, 1)
                for threshold in one
            ]
            found.append((persons * np.array(shares)).sum(1) / np.maximum(persons.sum(1), 1e-300))
        return found
