"""Starting a script as torchrun would, on this machine."""

import os
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def free_port() -> int:
    """Returns a port of this machine where ranks can meet."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def start_as_ranks(
    num_ranks: int, script: str, arguments: Sequence[str], environment: Mapping[str, str] | None = None
) -> list[subprocess.Popen[str]]:
    """Returns the processes of a script's ranks; one rank runs without a process group, as without torchrun."""
    port = free_port()
    command = [sys.executable, str(ROOT / script), *arguments]
    common = {**os.environ, "OMP_NUM_THREADS": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    common |= environment or {}
    if num_ranks > 1:
        common["WORLD_SIZE"] = str(num_ranks)
    return [
        subprocess.Popen(
            command,
            env={**common, **({"RANK": str(rank), "LOCAL_RANK": str(rank)} if num_ranks > 1 else {})},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        for rank in range(num_ranks)
    ]


def run_as_ranks(
    num_ranks: int,
    script: str,
    arguments: Sequence[str],
    environment: Mapping[str, str] | None = None,
    timeout_s: int = 240,
) -> list[subprocess.CompletedProcess[str]]:
    """Returns what each rank of a script left."""
    return ended(start_as_ranks(num_ranks, script, arguments, environment), timeout_s)


def ended(processes: Sequence[subprocess.Popen[str]], timeout_s: int = 240) -> list[subprocess.CompletedProcess[str]]:
    """Returns what processes left once all have ended; kills those that do not end in time."""
    done = []
    try:
        for process in processes:
            out, err = process.communicate(timeout=timeout_s)
            done.append(subprocess.CompletedProcess(process.args, process.returncode, out, err))
    finally:
        for process in processes:
            process.kill()
    return done
