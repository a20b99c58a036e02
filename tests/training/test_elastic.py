"""torchrun without Slurm, elastic: a rank that dies comes back."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from facesr.snapshots.snapshot import newest_state
from tests.ranks import ROOT, free_port, run_as_ranks
from tests.small_run import SMALL
from tests.training.test_stopping import children, wait_for

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="looks into /proc"),
]
RUN = (*SMALL, "duration_kimg=0.1", "state_every_kimg=0.02", "name=k")


@pytest.fixture
def agents(tmp_path: Path) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Yields two elastic agents of one run, each with one rank, and leaves nothing behind."""
    command = [sys.executable, "-m", "torch.distributed.run", "--nnodes=1:2", "--nproc-per-node=1", "--max-restarts=1"]
    command += ["--rdzv-backend=c10d", f"--rdzv-endpoint=127.0.0.1:{free_port()}", "--rdzv-id=k"]
    # Buckets are on their way when the rank dies; the run that it is compared with sends none.
    command += ["--local-addr=127.0.0.1", "train.py", *RUN, "gradient_sync=overlap", f"runs_dir={tmp_path / 'elastic'}"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    started = []
    for number in range(2):
        with (tmp_path / f"agent{number}.log").open("wb") as log:
            started.append(subprocess.Popen(command, env=environment, cwd=ROOT, stdout=log, stderr=log))
    yield started
    for agent in started:
        for rank in children(agent.pid) if agent.poll() is None else []:
            os.kill(rank, signal.SIGKILL)
        agent.kill()
        agent.wait()


def test_a_killed_rank_comes_back_and_the_result_is_the_same(
    agents: list[subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    wait_for(lambda: list((tmp_path / "elastic" / "k" / "state").glob("*.sha256")))
    (rank,) = children(agents[1].pid)
    os.kill(rank, signal.SIGKILL)
    # One restart is all that they have, so none may be wasted on what the dead ranks have left in the store.
    codes = [agent.wait(timeout=240) for agent in agents]
    assert codes == [0, 0], (tmp_path / "agent0.log").read_text() + (tmp_path / "agent1.log").read_text()
    assert "resuming at" in (tmp_path / "elastic" / "k" / "log.txt").read_text()
    whole = run_as_ranks(2, "train.py", [*RUN, f"runs_dir={tmp_path / 'whole'}"])
    assert [result.returncode for result in whole] == [0, 0]
    states = [newest_state(tmp_path / name / "k" / "state") for name in ("elastic", "whole")]
    first, second = (found[1]["average"] for found in states if found is not None)
    assert all(torch.equal(tensor, second[name]) for name, tensor in first.items())
