"""What a report tells and when it says that a run is ill, against figures worked out by hand."""

import math
import time
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from facesr import dist
from facesr.energy import EnergyLog, Reading
from facesr.training import report as module
from facesr.training.health import is_healthy
from facesr.training.report import Ticker, count_energy, eta, memory_mib, report
from facesr.training.state import Clock, Part

CPU = torch.device("cpu")


class Meter:
    """A meter whose energies are known beforehand."""

    def __init__(self, *joules: float | None) -> None:
        self.joules = list(joules)
        self.num_starts = 0

    def start(self) -> None:
        self.num_starts += 1

    def stop(self) -> float | None:
        self.last = self.joules.pop(0)
        return self.last

    def reading(self, rank: int) -> Reading:
        return Reading(rank, "node", "1", "CPU", 2.0, False, None, self.last)


class Bar:
    def __init__(self, shown: bool) -> None:
        self.shown = shown
        self.moves: list[tuple[int, dict[str, str]]] = []

    def advance(self, count: int, **figures: str) -> None:
        self.moves.append((count, figures))


TERMS = {"pixel": 0.0, "late": 0.196}


def run_of(clock: Clock, meter: Meter, device: torch.device = CPU, **gan: Any) -> Any:
    """A run of 10 kimg in batches of 4, whose explosions are a hundredfold, and what it has told so far."""
    told: list[Any] = []
    optimizer = SimpleNamespace(param_groups=[{"lr": 0.25}, {"lr": 9.0}])
    players = {
        "generator_optimizer": optimizer, "discriminator_optimizer": None, "adversarial": None,
        "scaler": SimpleNamespace(is_enabled=lambda: False), "terms": {},
    }  # fmt: skip
    return SimpleNamespace(
        settings=SimpleNamespace(duration_kimg=10.0, batch_size=4, explosion_factor=100.0),
        clock=clock, meter=meter, energy=EnergyLog(), device=device,
        gan=SimpleNamespace(**{**players, **gan}), told=told,
        part=None, board=SimpleNamespace(scalars=lambda *given: told.append(("board", *given))),
        stats=SimpleNamespace(write=lambda *given: told.append(("stats", *given))),
        console=SimpleNamespace(say=lambda text: told.append(text)),
    )  # fmt: skip


