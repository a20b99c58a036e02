"""A cluster's energy from recorded readings: each thing once, nothing invented, and kept as it is."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from facesr.energy import EnergyLog, Reading, energy_bytes, in_turn, read_energy, total_joules
from facesr.errors import DataError

# Two machines: one of two boards whose CPU both its ranks have read (no launcher told them apart), one of one board.
READINGS = [
    Reading(0, "a", "A", "H100", 2.0, True, 600.0, 100.0),
    Reading(1, "a", "A", "H100", 2.0, True, 500.0, 101.0),
    Reading(2, "b", "B", "H100", 2.0, True, 700.0, 80.0),
]


def test_a_machines_cpu_counts_once_and_power_is_that_of_all_nodes_at_one_time() -> None:
    log = EnergyLog.resumed(None, 100)
    log.add(READINGS, 164)
    assert total_joules(READINGS) == log.joules == 600.0 + 500.0 + 100.0 + 700.0 + 80.0
    assert [(node.name, node.joules, node.cpu_joules) for node in log.nodes] == [
        ("a", 1200.0, 100.0),
        ("b", 780.0, 80.0),
    ]
    assert (log.mean_watts, log.peak_watts, log.images_per_joule) == (990.0, 990.0, 64 / 1980.0)
    # Machine a's most and machine b's most came at different times: the cluster's most is less than their sum.
    log.add([replace(one, board_joules=100.0 if one.node == "a" else 1700.0) for one in READINGS], 228)
    assert log.peak_watts == (100 + 100 + 100 + 1700 + 80) / 2.0 and log.unmeasured == [] and log.num_images == 128


def test_times_too_short_for_a_power_are_put_together() -> None:
    log = EnergyLog()
    for joules in (300.0, 100.0, 100.0):
        log.add([Reading(0, "a", "A", "CPU", 0.5, False, None, joules)], 0)
    assert log.peak_watts == 400.0 and log.joules == 500.0 and log.mean_watts == pytest.approx(500 / 1.5)


def test_what_is_not_measured_is_not_zero() -> None:
    unread = [replace(READINGS[0], cpu_joules=None), replace(READINGS[1], board_joules=None, cpu_joules=None)]
    log = EnergyLog()
    log.add([*unread, READINGS[2]], 10)
    assert log.joules == 600.0 + 780.0 and log.unmeasured == ["CPU of a", "board of rank 1"]
    assert total_joules([*unread, READINGS[2]]) is None  # as ever: a rank that can measure nothing
    log.add(READINGS, 20)  # what was once not measured is known no more
    assert log.unmeasured == ["CPU of a", "board of rank 1"] and log.sources == ["NVML", "RAPL"]
    nothing = EnergyLog()
    nothing.add([Reading(0, "a", "A", "CPU", 1.0, False, None, None)], 10)
    assert (nothing.joules, nothing.mean_watts, nothing.peak_watts, nothing.images_per_joule) == (None,) * 4
    assert nothing.sources == []


def test_other_ranks_of_a_machine_leave_its_cpus_to_the_first() -> None:
    first, second = (Reading(rank, "a", "A", "CPU", 1.0, False, None, None) for rank in (0, 1))
    assert total_joules([replace(first, cpu_joules=50.0), second]) == 50.0
    assert total_joules([first, second]) is None
    # Two machines of one name are two machines.
    log = EnergyLog()
    log.add([replace(first, cpu_joules=50.0), replace(second, machine="B", cpu_joules=70.0)], 0)
    assert [node.name for node in log.nodes] == ["a", "a (2)"] and log.joules == 120.0


def test_one_ranks_times_one_after_the_other() -> None:
    whole = in_turn([READINGS[0], READINGS[0]], READINGS[0])
    assert (whole.seconds, whole.board_joules, whole.cpu_joules) == (4.0, 1200.0, 200.0)
    assert in_turn([READINGS[0], replace(READINGS[0], cpu_joules=None)], READINGS[0]).cpu_joules is None
    idle = in_turn([], READINGS[0])
    assert (idle.seconds, idle.board_joules, idle.cpu_joules) == (0.0, 0.0, None)


def test_a_log_is_kept_and_goes_on(tmp_path: Path) -> None:
    log = EnergyLog.resumed(None, 0)
    log.add(READINGS, 8)
    (tmp_path / "energy.json").write_bytes(energy_bytes(log))
    kept = read_energy(tmp_path / "energy.json")
    assert kept is not None and kept.as_dict() == log.as_dict()
    on = EnergyLog.resumed(kept.as_dict(), 8)
    on.add(READINGS[2:], 4)  # a rollback
    assert on.num_images == 8 and len(on.sessions) == 2 and on.joules == 1980.0 + 780.0
    assert read_energy(tmp_path / "none.json") is None


@pytest.mark.parametrize(
    "change",
    [
        lambda facts: facts.update(seconds="long"),
        lambda facts: facts.update(seconds=-1),
        lambda facts: facts.pop("nodes"),
        lambda facts: facts.update(nodes=[7]),
        lambda facts: facts.update(format=2),
        lambda facts: facts.update(sessions=[1]),
        lambda facts: facts["nodes"][0].update(cpu_joules="nan"),
        lambda facts: facts["nodes"][0].pop("ranks"),
    ],
)
def test_a_damaged_log_is_one_sentence(tmp_path: Path, change) -> None:
    log = EnergyLog()
    log.add(READINGS, 8)
    facts = log.as_dict()
    change(facts)
    (tmp_path / "energy.json").write_text(json.dumps(facts))
    with pytest.raises(DataError, match=r"energy.json is damaged; remove it"):
        read_energy(tmp_path / "energy.json")
