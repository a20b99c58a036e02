"""Groups of faces and their intersections, and how each fares against the other faces: means, differences, chance.

Differences are tested by permutation: a group's mean minus that of the others is held against those of random groups
of that size. P values are corrected for their number over all groups and measures (Holm).

Source: P. Good, "Permutation, Parametric and Bootstrap Tests of Hypotheses", 2005, chapter 3; B. Efron, R. Tibshirani,
"An Introduction to the Bootstrap", 1993, chapters 13 and 15.
"""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from facesr.evaluation.attributes import EMPTY
from facesr.evaluation.bootstrap import CONFIDENCE, holm, interval_of_difference, interval_of_mean

Floats = NDArray[np.float64]
JOINT = " & "
# The lowest p value is one in so many, which leaves room for the correction.
_NUM_PERMUTATIONS = 19_999
# Of more tests than this not even the lowest p value is below 5 % after the correction.
MOST_TESTS = 900
# Cells of a matrix of draws held at once.
_MOST_CELLS = 4_000_000


@dataclass(frozen=True)
class Group:
    """Faces that share the value of an attribute, or of two.

    Attributes:
        attribute: its name, or two joined by `JOINT`.
        name: the value, or two joined by `JOINT`.
        members: bool (N,), the group's faces.
        others: bool (N,), the faces with another value; those whose value is not given are in neither.
    """

    attribute: str
    name: str
    members: NDArray[np.bool_]
    others: NDArray[np.bool_]

    @property
    def count(self) -> int:
        """Number of its faces."""
        return int(self.members.sum())


@dataclass(frozen=True)
class Finding:
    """What a measure says of a group.

    Attributes:
        attribute: of the group.
        group: its name.
        measure: name of the measure.
        count: faces of the group.
        value: mean over them.
        low: lower end of its 95 % bootstrap interval.
        high: upper end.
        difference: `value` minus the mean of the other faces; None where there are none.
        difference_low: lower end of its 95 % bootstrap interval.
        difference_high: upper end.
        p: of a difference at least as large in either direction by chance.
        p_holm: corrected for the number of tests.
    """

    attribute: str
    group: str
    measure: str
    count: int
    value: float
    low: float
    high: float
    difference: float | None = None
    difference_low: float | None = None
    difference_high: float | None = None
    p: float | None = None
    p_holm: float | None = None

    @property
    def is_real(self) -> bool:
        """Whether chance does not explain the difference, at 5 % for all tests together."""
        return self.p_holm is not None and self.p_holm < 1.0 - CONFIDENCE


def groups_of(
    attributes: Mapping[str, Sequence[str]], min_faces: int, intersections: bool = True
) -> tuple[list[Group], list[Group]]:
    """Returns groups, and intersections of two attributes: those with enough faces, and the others.

    Args:
        attributes: attribute -> group of each face; faces without a value belong to no group.
        min_faces: how many faces are enough.
        intersections: whether there are any.
    """
    columns = {name: np.array(values) for name, values in attributes.items()}
    found = [
        Group(name, value, column == value, (column != value) & (column != EMPTY))
        for name, column in columns.items()
        for value in sorted(set(column.tolist()) - {EMPTY})
    ]
    single = {group.members.tobytes() for group in found}
    for one, other in itertools.combinations(list(found) if intersections else [], 2):
        if one.attribute == other.attribute:
            continue
        known = (one.members | one.others) & (other.members | other.others)
        members = one.members & other.members
        # An intersection that is one of the groups again says nothing new.
        if members.any() and members.tobytes() not in single:
            attribute, name = (JOINT.join(pair) for pair in ((one.attribute, other.attribute), (one.name, other.name)))
            found.append(Group(attribute, name, members, known & ~members))
    enough = [group for group in found if group.count >= min_faces]
    return enough, [group for group in found if group.count < min_faces]


def findings_of(
    groups: Sequence[Group], measures: Mapping[str, Floats], num_resamples: int, seed: int
) -> list[Finding]:
    """Returns a finding for each group and measure, group by group; none where no face of a group has a value.

    Args:
        groups: with at least one face each.
        measures: name -> value of each face, float64 (N,); NaN where it is not defined, and the face not counted.
        num_resamples: of the bootstrap intervals.
        seed: of all draws.
    """
    found: list[Finding] = []
    # Measures that are defined for the same faces are tested by the same draws.
    alike: dict[bytes, list[str]] = {}
    for name, column in measures.items():
        alike.setdefault(np.isfinite(column).tobytes(), []).append(name)
    for group in groups:
        own = [
            _compared(group, {name: measures[name] for name in names}, num_resamples, seed) for names in alike.values()
        ]
        by_name = {one.measure: one for part in own for one in part}
        found += [by_name[name] for name in measures if name in by_name]
    corrected = holm(np.array([np.nan if one.p is None else one.p for one in found], np.float64))
    return [replace(one, p_holm=None if one.p is None else float(p)) for one, p in zip(found, corrected, strict=True)]


def _compared(group: Group, measures: Mapping[str, Floats], num_resamples: int, seed: int) -> list[Finding]:
    """Returns the findings of a group, p values not corrected, for measures that are defined for the same faces."""
    values = np.stack(list(measures.values()), axis=1)
    known = np.isfinite(values).all(axis=1)
    inside, outside = values[group.members & known], values[group.others & known]
    if not len(inside):
        return []
    chances = _chances(inside, outside, seed) if len(outside) else None
    found: list[Finding] = []
    for number, measure in enumerate(measures):
        own, rest = inside[:, number], outside[:, number]
        low, high = interval_of_mean(own, num_resamples, seed)
        plain = Finding(group.attribute, group.name, measure, len(own), float(own.mean()), low, high)
        if chances is not None:
            ends = interval_of_difference(own, rest, num_resamples, seed)
            difference = float(own.mean() - rest.mean())
            plain = replace(plain, difference=difference, difference_low=ends[0], difference_high=ends[1])
            plain = replace(plain, p=float(chances[number]))
        found.append(plain)
    return found


def _chances(inside: Floats, outside: Floats, seed: int) -> Floats:
    """Returns the two-sided p value of each column's difference in means, (K,), by random groups of the same size."""
    values = np.concatenate([inside, outside])
    num_own, num_all = len(inside), len(values)
    total = values.sum(axis=0)

    def differences(sums: Floats) -> Floats:
        return np.asarray(sums / num_own - (total - sums) / (num_all - num_own))

    # Sums of equal values in another order differ in their last bits.
    seen = np.abs(differences(inside.sum(axis=0))) - 1e-9 * (1.0 + np.abs(values).max(axis=0))
    random = np.random.default_rng(seed)
    mask = np.arange(num_all) < num_own
    rows = max(1, _MOST_CELLS // num_all)
    as_large = np.zeros(values.shape[1])
    for start in range(0, _NUM_PERMUTATIONS, rows):
        count = min(rows, _NUM_PERMUTATIONS - start)
        drawn = random.permuted(np.broadcast_to(mask, (count, num_all)), axis=1).astype(np.float64)
        as_large += (np.abs(differences(drawn @ values)) >= seen).sum(axis=0)
    return np.asarray((1.0 + as_large) / (1.0 + _NUM_PERMUTATIONS))
