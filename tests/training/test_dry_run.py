"""A dry run: what it tells against figures worked out by hand, and that it leaves nothing behind."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from facesr.config import TrainSettings
from facesr.errors import EXIT_REQUEUE, CheckpointError, ConfigError, WeightsError
from facesr.training import command, dry_run, measure
from facesr.training.dry_run import Length, dry_run_recipe, length_of, seconds_from
from facesr.training.measure import Kept, Phase, optimizer_bytes, phase_bounds
from facesr.training.recipe import Recipe, Stage, compose
from facesr.training.request import Request
from facesr.training.rundir import run_folder
from tests.training.test_recipe import pretend

Make = Callable[..., TrainSettings]
# The tiny FaceSR: 3x3 convolutions 3 to 32, three 32 to 32 and 32 to 128 at 24x28, then two 32 to 32 and 32 to 12.
AT_INPUT, AT_TWICE = 9 * (3 * 32 + 3 * 32 * 32 + 32 * 128), 9 * (2 * 32 * 32 + 32 * 12)
PARAMETERS = AT_INPUT + AT_TWICE + 4 * 32 + 128 + 2 * 32 + 12
MACS = 24 * 28 * AT_INPUT + 48 * 56 * AT_TWICE


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measures one step instead of ten."""
    monkeypatch.setattr(measure, "WARM_UP_STEPS", 0)
    monkeypatch.setattr(measure, "MEASURED_STEPS", 1)


