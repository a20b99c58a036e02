"""Signals at every moment of a run, and ranks that are killed: what a careless cluster does."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from facesr.errors import EXIT_RANK_LOST, EXIT_REQUEUE
from facesr.snapshots.snapshot import newest_state
from tests.ranks import ROOT, ended, free_port, start_as_ranks
from tests.training.conftest import TINY

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="looks into /proc"),
]
LONG = ("duration_kimg=100", "name=k", "log_every_kimg=0.004", "state_every_kimg=0.02", "validation_every_kimg=100")
# Each of them right after the start. At later moments SIGUSR1 alone: SIGTERM comes while training from torchrun, below,
# and in test_resume.py, and what listens is one for both.
SIGNALS = [signal.SIGTERM, signal.SIGUSR1]
STOPPED = "asked to stop before the first step; the same command goes on.\n"


@pytest.fixture
def started() -> Iterator[Callable[..., list[subprocess.Popen[str]]]]:
    """Starts train.py as so many ranks, and leaves nothing behind."""
    processes: list[subprocess.Popen[str]] = []

    def start(num_ranks: int, *arguments: str, **environment: str) -> list[subprocess.Popen[str]]:
        processes.extend(start_as_ranks(num_ranks, "train.py", [*TINY, *LONG, *arguments], environment))
        return processes

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def wait_for(happened: Callable[[], object], timeout_s: float = 600.0) -> None:
    end = time.monotonic() + timeout_s
    while not happened():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.01)


def catches(pid: int, number: signal.Signals) -> bool:
    """Returns whether a process has a handler for a signal."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    caught = next(line for line in lines if line.startswith("SigCgt")).split()[1]
    return bool(int(caught, 16) >> (number - 1) & 1)


def children(pid: int) -> list[int]:
    return [
        int(word) for task in Path(f"/proc/{pid}/task").iterdir() for word in (task / "children").read_text().split()
    ]


def wait_for_steps(log: Path) -> None:
    wait_for(lambda: log.is_file() and "img/s" in log.read_text())


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_right_after_the_start(
    started: Callable[..., list[subprocess.Popen[str]]], tmp_path: Path, number: signal.Signals
) -> None:
    (process,) = started(1, f"runs_dir={tmp_path}")
    wait_for(lambda: catches(process.pid, number))
    # The command's imports begin with those of its settings, YAML's parser among them.
    assert "/_yaml." not in Path(f"/proc/{process.pid}/maps").read_text(), "the handler came after the imports"
    process.send_signal(number)
    (result,) = ended([process])
    assert (result.returncode, result.stderr, result.stdout) == (EXIT_REQUEUE, STOPPED, "")
    assert not list(tmp_path.iterdir())


def test_a_signal_before_python_begins_waits(tmp_path: Path) -> None:
    # As slurm/train.sbatch starts a rank: held back by the system until somebody listens.
    command = [sys.executable, "train.py", *TINY, *LONG, f"runs_dir={tmp_path}"]
    held = {signal.SIGUSR1, signal.SIGTERM}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, held)
    try:
        process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    process.send_signal(signal.SIGUSR1)
    (result,) = ended([process])
    assert (result.returncode, result.stderr) == (EXIT_REQUEUE, STOPPED)


def test_a_signal_while_faces_are_drawn(started: Callable[..., list[subprocess.Popen[str]]], tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    (process,) = started(1, f"runs_dir={tmp_path}/runs", "data.train.num_faces=20000", FACESR_CACHE=str(cache))
    wait_for(lambda: list(cache.glob("builtin/.*")) and len(children(process.pid)) > 1)
    workers = children(process.pid)
    process.send_signal(signal.SIGUSR1)
    (result,) = ended([process], timeout_s=240)
    assert (result.returncode, result.stderr, result.stdout) == (EXIT_REQUEUE, STOPPED, "")
    wait_for(lambda: not any(Path(f"/proc/{worker}").exists() for worker in workers), 240)
    assert not list(cache.glob("builtin/.*"))


def test_a_signal_while_training(started: Callable[..., list[subprocess.Popen[str]]], tmp_path: Path) -> None:
    (process,) = started(1, f"runs_dir={tmp_path}")
    wait_for_steps(tmp_path / "k" / "log.txt")
    # Again and again until it has left, the end of the interpreter included.
    while process.poll() is None:
        process.send_signal(signal.SIGUSR1)
        time.sleep(0.005)
    (result,) = ended([process])
    assert (result.returncode, result.stderr) == (EXIT_REQUEUE, "")
    assert "asked to stop: saved at" in result.stdout
    assert newest_state(tmp_path / "k" / "state") is not None


def test_ranks_are_asked_to_stop_while_one_draws_and_one_waits(
    started: Callable[..., list[subprocess.Popen[str]]], tmp_path: Path
) -> None:
    cache = tmp_path / "cache"
    ranks = started(2, f"runs_dir={tmp_path}/runs", "data.train.num_faces=20000", FACESR_CACHE=str(cache))
    wait_for(lambda: list(cache.glob("builtin/.*")) and len(children(ranks[0].pid)) > 1)
    for rank in ranks:
        rank.send_signal(signal.SIGUSR1)
    results = ended(ranks, timeout_s=240)
    assert [result.returncode for result in results] == [EXIT_REQUEUE] * 2
    assert "".join(result.stderr for result in results) == STOPPED


@pytest.mark.parametrize("killed", [0, 1])
def test_the_death_of_a_rank_is_one_sentence(
    started: Callable[..., list[subprocess.Popen[str]]], tmp_path: Path, killed: int
) -> None:
    ranks = started(2, f"runs_dir={tmp_path}")
    wait_for_steps(tmp_path / "k" / "log.txt")
    ranks[killed].kill()
    results = ended(ranks, timeout_s=240)
    assert results[killed].returncode == -signal.SIGKILL
    left = results[1 - killed]
    assert left.returncode == EXIT_RANK_LOST
    assert left.stderr.startswith("error: another rank ended before the work was done") and left.stderr.count("\n") == 1


def test_torchrun_passes_a_signal_on(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", f"--master-port={free_port()}"]
    process = subprocess.Popen(
        [*command, "train.py", *TINY, *LONG, f"runs_dir={tmp_path}"],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    try:
        wait_for_steps(tmp_path / "k" / "log.txt")
        ranks = children(process.pid)
        process.send_signal(signal.SIGTERM)
        (result,) = ended([process])
    finally:
        process.kill()
    assert "asked to stop: saved at" in result.stdout, result.stderr
    assert newest_state(tmp_path / "k" / "state") is not None
    wait_for(lambda: not any(Path(f"/proc/{rank}").exists() for rank in ranks), 240)
