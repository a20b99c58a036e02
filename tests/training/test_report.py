"""What is summed between two reports, and what a state keeps of it."""

import time

import pytest
import torch

from facesr import dist
from facesr.training.report import Ticker

CPU = torch.device("cpu")


class Clock:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        monkeypatch.setattr(time, "perf_counter", lambda: self.now)


def filled(clock: Clock) -> Ticker:
    ticker = Ticker(4000, {}, CPU)
    clock.now += 2.0
    ticker.add({"loss/total": torch.tensor(1.0), "loss/r1": torch.tensor(8.0)})
    clock.now += 3.0
    ticker.restart_clock()  # three seconds since the last step
    clock.now += 1.0
    ticker.add({"loss/total": torch.tensor(2.0)})
    ticker.data_seconds, ticker.joules = 0.5, 70.0
    return ticker


def test_a_figures_mean_is_over_the_steps_that_have_it(monkeypatch: pytest.MonkeyPatch) -> None:
    ticker = filled(Clock(monkeypatch))
    assert ticker.means() == {"loss/total": 1.5, "loss/r1": 8.0}
    ticker.reset(5000)
    assert (ticker.sums, ticker.counts, ticker.num_images, ticker.joules) == ({}, {}, 5000, 0.0)


def test_a_state_keeps_what_was_summed(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    packed = filled(clock).packed()
    sums, counts = {"loss/total": 3.0, "loss/r1": 8.0}, {"loss/total": 2, "loss/r1": 1}
    assert packed == {
        "num_images": 4000, "seconds": 6.0, "joules": 70.0, "data_seconds": 0.5, "paused_seconds": 3.0,
        "ranks": [{"sums": sums, "counts": counts}],
    }  # fmt: skip
    clock.now = 900.0
    again = Ticker(0, packed, CPU)
    assert again.packed() == packed and again.means() == {"loss/total": 1.5, "loss/r1": 8.0}
    clock.now += 5.0
    again.restart_clock()
    assert again.paused_seconds == 3.0 + 5.0


def test_other_ranks_go_on_from_the_mean_and_their_own_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    packed = filled(Clock(monkeypatch)).packed()
    assert packed is not None
    packed["ranks"].append({"sums": {"loss/total": 5.0, "loss/r1": 0.0}, "counts": {"loss/total": 2, "loss/r1": 1}})
    assert Ticker(0, packed, CPU).means() == {"loss/total": 2.0, "loss/r1": 4.0}
    monkeypatch.setattr(dist, "world_size", lambda: 2)
    monkeypatch.setattr(dist, "rank", lambda: 1)
    ticker = Ticker(0, packed, CPU)
    assert {name: value.item() for name, value in ticker.sums.items()} == {"loss/total": 5.0, "loss/r1": 0.0}
    monkeypatch.setattr(dist, "gather_objects", lambda mine: None)
    assert ticker.packed() is None
