"""What an audit found, as data, and what may and what may not be concluded from it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from facesr.evaluation.report.examples import Example
from facesr.evaluation.result import Subject
from facesr.evaluation.studies.audit_groups import JOINT, Finding, Group
from facesr.metrics.skin_colour import CONDITIONS
from facesr.names import shown_cell

_MOST_TOLD = 20


@dataclass(frozen=True)
class Measure:
    """What is compared between groups.

    Attributes:
        name: as in audit.csv.
        title: for readers.
        digits: behind the point.
        how: in words.
    """

    name: str
    title: str
    digits: int
    how: str


@dataclass(frozen=True)
class PerFace:
    """What per_face.csv holds.

    Attributes:
        ids: of the faces, N.
        groups: attribute -> group of each face.
        values: measure -> value of each face, float64 (N,), NaN where it is not defined.
        bicubic: judge -> ID similarity of bicubic interpolation, float64 (N,).
    """

    ids: tuple[str, ...]
    groups: Mapping[str, Sequence[str]]
    values: Mapping[str, NDArray[np.float64]]
    bicubic: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)


@dataclass(frozen=True)
class Audit:
    """What was found.

    Attributes:
        subject: what was audited.
        num_faces: all of them.
        measures: in the order of display.
        findings: for every group and measure.
        too_small: groups with too few faces.
        min_faces: how many are enough.
        white_box: judges that were in the training loss; None where that is not known.
        faces: each face's values.
        worst: faces that are least alike, the worst first.
        worst_by: name of the measure that ordered them.
    """

    subject: Subject
    num_faces: int
    measures: tuple[Measure, ...]
    findings: tuple[Finding, ...]
    too_small: tuple[Group, ...]
    min_faces: int
    white_box: tuple[str, ...] | None
    faces: PerFace
    worst: tuple[Example, ...] = ()
    worst_by: str = ""

    @property
    def real(self) -> list[Finding]:
        """Differences that chance does not explain: of groups, then of intersections, the surest first."""
        found = [one for one in self.findings if one.is_real]
        return sorted(found, key=lambda one: (JOINT in one.attribute, one.p_holm or 0.0, -abs(one.difference or 0.0)))

    def measure(self, name: str) -> Measure:
        """Returns the measure of a name."""
        return next(one for one in self.measures if one.name == name)


def measures_of(judges: Sequence[str]) -> tuple[Measure, ...]:
    """Returns what is compared, given the names of the judges."""
    found: list[Measure] = []
    for judge in judges:
        found += [
            Measure(f"is/{judge}", f"IS, {judge}", 3, f"ID similarity to the original by {judge}"),
            Measure(f"gain/{judge}", f"gain, {judge}", 3, "the same, minus that of bicubic interpolation of the input"),
            Measure(f"worse/{judge}", f"worse, {judge}", 3, "share of faces that are less alike than bicubic ones"),
        ]
    return (
        *found,
        Measure("lightness_shift", "lighter by L*", 2, f"{CONDITIONS}; above 0 is lighter"),
        Measure("colour_shift", "colour off by dE", 2, f"{CONDITIONS}; CIE 1976, 2.3 is just noticeable"),
    )


def sentences_of(audit: Audit) -> list[str]:
    """Returns what may and what may not be concluded, a sentence or two each."""
    said = [_told(audit, one) for one in audit.real[:_MOST_TOLD]]
    if len(audit.real) > _MOST_TOLD:
        said.append(f"{len(audit.real) - _MOST_TOLD} further differences are in audit.csv.")
    num_tests = sum(one.p is not None for one in audit.findings)
    if not said:
        said.append(
            f"No group differs from the other faces by more than chance explains, in {num_tests} tests. That is no "
            "proof of equality: a difference smaller than the intervals are wide could not have been seen."
        )
    said.append(
        f"A difference counts where p is below 0.05 after Holm's correction for all {num_tests} tests. Groups of fewer "
        f"than {audit.min_faces} faces are not compared."
    )
    said.append(
        "Groups may differ in their pictures (pose, light, sharpness) rather than in the persons: the gain takes out "
        "what bicubic interpolation shows as well, the other columns do not. Groups are what the file says they are."
    )
    if audit.white_box:
        judges = " and ".join(audit.white_box)
        said.append(f"{judges} was part of the training loss, so its values flatter; a held-out judge weighs more.")
    return said


def _told(audit: Audit, one: Finding) -> str:
    measure = audit.measure(one.measure)
    assert one.difference is not None and one.difference_low is not None and one.difference_high is not None
    digits, where = measure.digits, "higher" if one.difference > 0 else "lower"
    ends = f"{one.difference_low:+.{digits}f} to {one.difference_high:+.{digits}f}"
    return (
        f"{shown_cell(one.attribute)} = {shown_cell(one.group)} ({one.count} faces): {measure.title} is {where} than "
        f"of the other faces, {one.value:.{digits}f} against {one.value - one.difference:.{digits}f} "
        f"(difference {one.difference:+.{digits}f}, 95 % interval {ends}, p {_p(one.p_holm)})."
    )


def _p(value: float | None) -> str:
    return "" if value is None else "below 0.001" if value < 0.001 else f"{value:.3f}"
