"""Several ranks as torchrun starts them, and a run that is killed."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from facesr.config import TrainSettings
from facesr.snapshots.snapshot import newest_state
from facesr.training.loop import train
from tests.ranks import ended, run_as_ranks, run_worlds, start_as_ranks
from tests.training.conftest import TINY

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_two_ranks_train_as_one_with_twice_the_batch(tmp_path: Path) -> None:
    # R1's second derivatives, the relativistic batch average and the identity term with random views all take part.
    # Plain SGD: Adam would blow up the rounding of gradients that are zero, such as a relativistic last bias.
    target = "facesr.losses.adversarial.RelativisticAverage"
    overrides = [f"losses.adversarial._target_={target}", "duration_kimg=0.024", "name=r"]
    # In bf16 the judge's rounding would depend on how many faces it sees at once.
    overrides += ["losses.identity.embedder.precision=fp32", "losses.identity.views=0.5", "losses.identity.weight=1.0"]
    for optimizer in ("generator_optimizer", "discriminator_optimizer"):
        overrides += [f"{optimizer}._target_=torch.optim.SGD", f"{optimizer}.lr=0.05"]
        overrides += [f"~{optimizer}.betas", f"~{optimizer}.eps"]
    worlds = ((1, "one", "flat"), (2, "two", "flat"), (2, "overlapped", "overlap"))
    one, two, overlapped = run_worlds(
        "train.py",
        [
            (num, [*TINY, f"runs_dir={tmp_path / name}", *overrides, f"gradient_sync={sync}"], {})
            for num, name, sync in worlds
        ],
    )
    for result in [*one, *two, *overlapped]:
        assert result.returncode == 0, result.stderr
    assert "bicubic" in two[0].stdout and two[1].stdout == ""
    first, last = state_of(tmp_path / "one", 0), state_of(tmp_path / "one", -1)
    shared_out, also = state_of(tmp_path / "two", -1), state_of(tmp_path / "overlapped", -1)
    for part in ("generator", "average", "discriminator"):
        moved = 0.0
        for name, tensor in last[part].items():
            moved = max(moved, float((tensor - first[part][name]).abs().max()))
            torch.testing.assert_close(tensor, shared_out[part][name], rtol=1e-4, atol=2e-6, msg=f"{part} {name}")
            assert torch.equal(also[part][name], shared_out[part][name]), f"{part} {name}"
        assert moved > 2e-5, f"{part} did not move, so nothing was compared"


def state_of(runs_dir: Path, number: int) -> dict[str, Any]:
    """Returns one of the states that a run kept, oldest first."""
    path = sorted((runs_dir / "r" / "state").glob("*.pt"))[number]
    state: dict[str, Any] = torch.load(path, weights_only=True)
    return state


@pytest.mark.slow
def test_nothing_keeps_the_group_alive_that_a_rank_has_left() -> None:
    # Its threads would go on while Python ends, and abort the process now and then.
    results = run_as_ranks(2, "tests/training/leaving.py", [])
    assert [result.stdout for result in results] == ["True True\n"] * 2, [result.stderr for result in results]


@pytest.mark.slow
def test_an_overflow_of_one_rank_is_skipped_by_all() -> None:
    results = run_as_ranks(2, "tests/training/overflow.py", [])
    assert [result.returncode for result in results] == [0, 0], [result.stderr for result in results]
    first, second = (json.loads(result.stdout) for result in results)
    # 0.5 stays, and all lower the scale from 2^16 to 2^15; then two steps of 0.5 * 0.4 for all.
    assert first == second
    assert first[0] == [0.5, 2.0**15]
    assert first[1] == [pytest.approx(0.7), 2.0**15] and first[2] == [pytest.approx(0.9), 2.0**15]


@pytest.mark.slow
def test_a_bad_key_under_two_ranks_is_told_once(tmp_path: Path) -> None:
    results = ended(start_as_ranks(2, "train.py", [*TINY, f"runs_dir={tmp_path}", "batch_sise=3"]))
    assert [result.returncode for result in results] == [2, 2]
    said = "".join(result.stderr for result in results)
    assert said.count("error:") == 1 and "batch_sise" in said and "Traceback" not in said


@pytest.mark.slow
def test_a_killed_run_resumes(
    bare: Callable[..., TrainSettings], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("name=k", "duration_kimg=0.048")
    command = [sys.executable, str(ROOT / "train.py"), *TINY, "~losses.identity", f"runs_dir={tmp_path}/runs", *words]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, env=environment, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for line in process.stdout:
        if "kimg  validation" in line:
            process.kill()
            break
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert train(bare(*words)) == 0
    assert "resuming at" in capsys.readouterr().out
    found = newest_state(tmp_path / "runs" / "k" / "state")
    assert found is not None and found[1]["clock"]["num_images"] == 48
    assert torch.isfinite(found[1]["generator"]["head.weight"]).all()
