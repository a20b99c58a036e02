"""The energy of a run: summed over reports and resumes, told at the end, and not told where it is not known."""

import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from facesr.config import TrainSettings
from facesr.training.loop import train
from tests.training.conftest import final_state

Make = Callable[..., TrainSettings]
ONE_REPORT = ("duration_kimg=0.008", "validation_every_kimg=0.008")


class Counter:
    """A meter that measures 2 J, then 3 J, and so on, or nothing."""

    sources = ("RAPL",)
    known = True

    def __init__(self, *arguments: object, **more: object) -> None:
        self.next = 2.0

    def start(self) -> None: ...

    def stop(self) -> float | None:
        joules, self.next = self.next, self.next + 1.0
        return joules if self.known else None


@pytest.fixture
def counter(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Counter]]:
    monkeypatch.setattr("facesr.training.run.PowerMeter", Counter)
    monkeypatch.setattr(Counter, "known", True)
    yield Counter


def stats(settings: TrainSettings) -> list[dict[str, float]]:
    lines = (Path(settings.runs_dir) / settings.name / "stats.jsonl").read_text().splitlines()
    return [record for record in map(json.loads, lines) if "loss/total" in record]


def log(settings: TrainSettings) -> str:
    return (Path(settings.runs_dir) / settings.name / "log.txt").read_text()


@pytest.mark.slow
def test_a_run_tells_its_energy(counter: type[Counter], bare: Make) -> None:
    settings = bare()
    assert train(settings) == 0
    # Four reports and four states, 2 + 3 + ... + 9 J, which the last state holds, and 10 J from there to the end.
    assert final_state(settings)["clock"]["joules"] == 44.0
    assert "and 0.1 kJ (RAPL); best snapshot" in log(settings)
    assert all(record["machine/power_watts"] > 0 for record in stats(settings)) and len(stats(settings)) == 4
    # Resumed at its end: what was spent stays counted.
    assert train(settings) == 0
    assert final_state(settings)["clock"]["joules"] == 44.0


def test_what_cannot_be_measured_is_not_told(
    counter: type[Counter], bare: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(counter, "known", False)
    settings = bare(*ONE_REPORT)
    assert train(settings) == 0
    assert math.isnan(final_state(settings)["clock"]["joules"])
    assert " kJ" not in log(settings) and not any("machine/power_watts" in record for record in stats(settings))


def test_other_ranks_of_a_machine_leave_its_cpus_to_the_first(
    counter: type[Counter], bare: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(counter, "known", False)
    monkeypatch.setenv("LOCAL_RANK", "1")
    settings = bare(*ONE_REPORT)
    assert train(settings) == 0
    assert final_state(settings)["clock"]["joules"] == 0.0