@pytest.fixture
def ticker(monkeypatch: pytest.MonkeyPatch) -> Ticker:
    """Two steps from image 4000 on, 8 s ago, of which 3 s were a pause and 1 s waiting for data; 70 J so far."""
    now = [100.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(module, "peak_memory_mib", lambda: 512.0)
    ticker = Ticker(4000, {}, CPU)
    ticker.add({"loss/total": torch.tensor(1.0), "logit/real": torch.tensor(3.0)})
    now[0] += 3.0
    ticker.restart_clock()
    now[0] += 5.0
    ticker.add({"loss/total": torch.tensor(2.0), "loss/pixel": torch.tensor(0.5), "logit/real": torch.tensor(4.0)})
    ticker.data_seconds, ticker.joules = 1.0, 70.0
    return ticker


def test_a_report_tells_means_rates_speed_memory_and_power(ticker: Ticker) -> None:
    other = SimpleNamespace(param_groups=[{"lr": 0.125}])
    run = run_of(Clock(num_images=6000, seconds=20.0), Meter(10.0), discriminator_optimizer=other)
    assert report(run, ticker, Bar(False), before_first=False)  # type: ignore[arg-type]
    # 2000 images in 5 of 8 s; the power is over all 8.
    figures = {
        "logit/real": 3.5, "loss/pixel": 0.5, "loss/total": 1.5, "learning_rate/generator": 0.25,
        "learning_rate/discriminator": 0.125, "speed/images_per_second": 400.0, "speed/data_share": 0.2,
        "machine/memory_mib": 512.0, "machine/power_watts": 10.0,
    }  # fmt: skip
    # 4000 images are left.
    line = "      6.0 kimg     400 img/s  0:00:10 left  pixel 0.5000  total 1.5000"
    assert run.told == [("board", 6000, figures), ("stats", 6000, {"seconds": 25.0, **figures}), line]
    assert run.clock.seconds == 25.0 and run.clock.joules == 10.0 and run.clock.smoothed_loss == 1.5
    assert (ticker.sums, ticker.num_images, ticker.paused_seconds) == ({}, 6000, 0.0)


def test_a_part_of_a_plan_tells_how_long_the_whole_takes(ticker: Ticker) -> None:
    run = run_of(Clock(num_images=6000), Meter(10.0))
    # 4000 images are left at 400 images/s, and then what takes as long as 24,000.
    run.part = Part("stage 1 of 2: first", 24000.0)
    report(run, ticker, Bar(False), before_first=False)  # type: ignore[arg-type]
    assert " 0:00:10 left  0:01:10 in all  pixel" in run.told[2]


def test_a_bar_tells_it_too(ticker: Ticker) -> None:
    run, bar = run_of(Clock(num_images=6000), Meter(10.0)), Bar(True)
    run.part = Part("stage 1 of 2: first", 24000.0)
    report(run, ticker, bar, before_first=False)  # type: ignore[arg-type]
    assert bar.moves == [(4, {"loss": "1.5000", "speed": "400/s", "whole": "0:01:10"})]


@pytest.mark.parametrize(("before_first", "count"), [(True, 2000), (False, 4)])
def test_a_bar_moves_by_what_it_was_not_moved_by_yet(ticker: Ticker, before_first: bool, count: int) -> None:
    run, bar = run_of(Clock(num_images=6000), Meter(10.0)), Bar(True)
    report(run, ticker, bar, before_first)  # type: ignore[arg-type]
    assert bar.moves == [(count, {"loss": "1.5000", "speed": "400/s"})] and len(run.told) == 2


def test_what_is_not_known_or_not_there_is_not_told(ticker: Ticker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "peak_memory_mib", lambda: None)
    run = run_of(Clock(num_images=12000), Meter(None))
    report(run, ticker, Bar(False), before_first=False)  # type: ignore[arg-type]
    _, _, figures = run.told[0]
    assert {name for name in figures if name.startswith(("machine/", "learning_rate/"))} == {"learning_rate/generator"}
    assert " 0:00:00 left " in run.told[2], "beyond its duration nothing is left"


def test_durations_are_hours_minutes_seconds() -> None:
    assert [eta(seconds) for seconds in (0.9, 61.0, 3600.0, 45296.7)] == ["0:00:00", "0:01:01", "1:00:00", "12:34:56"]


def test_memory_is_the_devices_or_on_a_cpu_the_processs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "peak_memory_mib", lambda: 512.0)
    assert memory_mib(CPU) == 512.0
    asked: list[torch.device] = []
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: asked.append(device) or 3 << 19)
    assert memory_mib(torch.device("cuda:1")) == 1.5 and asked == [torch.device("cuda:1")]


def test_energy_is_the_sum_of_all_ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    # Three more: one on the same machine, whose CPU has been read already, and two on others.
    others = [Reading(1, "node", "1", "CPU", 2.0, False, None, 5.5)]
    others += [Reading(rank, f"{rank}", f"{rank}", "H100", 2.0, True, 6.0, 1.0) for rank in (2, 3)]
    monkeypatch.setattr(dist, "gather_objects", lambda mine: [mine, *(vars(other) for other in others)])
    run = run_of(Clock(num_images=8, joules=100.0), Meter(5.0, 2.0))
    assert count_energy(run) == 19.0 and count_energy(run) == 16.0
    assert run.clock.joules == 135.0 and run.meter.num_starts == 2
    assert run.energy.joules == 35.0 and run.energy.num_images == 8 and len(run.energy.nodes) == 3


def test_energy_is_unknown_where_nothing_was_read() -> None:
    run = run_of(Clock(), Meter(None))
    assert math.isnan(count_energy(run)) and math.isnan(run.clock.joules) and run.energy.joules is None


@pytest.mark.parametrize(
    ("name", "scaled", "healthy"),
    [
        ("loss/total", False, False), ("loss/pixel", True, False), ("gradient_norm/generator", False, False),
        ("gradient_norm/generator", True, True), ("logit/real", False, True),
    ],
)  # fmt: skip
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_losses_and_gradients_must_be_finite(name: str, scaled: bool, healthy: bool, value: float) -> None:
    run = run_of(Clock(), Meter(), scaler=SimpleNamespace(is_enabled=lambda: scaled))
    assert is_healthy(run, {"loss/total": 1.0, name: value}, 0) is healthy


