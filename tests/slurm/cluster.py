"""A Slurm of two nodes on this machine, in a folder of its own: controller, two node daemons, and munge for both."""

import contextlib
import getpass
import os
import secrets
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from tests.ranks import ROOT, free_port

NODES = ("n1", "n2")
# cred_expire: a requeued job starts when its old credential has expired, two minutes later by default. No cgroup: in a
# container none can be made.
CONFIGURATION = """
ClusterName=facesr
SlurmctldHost={host}(127.0.0.1)
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/run/munge.socket,cred_expire=5
CryptoType=crypto/munge
SlurmctldPort={controller_port}
SlurmctldPidFile={folder}/run/slurmctld.pid
SlurmdPidFile={folder}/run/slurmd-%n.pid
SlurmctldLogFile={folder}/log/slurmctld.log
SlurmdLogFile={folder}/log/slurmd-%n.log
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SwitchType=switch/none
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=2,bf_interval=2,batch_sched_delay=0
SlurmdParameters=config_overrides
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
ReturnToService=2
JobRequeue=1
KillWait=5
InactiveLimit=0
MinJobAge=300
SlurmctldTimeout=30
SlurmdTimeout=8
MpiDefault=none
PartitionName=debug Nodes=n1,n2 Default=YES MaxTime=INFINITE State=UP
"""
NODE = "NodeName={name} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs=4 CoresPerSocket=4 RealMemory=4000\n"


# Waits for the end of a pipe, which the system closes with whoever holds it, and ends all that the cluster has started.
GUARD = """
read -r
for file in "$0"/run/*.pid; do kill -9 "$(cat "$file")"; done
for file in $(grep -lsz "^SLURM_CONF=$0/" /proc/[0-9]*/environ); do
    number=${file#/proc/}
    kill -9 "${number%/environ}"
done
"""


class Cluster:
    """A running Slurm; its programs are asked through `ask`.

    Args:
        folder: of configuration, logs and state; a short path, because munge's socket lies in it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in ("run", "munge", "state", "log"):
            (folder / name).mkdir()
        (folder / "munge").chmod(0o700)
        key = folder / "munge" / "munge.key"
        key.write_bytes(secrets.token_bytes(1024))
        key.chmod(0o400)
        self.configuration = folder / "slurm.conf"
        host = socket.gethostname().split(".")[0]
        text = CONFIGURATION.format(host=host, user=getpass.getuser(), folder=folder, controller_port=free_port())
        nodes = (NODE.format(name=name, host=host, port=free_port()) for name in NODES)
        self.configuration.write_text(text + "".join(nodes), encoding="utf-8")
        # Ranks meet on this machine, whose nodes have no names that could be looked up.
        self.environment = {**os.environ, "SLURM_CONF": str(self.configuration), "MASTER_ADDR": "127.0.0.1"}

    def start(self) -> None:
        """Starts all daemons, which end with this process even if it is killed, and waits until both nodes are idle."""
        self.guard = subprocess.Popen(
            ["bash", "-c", GUARD, str(self.folder)],
            stdin=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        munge = self.folder / "munge"
        self._run(
            "munged",
            f"--socket={self.folder}/run/munge.socket",
            f"--key-file={munge}/munge.key",
            f"--log-file={munge}/munged.log",
            f"--pid-file={self.folder}/run/munged.pid",
            f"--seed-file={munge}/munged.seed",
        )
        self.start_controller()
        for name in NODES:
            self.start_node(name)
        self.wait_for(lambda: self.ask("sinfo", "--noheader", "--format=%T").split() == ["idle"], 60)

    def start_controller(self) -> None:
        self._run("slurmctld", "-f", str(self.configuration))

    def start_node(self, name: str) -> None:
        self._run("slurmd", "-f", str(self.configuration), "-N", name)

    def kill(self, daemon: str) -> None:
        """Kills one daemon (munged, slurmctld, slurmd-n1, slurmd-n2) as a crash would."""
        file = self.folder / "run" / f"{daemon}.pid"
        with contextlib.suppress(FileNotFoundError, ProcessLookupError, ValueError):
            os.kill(int(file.read_text()), signal.SIGKILL)
        file.unlink(missing_ok=True)

    def kill_node(self, name: str) -> None:
        """Kills all of a node: its daemon, and every process of its jobs."""
        self.kill(f"slurmd-{name}")
        for pid in self.processes():
            if environment_of(pid).get("SLURMD_NODENAME") == name:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    def stop(self) -> None:
        """Ends everything that this cluster has started."""
        with contextlib.suppress(subprocess.SubprocessError):
            self._run("scancel", "--user", getpass.getuser())
            self.wait_for(lambda: not self.ask("squeue", "--noheader"), 20)
        self.guard.communicate()

    def processes(self) -> Iterator[int]:
        """Yields the processes that have this cluster's configuration in their environment: jobs and their daemons."""
        others = {int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()} - {os.getpid()}
        for pid in others:
            if environment_of(pid).get("SLURM_CONF") == str(self.configuration):
                yield pid

    def _run(self, *command: str) -> str:
        done = subprocess.run(
            command, env=self.environment, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
        )
        if done.returncode:
            raise subprocess.SubprocessError(f"{command}: {done.returncode}, {done.stderr}")
        return done.stdout

    def ask(self, *command: str) -> str:
        """Returns what a program of Slurm prints."""
        return self._run(*command)

    def submit(self, script: str, *arguments: str, options: tuple[str, ...] = (), **environment: str) -> "Job":
        """Submits a script of the project and returns the job."""
        output = self.folder / "log" / f"job-{secrets.token_hex(4)}.log"
        words = ["sbatch", "--parsable", f"--output={output}", *options, f"slurm/{script}", *arguments]
        before, self.environment = self.environment, {**self.environment, **environment}
        try:
            number = self._run(*words).strip()
        finally:
            self.environment = before
        return Job(self, number, output)

    def wait_for(self, happened: Callable[[], object], timeout_s: float) -> None:
        """Waits until something has happened."""
        end = time.monotonic() + timeout_s
        while not happened():
            assert time.monotonic() < end, self.told()
            time.sleep(0.1)

    def pause(self, seconds: float) -> None:
        """Lets time pass: the moment of a signal is what is tested."""
        time.sleep(seconds)

    def told(self, name: str = "*") -> str:
        """Returns the last lines of all logs, or of one, for a test that fails."""
        logs = sorted((self.folder / "log").glob(name))
        return "\n".join(f"== {log.name}\n" + "\n".join(log.read_text().splitlines()[-30:]) for log in logs)


