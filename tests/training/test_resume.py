"""Resuming and rolling back: what a stopped run leaves is what an uninterrupted one would have left."""

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer
from torch import Tensor

from facesr.config import TrainSettings
from facesr.errors import EXIT_REQUEUE, TrainingError
from facesr.training import loop
from facesr.training.loop import train
from facesr.training.report import Ticker
from tests.training.conftest import asked_to_stop_at, final_state

Make = Callable[..., TrainSettings]
# What depends on the machine and the moment.
OF_THE_MOMENT = ("seconds", "joules", "energy", "speed/", "machine/", "data_seconds", "paused_seconds")


def without_the_moment(value: Any) -> Any:
    """Returns a state or a line of figures without times, speeds and energy."""
    if isinstance(value, dict):
        return {k: without_the_moment(v) for k, v in value.items() if not str(k).startswith(OF_THE_MOMENT)}
    return [without_the_moment(one) for one in value] if isinstance(value, list | tuple) else value


def differences(first: Any, second: Any, path: str = "") -> list[str]:
    """Returns the paths at which two structures are not the same to the bit."""
    if isinstance(first, dict) and isinstance(second, dict):
        keys = sorted({*first, *second}, key=str)
        return [one for key in keys for one in differences(first.get(key), second.get(key), f"{path}/{key}")]
    if isinstance(first, list) and isinstance(second, list) and len(first) == len(second):
        return [d for i, pair in enumerate(zip(first, second, strict=True)) for d in differences(*pair, f"{path}/{i}")]
    if isinstance(first, Tensor) and isinstance(second, Tensor):
        return [] if torch.equal(first, second) else [path]
    return [] if first == second or (first != first and second != second) else [path]


def told(settings: TrainSettings) -> list[dict[str, Any]]:
    """Returns the lines of stats.jsonl."""
    path = Path(settings.runs_dir) / settings.name / "stats.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()]


def curves(settings: TrainSettings) -> dict[str, list[tuple[int, float]]]:
    """Returns what TensorBoard shows: each curve's points."""
    events = EventAccumulator(str(Path(settings.runs_dir) / settings.name))
    events.Reload()
    found = {tag: [(point.step, point.value) for point in events.Scalars(tag)] for tag in events.Tags()["scalars"]}
    shown = list(events.Tags()["images"] + events.Tags()["histograms"])
    return {**without_the_moment(found), "shown": [(number, 0.0) for number, _ in enumerate(sorted(shown))]}


