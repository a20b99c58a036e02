"""slurm/train.sbatch on a real Slurm of two nodes: signals at every moment, and what else happens to a job."""

import contextlib
import json
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from facesr.errors import EXIT_USER_ERROR
from facesr.snapshots.snapshot import newest_state
from tests.slurm.cluster import Cluster, Job
from tests.small_run import SMALL

pytestmark = [pytest.mark.slurm, pytest.mark.slow]
BOTH_NODES = ("--nodes=2",)


def submitted(cluster: Cluster, folder: Path, *arguments: str, options: tuple[str, ...] = BOTH_NODES) -> Job:
    return cluster.submit("train.sbatch", *SMALL, f"runs_dir={folder}", "name=r", *arguments, options=options)


def wait_for_steps(job: Job, folder: Path, start: int = 0) -> None:
    """Waits until a run has reported after its log had so many characters."""
    log = folder / "r" / "log.txt"
    job.cluster.wait_for(lambda: log.exists() and "img/s" in log.read_text()[start:], 240)


def length_of_log(folder: Path) -> int:
    log = folder / "r" / "log.txt"
    return len(log.read_text()) if log.exists() else 0


def state_of(folder: Path) -> dict[str, Any]:
    found = newest_state(folder / "r" / "state")
    assert found is not None
    return found[1]


def curve_of(folder: Path) -> list[tuple[int, float]]:
    """Returns the points of the loss as TensorBoard shows them."""
    events = EventAccumulator(str(folder / "r"))
    events.Reload()
    return [(event.step, event.value) for event in events.Scalars("loss/total")]


def losses_of(folder: Path) -> list[tuple[int, float]]:
    lines = [json.loads(line) for line in (folder / "r" / "stats.jsonl").read_text().splitlines()]
    return [(line["num_images"], line["loss/total"]) for line in lines if "loss/total" in line]


def images_in(cluster: Cluster, folder: Path, seconds: float) -> int:
    """Returns how many images, a multiple of 20, a job trains on in about so many seconds here; at least 100."""
    job = submitted(cluster, folder, "duration_kimg=0.06")
    job.wait("COMPLETED", "FAILED")
    rates = re.findall(r"(\d+) img/s", (folder / "r" / "log.txt").read_text())
    return max(100, 20 * round(int(rates[-1]) * seconds / 20))


def test_a_job_that_is_stopped_again_and_again_is_one_run(cluster: Cluster, tmp_path: Path) -> None:
    # On a fast machine too, the last two signals have to come before its end.
    num_images = images_in(cluster, tmp_path / "short", 15.0)
    length = f"duration_kimg={num_images / 1000:g}"
    # On two nodes to the end; the controller dies and comes back meanwhile, and nobody notices.
    whole = submitted(cluster, tmp_path / "whole", length)
    wait_for_steps(whole, tmp_path / "whole")
    cluster.kill("slurmctld")
    wait_for_steps(whole, tmp_path / "whole", length_of_log(tmp_path / "whole"))
    cluster.start_controller()
    whole.wait("COMPLETED", "FAILED")
    assert (whole.state, whole.exit_code) == ("COMPLETED", 0), cluster.told()
    assert "2 x cpu" in whole.said() and whole.shown()["NumNodes"] == "2"

    stopped = tmp_path / "stopped"
    job = submitted(cluster, stopped, length)
    for number, seconds, at in ((0, 0.5, "--batch"), (1, 2.0, "--signal=USR1"), (2, 10.0, "--full")):
        cluster.wait_for(lambda number=number: job.state == "RUNNING" and job.restarts == number, 120)
        cluster.pause(seconds)
        cluster.ask("scancel", "--signal=USR1", at, job.number)
        job.wait("PENDING", "COMPLETING", "FAILED", "COMPLETED", timeout_s=120)
    # In the middle, as before the time limit.
    wait_for_steps(job, stopped, length_of_log(stopped))
    cluster.ask("scancel", "--signal=USR1", "--batch", job.number)
    job.wait("COMPLETED", "FAILED")
    assert (job.state, job.exit_code, job.restarts) == ("COMPLETED", 0, 4), cluster.told()
    assert "died by signal" not in cluster.told("slurmd-n1.log")

    # The same bits, and one run, one log and one curve.
    first, second = state_of(tmp_path / "whole"), state_of(stopped)
    for name, tensor in first["average"].items():
        assert torch.equal(tensor, second["average"][name]), name
    assert losses_of(stopped) == losses_of(tmp_path / "whole")
    reports = list(range(20, num_images + 1, 20))
    assert [clock for clock, _ in losses_of(stopped)] == reports
    assert [clock for clock, _ in curve_of(stopped)] == reports
    assert (stopped / "r" / "log.txt").read_text().count("resuming at") >= 1
    assert [path.name for path in stopped.iterdir()] == ["r"]


def test_a_dead_node_and_a_dead_rank(cluster: Cluster, tmp_path: Path) -> None:
    job = submitted(cluster, tmp_path, "duration_kimg=100", "state_every_kimg=0.02")
    wait_for_steps(job, tmp_path)
    cluster.kill_node("n2")
    # The job starts anew, and waits for its node.
    cluster.wait_for(lambda: job.restarts == 1, 120)
    before = length_of_log(tmp_path)
    cluster.start_node("n2")
    wait_for_steps(job, tmp_path, before)
    # A rank that is killed, as for want of memory, is no reason to start again.
    os.kill(job.ranks()[1], signal.SIGKILL)
    job.wait("FAILED", timeout_s=60)
    assert job.exit_code == 128 + signal.SIGKILL
    assert job.said().count("another rank ended before the work was done") in (1, 2)
    assert state_of(tmp_path)["clock"]["num_images"] > 0


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Yields a folder that is a file system of 1 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("no file system can be mounted here")
    yield folder
    with contextlib.suppress(subprocess.CalledProcessError):
        subprocess.run(["umount", "--lazy", str(folder)], check=True, capture_output=True)


def test_a_full_disk_and_scancel(cluster: Cluster, tmp_path: Path, small_disk: Path) -> None:
    endless = ("duration_kimg=100", "state_every_kimg=0.02")
    job = submitted(cluster, small_disk, *endless, options=())
    job.wait("FAILED")
    assert job.exit_code == EXIT_USER_ERROR
    assert job.said().count("error:") == 1 + job.said().count("srun: error:") and "free some space" in job.said()
    before = length_of_log(small_disk)
    subprocess.run(["mount", "-o", "remount,size=64m", str(small_disk)], check=True)
    # The same command goes on. It saves when it is cancelled, and stays cancelled.
    again = submitted(cluster, small_disk, *endless, options=())
    wait_for_steps(again, small_disk, before)
    cluster.ask("scancel", again.number)
    again.wait("CANCELLED", timeout_s=120)
    assert "asked to stop: saved at" in again.said()
    assert (again.restarts, again.state) == (0, "CANCELLED")
