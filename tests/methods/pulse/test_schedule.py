"""Schedules against the formulas that PULSE publishes."""

import pytest

from facesr.errors import ConfigError
from facesr.methods.pulse.schedule import factor


def cycle(x: float) -> float:
    return (9 * (1 - abs(x - 0.5) * 2) + 1) / 10


@pytest.mark.parametrize("steps", [1, 7, 100])
def test_schedules_equal_the_published_formulas(steps: int) -> None:
    for step in range(steps):
        assert factor("fixed", step, steps) == 1.0
        assert factor("linear1cycle", step, steps) == pytest.approx(cycle(step / steps))
        if step < 0.9 * steps:
            wanted = cycle(step / (0.9 * steps))
        else:
            wanted = 1 / 10 + (step - 0.9 * steps) / (0.1 * steps) * (1 / 1000 - 1 / 10)
        assert factor("linear1cycledrop", step, steps) == pytest.approx(wanted)


def test_the_drop_goes_up_and_down_and_away() -> None:
    values = [factor("linear1cycledrop", step, 100) for step in range(100)]
    assert values[0] == pytest.approx(0.1) and max(values) == values[45] == pytest.approx(1.0)
    assert values[90] == pytest.approx(0.1) and 0.001 < values[99] < 0.02


def test_an_unknown_schedule_is_one_sentence() -> None:
    with pytest.raises(ConfigError, match=r"pulse\.schedule=cosine is unknown"):
        factor("cosine", 0, 1)
