"""When Bradley-Terry strengths and the side have finite estimates, by a linear programme, and what is done if not."""

import math

import numpy as np
import pytest
from scipy.optimize import linprog, minimize

from facesr.opinion.pairs import fit_strengths, is_bounded, preferences
from tests.opinion.made_ratings import _answer, _small_study

Comparisons = tuple[np.ndarray, np.ndarray, np.ndarray]


def design_of(left: np.ndarray, right: np.ndarray, num_methods: int) -> np.ndarray:
    return np.column_stack([np.eye(num_methods)[left] - np.eye(num_methods)[right], np.ones(len(left))])


def is_separated(left: np.ndarray, right: np.ndarray, won: np.ndarray, num_methods: int) -> bool:
    """Returns whether some direction raises some likelihood and lowers none (Albert, Anderson)."""
    signed = design_of(left, right, num_methods) * (2 * won - 1)[:, None]
    found = linprog(-signed.sum(axis=0), A_ub=-signed, b_ub=np.zeros(len(won)), bounds=(-1, 1))
    return bool(-found.fun > 1e-7)


def study(rng: np.random.Generator) -> tuple[Comparisons, int]:
    num_methods, count = int(rng.integers(2, 6)), int(rng.integers(2, 16))
    left = rng.integers(0, num_methods, count)
    right = (left + rng.integers(1, num_methods, count)) % num_methods
    if rng.random() < 0.2:
        left, right = np.minimum(left, right), np.maximum(left, right)
    odds = rng.normal(0, 1.5, num_methods)[left] - rng.normal(0, 1.5, num_methods)[right] + rng.normal(0, 2)
    return (left, right, (rng.random(count) < 1 / (1 + np.exp(-odds))).astype(np.float64)), num_methods


def test_bounded_is_what_a_linear_programme_says() -> None:
    rng, seen = np.random.default_rng(0), [0, 0]
    for _ in range(600):
        comparisons, num_methods = study(rng)
        expected = not is_separated(*comparisons, num_methods)
        if expected:
            # Two parts that were never compared have no strengths together; `main_part` leaves one of them.
            links = np.eye(num_methods, dtype=bool)
            links[comparisons[0], comparisons[1]] = links[comparisons[1], comparisons[0]] = True
            expected = bool((np.linalg.matrix_power(links.astype(np.int64), num_methods) > 0).all())
        assert is_bounded(*comparisons, num_methods) is expected, comparisons
        seen[expected] += 1
    assert min(seen) > 60


def test_what_is_bounded_has_the_estimate_of_another_minimiser() -> None:
    rng, count = np.random.default_rng(1), 0
    while count < 5:
        (left, right, won), num_methods = study(rng)
        design = design_of(left, right, num_methods)
        if not is_bounded(left, right, won, num_methods) or np.linalg.matrix_rank(design) < num_methods:
            continue
        signed = design * (2 * won - 1)[:, None]
        found = minimize(lambda at, signed=signed: np.logaddexp(0, -signed @ at).sum(), np.zeros(num_methods + 1))
        fit = fit_strengths(left, right, won, num_methods)
        assert fit.side == pytest.approx(found.x[-1], abs=1e-3)
        np.testing.assert_allclose(fit.strengths, found.x[:-1] - found.x[:-1].mean(), atol=1e-3)
        count += 1


def test_without_a_side_the_difference_is_the_log_of_the_wins() -> None:
    left, right, won = np.zeros(120, np.intp), np.ones(120, np.intp), np.repeat([1.0, 0.0], [118, 2])
    fit = fit_strengths(left, right, won, 2, with_side=False)
    assert fit.strengths[0] - fit.strengths[1] == pytest.approx(math.log(59))


@pytest.mark.parametrize("by_chance", [0.4, 0.0])
def test_whoever_always_wins_on_the_left_has_a_finite_strength_and_side(by_chance: float) -> None:
    """On the left it wins all, on the right 40 % or none: the side has no finite estimate, though both methods win."""
    rng, answers = np.random.default_rng(0), []
    for rater in range(15):
        for face in range(20):
            names = ("gan", "psnr") if (rater + face) % 2 else ("psnr", "gan")
            is_first = names[0] == "gan" or rng.random() >= by_chance
            answers.append(_answer(rater, face, "pair", face, *names, 0 if is_first else 1, None))
    records = _small_study(("pair",), ("gan", "psnr"), 15, 20, answers)
    found = preferences(records, {one.rater for one in records.ratings})
    assert found is not None and not found.is_bounded and (found.wins.sum(axis=1) > 0).all()
    assert found.side is not None and abs(found.side) < 12
    assert abs(found.differences[0].value) < 12
