"""The session of a rater: training, the main part, traps and repeats of each kind of question, trial by trial."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from facesr.errors import ConfigError
from facesr.opinion.design import Chance, blocks
from facesr.opinion.ratings import ACR, ANSWERS, ORIGINAL, PAIR, SAME

_MAX_TRIES = 1000
TRAINING, MAIN, REPEAT, TRAP = "training", "main", "repeat", "trap"


@dataclass(frozen=True)
class Trial:
    """One question; part to expected as in `facesr.opinion.ratings.Rating`.

    Attributes:
        shows: the pictures in the order of the page, each ``METHOD/FACE`` or, of other pictures, ``person/NAME``; the
            last one of a pair with reference is the original.
    """

    part: str
    kind: str
    face: str
    method: str
    other: str
    expected: int | None
    shows: tuple[str, ...]

    @property
    def faces(self) -> set[str]:
        """The faces that are seen."""
        return {self.face, self.other} if self.kind == SAME else {self.face}


@dataclass(frozen=True)
class Wishes:
    """What a study shows to its raters.

    Attributes:
        seed: of all chance.
        kinds: of questions, in the order in which they are asked.
        methods: whose pictures are rated.
        anchors: known to be bad; rated like methods.
        faces: ids.
        training_faces: ids of at least 4 faces for the training; those of the study where there are no others.
        training: trials before each kind, which do not count.
        repeats: trials of each kind that come a second time.
        traps: trials of each kind that say which answer to give.
        with_reference: whether pairs are shown beside the original.
        persons: face -> other pictures of the same person; empty: the original itself is shown.
        person_of: face -> person; empty: every face is another person's.
    """

    seed: int
    kinds: tuple[str, ...]
    methods: tuple[str, ...]
    anchors: tuple[str, ...]
    faces: tuple[str, ...]
    training_faces: tuple[str, ...]
    training: int
    repeats: int
    traps: int
    with_reference: bool
    persons: Mapping[str, Sequence[str]]
    person_of: Mapping[str, str]

    def versions(self, kind: str) -> list[tuple[str, ...]]:
        """Returns the versions of a face that are asked about: a method, or of pairs two of them."""
        rated = [*self.methods, *self.anchors]
        if kind == ACR:
            return [(method,) for method in (*rated, ORIGINAL)]
        if kind == SAME:
            return [(method,) for method in (*rated, *((ORIGINAL,) if self.persons else ()))]
        items = self.methods if len(self.methods) > 1 else rated
        return list(itertools.combinations(items, 2))


def session(wishes: Wishes, slot: int) -> list[Trial]:
    """Returns all trials of a rater.

    Args:
        wishes: the study.
        slot: number of the rater, counted from 0; what is balanced is so over raters whose numbers follow each other.

    Raises:
        ConfigError: there are too few faces for what is asked for.
    """
    found: list[Trial] = []
    for kind in wishes.kinds:
        chance = Chance(wishes.seed, kind, slot)
        found += _training(wishes, kind, found[-1].faces if found else set())
        parts = _same_blocks if kind == SAME else _version_blocks
        body = parts(wishes, kind, slot, chance, found[-1].faces if found else set())
        found += _with_inserts(wishes, kind, body, chance.of("inserts"))
    return found


def _trial(wishes: Wishes, kind: str, face: str, version: tuple[str, ...], part: str = MAIN) -> Trial:
    """Returns a trial of absolute rating or of a pair."""
    shows = [f"{method}/{face}" for method in version]
    if kind == PAIR and wishes.with_reference:
        shows.append(f"{ORIGINAL}/{face}")
    return Trial(part, kind, face, version[0], version[1] if kind == PAIR else "", None, tuple(shows))


def _same_trial(wishes: Wishes, face: str, method: str, second: str, chance: Chance, part: str = MAIN) -> Trial:
    """Returns a trial that shows a face by a method, and a picture of the person of the face `second`."""
    pictures = wishes.persons.get(second) or (f"{ORIGINAL}/{second}",)
    shown = pictures[chance.below(len(pictures))]
    return Trial(part, SAME, face, method, second, int(face == second), (f"{method}/{face}", shown))


def _version_blocks(wishes: Wishes, kind: str, slot: int, chance: Chance, before: set[str]) -> list[list[Trial]]:
    versions = wishes.versions(kind)
    places = {face: number for number, face in enumerate(wishes.faces)}
    found = []
    for block in blocks(len(versions), wishes.faces, slot, chance, before):
        trials = []
        for face, number in block:
            version = versions[number]
            # Over two raters in turn each picture of a pair is left once.
            turned = kind == PAIR and (slot + places[face] + number) % 2 == 1
            trials.append(_trial(wishes, kind, face, version[::-1] if turned else version))
        found.append(trials)
    return found


def _same_blocks(wishes: Wishes, kind: str, slot: int, chance: Chance, before: set[str]) -> list[list[Trial]]:
    """Returns one trial for each face: whoever has seen a person's picture once knows the person.

    Over twice as many raters as there are versions, every face comes by every version once with the same person and
    once with another one.
    """
    versions = wishes.versions(kind)
    count = len(versions)
    trials: list[Trial] = []
    for attempt in range(_MAX_TRIES):
        drawn = chance.of("same", attempt)
        order = drawn.shuffled(range(len(wishes.faces)))
        trials, seen = [], before
        for number in order:
            face, (method,) = wishes.faces[number], versions[(slot + number) % count]
            turn = number + (number // count if count % 2 == 0 else 0) + slot // count
            second = face if turn % 2 == 0 else _stranger(wishes, face, seen, drawn.of(number))
            if second is None or face in seen:
                break
            trials.append(_same_trial(wishes, face, method, second, drawn.of(number, "picture")))
            seen = trials[-1].faces
        else:
            return [[trial] for trial in trials]
    raise ConfigError(
        "kinds: the question whether two pictures show the same person needs more faces, of several persons; "
        "give at least 4."
    )


def _stranger(wishes: Wishes, face: str, seen: set[str], chance: Chance) -> str | None:
    """Returns another person's face that was not seen just before, None where there is none."""
    own = wishes.person_of.get(face, face)
    others = [one for one in wishes.faces if one not in seen and wishes.person_of.get(one, one) != own]
    return others[chance.below(len(others))] if others else None


