"""Studies with made raters, honest and otherwise. What they answer is simulated: no person ever gave these ratings."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from facesr.opinion.ratings import ORIGINAL, Rater, Rating, Records, Rules
from facesr.opinion.simulation import Deviations, continuous, rounded

RULES = Rules(1, 0.6, 0.2, 1.0, 0.35, 0.8)
MEANS: Mapping[str, float] = {"nearest": 1.6, "bicubic": 2.1, "psnr": 3.0, "gan": 3.6, ORIGINAL: 4.5}
KINDS_OF_RATER = ("honest", "biased", "clicker", "straight", "hasty")
_START = datetime(2026, 3, 1, 12, 0, 0, 0, UTC)


def study(
    num_raters: int = 20,
    num_faces: int = 20,
    kinds: Mapping[str, int] | None = None,
    seed: int = 0,
    means: Mapping[str, float] = MEANS,
    deviations: Deviations | None = None,
) -> Records:
    """Returns a study whose raters are honest, but for the numbers of others in `kinds`, which come last."""
    random = np.random.default_rng(seed)
    others = [kind for kind, count in (kinds or {}).items() for _ in range(count)]
    raters = ["honest"] * (num_raters - len(others)) + others
    methods, faces = list(means), [f"{i:06d}" for i in range(num_faces)]
    values = np.array(list(means.values()))
    opinions = continuous(values, num_raters, num_faces, deviations or Deviations(), random)[0]
    ratings: list[Rating] = []
    for number, kind in enumerate(raters):
        ratings += _session(f"r{number:04d}", kind, opinions[number], methods, faces, random)
    return Records(
        title="Simulated study, no person rated anything",
        kinds=("acr",),
        methods=tuple(name for name in methods if name != ORIGINAL),
        anchors=tuple(name for name in ("nearest", "bicubic") if name in methods),
        faces=tuple(faces),
        rules=RULES,
        plan_sha256="0" * 64,
        ratings=tuple(ratings),
        raters=tuple(rater_named(f"r{number:04d}") for number in range(num_raters)),
        high=None,
        folders={},
        trials=len(methods) * num_faces + 3 + 6 + 4,
    )


def rater_named(name: str) -> Rater:
    return Rater(name, _START, _START + timedelta(minutes=20), False, "en", 2.0, 1280, 720, 4, False)


def _session(
    name: str,
    kind: str,
    opinions: NDArray[np.float64],
    methods: list[str],
    faces: list[str],
    random: np.random.Generator,
) -> Iterator[Rating]:
    """Yields a whole session: 3 training trials, the main part in a random order, 4 traps and 6 repeats."""
    order = [(m, f) for f in range(len(faces)) for m in range(len(methods))]
    order = [order[i] for i in random.permutation(len(order))]
    trials = [("training", m, f) for m, f in order[:3]] + [("main", m, f) for m, f in order]
    trials += [("repeat", m, f) for m, f in order[:6]] + [("trap", 0, f) for f in range(min(4, len(faces)))]
    for place, (part, m, f) in enumerate(trials):
        opinion = opinions[m, f] + (0.8 if kind == "biased" else 0.0)
        if part == "repeat":
            opinion += random.normal(0.0, 0.3)
        expected = 1 + f % 5 if part == "trap" else None
        answer = int(rounded(np.array(opinion))) if expected is None else expected
        seconds = float(random.lognormal(1.0, 0.4)) + 0.7
        if kind == "clicker":
            answer = int(random.integers(1, 6))
        elif kind == "straight":
            answer = 3
        elif kind == "hasty":
            seconds = float(random.uniform(0.1, 0.7))
        yield Rating(
            rater=name,
            place=place,
            part=part,
            kind="acr",
            face=faces[f],
            method=methods[m],
            other="",
            answer=answer,
            expected=expected,
            seconds=seconds,
            at=_START + timedelta(seconds=10 * place),
        )


def without(records: Records, share: float, seed: int = 1) -> Records:
    """Returns the study with a share of the main answers missing."""
    random = np.random.default_rng(seed)
    kept = [one for one in records.ratings if one.part != "main" or random.random() >= share]
    return replace(records, ratings=tuple(kept))


def with_pictures(records: Records, high: Path, folders: Mapping[str, Path]) -> Records:
    """Returns the study with the folders of its pictures."""
    return replace(records, high=high, folders=dict(folders))


def pair_study(num_raters: int = 16, num_faces: int = 15, side: float = 0.0, seed: int = 0) -> Records:
    """Returns a study of pairs of three methods with strengths 0, 0.7 and 1.6; `side` is what left is worth."""
    random = np.random.default_rng(seed)
    strengths = {"bicubic": 0.0, "psnr": 0.7, "gan": 1.6}
    methods = list(strengths)
    ratings = []
    for rater in range(num_raters):
        taste = random.normal(0.0, 0.3, 3)
        place = 0
        for face in range(num_faces):
            for i, j in ((0, 1), (0, 2), (1, 2)):
                left, right = (i, j) if random.random() < 0.5 else (j, i)
                odds = strengths[methods[left]] - strengths[methods[right]] + taste[left] - taste[right] + side
                won = random.random() < 1 / (1 + np.exp(-odds))
                ratings.append(
                    _answer(rater, place, "pair", face, methods[left], methods[right], 0 if won else 1, None)
                )
                place += 1
    return _small_study(("pair",), tuple(methods), num_raters, num_faces, ratings)


def person_study(num_raters: int = 16, num_faces: int = 15, seed: int = 0) -> Records:
    """Returns a study on persons: of `gan` 90 % are recognised, of `bicubic` 60 %, and 20 % of others."""
    random = np.random.default_rng(seed)
    ratings = []
    for rater in range(num_raters):
        place = 0
        for face in range(num_faces):
            for method, hits in (("bicubic", 0.6), ("gan", 0.9)):
                for truth in (1, 0):
                    yes = random.random() < (hits if truth else 0.2)
                    other = f"{face if truth else (face + 1) % num_faces:06d}"
                    ratings.append(_answer(rater, place, "same", face, method, other, int(yes), truth))
                    place += 1
    return _small_study(("same",), ("bicubic", "gan"), num_raters, num_faces, ratings)


def _answer(
    rater: int, place: int, kind: str, face: int, method: str, other: str, answer: int, expected: int | None
) -> Rating:
    return Rating(f"r{rater:04d}", place, "main", kind, f"{face:06d}", method, other, answer, expected, 3.0, _START)


def _small_study(
    kinds: tuple[str, ...], methods: tuple[str, ...], num_raters: int, num_faces: int, ratings: list[Rating]
) -> Records:
    return Records(
        title="Simulated study, no person rated anything",
        kinds=kinds,
        methods=methods,
        anchors=("bicubic",),
        faces=tuple(f"{face:06d}" for face in range(num_faces)),
        rules=RULES,
        plan_sha256="0" * 64,
        ratings=tuple(ratings),
        raters=tuple(rater_named(f"r{number:04d}") for number in range(num_raters)),
        high=None,
        folders={},
    )
