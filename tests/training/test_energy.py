"""The energy of a run: summed over reports and resumes, told at the end, and not told where it is not known."""

import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from facesr.config import TrainSettings
from facesr.energy import Reading, read_energy
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

    def stop(self) -> None:
        self.joules, self.next = (self.next if self.known else None), self.next + 1.0

    def reading(self, rank: int) -> Reading:
        return Reading(rank, "node", "1", "CPU", 0.5, False, None, self.joules)


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
    kept = read_energy(Path(settings.runs_dir) / settings.name / "energy.json")
    # Two counts of half a second are one of a second; the last single one is too short for a power of its own.
    assert kept is not None and (kept.num_images, kept.joules, kept.seconds, kept.peak_watts) == (32, 54.0, 4.5, 17.0)
    # Four reports and four states, 2 + 3 + ... + 9 J, which the last state holds, and 10 J from there to the end.
    assert final_state(settings)["clock"]["joules"] == 44.0
    assert "and 0.1 kJ (RAPL); best snapshot" in log(settings)
    assert all(record["machine/power_watts"] > 0 for record in stats(settings)) and len(stats(settings)) == 4
    # Resumed at its end: what was spent stays counted.
    assert train(settings) == 0
    assert final_state(settings)["clock"]["joules"] == 44.0
    again = read_energy(Path(settings.runs_dir) / settings.name / "energy.json")
    assert again is not None and again.num_images == 32 and len(again.sessions) == 2


def test_what_cannot_be_measured_is_not_told(
    counter: type[Counter], bare: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(counter, "known", False)
    settings = bare(*ONE_REPORT)
    assert train(settings) == 0
    assert math.isnan(final_state(settings)["clock"]["joules"])
    kept = read_energy(Path(settings.runs_dir) / settings.name / "energy.json")
    assert kept is not None and kept.joules is None and kept.peak_watts is None and kept.unmeasured == ["CPU of node"]
    assert " kJ" not in log(settings) and not any("machine/power_watts" in record for record in stats(settings))
