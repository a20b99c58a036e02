"""The figure of a set: means, and RMSE, whose root comes last; with intervals over the pictures."""

import math

import numpy as np
import pytest

from facesr.evaluation.bootstrap import interval_of_mean
from facesr.evaluation.over_set import difference_of, figure_of, kind_of, over_set
from facesr.metrics.perceptual.perceptual_index import RmseY

VALUES = np.array([3.0, 4.0, 12.0])
OTHERS = np.array([2.0, 6.0, 9.0])


def drawn(values: np.ndarray, num_resamples: int, seed: int) -> list[float]:
    """Returns the RMSE of each resample, one after another."""
    random = np.random.default_rng(seed)
    rows = random.integers(0, len(values), (num_resamples, len(values)))
    return [math.sqrt(sum(values[i] ** 2 for i in row) / len(row)) for row in rows.tolist()]


def test_by_hand():
    # (9 + 16 + 144) / 3 = 169 / 3; the mean is 19 / 3.
    assert over_set("rmse_y", VALUES) == pytest.approx(math.sqrt(169 / 3), rel=1e-15)
    for name in ("rmse", "perceptual_index", "niqe", "psnr_y", "is/builtin"):
        assert over_set(name, VALUES) == pytest.approx(19 / 3, rel=1e-15)
        assert kind_of(name) == "mean"
    assert kind_of(RmseY(4).name) == "root mean square"


def test_a_set_of_one_picture_has_its_own_value():
    found = figure_of("rmse_y", np.array([7.25]), 100, 0)
    assert (found.value, found.low, found.high) == (7.25, 7.25, 7.25)


def test_interval_is_that_of_the_root_of_each_resample():
    found = figure_of("rmse_y", VALUES, 500, 3)
    wanted = np.quantile(drawn(VALUES, 500, 3), [0.025, 0.975])
    assert (found.low, found.high) == pytest.approx(tuple(wanted), rel=1e-12)
    assert found.low < found.value < found.high


def test_interval_of_a_mean_is_an_evaluation_s():
    found = figure_of("niqe", VALUES, 500, 3)
    assert (found.low, found.high) == interval_of_mean(VALUES, 500, 3)


def test_difference_draws_the_same_pictures_for_both():
    found = difference_of("rmse_y", VALUES, OTHERS, 500, 3)
    assert found.value == pytest.approx(math.sqrt(169 / 3) - math.sqrt(121 / 3), rel=1e-12)
    pairs = zip(drawn(VALUES, 500, 3), drawn(OTHERS, 500, 3), strict=True)
    wanted = np.quantile([one - other for one, other in pairs], [0.025, 0.975])
    assert (found.low, found.high) == pytest.approx(tuple(wanted), rel=1e-12)
    mean = difference_of("psnr_y", VALUES, OTHERS, 500, 3)
    assert (mean.low, mean.high) == interval_of_mean(VALUES - OTHERS, 500, 3)
    assert mean.value == pytest.approx(2 / 3)
