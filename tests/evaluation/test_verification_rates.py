"""Verification rates: by hand, by brute force, and what resampling persons means."""

import itertools

import numpy as np
import pytest

from facesr.evaluation.bootstrap import Estimate
from facesr.evaluation.studies.verification_rates import can_be_measured, rates

# Two persons with two pictures each, one with a single one.
PERSONS = np.array([0, 0, 1, 1, 2])


def matrix(genuine: dict[tuple[int, int], float], others: dict[tuple[int, int], float]) -> np.ndarray:
    found = np.full((5, 5), -1.0)
    np.fill_diagonal(found, 5.0)  # a picture with its own original: must not count
    for (i, j), value in {**genuine, **others}.items():
        found[i, j] = value
    return found


def test_rates_by_hand() -> None:
    # Sixteen pairs of two persons; the three highest are 0.5, 0.4 and 0.3.
    others = {(0, 2): 0.5, (3, 4): 0.4, (4, 0): 0.3}
    some = matrix({(0, 1): 0.6, (1, 0): 0.35, (2, 3): 0.45, (3, 2): 0.2}, others)
    whole = matrix({(0, 1): 0.9, (1, 0): 0.9, (2, 3): 0.9, (3, 2): 0.1}, {(0, 2): 0.32, (1, 2): 0.2})
    assert (PERSONS[:, None] != PERSONS).sum() == 16
    found = rates({"some": some, "whole": whole}, PERSONS, [1 / 16, 2 / 16], "whole", 10, 0)
    one, two = found["some"]
    # One may be accepted: the threshold is 0.4, above which are 0.6 and 0.45; then 0.3, above which is 0.35, too.
    assert one.tar.value == pytest.approx((1 / 2 + 1 / 2) / 2) and two.tar.value == pytest.approx((1 + 1 / 2) / 2)
    # The originals accept one above 0.2, two above -1.
    assert one.tar_as_set.value == pytest.approx((1 + 1 / 2) / 2) and one.far_as_set.value == pytest.approx(3 / 16)
    assert two.tar_as_set.value == 1.0 and two.far_as_set.value == pytest.approx(3 / 16)
    assert found["whole"][0].tar.value == pytest.approx((1 + 1 / 2) / 2)
    assert found["whole"][0].far_as_set.value == pytest.approx(1 / 16)
    assert found["whole"][0].gain.value == pytest.approx(0.75 - 0.5) and found["some"][1].gain == Estimate(0, 0, 0)


def brute_force(scores: np.ndarray, whole: np.ndarray, persons: list[int], far: float) -> tuple[float, float, float]:
    """TAR, TAR as set and FAR as set, pair by pair; `persons` may name one twice, then with another number."""
    pairs = list(itertools.permutations(range(len(persons)), 2))
    impostors = sorted((scores[i, j] for i, j in pairs if persons[i] != persons[j]), reverse=True)
    set_by = sorted((whole[i, j] for i, j in pairs if persons[i] != persons[j]), reverse=True)
    own, other = (values[int(far * len(values) + 1e-9)] for values in (impostors, set_by))

    def tar(threshold: float) -> float:
        each: dict[int, list[bool]] = {}
        for i, j in pairs:
            if persons[i] == persons[j]:
                each.setdefault(persons[i], []).append(scores[i, j] > threshold)
        return float(np.mean([np.mean(one) for one in each.values()]))

    return tar(own), tar(other), float(np.mean([value > other for value in impostors]))


@pytest.fixture
def faces() -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Forty persons with one to four pictures, and kinds of probes that are more and less like the person."""
    random = np.random.default_rng(5)
    persons = np.repeat(np.arange(40), random.integers(1, 5, 40))
    centres = random.normal(size=(40, 12))

    def unit(noise: float) -> np.ndarray:
        found = centres[persons] + noise * random.normal(size=(len(persons), 12))
        return found / np.linalg.norm(found, axis=1, keepdims=True)

    originals = unit(0.6)
    probes = {"poor": unit(2.0), "good": unit(1.0), "originals": originals}
    return persons, {name: one @ originals.T for name, one in probes.items()}


def test_rates_are_those_of_all_pairs_one_by_one(faces: tuple[np.ndarray, dict[str, np.ndarray]]) -> None:
    persons, scores = faces
    fars = [0.003, 0.02, 0.1]
    found = rates(scores, persons, fars, "originals", 5, 1)
    for name, matrix in scores.items():
        for far, verified in zip(fars, found[name], strict=True):
            wanted = brute_force(matrix, scores["originals"], persons.tolist(), far)
            assert (verified.tar.value, verified.tar_as_set.value, verified.far_as_set.value) == pytest.approx(wanted)
    tars = [found[name][1].tar.value for name in scores]
    assert tars == sorted(tars) and tars[0] < tars[2] - 0.2


def test_a_resample_is_the_rates_of_the_persons_drawn(
    faces: tuple[np.ndarray, dict[str, np.ndarray]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each person drawn is one more person in FAR's pairs, but never an impostor of themselves."""
    persons, scores = faces
    drawn = np.zeros(40)
    drawn[[3, 7, 8, 11, 20, 21, 30]] = 1.0
    module = "facesr.evaluation.studies.verification_rates"
    monkeypatch.setattr(f"{module}._drawn", lambda *given: np.stack([drawn, drawn]))
    found = rates(scores, persons, [0.05], "originals", 1, 0)["good"][0]
    kept = np.flatnonzero(drawn[persons])
    inner = np.ix_(kept, kept)
    wanted = brute_force(scores["good"][inner], scores["originals"][inner], persons[kept].tolist(), 0.05)
    assert (found.tar.value, found.tar_as_set.value, found.far_as_set.value) == pytest.approx(wanted)


def test_intervals_hold_the_rate_and_shrink_with_persons(faces: tuple[np.ndarray, dict[str, np.ndarray]]) -> None:
    persons, scores = faces
    found = rates(scores, persons, [0.02], "originals", 300, 1)
    for (verified,) in found.values():
        assert verified.tar.low <= verified.tar.value <= verified.tar.high
    few = persons < 12
    inner = np.ix_(few, few)
    small = rates({name: one[inner] for name, one in scores.items()}, persons[few], [0.05], "originals", 300, 1)
    wide, narrow = small["poor"][0].tar, found["poor"][0].tar
    assert wide.high - wide.low > 1.3 * (narrow.high - narrow.low)
    assert found["good"][0].gain.low > 0.0  # beyond chance: kinds share their resamples


def test_which_rates_can_be_measured() -> None:
    # 16 pairs of two persons: ten of them are 62.5 %.
    assert can_be_measured(PERSONS, 0.63) and not can_be_measured(PERSONS, 0.62)
