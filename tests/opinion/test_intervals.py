"""Intervals over raters and faces: the formulas by hand, and how often they cover the truth."""

import itertools

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from facesr.evaluation.bootstrap import holm
from facesr.opinion.intervals import (
    crossed_mean,
    draw,
    resampled_interval,
    t_interval,
    two_way_variance,
)
from facesr.opinion.pairs import fit_strengths
from facesr.opinion.simulation import Deviations, continuous, rounded, true_mos


def table(raters: int = 7, faces: int = 9, seed: int = 0) -> NDArray[np.float64]:
    random = np.random.default_rng(seed)
    return random.normal(3, 1, (raters, faces)) + random.normal(0, 1, (raters, 1)) + random.normal(0, 1, (1, faces))


def test_without_gaps_it_is_the_two_way_analysis_of_variance() -> None:
    values = table()
    r, f = values.shape
    by_rater, by_face, mean = values.mean(1), values.mean(0), values.mean()
    ms_rater = f * np.square(by_rater - mean).sum() / (r - 1)
    ms_face = r * np.square(by_face - mean).sum() / (f - 1)
    ms_rest = np.square(values - by_rater[:, None] - by_face + mean).sum() / ((r - 1) * (f - 1))
    found = crossed_mean(values)
    variance = (ms_rater + ms_face - ms_rest) / (r * f)
    assert float(found.mean) == pytest.approx(mean)
    assert float(found.variance) == pytest.approx(variance)
    assert float(found.rest) == pytest.approx(ms_rest)
    assert float(found.rater) == pytest.approx((ms_rater - ms_rest) / f)
    doubt = ms_rater**2 / (r - 1) + ms_face**2 / (f - 1) + ms_rest**2 / ((r - 1) * (f - 1))
    freedom = (ms_rater + ms_face - ms_rest) ** 2 / doubt
    assert float(found.freedom) == pytest.approx(freedom)
    low, high = found.interval()
    assert float(high - low) == pytest.approx(2 * stats.t.ppf(0.975, freedom) * np.sqrt(variance))
    assert float(found.p_value()) == pytest.approx(2 * stats.t.sf(abs(mean) / np.sqrt(variance), freedom))


def test_tables_are_independent_of_each_other_and_of_where_gaps_come_from() -> None:
    values = np.stack([table(seed=seed) for seed in range(3)])
    values[1, 2, 3:] = np.nan
    together = crossed_mean(values)
    for i in range(3):
        alone = crossed_mean(values[i])
        assert float(together.variance[i]) == pytest.approx(float(alone.variance))
    # A rater without any answer is as good as none.
    wide = np.concatenate([values[0], np.full((1, 9), np.nan)])
    assert float(crossed_mean(wide).variance) == pytest.approx(float(crossed_mean(values[0]).variance))


def test_components_are_unbiased_with_gaps() -> None:
    random = np.random.default_rng(1)
    shape = (3000, 12, 15)
    values = (
        random.normal(0, 0.5, (*shape[:2], 1)) + random.normal(0, 0.3, (3000, 1, 15)) + random.normal(0, 0.7, shape)
    )
    values[:, random.random(shape[1:]) < 0.25] = np.nan
    found = crossed_mean(values)
    # Cutting off below 0 moves the means of small components up a little.
    assert float(found.rater.mean()) == pytest.approx(0.25, rel=0.05)
    assert float(found.face.mean()) == pytest.approx(0.09, rel=0.05)
    assert float(found.rest.mean()) == pytest.approx(0.49, rel=0.02)
    assert float(found.variance.mean()) == pytest.approx(float(found.mean.var()), rel=0.05)


@pytest.mark.parametrize("shape", [(1, 5), (5, 1), (1, 1), (0, 4), (4, 0)])
def test_one_rater_or_face_has_no_interval(shape: tuple[int, int]) -> None:
    low, high = crossed_mean(np.ones(shape) + np.arange(shape[1])).interval()
    assert np.isnan(low) and np.isnan(high)


def test_equal_answers_have_no_interval_and_no_p_value() -> None:
    found = crossed_mean(np.full((6, 8), 5.0))
    assert float(found.mean) == 5.0
    assert np.isnan(found.variance) and np.isnan(found.p_value())