def _training(wishes: Wishes, kind: str, before: set[str]) -> list[Trial]:
    """Returns the training, the same for all raters: the best and the worst first, so that the scale is known."""
    if not wishes.training:
        return []
    faces = sorted(wishes.training_faces, key=lambda face: face in before)
    versions = wishes.versions(kind)
    order = Chance(wishes.seed, kind, TRAINING).shuffled(range(len(versions)))
    extremes = [len(versions) - 1, len(versions) - 2] if kind == ACR else []
    order = [*extremes, *(number for number in order if number not in extremes)]
    found = []
    for place in range(wishes.training):
        face, version = faces[place % len(faces)], versions[order[place % len(order)]]
        if kind == SAME:
            second = face if place % 2 == 0 else faces[(place + 2) % len(faces)]
            found.append(_same_trial(wishes, face, version[0], second, Chance(wishes.seed, kind, place), TRAINING))
        else:
            found.append(_trial(wishes, kind, face, version, TRAINING))
    return found


def _with_inserts(wishes: Wishes, kind: str, body: list[list[Trial]], chance: Chance) -> list[Trial]:
    """Returns the trials of the blocks, with repeats and traps between the blocks, so that these stay balanced."""
    count = len(body)
    if wishes.repeats > (count - 1) // 2 or wishes.repeats + wishes.traps > count - 1:
        raise ConfigError(
            f"repeats={wishes.repeats} and traps={wishes.traps} are too many for {count} faces; "
            f"give at most {(count - 1) // 2} repeats and {count - 1} of both together."
        )
    for attempt in range(_MAX_TRIES):
        found = _tried_inserts(wishes, kind, body, chance.of(attempt))
        if found is not None:
            return found
    raise ConfigError(
        f"repeats={wishes.repeats} and traps={wishes.traps} are too many for {count} faces: no face may come twice in "
        "a row; give fewer of them, or more faces."
    )


def _tried_inserts(wishes: Wishes, kind: str, body: list[list[Trial]], chance: Chance) -> list[Trial] | None:
    """Returns the trials with inserts, repeats in the second half and of the first one; None where a draw fits not."""
    count = len(body)
    late = chance.of("repeats").shuffled(range(count // 2 + 1, count))[: wishes.repeats]
    traps = chance.of("traps").shuffled([place for place in range(1, count) if place not in late])[: wishes.traps]
    first_half = chance.of("repeated").shuffled([trial for block in body[: count // 2] for trial in block])
    found = list(body[0])
    for place in range(1, count):
        near = found[-1].faces | body[place][0].faces
        made: Trial | None = None
        if place in late:
            made = next((trial for trial in first_half if not trial.faces & near), None)
            if made is not None:
                first_half.remove(made)
                made = replace(made, part=REPEAT)
        elif place in traps:
            made = _trap(wishes, kind, near, chance.of("trap", place))
        if made is None and (place in late or place in traps):
            return None
        found += [*([made] if made is not None else []), *body[place]]
    return found


def _trap(wishes: Wishes, kind: str, near: set[str], chance: Chance) -> Trial | None:
    """Returns a trial that asks for one answer in so many words; its picture does not matter."""
    faces = [face for face in wishes.faces if face not in near]
    if len(faces) < 2:
        return None
    face, other = chance.shuffled(faces)[:2]
    version = wishes.versions(kind)[chance.of("version").below(len(wishes.versions(kind)))]
    low, high = ANSWERS[kind]
    expected = low + chance.of("answer").below(high - low + 1)
    if kind == SAME:
        made = _same_trial(wishes, face, version[0], other, chance, TRAP)
    else:
        made = _trial(wishes, kind, face, version, TRAP)
    return replace(made, expected=expected)
