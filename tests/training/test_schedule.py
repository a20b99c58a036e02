"""The learning rate over the images seen."""

import pytest

from facesr.config import ScheduleSettings
from facesr.errors import ConfigError
from facesr.training.schedule import learning_rate_factor


def settings(kind: str, **changes: object) -> ScheduleSettings:
    plain = {"warmup_kimg": 0.0, "final_factor": 0.1, "step_kimg": [5.0, 8.0], "step_factor": 0.5}
    return ScheduleSettings(kind=kind, **{**plain, **changes})  # type: ignore[arg-type]


def test_the_kinds_of_schedule() -> None:
    assert learning_rate_factor(settings("constant"), 3, 10) == 1.0
    assert learning_rate_factor(settings("cosine"), 0, 10) == 1.0
    assert learning_rate_factor(settings("cosine"), 5, 10) == pytest.approx(0.55)
    assert learning_rate_factor(settings("cosine"), 10, 10) == pytest.approx(0.1)
    assert [learning_rate_factor(settings("step"), k, 10) for k in (4, 5, 8)] == [1.0, 0.5, 0.25]


def test_warm_up_rises_from_nothing() -> None:
    rates = [learning_rate_factor(settings("constant", warmup_kimg=2.0), k, 10) for k in (0, 1, 2, 9)]
    assert rates == pytest.approx([0.0, 0.5, 1.0, 1.0], abs=1e-6)
    # The very first step moves the weights, too.
    assert rates[0] > 0.0
    assert learning_rate_factor(settings("constant", warmup_kimg=0.5), 0.25, 10) == pytest.approx(0.5)


def test_warm_up_multiplies_every_kind_of_schedule() -> None:
    assert learning_rate_factor(settings("cosine", warmup_kimg=10.0), 5, 10) == pytest.approx(0.5 * 0.55)
    assert learning_rate_factor(settings("step", warmup_kimg=10.0), 5, 10) == pytest.approx(0.5 * 0.5)


def test_a_run_beyond_its_duration_keeps_the_last_rate() -> None:
    assert learning_rate_factor(settings("cosine"), 12, 10) == pytest.approx(0.1)


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"schedule\.kind=linear"):
        learning_rate_factor(settings("linear"), 1, 10)