def coverage(studies: int, seed: int, raters: int = 15, faces: int = 20) -> tuple[float, float]:
    """Returns in how many simulated studies the intervals of a MOS and of a difference hold the truth."""
    deviations, means = Deviations(), np.array([3.4, 3.1])
    truth = true_mos(means, deviations)
    answers = rounded(continuous(means, raters, faces, deviations, np.random.default_rng(seed), studies))
    held = []
    for values, true in ((answers[:, :, 0], truth[0]), (answers[:, :, 0] - answers[:, :, 1], truth[0] - truth[1])):
        low, high = crossed_mean(values).interval()
        held.append(float(((low <= true) & (true <= high)).mean()))
    return held[0], held[1]


def test_intervals_cover_the_truth_in_93_to_97_of_100_of_300_studies() -> None:
    # 300 studies count 95 % with a standard error of 1.3 %; the next test counts more of them.
    for held in coverage(300, seed=2026):
        assert 0.93 <= held <= 0.97


@pytest.mark.slow
@pytest.mark.parametrize(("raters", "faces"), [(8, 10), (15, 20), (24, 40)])
def test_the_coverage_is_no_luck_of_the_seed(raters: int, faces: int) -> None:
    # A standard error of 0.35 %.
    for held in coverage(4000, seed=1, raters=raters, faces=faces):
        assert 0.935 <= held <= 0.975


def test_intervals_that_take_answers_for_independent_would_be_seen() -> None:
    deviations, means = Deviations(), np.array([3.4])
    answers = rounded(continuous(means, 15, 20, deviations, np.random.default_rng(3), 300))[:, :, 0]
    half = 1.96 * answers.std(axis=(1, 2), ddof=1) / np.sqrt(300)
    held = np.abs(answers.mean(axis=(1, 2)) - true_mos(means, deviations)) <= half
    assert held.mean() < 0.7


@pytest.mark.slow
def test_strengths_of_pairs_are_covered_too() -> None:
    strengths, random = np.array([0.0, 0.5, 1.2]), np.random.default_rng(5)
    pairs = np.array(list(itertools.combinations(range(3), 2)))

    def study(raters: int, faces: int) -> tuple[NDArray[np.intp], ...]:
        taste, luck = random.normal(0, 0.5, (raters, 3)), random.normal(0, 0.5, (faces, 3))
        r, f, p = (part.ravel() for part in np.indices((raters, faces, 3)))
        a, b = pairs[p].T
        odds = strengths[a] - strengths[b] + taste[r, a] - taste[r, b] + luck[f, a] - luck[f, b]
        return a, b, (random.random(len(r)) < 1 / (1 + np.exp(-odds))).astype(np.intp), r, f

    a, b, won, _, _ = study(400, 200)
    # What the model tends to, with tastes averaged.
    truth = np.diff(fit_strengths(a, b, won.astype(float), 3, with_side=False).strengths)
    held = np.zeros(2)
    for _ in range(300):
        a, b, won, r, f = study(15, 20)
        fit = fit_strengths(a, b, won.astype(float), 3, with_side=False)
        contrast = np.array([[-1, 1, 0, 0], [0, -1, 1, 0]], np.float64)
        variance = two_way_variance(fit.influence @ contrast.T, r, f)
        low, high = t_interval(np.diff(fit.strengths), variance, np.full(2, 14.0))
        held += (low <= truth) & (truth <= high)
    assert ((held / 300 >= 0.93) & (held / 300 <= 0.98)).all()


def test_holm_by_hand() -> None:
    found = holm(np.array([0.01, 0.04, np.nan, 0.03, 0.005]))
    np.testing.assert_allclose(found, [0.03, 0.06, np.nan, 0.06, 0.02])
    assert holm(np.array([0.9, 0.8])).tolist() == [1.0, 1.0]
    assert holm(np.array([])).shape == (0,)


def test_resampling_both_counts_the_rest_three_times() -> None:
    values = np.random.default_rng(0).normal(0, 1, (30, 40))
    low, high = resampled_interval(values, draw(30, 40, 4000, 0))
    assert (high - low) / 2 == pytest.approx(1.96 * np.sqrt(3 / 1200), rel=0.08)
    assert resampled_interval(values, draw(30, 40, 200, 1)) == resampled_interval(values, draw(30, 40, 200, 1))