def test_the_loss_is_smoothed_over_fifty_reports_and_explodes_against_the_lowest() -> None:
    run = run_of(Clock(), Meter())
    assert is_healthy(run, {"loss/total": 2.0}, 0)
    assert (run.clock.smoothed_loss, run.clock.lowest_loss) == (2.0, 2.0)
    assert is_healthy(run, {"loss/total": 1.0}, 0)
    assert run.clock.smoothed_loss == pytest.approx(2.0 - 0.02) and run.clock.lowest_loss == pytest.approx(1.98)
    assert is_healthy(run, {"loss/total": 198.0}, 0) and run.clock.lowest_loss == pytest.approx(1.98)
    assert not is_healthy(run, {"loss/total": 198.1}, 0) and not is_healthy(run, {"loss/total": -198.1}, 0)
    run.settings.explosion_factor = 0.0
    assert is_healthy(run, {"loss/total": 1e9}, 0), "0 is for no limit"


def test_an_explosion_shows_in_what_is_not_adversarial() -> None:
    run = run_of(Clock(), Meter(), adversarial=SimpleNamespace(weight=0.5))
    assert is_healthy(run, {"loss/total": 7.0, "loss/adversarial": 12.0}, 0)
    assert run.clock.smoothed_loss == 1.0
    assert is_healthy(run, {"loss/total": 1000.0, "loss/adversarial": 1800.0}, 0)
    assert not is_healthy(run, {"loss/total": 101.0}, 0), "before the adversarial term has begun"


def test_a_term_that_begins_is_no_explosion() -> None:
    """A term of 0.9 joins one of 0.02 in the middle of the second report: 45 times the lowest, with a limit of 20."""
    terms = {name: SimpleNamespace(active=lambda kimg, start=start: kimg >= start) for name, start in TERMS.items()}
    run = run_of(Clock(num_images=100), Meter(), terms=terms)
    run.settings.explosion_factor = 20.0
    assert is_healthy(run, {"loss/total": 0.02}, 0) and run.clock.lowest_loss == 0.02
    # Steps of 4 at 100, 104 ... 196: those from 196 on have the term, one of the 25.
    run.clock.num_images = 200
    assert is_healthy(run, {"loss/total": 0.02 + 0.9 / 25}, 100)
    run.clock.num_images = 300
    assert is_healthy(run, {"loss/total": 0.92}, 200) and run.clock.lowest_loss == 0.92
    run.clock.num_images = 400
    assert not is_healthy(run, {"loss/total": 18.5}, 300)


def test_a_term_is_seen_in_the_step_that_begins_with_it() -> None:
    """At 200 images it is due, and the last step, from 196 on, was without it: the next report is the first with it."""
    terms = {"late": SimpleNamespace(active=lambda kimg: kimg >= 0.2)}
    run = run_of(Clock(num_images=200, smoothed_loss=0.02, lowest_loss=0.02), Meter(), terms=terms)
    run.settings.explosion_factor = 20.0
    assert is_healthy(run, {"loss/total": 0.02}, 100) and run.clock.lowest_loss == 0.02
    run.clock.num_images = 300
    assert is_healthy(run, {"loss/total": 0.92}, 200)


def test_a_loss_of_almost_nothing_does_not_explode_at_once() -> None:
    run = run_of(Clock(), Meter())
    assert is_healthy(run, {"loss/total": -1e-9}, 0) and run.clock.lowest_loss == 1e-9
    assert is_healthy(run, {"loss/total": 0.99e-4}, 0) and not is_healthy(run, {"loss/total": 1.01e-4}, 0)


def test_what_a_state_had_summed_goes_to_the_device() -> None:
    packed = {
        "num_images": 4, "seconds": 1.0, "joules": 0.0, "data_seconds": 0.0, "paused_seconds": 0.0,
        "ranks": [{"sums": {"loss/total": 1.0}, "counts": {"loss/total": 2}}],
    }  # fmt: skip
    total = Ticker(0, packed, torch.device("meta")).sums["loss/total"]
    assert total.is_meta and total.dtype == torch.float32
