"""Starting a script as torchrun would, on this machine."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
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


# Loads what the script needs once, then becomes its ranks, because loading takes longer than most of what they do. No
# thread runs before the fork.
FORKING = """
import importlib, json, os, runpy, sys
modules, script, starts = json.loads(sys.argv[1])
for module in modules:
    importlib.import_module(module)
ranks = []
for environment, arguments, log in starts:
    rank = os.fork()
    if not rank:
        for number, name in ((1, "out"), (2, "err")):
            os.dup2(os.open(f"{log}.{name}", os.O_WRONLY | os.O_CREAT, 0o600), number)
        os.environ.update(environment)
        sys.argv = [script, *arguments]
        runpy.run_path(script, run_name="__main__")
        sys.exit()
    ranks.append(rank)
print(json.dumps([os.waitstatus_to_exitcode(os.waitpid(rank, 0)[1]) for rank in ranks]))
"""
# The first step of any of torch's optimizers loads its compiler.
LOADED = {
    "train.py": ("facesr.training.loop", "torch._dynamo"),
    "evaluate.py": ("facesr.evaluation.run",),
    "tests/training/leaving.py": ("facesr.dist",),
    "tests/training/overflow.py": ("tests.training.test_step", "torch._dynamo"),
    "tests/training/synced_gradients.py": ("facesr.training.muon", "torch._dynamo"),
    "tests/training/shared_matrices.py": ("tests.training.test_muon", "torch._dynamo"),
}


def run_worlds(
    script: str,
    worlds: Sequence[tuple[int, Sequence[str], Mapping[str, str]]],
    timeout_s: int = 240,
) -> list[list[subprocess.CompletedProcess[str]]]:
    """Returns what each rank left, for several groups of ranks, each (how many, arguments, environment)."""
    common = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    with tempfile.TemporaryDirectory() as folder:
        starts: list[tuple[dict[str, str], Sequence[str], str]] = []
        for num_ranks, arguments, environment in worlds:
            port = free_port()
            for rank in range(num_ranks):
                told = {**environment, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
                if num_ranks > 1:
                    told |= {"WORLD_SIZE": str(num_ranks), "RANK": str(rank), "LOCAL_RANK": str(rank)}
                starts.append((told, arguments, f"{folder}/{len(starts)}"))
        order = json.dumps([LOADED[script], str(ROOT / script), starts])
        parent = subprocess.Popen(
            [sys.executable, "-c", FORKING, order],
            env=common, cwd=ROOT, stdout=subprocess.PIPE, text=True, start_new_session=True,
        )  # fmt: skip
        try:
            codes = json.loads(parent.communicate(timeout=timeout_s)[0])
        finally:
            # Ranks that do not end in time, and whatever they started.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(parent.pid, signal.SIGKILL)
            parent.communicate()
        left = [
            subprocess.CompletedProcess(
                arguments, code, Path(f"{log}.out").read_text("utf-8"), Path(f"{log}.err").read_text("utf-8")
            )
            for (_, arguments, log), code in zip(starts, codes, strict=True)
        ]
    return [[left.pop(0) for _ in range(num_ranks)] for num_ranks, *_ in worlds]


def run_as_ranks(
    num_ranks: int,
    script: str,
    arguments: Sequence[str],
    environment: Mapping[str, str] | None = None,
    timeout_s: int = 240,
) -> list[subprocess.CompletedProcess[str]]:
    """Returns what each rank of a script left."""
    return run_worlds(script, [(num_ranks, arguments, environment or {})], timeout_s)[0]


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
