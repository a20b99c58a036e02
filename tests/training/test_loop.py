"""Whole runs, tiny ones: resume, refusal, rollback, what the folder holds."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from facesr.config import TrainSettings
from facesr.errors import CheckpointError, ConfigError, DataError
from facesr.snapshots.snapshot import newest_state, read_snapshot
from facesr.training import loop
from facesr.training.loop import due, train
from tests.training.conftest import final_state

Make = Callable[..., TrainSettings]


@pytest.mark.slow
def test_run_folder_holds_everything(tiny: Make, capsys: pytest.CaptureFixture[str]) -> None:
    settings = tiny("name=full")
    assert train(settings) == 0
    folder = Path(settings.runs_dir) / "full"
    assert {path.name.partition(".tfevents")[0] for path in folder.iterdir()} == {
        "config.yaml", "energy.json", "final_scores.csv", "log.txt", "stats.jsonl", "snapshots", "state", "events.out"
    }  # fmt: skip
    best = read_snapshot(folder / "snapshots" / "best.safetensors")
    assert best.run == "full" and best.loss_judges == ("builtin",) and "is/builtin" in best.scores
    lines = [json.loads(line) for line in (folder / "stats.jsonl").read_text().splitlines()]
    assert [line["num_images"] for line in lines] == [8, 16, 16, 24, 32, 32]
    assert any("loss/discriminator" in line for line in lines) and any("validation/psnr_rgb" in line for line in lines)
    printed = capsys.readouterr().out
    assert "bicubic" in printed and "IS" in printed and "PSNR" in printed


@pytest.mark.slow
def test_stats_of_a_killed_run_are_not_told_twice(bare: Make) -> None:
    settings = bare("name=killed")
    assert train(settings) == 0
    folder = Path(settings.runs_dir) / "killed"
    for path in (folder / "state").glob("000000032*"):
        path.unlink()
    assert train(settings) == 0
    numbers = [json.loads(line)["num_images"] for line in (folder / "stats.jsonl").read_text().splitlines()]
    assert numbers == sorted(numbers) and numbers.count(32) == 2


def test_another_configuration_under_the_name_is_refused(bare: Make) -> None:
    train(bare("name=taken", "duration_kimg=0.004"))
    with pytest.raises(ConfigError, match=r"differs in generator_optimizer\.lr \(0\.001 there, 0\.1 here\)"):
        train(bare("name=taken", "duration_kimg=0.004", "generator_optimizer.lr=0.1"))


@pytest.mark.slow
def test_a_run_may_go_on_for_longer_but_not_for_less(bare: Make, capsys: pytest.CaptureFixture[str]) -> None:
    first = bare("name=longer", "duration_kimg=0.008", "schedule.kind=constant")
    train(first)
    capsys.readouterr()
    longer = bare("name=longer", "duration_kimg=0.016", "schedule.kind=constant", "num_snapshots_kept=7")
    train(longer)
    told = capsys.readouterr().out
    assert "goes on with another duration_kimg from 0.008 to 0.016, num_snapshots_kept from" in told
    # With a constant rate it is the run that had been longer from the beginning, to the bit.
    at_once = bare("name=at_once", "duration_kimg=0.016", "schedule.kind=constant", "num_snapshots_kept=7")
    train(at_once)
    for name, tensor in final_state(at_once)["generator"].items():
        assert torch.equal(tensor, final_state(longer)["generator"][name])
    # Stopped before its first state of the longer run: config.yaml says 0.016 already, and the state is of 0.008.
    stopped = bare("name=stopped", "duration_kimg=0.008", "schedule.kind=constant")
    train(stopped)
    folder = Path(stopped.runs_dir)
    (folder / "stopped" / "config.yaml").write_text(
        (folder / "longer" / "config.yaml").read_text().replace("name: longer", "name: stopped")
    )
    assert train(bare("name=stopped", "duration_kimg=0.016", "schedule.kind=constant", "num_snapshots_kept=7")) == 0
    with pytest.raises(ConfigError, match=r"duration_kimg \(0\.016 there, 0\.008 here: shorter\)"):
        train(first)


def test_a_mistake_does_not_take_the_name(bare: Make) -> None:
    with pytest.raises(CheckpointError):
        train(bare("name=mistaken", "start_from=missing.safetensors"))
    assert train(bare("name=mistaken", "duration_kimg=0.004")) == 0


@pytest.mark.slow
def test_a_state_cut_off_by_a_kill_is_passed_over(bare: Make) -> None:
    settings = bare("name=cut", "duration_kimg=0.016")
    train(settings)
    folder = Path(settings.runs_dir) / "cut" / "state"
    newest = sorted(folder.glob("*.pt"))[-1]
    newest.write_bytes(newest.read_bytes()[:1000])
    (folder / ".000000040.pt.1.tmp").write_bytes(b"half")
    found = newest_state(folder)
    assert found is not None and found[0] != newest
    assert not list(folder.glob(".*.tmp"))


@pytest.mark.slow
def test_a_full_disk_leaves_the_old_state(bare: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = bare("name=disk", "duration_kimg=0.016")
    plain, calls = torch.save, []

    def full(value: Any, file: Any) -> None:
        calls.append(1)
        if len(calls) == 2:
            file.write(b"some of it")
            raise OSError(28, "No space left on device")
        plain(value, file)

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(CheckpointError, match="No space left"):
        train(settings)
    found = newest_state(Path(settings.runs_dir) / "disk" / "state")
    assert found is not None and found[1]["clock"]["num_images"] == 8
    assert train(settings) == 0


@pytest.mark.parametrize("anew", [True, False])
def test_a_folder_that_is_taken_away_ends_the_run(bare: Make, monkeypatch: pytest.MonkeyPatch, anew: bool) -> None:
    settings = bare("name=r", "validation_every_kimg=100")
    folder = Path(settings.runs_dir) / "r"
    plain = loop.train_step

    def taking(gan: Any, *given: Any) -> Any:
        if gan.num_steps == 2:
            folder.rename(folder.with_name("away"))
            if anew:  # as an empty folder shows where a file system was mounted
                folder.mkdir()
        return plain(gan, *given)

    monkeypatch.setattr(loop, "train_step", taking)
    with pytest.raises(CheckpointError, match="was removed or its file system was taken away"):
        loop.train(settings)
    assert not (folder / "state").exists()


@pytest.mark.parametrize(
    ("overrides", "error", "words"),
    [
        (("batch_size=25",), DataError, "24 faces, fewer than batch_size=25"),
        (("batch_size=0",), ConfigError, "batch_size=0"),
        (("accumulation_steps=3",), ConfigError, "accumulation_steps=3"),
        (("precision=int8",), ConfigError, "precision=int8"),
        (("gradient_precision=fp8",), ConfigError, "gradient_precision=fp8 is unknown; choose fp32 or bf16"),
        (("gradient_sync=ddp",), ConfigError, "gradient_sync=ddp is unknown; choose flat or overlap"),
        (("device=tpu",), ConfigError, "device=tpu"),
        (("discriminator=none", "~discriminator.num_channels"), ConfigError, "no discriminator"),
        (("generator=bicubic",), ConfigError, "nothing to train|cannot be built"),
        (("name=../escape",), ConfigError, "cannot be a folder"),
        (("data.residency=moon",), ConfigError, "residency=moon"),
        (("schedule.kind=wave",), ConfigError, "schedule.kind=wave"),
        (("start_from=missing.safetensors",), CheckpointError, "missing.safetensors"),
        (("+loss@losses.second=adversarial_vanilla",), ConfigError, r"losses\.second are both adversarial"),
    ],
)
def test_bad_settings_are_one_sentence(bare: Make, overrides: tuple[str, ...], error: type, words: str) -> None:
    if overrides[0].startswith("discriminator=none"):
        settings = bare()
        settings.discriminator = {}
    elif overrides[0] == "generator=bicubic":
        settings = bare()
        settings.generator = {"_target_": "facesr.models.interpolation.Bicubic"}
    else:
        settings = None
    with pytest.raises(error, match=words) as caught:
        train(settings or bare(*overrides))
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_start_from_a_snapshot_begins_with_its_weights(bare: Make) -> None:
    first = bare("name=first", "duration_kimg=0.004")
    train(first)
    best = Path(first.runs_dir) / "first" / "snapshots" / "best.safetensors"
    expected = read_snapshot(best).state
    for name, start in (("from_file", best), ("from_run_folder", best.parent.parent)):
        second = bare(
            f"name={name}", "seed=2", "duration_kimg=0.004", "generator_optimizer.lr=0", f"start_from={start}"
        )
        train(second)
        for key, tensor in final_state(second)["generator"].items():
            assert torch.equal(tensor, expected[key]), (name, key)


@pytest.mark.slow
def test_accumulated_parts_equal_one_batch(tiny: Make) -> None:
    # In bf16 the judge's rounding would depend on how the batch is cut.
    plain = ("losses.adversarial.start_kimg=1000", "losses.identity.embedder.precision=fp32")
    train(tiny("name=one", "duration_kimg=0.008", *plain))
    train(tiny("name=two", "duration_kimg=0.008", "accumulation_steps=2", *plain))
    one, two = final_state(tiny("name=one")), final_state(tiny("name=two"))
    for name, tensor in one["generator"].items():
        torch.testing.assert_close(tensor, two["generator"][name], rtol=0, atol=2e-4)


def test_due_counts_images() -> None:
    assert due(990, 1010, 1.0) and not due(1000, 1020, 1.0) and due(0, 4000, 1.0)