class Job:
    """A submitted job."""

    def __init__(self, cluster: Cluster, number: str, output: Path) -> None:
        self.cluster = cluster
        self.number = number
        self.output = output

    def shown(self) -> Mapping[str, str]:
        """Returns what `scontrol show job` says."""
        words = self.cluster.ask("scontrol", "show", "job", "--oneliner", self.number).split()
        return dict(word.split("=", 1) for word in words if "=" in word)

    @property
    def state(self) -> str:
        return self.shown()["JobState"]

    @property
    def exit_code(self) -> int:
        return int(self.shown()["ExitCode"].split(":")[0])

    @property
    def restarts(self) -> int:
        return int(self.shown()["Restarts"])

    def wait_for_array(self, num_tasks: int, timeout_s: float = 240) -> dict[int, tuple[str, int]]:
        """Returns state and exit code of each task of an array once all have ended."""

        def tasks() -> dict[int, tuple[str, int]]:
            found = {}
            for line in self.cluster.ask("scontrol", "show", "job", "--oneliner", self.number).splitlines():
                words = dict(word.split("=", 1) for word in line.split() if "=" in word)
                if words["ArrayTaskId"].isdigit():
                    code = int(words["ExitCode"].split(":")[0])
                    found[int(words["ArrayTaskId"])] = (words["JobState"], code)
            return found

        def ended() -> bool:
            states = [state for state, _ in tasks().values()]
            return len(states) == num_tasks and set(states) <= {"COMPLETED", "FAILED"}

        self.cluster.wait_for(ended, timeout_s)
        return tasks()

    def said(self) -> str:
        return self.output.read_text() if self.output.exists() else ""

    def wait(self, *states: str, timeout_s: float = 240) -> None:
        """Waits until the job is in one of the states."""
        self.cluster.wait_for(lambda: self.state in states, timeout_s)

    def ranks(self) -> dict[int, int]:
        """Returns the processes of train.py by rank, as far as they run."""
        found = {}
        for pid in self.cluster.processes():
            environment = environment_of(pid)
            if environment.get("SLURM_JOB_ID") == self.number and "RANK" in environment:
                found[int(environment["RANK"])] = pid
        return found


def environment_of(pid: int) -> dict[str, str]:
    """Returns a process's environment, empty where it is gone."""
    try:
        words = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return {}
    return dict(os.fsdecode(word).split("=", 1) for word in words if b"=" in word)
