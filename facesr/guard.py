"""What the guard found: pictures that contradict their input, and which method restored them instead.

A restored picture that is downscaled as the competition does it has to give its input again. How well it does so, its
consistency in dB, needs no original, so every restored picture is checked. One below the bound that the snapshot
states (`facesr bound` measures it) is restored by a stated fallback instead (facesr.methods.open), and that
is told: console, record of the restoration, per_image.csv, report.html, the picture's file, and callers in Python.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from facesr.names import one_line

# What the remark of a picture begins with that a fallback restored.
REPLACED = "guard"
_MOST_NAMED = 8


class GuardWarning(UserWarning):
    """Pictures were restored by a fallback, and the caller has not asked to be told (`on_finding`)."""


@dataclass(frozen=True)
class Finding:
    """A picture that was restored by a fallback.

    Attributes:
        place: of the picture among those that were given, from 0.
        consistency_db: of the method's own picture, 0 to 100; 0 where that held values that are not finite.
        bound_db: the bound that this is below.
        restored_by: name of the fallback whose picture stands there now.
    """

    place: int
    consistency_db: float
    bound_db: float
    restored_by: str

    @property
    def remark(self) -> str:
        """What the picture's file says about itself, ASCII."""
        text = f"restored by {self.restored_by} instead, {_reason(self.consistency_db, self.bound_db)}"
        return f"{REPLACED}: {text}".encode("ascii", "backslashreplace").decode()


@dataclass(frozen=True)
class Replaced:
    """What is recorded of one picture: the consistency in dB that was too low, and which fallback restored it."""

    consistency_db: float
    restored_by: str


@dataclass(frozen=True)
class Fallback:
    """A method that may restore what the guard does not let pass; its digest is "" where it has no weights."""

    name: str
    weights_sha256: str


@dataclass(frozen=True)
class GuardRecord:
    """What the guard did for a folder of pictures.

    Attributes:
        on: whether it was on.
        bound_db: the bound of the method's snapshot, 0 to 100; None where it states none, or the guard was off: then
            nothing was checked.
        fallbacks: what stood ready, in the order in which they are tried.
        replaced: name of each picture that a fallback restored -> what was found.
    """

    on: bool
    bound_db: float | None = None
    fallbacks: tuple[Fallback, ...] = ()
    replaced: Mapping[str, Replaced] = field(default_factory=dict)

    @property
    def is_checking(self) -> bool:
        """Whether pictures were compared with a bound."""
        return self.on and self.bound_db is not None

    def as_dict(self) -> dict[str, Any]:
        """Returns the record as plain containers; equal records give equal ones, in equal order."""
        return {**asdict(self), "fallbacks": [asdict(one) for one in self.fallbacks], "replaced": self._sorted()}

    def _sorted(self) -> dict[str, dict[str, Any]]:
        return {name: asdict(found) for name, found in sorted(self.replaced.items())}


def replaced_of(finding: Finding) -> Replaced:
    """Returns what is recorded of a finding, with the decimals that are worth keeping."""
    return Replaced(round(finding.consistency_db, 4), finding.restored_by)


def guard_line(record: GuardRecord, num_pictures: int) -> str:
    """Returns the guard's state and findings in one line, the least consistent pictures first."""
    if not record.on:
        return "off"
    if record.bound_db is None:
        return "no bound stated, so nothing was checked"
    if not record.replaced:
        return f"bound {record.bound_db:g} dB, kept by all {num_pictures} pictures"
    worst = sorted(record.replaced.items(), key=lambda item: (item[1].consistency_db, item[0]))
    names = [
        f"{one_line(name)} ({found.consistency_db:.1f} dB, {found.restored_by})" for name, found in worst[:_MOST_NAMED]
    ]
    more = f" and {len(worst) - _MOST_NAMED} more" if len(worst) > _MOST_NAMED else ""
    return (
        f"{len(worst)} of {num_pictures} pictures were below the bound of {record.bound_db:g} dB consistency and "
        f"restored by a fallback: {', '.join(names)}{more}"
    )


def _reason(consistency_db: float, bound_db: float) -> str:
    return f"consistency {consistency_db:.1f} dB below the bound of {bound_db:g} dB"
