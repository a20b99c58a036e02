"""Processes: the cores and the memory of this one, and workers that end with it, however it ends."""

import contextlib
import math
import multiprocessing
import os
import signal
import sys
import threading
import types
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path, PurePosixPath
from typing import ParamSpec, TypeVar

from facesr.errors import DataError
from facesr.signals import requests

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

P = ParamSpec("P")
Result = TypeVar("Result")

# Windows waits for no more processes at once.
_MOST_WORKERS = 61


def num_cores(root: Path = Path("/")) -> int:
    """Returns how many cores this process may keep busy, at least 1.

    As many as its affinity names (`taskset`, Slurm), and no more than the CPU time that its control groups allow
    (`docker run --cpus`, Kubernetes' limits), rounded up. Where a system has neither, all cores.

    Source: man sched_setaffinity(2); the kernel's Documentation/admin-guide/cgroup-v2.rst (cpu.max) and
    Documentation/scheduler/sched-bwc.rst (cpu.cfs_quota_us).

    Args:
        root: below which proc and sys lie.
    """
    # macOS and Windows have no affinity that a process could ask for.
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota = min(_quotas(root), default=math.inf)
    except (OSError, ValueError):  # no Linux, or a sandbox that shows none of this
        quota = math.inf
    return max(1, min(allowed, math.ceil(quota) if math.isfinite(quota) else allowed))


def peak_memory_mib() -> float | None:
    """Returns the most memory that this process has had, in MiB; None on Windows, which keeps no such count for it."""
    if resource is None:
        return None
    # man getrusage(2): kilobytes; macOS counts bytes.
    unit = 1 if sys.platform == "darwin" else 1024
    return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit) / 2**20


def _quotas(root: Path) -> Iterator[float]:
    """Yields the cores' worth of CPU time that each control group above this process allows."""
    memberships = (root / "proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    mounts = (root / "proc/self/mountinfo").read_text(encoding="utf-8").splitlines()
    groups: dict[str, str] = {}
    for line in memberships:
        _, controllers, path = line.split(":", 2)
        # Version 2 has one hierarchy, whose list of controllers is empty.
        groups.update(dict.fromkeys(controllers.split(","), path))
    for line in mounts:
        place, _, kind = line.partition(" - ")
        mounted, folder = place.split()[3:5]
        system, *_, options = kind.split()
        name = "" if system == "cgroup2" else "cpu"
        if system == "cgroup2" or (system == "cgroup" and "cpu" in options.split(",")):
            for group in _and_above(PurePosixPath(groups.get(name, "/")), PurePosixPath(mounted)):
                yield _quota(root / folder.lstrip("/") / group)


def _and_above(group: PurePosixPath, mounted: PurePosixPath) -> Iterator[PurePosixPath]:
    """Yields a group and all above it that can be seen, as paths below the mount."""
    # A container may be told a path that only its host can see; what it has mounted is then its own group.
    visible = group.is_relative_to(mounted) and ".." not in group.parts
    inside = group.relative_to(mounted) if visible else PurePosixPath()
    yield inside
    yield from inside.parents


def _quota(folder: Path) -> float:
    """Returns the cores' worth of CPU time that one control group allows, infinity where it has no limit."""
    try:
        if (folder / "cpu.max").is_file():
            quota, period = (folder / "cpu.max").read_text(encoding="ascii").split()
        else:
            quota, period = (
                (folder / f"cpu.cfs_{name}_us").read_text(encoding="ascii") for name in ("quota", "period")
            )
        return int(quota) / int(period) if quota != "max" and int(quota) > 0 else math.inf
    except (OSError, ValueError, ZeroDivisionError):
        return math.inf


class _Pool(ProcessPoolExecutor):
    """Workers that do not run the script again that started them."""

    def submit(self, fn: Callable[P, Result], /, *args: P.args, **kwargs: P.kwargs) -> Future[Result]:
        """Submits one call; workers are started here."""
        # multiprocessing has each worker import the parent's script, for functions that are defined there. Ours never
        # are, and a script's imports are most of a worker's memory and of the time until it watches its parent.
        # A module run by `python -m` stays: its own functions may be what is called.
        main = sys.modules["__main__"]
        if getattr(main, "__spec__", None) is None:
            sys.modules["__main__"] = types.ModuleType("__main__")
        try:
            # A worker that is left halfway through its start complains at length.
            with requests.postponed():
                return super().submit(fn, *args, **kwargs)
        finally:
            sys.modules["__main__"] = main


@contextlib.contextmanager
def worker_pool(num_workers: int, advice: str, preload: Sequence[str] = ()) -> Iterator[ProcessPoolExecutor]:
    """Yields a pool of processes that end with this one, even when it is killed.

    Each works in one thread, because the processes share the cores already, and leaves Ctrl-C to this process.

    Args:
        num_workers: processes.
        advice: what to do when one of them was killed, the end of a sentence.
        preload: modules that a clean server imports, from which the workers are then forked where the system can;
            without them, and elsewhere, each worker starts anew. Forking this process itself could hang: it may
            run threads.

    Raises:
        DataError: a worker was killed.
    """
    forkserver = bool(preload) and "forkserver" in multiprocessing.get_all_start_methods()
    context = multiprocessing.get_context("forkserver" if forkserver else "spawn")
    if forkserver:
        context.set_forkserver_preload(list(preload))
    most = _MOST_WORKERS if sys.platform == "win32" else num_workers
    pool = _Pool(min(num_workers, most), mp_context=context, initializer=_start_worker)
    try:
        yield pool
    except BrokenProcessPool as error:
        raise DataError(f"a worker process was killed, perhaps for want of memory; {advice}.") from error
    finally:
        pool.shutdown(cancel_futures=True)


def _start_worker() -> None:
    _follow_parent()
    import cv2  # not before, it takes its time; and not for those who only count cores

    # Sent to all processes of a terminal or a job, they are for the parent to answer. SIGTERM is not among them: by
    # it a broken pool ends the workers it has left.
    for name in ("SIGINT", "SIGUSR1"):
        if hasattr(signal, name):  # Windows has no SIGUSR1
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    cv2.setNumThreads(1)
    os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = "1"  # of torch, where it is loaded later


def _follow_parent() -> None:
    """Makes this process end with the one that started it."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def follow() -> None:
        # Waits for the end of a pipe, which the system closes with the parent. Linux could send a signal instead
        # (PR_SET_PDEATHSIG), but does so already when the thread ends that started the worker.
        parent.join()
        os._exit(1)  # a worker left behind would wait for work for ever

    threading.Thread(target=follow, name="follow-parent", daemon=True).start()
