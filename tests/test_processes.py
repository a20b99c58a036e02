"""How many cores count, under faked control groups, and workers that do not outlive a killed parent."""

import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from facesr import dist, processes
from facesr.errors import DataError
from facesr.processes import num_cores, worker_pool

ROOT = Path(__file__).resolve().parent.parent
V2 = "30 24 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup rw,nsdelegate\n"
V1 = "32 31 0:29 {} /sys/fs/cgroup/cpu,cpuacct ro - cgroup cgroup rw,cpu,cpuacct\n"
OTHER = "22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n40 31 0:37 / /m rw - cgroup cgroup rw,memory\n"


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """A function that gives a root with faked proc and sys; the affinity allows 8 cores."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)

    def make(groups: str, mounts: str, **limits: str) -> Path:
        files = {"proc/self/cgroup": groups, "proc/self/mountinfo": OTHER + mounts, **limits}
        for name, text in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        return tmp_path

    return make


Machine = Callable[..., Path]


@pytest.mark.parametrize(
    ("limit", "cores"),
    [
        ("200000 100000\n", 2),
        ("150000 100000\n", 2),  # rounded up, as Java and Go do
        ("50000 100000\n", 1),
        ("max 100000\n", 8),
        ("9000000 100000\n", 8),  # no more than the affinity
        ("", 8),
        ("nonsense\n", 8),
        ("100000 0\n", 8),
    ],
)
def test_the_quota_of_a_container_counts(machine: Machine, limit: str, cores: int) -> None:
    assert num_cores(machine("0::/\n", V2, **{"sys/fs/cgroup/cpu.max": limit})) == cores


def test_the_smallest_quota_of_all_groups_above_counts(machine: Machine) -> None:
    limits = {
        "sys/fs/cgroup/a/cpu.max": "300000 100000\n",
        "sys/fs/cgroup/a/b/cpu.max": "max 100000\n",
        "sys/fs/cgroup/a/b/c/cpu.max": "500000 100000\n",
        "sys/fs/cgroup/other/cpu.max": "100000 100000\n",
    }
    assert num_cores(machine("0::/a/b/c\n", V2, **limits)) == 3


@pytest.mark.parametrize("group", ["/docker/abc", "/"])
def test_version_1(machine: Machine, group: str) -> None:
    """Of a container that sees the host's path and has mounted its own group, or lives in a name space."""
    folder = "sys/fs/cgroup/cpu,cpuacct"
    limits = {f"{folder}/cpu.cfs_quota_us": "400000\n", f"{folder}/cpu.cfs_period_us": "100000\n"}
    groups = f"5:memory:/elsewhere\n4:cpu,cpuacct:{group}\n1:name=systemd:/x\n0::/\n"
    assert num_cores(machine(groups, V1.format(group), **limits)) == 4


def test_version_1_without_a_limit(machine: Machine) -> None:
    folder = "sys/fs/cgroup/cpu,cpuacct"
    limits = {f"{folder}/cpu.cfs_quota_us": "-1\n", f"{folder}/cpu.cfs_period_us": "100000\n"}
    assert num_cores(machine("4:cpu,cpuacct:/\n", V1.format("/"), **limits)) == 8


@pytest.mark.parametrize("group", ["/../../host/only", "/not/mounted"])
def test_a_group_that_only_the_host_sees_is_the_one_that_is_mounted(machine: Machine, group: str) -> None:
    mounts = V2.replace(" / /sys", " /docker/abc /sys")
    assert num_cores(machine(f"0::{group}\n", mounts, **{"sys/fs/cgroup/cpu.max": "200000 100000\n"})) == 2


@pytest.mark.parametrize(("groups", "mounts"), [("", ""), ("garbage\n", V2), ("0::/\n", "too short\n"), ("0::/\n", V2)])
def test_what_cannot_be_read_limits_nothing(machine: Machine, groups: str, mounts: str) -> None:
    assert num_cores(machine(groups, mounts)) == 8


def test_the_affinity_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3, 5}, raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 128)
    assert num_cores(tmp_path) == 2


@pytest.mark.parametrize(("count", "cores"), [(6, 6), (None, 1)])
def test_without_affinity_all_cores_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int | None, cores: int
) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: count)
    assert num_cores(tmp_path) == cores


def test_torch_keeps_within_the_quota(monkeypatch: pytest.MonkeyPatch) -> None:
    before = torch.get_num_threads()
    monkeypatch.setattr(dist, "num_cores", lambda: 1)
    try:
        torch.set_num_threads(2)
        monkeypatch.setenv("OMP_NUM_THREADS", "2")
        dist.choose_device("cpu")
        assert torch.get_num_threads() == 2  # as the user wants
        monkeypatch.delenv("OMP_NUM_THREADS")
        dist.choose_device("cpu")
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)


