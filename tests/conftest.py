"""Fixtures and marker rules for all tests.

Tests marked `shared` need the folder of real data ($FACESR_SHARED, else ../shared beside the project). Without
it they are deselected with a message, never passed silently.

Tests run in as many processes as there are cores, at most four (pytest-xdist); `-n 0` runs them in this one.
"""

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from facesr.processes import num_cores
from facesr.signals import requests

# Before torch starts its threads: processes that share the cores share them evenly.
if "PYTEST_XDIST_WORKER_COUNT" in os.environ:
    num_threads = max(1, num_cores() // int(os.environ["PYTEST_XDIST_WORKER_COUNT"]))
    os.environ["OMP_NUM_THREADS"] = str(num_threads)
if sys.dont_write_bytecode:
    # Else each process that runs tests, or is started by one, compiles torch and what it imports anew, for 3 to 20 s.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    sys.dont_write_bytecode = False

import pytest
import torch
from torch import Tensor

ROOT = Path(__file__).resolve().parent.parent


def shared_dir() -> Path:
    """Returns the folder of real data, whether or not it exists."""
    return Path(os.environ.get("FACESR_SHARED", ROOT.parent / "shared"))


def missing_slurm() -> bool:
    """Returns whether a program of Slurm or munge is not on the PATH."""
    import shutil

    return not all(map(shutil.which, ("munged", "slurmctld", "slurmd", "sbatch")))


def missing_browser() -> bool:
    """Returns whether no Chromium is on the PATH."""
    import shutil

    return not any(shutil.which(name) for name in ("chromium", "chromium-browser", "google-chrome"))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Returns how many processes may run tests: a container's quota counts, which xdist does not know."""
    return num_cores()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselects what this machine cannot run, and says so."""
    absent = {
        "shared": (not (shared_dir() / "asc19").is_dir(), f"no real data at {shared_dir()}"),
        "gpu": (not torch.cuda.is_available(), "no CUDA device"),
        "browser": (missing_browser(), "no Chromium on the PATH"),
        "postgres": (not list(Path("/usr/lib/postgresql").glob("*/bin/initdb")), "no PostgreSQL"),
        "slurm": (missing_slurm(), "no slurmctld, slurmd and munged on the PATH"),
    }
    kept: list[pytest.Item] = []
    dropped: list[pytest.Item] = []
    reasons: dict[str, int] = {}
    for item in items:
        reason = next((why for mark, (gone, why) in absent.items() if gone and item.get_closest_marker(mark)), None)
        if reason is None:
            kept.append(item)
        else:
            dropped.append(item)
            reasons[reason] = reasons.get(reason, 0) + 1
    if dropped:
        config.hook.pytest_deselected(items=dropped)
        items[:] = kept
        config.stash[DESELECTED] = reasons


DESELECTED = pytest.StashKey[dict[str, int]]()


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Sends why tests were left out from a process of tests to the one that reports."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["deselected"] = session.config.stash.get(DESELECTED, {})


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any, error: object) -> None:
    """Takes it; every process has left out the same tests."""
    if hasattr(node, "workeroutput"):
        node.config.stash[DESELECTED] = node.workeroutput["deselected"]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Prints why tests were left out."""
    for reason, count in config.stash.get(DESELECTED, {}).items():
        terminalreporter.write_line(f"deselected {count} tests: {reason}")


@pytest.fixture(autouse=True)
def nobody_listens() -> Iterator[None]:
    """Fails a test after which this process answers signals as `facesr train` does.

    It would end by itself, with all tests that it has yet to run, when another test sends it a signal. A request that
    came is forgotten: it was for what that test ran.
    """
    yield
    assert not requests.listening
    requests.came = False


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real data; tests that use it carry the marker `shared`."""
    return shared_dir()


@pytest.fixture
def code_of() -> Callable[[Callable[[list[str]], int], list[str]], int]:
    """Returns what gives the exit code of a program, which may leave by itself where its command line is wrong."""

    def run(main: Callable[[list[str]], int], arguments: list[str]) -> int:
        try:
            return main(arguments)
        except SystemExit as left:
            assert isinstance(left.code, int)
            return left.code

    return run


class GridJudge:
    """A judge without weights: the mean colours of a 4x4 grid around mid-grey, made unit length."""

    def __init__(self, name: str = "grid") -> None:
        self.name = name
        self.dim = 48
        self.weights_sha256 = "0" * 64
        self.differentiable = True
        self.num_pictures = 0

    def __call__(self, batch: Tensor) -> Tensor:
        self.num_pictures += len(batch)
        features = torch.nn.functional.adaptive_avg_pool2d(batch - 0.5, 4).flatten(1)
        return torch.nn.functional.normalize(features)


@pytest.fixture
def judge() -> GridJudge:
    return GridJudge()
