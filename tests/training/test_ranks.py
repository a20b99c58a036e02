"""Several ranks as torchrun starts them, and a run that is killed."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from facesr.checkpoint import newest_state
from tests.training.conftest import TINY

ROOT = Path(__file__).resolve().parents[2]


def run_ranks(num_ranks: int, runs_dir: Path, *overrides: str) -> list[subprocess.CompletedProcess[str]]:
    """Starts train.py as torchrun would, on this machine."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, str(ROOT / "train.py"), *TINY, f"runs_dir={runs_dir}", *overrides]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    if num_ranks > 1:
        environment["WORLD_SIZE"] = str(num_ranks)
    processes = [
        subprocess.Popen(
            command,
            env={**environment, **({"RANK": str(rank), "LOCAL_RANK": str(rank)} if num_ranks > 1 else {})},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        for rank in range(num_ranks)
    ]
    done = []
    for process in processes:
        out, err = process.communicate(timeout=240)
        done.append(subprocess.CompletedProcess(command, process.returncode, out, err))
    return done


@pytest.mark.parametrize("kind", ["hinge", "relativistic"])
def test_two_ranks_train_as_one_with_twice_the_batch(tmp_path: Path, kind: str) -> None:
    # R1's second derivatives, the relativistic batch average and the identity term all take part.
    target = {"hinge": "Hinge", "relativistic": "RelativisticAverage"}[kind]
    overrides = (f"losses.adversarial._target_=facesr.losses.adversarial.{target}", "duration_kimg=0.024", "name=r")
    one = run_ranks(1, tmp_path / "one", *overrides)
    two = run_ranks(2, tmp_path / "two", *overrides)
    for result in [*one, *two]:
        assert result.returncode == 0, result.stderr
    assert "bicubic" in two[0].stdout and two[1].stdout == ""
    states = [newest_state(tmp_path / name / "r" / "state") for name in ("one", "two")]
    assert states[0] is not None and states[1] is not None
    for part in ("generator", "average", "discriminator"):
        for name, tensor in states[0][1][part].items():
            # Adam turns rounding differences of near-zero gradients into steps of up to the learning rate.
            difference = (tensor - states[1][1][part][name]).abs()
            assert float(difference.float().mean()) < 2e-5, f"{part} {name}"


def test_a_bad_key_under_two_ranks_is_told_once(tmp_path: Path) -> None:
    results = run_ranks(2, tmp_path, "batch_sise=3")
    assert [result.returncode for result in results] == [2, 2]
    said = "".join(result.stderr for result in results)
    assert said.count("error:") == 1 and "batch_sise" in said and "Traceback" not in said


@pytest.mark.slow
def test_a_killed_run_resumes(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "train.py"), *TINY, f"runs_dir={tmp_path}", "name=k", "duration_kimg=0.4"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, env=environment, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for line in process.stdout:
        if "validation" in line and "kimg  validation" in line:
            process.kill()
            break
    process.wait()
    again = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=240)
    assert again.returncode == 0, again.stderr
    assert "resuming at" in again.stdout
    found = newest_state(tmp_path / "k" / "state")
    assert found is not None and found[1]["clock"]["num_images"] == 400
    assert torch.isfinite(found[1]["generator"]["head.weight"]).all()