# Between two reports (every second step), where the adversarial loss has just begun; later, and right after a report.
@pytest.mark.parametrize("step", [3, pytest.param(5, marks=pytest.mark.slow), pytest.param(6, marks=pytest.mark.slow)])
def test_a_stopped_run_leaves_what_an_uninterrupted_one_leaves(
    tiny: Make, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, step: int
) -> None:
    num_steps = 4 * -(-step // 4)
    random = ("losses.identity.views=0.5", "degradation=random", f"duration_kimg={num_steps * 4 / 1000}")
    whole = tiny(f"runs_dir={tmp_path}/whole", "name=r", *random)
    stopped = tiny(f"runs_dir={tmp_path}/stopped", "name=r", *random)
    assert train(whole) == 0
    with monkeypatch.context() as patch:
        patch.setattr(loop, "train_step", asked_to_stop_at(step))
        assert train(stopped) == EXIT_REQUEUE
    assert final_state(stopped)["clock"]["num_images"] == 4 * step
    torch.manual_seed(999)  # a new process would not have the old one's generator
    assert train(stopped) == 0
    first, second = (without_the_moment(final_state(settings)) for settings in (whole, stopped))
    assert first["clock"]["num_images"] == 4 * num_steps and {"generator", "discriminator", "unreported"} < set(first)
    assert differences(first, second) == []
    assert differences(without_the_moment(told(whole)), without_the_moment(told(stopped))) == []
    assert curves(whole) == curves(stopped) and "loss/total" in curves(whole)
    for path in sorted((tmp_path / "whole" / "r" / "snapshots").iterdir()):
        assert path.read_bytes() == (tmp_path / "stopped" / "r" / "snapshots" / path.name).read_bytes(), path.name


@pytest.mark.slow
def test_a_run_killed_before_its_first_state_tells_nothing_twice(bare: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = bare("duration_kimg=0.008", "log_every_kimg=0.004", "validation_every_kimg=1", "name=young")

    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(loop, "save_state", killed)
        with pytest.raises(KeyboardInterrupt):
            train(settings)
    assert train(settings) == 0
    assert [number for number, _ in curves(settings)["loss/total"]] == [4, 8]
    assert [line["num_images"] for line in told(settings) if "loss/total" in line] == [4, 8]


@pytest.mark.slow
def test_tensorboard_calls_runs_by_their_names_and_an_old_run_is_one_run(bare: Make) -> None:
    few = ("log_every_kimg=0.004", "validation_every_kimg=1", "state_every_kimg=0.004")
    for name in ("new", "old"):
        assert train(bare(*few, "duration_kimg=0.004", f"name={name}")) == 0
    longer = bare(*few, "duration_kimg=0.008", "name=old")
    runs = Path(longer.runs_dir)
    # Where runs had their events before.
    (runs / "old" / "tensorboard").mkdir()
    for path in (runs / "old").glob("events.*"):
        path.rename(path.parent / "tensorboard" / path.name)
    assert train(longer) == 0
    shown = EventMultiplexer()
    shown.AddRunsFromDirectory(str(runs))
    shown.Reload()
    assert set(shown.Runs()) == {"new", "old"} and not (runs / "old" / "tensorboard").exists()
    assert [point.step for point in shown.Tensors("old", "loss/total")] == [4, 8]


@pytest.mark.slow
def test_a_state_from_before_partial_reports_were_kept_still_loads(bare: Make) -> None:
    settings = bare("duration_kimg=0.016", "name=old")
    assert train(settings) == 0
    folder = Path(settings.runs_dir) / "old" / "state"
    from facesr.snapshots.snapshot import write_state

    for path in folder.glob("*000016*"):
        path.unlink()
    state = final_state(settings)
    del state["unreported"]
    write_state(folder, state["clock"]["num_images"], state)
    assert train(settings) == 0
    assert final_state(settings)["clock"]["num_images"] == 16


def test_other_ranks_go_on_from_the_mean_of_the_former_ones() -> None:
    ranks = [{"sums": {"loss/total": total}, "counts": {"loss/total": 2}} for total in (1.0, 3.0)]
    packed = {"num_images": 8, "seconds": 5.0, "joules": 7.0, "data_seconds": 1.0, "paused_seconds": 2.0}
    ticker = Ticker(12, {**packed, "ranks": ranks}, torch.device("cpu"))
    ticker.add({"loss/total": torch.tensor(4.0)})
    assert ticker.means() == {"loss/total": (2.0 + 4.0) / 3}
    assert (ticker.num_images, ticker.joules, ticker.data_seconds) == (8, 7.0, 1.0)
    again = ticker.packed()
    assert again is not None and again["seconds"] == pytest.approx(5.0, abs=1.0)
    assert again["ranks"] == [{"sums": {"loss/total": 6.0}, "counts": {"loss/total": 3}}]


# Rolling back


def poisoned_from(kimg: float, times: int) -> Callable[..., Any]:
    """Returns the training step with a loss that is not finite, so many times, from a clock on."""
    plain, left = loop.train_step, [times]

    def step(gan: Any, parts: Any, at_kimg: float, landmarks: Any) -> Any:
        figures = plain(gan, parts, at_kimg, landmarks)
        if at_kimg >= kimg and left[0]:
            left[0] -= 1
            figures["loss/total"] = figures["loss/total"] * float("nan")
        return figures

    return step


@pytest.mark.slow
def test_a_rollback_halves_the_rate_for_good(bare: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    rare = ("validation_every_kimg=1", "duration_kimg=0.02", "log_every_kimg=0.004")
    settings = bare("name=back", "schedule.kind=constant", "generator_optimizer.lr=0.004", *rare)
    monkeypatch.setattr(loop, "train_step", poisoned_from(0.012, 1))
    assert train(settings) == 0
    rates = [(line["num_images"], line["learning_rate/generator"]) for line in told(settings) if "loss/total" in line]
    # Poisoned on the way to 16: back to the state at 8, whose reports stay, and from there on at half the rate.
    assert rates == [(4, 0.004), (8, 0.004), (12, 0.002), (16, 0.002), (20, 0.002)]
    rates = [rate for line in told(settings) if (rate := line.get("learning_rate/discriminator"))]
    assert rates[0] == rates[1] > 0 and set(rates[2:]) == {rates[0] / 2}
    assert [point for point in curves(settings)["loss/total"] if point[1] != point[1]] == []
    clock = final_state(settings)["clock"]
    assert (clock["rate_factor"], clock["num_rollbacks"]) == (0.5, 1)
    # Whoever goes on keeps the rate.
    for path in (Path(settings.runs_dir) / "back" / "state").glob("*000020*"):
        path.unlink()
    assert train(settings) == 0
    assert told(settings)[-2]["learning_rate/generator"] == 0.002


@pytest.mark.slow
@pytest.mark.parametrize("stops", [False, True])
def test_what_is_not_finite_is_neither_saved_nor_validated(
    bare: Make, monkeypatch: pytest.MonkeyPatch, stops: bool
) -> None:
    """Weights are destroyed at 12, as a step on a GPU may, where a state is due or a stop asked for, and no report."""
    rare = ("log_every_kimg=0.02", "duration_kimg=0.02")
    often = ("state_every_kimg=0.008",) if stops else ("state_every_kimg=0.004", "validation_every_kimg=0.012")
    settings = bare("name=lost", *rare, *often)
    plain = loop.train_step
    left = [1]

    def step(gan: Any, parts: Any, kimg: float, *more: Any) -> Any:
        figures = plain(gan, parts, kimg, *more)
        if kimg >= 0.008 and left:
            left.pop()
            with torch.no_grad():
                next(gan.generator.parameters()).fill_(float("nan"))
            if stops:
                os.kill(os.getpid(), signal.SIGTERM)
            return {**figures, "gradient_norm/generator": torch.tensor(float("nan"))}
        return figures

    monkeypatch.setattr(loop, "train_step", step)
    assert train(settings) == (EXIT_REQUEUE if stops else 0)
    folder = Path(settings.runs_dir) / "lost"
    log = (folder / "log.txt").read_text()
    if stops:
        assert "asked to stop: the loss is not finite, so the same command resumes at the last state" in log
        assert sorted(path.name for path in (folder / "state").glob("*.pt")) == ["000000008.pt"]
        assert train(settings) == 0
    else:
        assert "not finite or exploded at 0.012 kimg: back to 0.008 kimg" in log
    assert all(torch.isfinite(value).all() for value in final_state(settings)["generator"].values())


def test_a_second_loss_that_is_not_finite_ends_the_run(bare: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = bare("name=nan", "validation_every_kimg=1", "duration_kimg=0.02")
    monkeypatch.setattr(loop, "train_step", poisoned_from(0.012, 99))
    with pytest.raises(TrainingError, match=r"not finite or exploded at 0\.016 kimg"):
        train(settings)
    log = (Path(settings.runs_dir) / "nan" / "log.txt").read_text()
    assert log.count("at half the learning rate (once)") == 1


def test_the_average_follows_the_network_in_the_loop(bare: Make) -> None:
    settings = bare("name=follows", "duration_kimg=0.008", "ema_halflife_kimg=0")
    assert train(settings) == 0
    state = final_state(settings)
    assert differences(state["generator"], state["average"]) == []
    slower = bare("name=slower", "duration_kimg=0.008", "state_every_kimg=0.004", "ema_halflife_kimg=0.002")
    assert train(slower) == 0
    states = [
        torch.load(path, weights_only=True)
        for path in sorted((Path(slower.runs_dir) / "slower" / "state").glob("*.pt"))
    ]
    assert [state["clock"]["num_images"] for state in states] == [4, 8]
    # The half-life is 5 % of 8 images, 0.4 images, and a step shows 4: ten half-lives.
    share = 0.5**10
    for name, before in states[0]["average"].items():
        expected = share * before + (1 - share) * states[1]["generator"][name]
        torch.testing.assert_close(states[1]["average"][name], expected, rtol=1e-6, atol=1e-7, msg=name)
