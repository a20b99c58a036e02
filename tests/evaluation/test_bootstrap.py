"""The bootstrap against theory, and its reproducibility."""

import numpy as np
import pytest

from facesr.evaluation import bootstrap
from facesr.evaluation.bootstrap import describe, interval_of_mean


def test_the_interval_is_about_that_of_the_normal_theory():
    values = np.random.default_rng(3).normal(0.7, 0.1, 400)
    low, high = interval_of_mean(values, 4000, seed=1)
    half = 1.96 * values.std() / np.sqrt(len(values))
    assert low == pytest.approx(values.mean() - half, abs=0.05 * half)
    assert high == pytest.approx(values.mean() + half, abs=0.05 * half)


def test_about_95_of_100_intervals_cover_the_true_mean():
    random = np.random.default_rng(5)
    covered = 0
    for seed in range(200):
        low, high = interval_of_mean(random.normal(0.0, 1.0, 60), 500, seed)
        covered += low <= 0.0 <= high
    assert 180 <= covered <= 198


def test_it_is_reproducible_and_the_seed_moves_it():
    values = np.random.default_rng(1).random(50)
    assert interval_of_mean(values, 300, 7) == interval_of_mean(values, 300, 7)
    assert interval_of_mean(values, 300, 7) != interval_of_mean(values, 300, 8)


def test_resampling_in_parts_draws_the_same(monkeypatch):
    values = np.random.default_rng(1).random(50)
    whole = interval_of_mean(values, 300, 7)
    monkeypatch.setattr(bootstrap, "_MOST_VALUES", 50 * 37)
    assert interval_of_mean(values, 300, 7) == whole


def test_statistics_of_known_values():
    found = describe(np.array([1.0, 2.0, 3.0, 6.0]), 100, 0)
    assert (found.mean, found.minimum, found.maximum, found.count) == (3.0, 1.0, 6.0, 4)
    assert found.std == pytest.approx(np.sqrt(14 / 3))
    assert 1.0 <= found.low <= found.mean <= found.high <= 6.0


def test_one_value_has_no_spread():
    found = describe(np.array([0.5]), 100, 0)
    assert (found.mean, found.std, found.low, found.high) == (0.5, 0.0, 0.5, 0.5)


@pytest.mark.parametrize("values", [[], [1.0, float("nan")], [float("inf")]])
def test_nothing_and_what_is_not_finite_is_refused(values):
    with pytest.raises(ValueError, match="finite"):
        describe(np.array(values), 100, 0)
