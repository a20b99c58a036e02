"""A submission's power against the limit of the competition."""

import pytest

from facesr.evaluation.energy import power_facts


def test_mean_power_is_energy_over_seconds() -> None:
    assert power_facts(6000.0, 4.0, None) == {"energy_joules": 6000.0, "mean_watts": 1500.0}


@pytest.mark.parametrize(("limit", "within", "word"), [(1500.0, True, "within"), (1499.0, False, "above")])
def test_the_limit_itself_is_within(limit: float, within: bool, word: str) -> None:
    facts = power_facts(6000.0, 4.0, limit)
    assert facts["within_power_limit"] is within and facts["power_limit_watts"] == limit
    assert f"1,500 W on average, {word} the limit of {limit:g} W" in facts["power_check"]


def test_what_is_not_stated_is_not_judged() -> None:
    assert power_facts(None, 4.0, None) == {}
    facts = power_facts(None, 4.0, 3000.0)
    assert facts["within_power_limit"] is None and "was not checked" in facts["power_check"]
    assert power_facts(5.0, 0.0, 3000.0)["within_power_limit"] is None
