"""plan.json: what every rater will be asked, made before the first one; its SHA-256 is shown and can be published."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from facesr.errors import ConfigError, DataError
from facesr.opinion.ratings import KINDS, PARTS, Rules
from facesr.opinion.sessions import Trial, Wishes, session

FORMAT = "facesr-opinion-plan-1"
_MAX_BYTES = 1 << 28
_SECONDS_PER_TRIAL = 6.0  # a guess


@dataclass(frozen=True)
class Shown:
    """A picture of the study.

    Attributes:
        width: pixels.
        height: pixels.
        sha256: of its pixels, RGB in rows from the top.
    """

    width: int
    height: int
    sha256: str


@dataclass(frozen=True)
class Plan:
    """What is asked.

    Attributes:
        design: the keys of `Design` in study.yaml, as they were when the plan was made.
        rules: of exclusion.
        methods: whose pictures are rated, without anchors and the original.
        anchors: as in `Wishes`.
        faces: ids.
        pictures: key, as in `Trial.shows`, -> picture.
        sessions: of each rater, by number.
        sha256: of plan.json.
    """

    design: Mapping[str, Any]
    rules: Rules
    methods: tuple[str, ...]
    anchors: tuple[str, ...]
    faces: tuple[str, ...]
    pictures: Mapping[str, Shown]
    sessions: tuple[tuple[Trial, ...], ...]
    sha256: str = ""

    @property
    def kinds(self) -> tuple[str, ...]:
        """Kinds of questions, in the order in which they are asked."""
        return tuple(self.design["kinds"])

    @property
    def num_trials(self) -> int:
        """Questions of a whole session; all sessions have as many."""
        return len(self.sessions[0])

    @property
    def minutes(self) -> int:
        """About how long a session takes."""
        return max(1, round(self.num_trials * _SECONDS_PER_TRIAL / 60))


def sessions_of(wishes: Wishes, count: int) -> tuple[tuple[Trial, ...], ...]:
    """Returns the sessions of so many raters.

    Raises:
        ConfigError: there are too few faces for what is asked for.
    """
    return tuple(tuple(session(wishes, slot)) for slot in range(count))


def plan_bytes(plan: Plan) -> bytes:
    """Returns plan.json; equal plans have equal bytes."""
    data = {
        "format": FORMAT,
        "design": dict(plan.design),
        "rules": asdict(plan.rules),
        "methods": plan.methods,
        "anchors": plan.anchors,
        "faces": plan.faces,
        "pictures": {key: asdict(shown) for key, shown in plan.pictures.items()},
    }
    head = json.dumps(data, sort_keys=True, indent=1)
    lines = ",\n".join(json.dumps([_listed(trial) for trial in one], separators=(",", ":")) for one in plan.sessions)
    return f'{head[:-2]},\n "sessions": [\n{lines}\n]}}\n'.encode("ascii")


def _listed(trial: Trial) -> list[Any]:
    shows = list(trial.shows)
    return [trial.part, trial.kind, trial.face, trial.method, trial.other, trial.expected, shows]


def read_plan(data: bytes, name: str) -> Plan:
    """Returns the plan in the bytes of plan.json.

    Raises:
        DataError: they are no plan.
    """
    broken = DataError(f"{name} is no plan of a study, or damaged; bring it back from a backup.")
    if len(data) > _MAX_BYTES:
        raise broken
    try:
        found = json.loads(data)
        if found["format"] != FORMAT:
            raise ConfigError(f"{name} is of another version of facesr; use that version.")
        plan = Plan(
            found["design"],
            Rules(**found["rules"]),
            tuple(found["methods"]),
            tuple(found["anchors"]),
            tuple(found["faces"]),
            {key: Shown(**shown) for key, shown in found["pictures"].items()},
            tuple(tuple(_trial(one) for one in listed) for listed in found["sessions"]),
            hashlib.sha256(data).hexdigest(),
        )
        used = {key for one in plan.sessions for trial in one for key in trial.shows}
        lengths = {len(one) for one in plan.sessions}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise broken from error
    if not used or used != set(plan.pictures) or len(lengths) != 1:
        raise broken
    return plan


def _trial(listed: list[Any]) -> Trial:
    part, kind, face, method, other, expected, shows = listed
    if part not in PARTS or kind not in KINDS or not all(isinstance(text, str) for text in (face, method, other)):
        raise ValueError("no trial")
    return Trial(part, kind, face, method, other, expected, tuple(shows))