def left_in(folder: Path) -> dict[str, tuple[bytes, int]]:
    """Returns every file below a folder with its bytes and when it was written."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): (path.read_bytes(), path.stat().st_mtime_ns) for path in files}


# By hand


def test_the_length_of_a_run_by_hand(bare: Make) -> None:
    settings = bare("duration_kimg=0.1", "batch_size=16", "validation_every_kimg=0.03", "state_every_kimg=0.112")
    # 16 32* 48 64* 80 96* 112*: at 30, 60 and 90, and at the end.
    assert length_of(settings) == Length(num_steps=7, num_images=112, num_validations=4, num_states=1)
    # A step that passes several multiples is one, and so is an end that is a multiple.
    assert length_of(replace(settings, validation_every_kimg=0.001)).num_validations == 7
    assert length_of(replace(settings, validation_every_kimg=0.056)).num_validations == 2


def test_a_terms_start_begins_a_phase(bare: Make) -> None:
    settings = bare("duration_kimg=0.1", "losses.adversarial.start_kimg=0.06", "losses.pixel.start_kimg=0")
    assert phase_bounds(settings) == [(0.0, 0.06), (0.06, 0.1)]
    # What begins with the run or after its end divides nothing.
    assert phase_bounds(replace(settings, duration_kimg=0.06)) == [(0.0, 0.06)]


def test_the_time_of_a_run_by_hand(bare: Make) -> None:
    settings = bare("duration_kimg=0.1", "batch_size=10", "validation_every_kimg=0.05")
    phases = [
        Phase(0.0, 0.06, step_seconds=2.0, data_seconds=0.0),
        Phase(0.06, 0.1, step_seconds=5.0, data_seconds=1.0),
    ]
    # 6 steps of 2 s, 4 of 5 s; bicubic interpolation, and validations at 50 and 100.
    assert seconds_from(0, settings, phases, validation=7.0) == pytest.approx(12 + 20 + 3 * 7)
    # From 70 on: 3 steps of 5 s, bicubic interpolation, and the validation at 100.
    assert seconds_from(70, settings, phases, validation=7.0) == pytest.approx(15 + 2 * 7)
    assert seconds_from(100, settings, phases, validation=7.0) == 0.0


def test_what_is_kept_for_the_backward_pass_is_counted_once_and_let_go() -> None:
    layer = nn.Linear(10, 20, bias=False)
    kept = Kept(layer)
    start = torch.ones(5, 10, requires_grad=True)
    for _ in range(2):
        with kept.counting():
            # The layer keeps its input, 200 bytes; exp and sigmoid their outputs, 400 each. The weight does not count.
            value = layer(start).exp().sigmoid().sum()
        value.backward()
    del value
    assert kept.peak == 200 + 400 + 400
    with kept.counting():
        output = layer(start)
        twice = (output * output).sum()  # both factors are one memory
    assert kept.peak == 1000
    del twice, output
    with kept.counting():
        assert layer(start).exp().exp().exp().sum() > 0
    assert kept.peak == 200 + 3 * 400


def test_the_state_of_adam_is_two_numbers_a_weight_and_the_step() -> None:
    layer = nn.Linear(10, 20, bias=False)
    optimizer = torch.optim.Adam(layer.parameters())
    assert optimizer_bytes(optimizer) == optimizer_bytes(None) == 0
    layer(torch.ones(1, 10)).sum().backward()
    optimizer.step()
    assert optimizer_bytes(optimizer) == 4 * (200 + 200 + 1)


# Whole


@pytest.mark.usefixtures("short")
def test_a_dry_run_tells_counts_and_writes_nothing(
    bare: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = bare("name=dry", "validation_every_kimg=1")
    assert dry_run.dry_run(settings) == 0
    assert list(tmp_path.iterdir()) == []
    told = capsys.readouterr().out
    lines = told.splitlines()
    assert lines[0] == "== run dry" and "duration_kimg: 0.032" in lines and "  num_blocks: 1" in lines
    table = {
        line.split()[0]: line.split() for line in lines if line.startswith(("generator Face", "discriminator UNet"))
    }
    assert table["generator"][2] == f"{PARAMETERS:,}" and table["generator"][3] == f"{MACS / 1e9:.3f}"
    assert "0.032 kimg: 8 steps of 4 faces, 32 images; 1 validations of 4 pictures, 4 states" in lines
    assert [line.split(":")[0] for line in lines if " ms a step" in line] == ["from 0.0 kimg", "from 0.008 kimg"]
    assert "residency host" in told and "estimated time: 0:0" in told and lines[-1].startswith("dry run: nothing")
    weights = next(line for line in lines if line.startswith("gradients"))
    discriminator = int(table["discriminator"][2].replace(",", ""))
    assert float(weights.split()[1]) == pytest.approx(4 * (PARAMETERS + discriminator) / 2**20, abs=0.06)


@pytest.mark.usefixtures("short")
def test_a_dry_run_of_a_run_that_has_begun_leaves_its_folder_as_it_is(
    bare: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = bare("name=begun")
    folder = pretend(Stage(1, 1, settings), kimg=0.016)
    # What a kill has left is swept by the run, not by looking at it.
    (folder / "state" / ".000000024.pt.1.tmp").write_bytes(b"half")
    before = left_in(tmp_path)
    assert dry_run.dry_run(settings) == 0
    assert left_in(tmp_path) == before
    assert " of it are left from 0.016 kimg on" in capsys.readouterr().out
    with pytest.raises(ConfigError, match=r"differs in seed \(1 there, 2 here\)"):
        dry_run.dry_run(replace(settings, seed=2))
    assert left_in(tmp_path) == before


def test_a_dry_run_refuses_what_the_run_would(bare: Make, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"missing\.safetensors"):
        dry_run.dry_run(bare("start_from=missing.safetensors"))
    with pytest.raises(ConfigError, match="accumulation_steps"):
        dry_run.dry_run(bare("accumulation_steps=3"))
    assert list(tmp_path.iterdir()) == []


def test_the_command_looks_where_it_is_asked_to_look(bare: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    for name, home in (
        ("train", "loop"), ("dry_run", "dry_run"), ("train_recipe", "recipe_run"), ("dry_run_recipe", "dry_run")
    ):  # fmt: skip
        place = f"facesr.training.{home}.{name}"
        monkeypatch.setattr(place, lambda given, name=name: done.append(f"{name} {given.name}") or 0)
    one = bare("name=n1")
    runs, recipe = (one, replace(one, name="n2")), Recipe("chain", ())
    for dry in (False, True):
        for asked in (Request(runs, dry_run=dry), Request(recipe=recipe, dry_run=dry), Request()):
            monkeypatch.setattr(command, "read_request", lambda words, asked=asked: asked)
            assert command.run([]) == 0
    assert done == [
        "train n1", "train n2", "train_recipe chain", "dry_run n1", "dry_run n2", "dry_run_recipe chain",
    ]  # fmt: skip


def test_a_sweep_that_is_asked_to_stop_stops(bare: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    one = bare("name=n1")
    asked = Request((one, replace(one, name="n2")))
    monkeypatch.setattr(command, "read_request", lambda words: asked)
    monkeypatch.setattr("facesr.training.loop.train", lambda given: done.append(given.name) or EXIT_REQUEUE)
    assert command.run([]) == EXIT_REQUEUE and done == ["n1"]
    # In the last step of a run, which then is complete.
    monkeypatch.setattr("facesr.training.loop.train", lambda given: done.append(given.name) or 0)
    monkeypatch.setattr(command.requests, "came", True)
    assert command.run([]) == EXIT_REQUEUE and done == ["n1", "n1"]


@pytest.mark.slow
@pytest.mark.usefixtures("short")
def test_a_dry_run_of_a_recipe_adds_up_what_is_left(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = compose("asc19_psnr", [f"runs_dir={tmp_path}/runs", "device=cpu"], rehearsal=True)
    assert dry_run_recipe(recipe) == 0
    assert list(tmp_path.iterdir()) == []
    told = capsys.readouterr().out
    assert told.index("== stage 1 of 2: rehearsal_asc19_pixel\n") < told.index(
        "== stage 2 of 2: rehearsal_asc19_pixel_l"
    )
    assert "recipe asc19_psnr: 8 steps are left" in told
    pretend(recipe.stages[0])
    # The second one's weights are those of the first one's snapshot, which here is none.
    with pytest.raises(WeightsError, match=r"^stage 2 of 2"):
        dry_run_recipe(recipe)
    assert run_folder(recipe.stages[1].settings).exists() is False
