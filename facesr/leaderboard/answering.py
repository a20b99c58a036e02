"""A process that answers on its standard output, believed in nothing: how much it may say and how long it may take."""

import contextlib
import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

MAX_LINE_BYTES = 1 << 22
_MAX_COMPLAINT_BYTES = 4096
# A shell and bubblewrap tell a signal so.
_SIGNALLED = 128


class Answering:
    """A running process and what it answers.

    Attributes:
        is_too_late: whether it was killed because its time was over.
        says_too_much: whether it was killed because it went on talking when nothing more was asked.
    """

    def __init__(self, process: "subprocess.Popen[bytes]", seconds: float) -> None:
        """Watches a process from now on; it is killed when so many seconds are over."""
        self.is_too_late = self.says_too_much = False
        self._process = process
        self._deadline = time.monotonic() + seconds
        self._paused_at: float | None = None
        self._complaint = b""
        self._done = threading.Event()
        self._ending = threading.Lock()
        self._threads = [threading.Thread(target=self._watch, daemon=True), threading.Thread(target=self._hear)]
        for thread in self._threads:
            thread.start()

    def ask(self, data: bytes) -> None:
        """Writes to its standard input, which is closed then."""
        assert self._process.stdin is not None
        # One that is gone already says so by its exit code.
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(data)
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()

    def line(self) -> dict[str, Any]:
        """Returns the JSON object on its next line, {} where there is no such thing."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline(MAX_LINE_BYTES)
        try:
            found = json.loads(line) if line.endswith(b"\n") else None
        except (ValueError, RecursionError):
            found = None
        return found if isinstance(found, dict) else {}

    def read(self, count: int) -> bytes | None:
        """Returns the next bytes, None where it ends before it has said so many."""
        assert self._process.stdout is not None
        data = self._process.stdout.read(count)
        return data if len(data) == count else None

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Does not count the time in the block, in which the process waits for this one."""
        start = time.monotonic()
        self._paused_at = start
        try:
            yield
        finally:
            self._deadline += time.monotonic() - start
            self._paused_at = None

    def is_well_ended(self) -> bool:
        """Returns whether it has nothing more to say and ends as a process does that is content."""
        assert self._process.stdout is not None
        return self._process.stdout.read(1) == b"" and self._wait() == 0

    @property
    def exit_code(self) -> int:
        """Its exit code, after its end; a signal's number is negative, or 128 is added to it."""
        return self._wait()

    def is_out_of_cpu_time(self) -> bool:
        """Returns whether the system ended it for its computing time."""
        return self._is_ended_by("SIGXCPU")

    def is_killed(self) -> bool:
        """Returns whether somebody killed it."""
        return self._is_ended_by("SIGKILL")

    def complaint(self) -> str:
        """Returns the beginning of what it wrote to its standard error."""
        self._wait()
        self._threads[1].join(timeout=5)
        return self._complaint.decode("utf-8", "replace").strip()

    def stop(self) -> None:
        """Kills it, with all processes of its group, and waits for its end."""
        self._kill()
        self._done.set()
        self._wait()
        for thread in self._threads:
            thread.join(timeout=5)
        for stream in (self._process.stdin, self._process.stdout, self._process.stderr):
            if stream is not None:
                with contextlib.suppress(BrokenPipeError):
                    stream.close()

    def _is_ended_by(self, name: str) -> bool:
        number = getattr(signal, name, None)  # Windows has neither
        return number is not None and self._wait() in (-number, _SIGNALLED + number)

    def _wait(self) -> int:
        """Returns its exit code; what it still says is thrown away, up to a limit, and the deadline holds."""
        assert self._process.stdout is not None
        left = MAX_LINE_BYTES
        while self._process.returncode is None and (part := self._process.stdout.read1(1 << 16)):  # type: ignore[attr-defined]
            left -= len(part)
            if left < 0 and not self.says_too_much:
                self.says_too_much = True
                self._kill()
        if hasattr(os, "waitid") and self._process.returncode is None:
            # Until it is waited for, nothing else can have its number, so its group can be ended safely.
            os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOWAIT)
            self._kill()
        with self._ending:
            return self._process.wait()

    def _watch(self) -> None:
        while not self._done.wait(0.05):
            if self._paused_at is None and time.monotonic() > self._deadline:
                self.is_too_late = True
                self._kill()
                return

    def _hear(self) -> None:
        assert self._process.stderr is not None
        while part := self._process.stderr.read1(1 << 16):  # type: ignore[attr-defined]
            self._complaint = (self._complaint + part)[:_MAX_COMPLAINT_BYTES]

    def _kill(self) -> None:
        with self._ending, contextlib.suppress(ProcessLookupError, PermissionError):
            if self._process.returncode is not None:
                return
            if hasattr(os, "killpg"):
                os.killpg(self._process.pid, signal.SIGKILL)
            else:
                self._process.kill()


@contextmanager
def hurried(command: Sequence[str], folder: str, environment: Mapping[str, str], seconds: float) -> Iterator[Answering]:
    """Yields a process that is gone at the end of the context, however it ends.

    Args:
        command: program and arguments.
        folder: it starts there.
        environment: all that it has.
        seconds: after which it is killed.

    Raises:
        OSError: it cannot be started.
    """
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=folder,
        env=dict(environment),
        close_fds=True,
        start_new_session=True,
    )
    answering = Answering(process, seconds)
    try:
        yield answering
    finally:
        answering.stop()
