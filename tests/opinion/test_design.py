"""The design: balanced exactly, no face twice in a row, the same everywhere."""

import hashlib
import itertools
from collections import Counter
from dataclasses import replace

import pytest

from facesr.errors import ConfigError
from facesr.opinion.design import Chance, blocks, williams
from facesr.opinion.plan import sessions_of
from facesr.opinion.sessions import MAIN, REPEAT, TRAINING, TRAP, Wishes, session

WISHES = Wishes(
    seed=7,
    kinds=("same", "pair", "acr"),
    methods=("a", "b", "c"),
    anchors=("bicubic",),
    faces=tuple(f"f{number:02d}" for number in range(20)),
    training_faces=("t0", "t1", "t2", "t3"),
    training=6,
    repeats=4,
    traps=3,
    with_reference=False,
    persons={},
    person_of={},
)


@pytest.mark.parametrize("count", range(1, 12))
def test_williams_squares_balance_places_and_neighbours(count: int) -> None:
    orders = williams(count)
    assert (
        len({tuple(order) for order in orders}) == len(orders) == (count if count % 2 == 0 or count == 1 else 2 * count)
    )
    assert all(sorted(order) == list(range(count)) for order in orders)
    places = Counter((place, number) for order in orders for place, number in enumerate(order))
    behind = Counter(pair for order in orders for pair in itertools.pairwise(order))
    assert len(places) == count**2 and len(set(places.values())) == 1
    assert len(behind) == count * (count - 1) and len(set(behind.values())) <= 1


@pytest.mark.parametrize(("count", "num_faces"), [(5, 20), (4, 8), (3, 7), (1, 2), (6, 6), (2, 2)])
def test_blocks_are_balanced_over_raters(count: int, num_faces: int) -> None:
    faces = [f"f{number}" for number in range(num_faces)]
    num_raters = len(williams(count))  # so many use every order equally often
    found = [blocks(count, faces, slot, Chance(3, slot)) for slot in range(num_raters)]
    for rater in found:
        seen = [pair for block in rater for pair in block]
        assert sorted(seen) == sorted(itertools.product(faces, range(count)))
        assert all(one[0] != other[0] for one, other in itertools.pairwise(seen))
    rows = [[version for _, version in block] for rater in found for block in rater]
    assert len(set(Counter(map(tuple, rows)).values())) == 1
    assert len(set(Counter(pair for row in rows for pair in enumerate(row)).values())) == 1
    assert len(set(Counter(pair for row in rows for pair in itertools.pairwise(row)).values())) <= 1


def test_every_version_of_a_face_comes_first_equally_often() -> None:
    faces = [f"f{number}" for number in range(20)]
    first: Counter[int] = Counter()
    for block in blocks(5, faces, 0, Chance(1)):
        for face, version in block:
            if face in faces:
                faces.remove(face)
                first[version] += 1
    assert set(first.values()) == {4}


def test_a_session_has_all_its_parts_and_no_face_twice_in_a_row() -> None:
    for slot in range(8):
        trials = session(WISHES, slot)
        assert all(not one.faces & other.faces for one, other in itertools.pairwise(trials))
        for kind, num_main in (("same", 20), ("pair", 60), ("acr", 100)):
            own = [trial for trial in trials if trial.kind == kind]
            assert Counter(trial.part for trial in own) == {MAIN: num_main, TRAINING: 6, REPEAT: 4, TRAP: 3}
            assert [trial.part for trial in own[:6]] == [TRAINING] * 6
            for place, trial in enumerate(own):
                if trial.part == REPEAT:
                    before = [replace(one, part=REPEAT) for one in own[: place - 2] if one.part == MAIN]
                    assert trial in before
                assert (trial.expected is not None) == (trial.part == TRAP or kind == "same")


def test_training_shows_the_best_and_the_worst_first_and_is_the_same_for_all() -> None:
    trainings = {tuple(trial for trial in session(WISHES, slot) if trial.part == TRAINING) for slot in range(4)}
    (training,) = trainings
    assert [trial.method for trial in training if trial.kind == "acr"][:2] == ["original", "bicubic"]
    assert {trial.face for trial in training} <= set(WISHES.training_faces)


def test_sides_of_pairs_and_truths_are_balanced() -> None:
    mains = [trial for slot in range(8) for trial in session(WISHES, slot) if trial.part == MAIN]
    pairs = Counter((trial.face, trial.method, trial.other) for trial in mains if trial.kind == "pair")
    assert set(pairs.values()) == {4}
    assert all((face, other, method) in pairs for face, method, other in pairs)
    # Twice as many raters as versions: each face by each version once with either truth.
    same = Counter((trial.face, trial.method, trial.expected) for trial in mains if trial.kind == "same")
    assert set(same.values()) == {1} and len(same) == 20 * 4 * 2
    assert all((trial.other == trial.face) == (trial.expected == 1) for trial in mains if trial.kind == "same")


def test_the_second_picture_is_of_the_person_that_the_truth_says() -> None:
    faces = WISHES.faces
    person_of = {face: f"p{number // 2}" for number, face in enumerate(faces)}
    persons = {face: [f"person/{person_of[face]}"] for face in faces}
    wishes = replace(WISHES, kinds=("same",), persons=persons, person_of=person_of)
    for trial in (trial for slot in range(8) for trial in session(wishes, slot) if trial.part == MAIN):
        shown = trial.shows[1].removeprefix("person/")
        assert (shown == person_of[trial.face]) == (trial.expected == 1)
    assert ("original",) in wishes.versions("same") and ("original",) not in WISHES.versions("same")


def test_a_plan_is_the_same_everywhere() -> None:
    text = repr(sessions_of(WISHES, 3))
    assert (
        hashlib.sha256(text.encode()).hexdigest() == "d8919328fc3d1780e0a56eb03a0457bbe576086e7c14eae7cc24906b666a9fc0"
    )
    assert repr(sessions_of(replace(WISHES, seed=8), 3)) != text


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"faces": WISHES.faces[:4]}, "4 faces are too few for 5 versions of each"),
        ({"repeats": 10}, "repeats=10 and traps=3 are too many for 20 faces"),
        ({"repeats": 1, "traps": 19}, "at most 9 repeats and 19 of both together"),
    ],
)
def test_what_cannot_be_balanced_is_refused(change: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        session(replace(WISHES, kinds=("acr",), **change), 0)  # type: ignore[arg-type]
