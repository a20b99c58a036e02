"""What the board keeps of a manifest."""

from facesr.leaderboard.facts import facts_of, with_power
from tests.submission.conftest import bench  # noqa: F401


def test_power_is_finite(bench):  # noqa: F811
    facts = facts_of(bench.manifest, is_synthetic=False)
    assert with_power(facts)["mean_watts"] is None
    for joules, seconds, watts in ((30.0, 0.5, 60.0), (1.0, 0.0, None), (1e17, 1e-300, None), (0.0, 2.0, 0.0)):
        assert with_power({**facts, "energy_joules": joules, "seconds": seconds})["mean_watts"] == watts
