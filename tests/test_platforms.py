"""What macOS and Windows lack is not needed: simulated here, by programs that run without it."""

import ast
import json
import os
import subprocess
import sys
import types
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from facesr import processes
from facesr.processes import peak_memory_mib

ROOT = Path(__file__).resolve().parent.parent
# Of modules that Windows does not have, and of os and signal, what Windows or macOS does not have.
MODULES = ("resource", "fcntl", "pwd", "grp", "termios")
OF_OS = (
    *("sched_getaffinity", "sched_setaffinity", "process_cpu_count", "fork", "forkpty", "getuid", "geteuid", "getpgid"),
    *("killpg", "setsid", "fchmod", "getloadavg", "mkfifo", "O_DIRECTORY", "O_CLOEXEC", "O_NONBLOCK"),
)
OF_SIGNAL = ("SIGUSR1", "SIGUSR2", "SIGKILL", "SIGHUP", "SIGCHLD", "SIGALRM", "SIGQUIT")
PRELUDE = f"""
import multiprocessing, os, runpy, signal, sys
sys.modules.update(dict.fromkeys({MODULES}))
for module, names in ((os, {OF_OS}), (signal, {OF_SIGNAL})):
    for name in names:
        if hasattr(module, name):
            delattr(module, name)
multiprocessing.get_all_start_methods = lambda: ["spawn"]
"""
IMPORTS = """
import importlib, pkgutil
import facesr
for module in pkgutil.walk_packages(facesr.__path__, "facesr."):
    importlib.import_module(module.name)
import evaluate, submit, train
"""
MODULE = """
sys.argv = sys.argv[1:]
runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
"""
# Several in turn: torch is loaded once.
SCRIPTS = """
import json
for sys.argv in json.loads(sys.argv[1]):
    try:
        runpy.run_path(sys.argv[0], run_name="__main__")
    except SystemExit as left:
        if left.code:
            raise
"""


def lacking(code: str, *arguments: str, **environment: str) -> str:
    """Runs a program that lacks all of the above, and returns what it printed."""
    done = subprocess.run(
        [sys.executable, "-c", PRELUDE + code, *arguments],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def write_noise(folder: Path, count: int, height: int, width: int) -> None:
    folder.mkdir()
    for number in range(count):
        levels = np.random.default_rng(number).integers(0, 256, (height, width, 3), np.uint8)
        assert cv2.imwrite(str(folder / f"{number}.png"), levels)


@pytest.mark.slow
def test_everything_can_be_imported() -> None:
    lacking(IMPORTS)


@pytest.mark.slow
def test_training_evaluation_and_submission_work(tmp_path: Path) -> None:
    tiny = [
        *("device=cpu", "precision=fp32", "duration_kimg=0.008", "batch_size=4", "log_every_kimg=0.004"),
        *("validation_every_kimg=0.008", "state_every_kimg=0.004", "schedule.warmup_kimg=0"),
        *("data.train.num_faces=8", "data.validation.num_faces=4", "generator.channels=32", "generator.num_blocks=1"),
        *("generator.channels_up=32", "discriminator.num_channels=8", f"runs_dir={tmp_path}", "name=run"),
    ]
    write_noise(tmp_path / "low", 3, 28, 24)
    write_noise(tmp_path / "high", 3, 112, 96)
    folders = [f"low={tmp_path / 'low'}", f"high={tmp_path / 'high'}"]
    archive = tmp_path / "team.zip"
    commands = [
        ["train.py", *tiny],
        ["evaluate.py", "method=bicubic", *folders, f"out={tmp_path / 'eval'}"],
        ["submit.py", f"checkpoint={tmp_path / 'run'}", folders[0], "team=Team", f"out={archive}"],
    ]
    printed = lacking(SCRIPTS, json.dumps(commands), FACESR_CACHE=str(tmp_path / "cache"))
    assert "best snapshot" in printed and "report.html" in printed
    assert archive.is_file()


@pytest.mark.slow
def test_pictures_are_prepared_by_workers(tmp_path: Path) -> None:
    write_noise(tmp_path / "pictures", 4, 112, 96)
    arguments = ["facesr", "prepare", str(tmp_path / "pictures"), str(tmp_path / "out"), "--workers", "2"]
    assert "4 pictures" in lacking(MODULE, *arguments)


def unguarded(tree: ast.AST) -> Iterator[str]:
    """Yields what a file uses of the above without asking first: by a plain name, or by an import outside of try."""
    tried = [node for block in ast.walk(tree) if isinstance(block, ast.Try) for node in block.body]
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            if (node.value.id == "os" and node.attr in OF_OS) or (node.value.id == "signal" and node.attr in OF_SIGNAL):
                yield f"{node.value.id}.{node.attr}"
        elif isinstance(node, ast.Import | ast.ImportFrom) and node not in tried:
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
            yield from (name for name in names if name in MODULES)


def test_nothing_that_a_system_may_lack_is_used_unasked() -> None:
    files = [path for folder in ("facesr", "benchmarks") for path in (ROOT / folder).rglob("*.py")]
    found = {
        (path.name, name)
        for path in [*files, *ROOT.glob("*.py")]
        for name in unguarded(ast.parse(path.read_text(encoding="utf-8")))
    }
    # Both behind hasattr; test_processes.py shows the first.
    assert found == {
        ("processes.py", "os.sched_getaffinity"),
        ("answering.py", "os.killpg"),
        ("answering.py", "signal.SIGKILL"),
    }
    assert list(unguarded(ast.parse("import resource, os\nsignal.SIGUSR1"))) == ["resource", "signal.SIGUSR1"]
    assert not list(unguarded(ast.parse("try:\n    import fcntl\nexcept ImportError:\n    pass")))


@pytest.mark.parametrize(("platform", "unit"), [("linux", 1024), ("darwin", 1)])
def test_the_unit_of_peak_memory(monkeypatch: pytest.MonkeyPatch, platform: str, unit: int) -> None:
    usage = types.SimpleNamespace(ru_maxrss=300 * 2**20 // unit)
    monkeypatch.setattr(processes, "resource", types.SimpleNamespace(RUSAGE_SELF=0, getrusage=lambda _: usage))
    monkeypatch.setattr(sys, "platform", platform)
    assert peak_memory_mib() == 300.0


def test_peak_memory_is_left_out_where_it_is_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "resource", None)
    assert peak_memory_mib() is None