def test_cores_are_counted_and_processes_started_in_one_place_only() -> None:
    doors = {ROOT / "facesr" / "processes.py", Path(__file__)}
    words = ("cpu_count(", "sched_getaffinity", "ProcessPoolExecutor", "get_context(", "multiprocessing", "os.fork")
    files = [path for folder in ("facesr", "benchmarks") for path in (ROOT / folder).rglob("*.py")]
    for path in {*files, *ROOT.glob("*.py"), ROOT / "tests" / "conftest.py"} - doors:
        text = path.read_text(encoding="utf-8")
        assert not [word for word in words if word in text], path


def test_workers_leave_the_signals_of_a_job_to_their_parent() -> None:
    with worker_pool(1, "") as pool:
        for number in (signal.SIGINT, signal.SIGUSR1):
            assert pool.submit(signal.getsignal, number).result() == signal.SIG_IGN
        assert pool.submit(os.getenv, "OMP_NUM_THREADS").result() == "1"


@pytest.mark.parametrize("preload", [(), ("facesr.errors",)])
def test_a_killed_worker_is_told_in_one_sentence(preload: tuple[str, ...]) -> None:
    with (
        pytest.raises(DataError, match="a worker process was killed, perhaps for want of memory; buy some"),
        worker_pool(2, "buy some", preload) as pool,
    ):
        list(pool.map(os._exit, [0] * 4))


def test_windows_waits_for_61_processes_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes.sys, "platform", "win32")
    with worker_pool(128, "") as pool:
        assert pool._max_workers == 61  # type: ignore[attr-defined]


ASLEEP = """
import time
from facesr.processes import worker_pool
with worker_pool(2, "", {preload}) as pool:
    list(pool.map(time.sleep, [600] * 4))
"""
SCRIPT = """
import sys
from facesr.processes import worker_pool
with open(sys.argv[1], "a") as file:
    file.write("imported\\n")
if __name__ == "__main__":
    with worker_pool(2, "", {preload}) as pool:
        print(*pool.map(abs, [-1, -2, -3]))
    assert sys.modules["__main__"].__file__ == __file__
"""
PROGRAMS = {
    "workers from a server": ASLEEP.format(preload='("facesr.errors",)'),
    "workers anew": ASLEEP.format(preload="()"),
    "faces": "from facesr.data.synthetic.face.render import render_faces; render_faces(100_000, num_workers=2)",
    "dead leaves": "from facesr.data.synthetic.dead_leaves import _render_chunks as f\nlist(f(100_000, 64, 0, 0, 2))",
}


@pytest.mark.parametrize("preload", ["()", '("facesr.errors",)'])
def test_workers_do_not_run_the_script_that_starts_them(tmp_path: Path, preload: str) -> None:
    script, seen = tmp_path / "script.py", tmp_path / "seen"
    script.write_text(SCRIPT.format(preload=preload), encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, str(script), str(seen)], env=environment, capture_output=True, text=True, timeout=300
    )
    assert (done.stdout, done.stderr, done.returncode) == ("1 2 3\n", "", 0)
    assert seen.read_text() == "imported\n"


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="finds processes by /proc")
@pytest.mark.parametrize(
    "program", [pytest.param(name, marks=[pytest.mark.slow] if "workers" not in name else []) for name in PROGRAMS]
)
def test_no_worker_outlives_a_killed_parent(program: str) -> None:
    """`prepare` has its own such test, in tests/data/test_prepare.py."""
    mark = uuid.uuid4().hex
    parent = subprocess.Popen(
        [sys.executable, "-c", PROGRAMS[program]], cwd=ROOT, env={**os.environ, "FACESR_TEST_MARK": mark}
    )

    def family() -> set[int]:
        found: set[int] = set()
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                if mark.encode() in (folder / "environ").read_bytes():
                    found.add(int(folder.name))
            except OSError:
                continue
        return found

    def wait_until(condition: Callable[[], bool]) -> bool:
        deadline = time.monotonic() + 60.0
        while not condition() and time.monotonic() < deadline:
            time.sleep(0.05)
        return condition()

    try:
        # The parent, multiprocessing's resource tracker and two workers; a server where they fork from one.
        size = 5 if "server" in program else 4
        assert wait_until(lambda: len(family()) >= size), "the workers did not start"
        parent.send_signal(signal.SIGKILL)
        parent.wait()
        assert wait_until(lambda: not family()), "workers stayed behind"
    finally:
        for process in family():
            os.kill(process, signal.SIGKILL)
        parent.wait()
