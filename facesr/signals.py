"""Requests to stop: SIGTERM from a user or a scheduler, SIGUSR1 as Slurm sends it before the time limit.

train.py listens before it imports anything that takes time, so there is no moment at which a request kills it. Until
the loop takes requests over there is nothing that would have to be saved: the program ends with the code for "requeue".
This module therefore imports nothing heavy.
"""

import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

from facesr.errors import EXIT_REQUEUE

# Windows has no SIGUSR1.
STOP_SIGNALS = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGUSR1") if hasattr(signal, name))
# What a program that was asked to stop has for removing its temporary files, and its processes for ending.
GRACE_SECONDS = 15.0


class Requests:
    """What was asked of this process, and who answers.

    Attributes:
        came: whether a request to stop came.
        held: whether the training loop answers requests, by saving first.
    """

    def __init__(self) -> None:
        self.came = False
        self.held = False
        self.listening = False
        self._leave: Callable[[], object] = leave_now

    def listen(self) -> None:
        """From now on a request that nobody holds ends the program with exit code 75. Of the main thread only."""
        self.listening = True
        for number in STOP_SIGNALS:
            signal.signal(number, self._answer)
        # Python runs a handler only between two of its own instructions, and a rank may wait for another one for an
        # hour inside the back end. The system's part of the handler writes to a socket at once, which a thread reads.
        reader, writer = socket.socketpair()
        writer.setblocking(False)
        signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
        self._writer = writer  # kept open
        threading.Thread(target=self._watch, args=(reader,), name="facesr-signals", daemon=True).start()
        # Whoever starts a rank may hold requests back until it listens (slurm/train.sbatch); one that came comes now.
        if hasattr(signal, "pthread_sigmask"):  # Windows has none
            signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)

    def unwind(self) -> None:
        """From now on there may be something to tidy up: a request raises SystemExit instead of leaving at once."""
        self._leave = leave_tidily

    def ignore(self) -> None:
        """From now on requests change nothing: the exit code is known, and the process is about to end.

        Python gives up its handlers while it ends, which takes a while, and a second request would then kill it.
        """
        if self.listening:
            for number in STOP_SIGNALS:
                signal.signal(number, signal.SIG_IGN)

    @contextmanager
    def postponed(self) -> Iterator[None]:
        """Keeps a request until the block ends, for what must not be cut in two, such as starting a process."""
        leave, self._leave = self._leave, lambda: None
        before = self.came
        try:
            yield
        finally:
            self._leave = leave
        if self.came and not before:
            leave()

    def _answer(self, number: int, frame: FrameType | None) -> None:
        again, self.came = self.came, True
        # A second request must not interrupt what the first one set going.
        if not self.held and not again:
            say_stopped()
            self._leave()

    def _watch(self, reader: socket.socket) -> None:
        while True:
            if not any(number in STOP_SIGNALS for number in reader.recv(1)):
                continue
            time.sleep(GRACE_SECONDS)
            if not self.held:
                os._exit(EXIT_REQUEUE)


def say_stopped() -> None:
    """Prints on rank 0 that nothing was lost."""
    if os.environ.get("RANK", "0") == "0":
        print("asked to stop before the first step; the same command goes on.", file=sys.stderr, flush=True)


def leave_now() -> NoReturn:
    """Ends the process at once, as is safe while libraries are half imported."""
    os._exit(EXIT_REQUEUE)


def leave_tidily() -> NoReturn:
    """Raises SystemExit, so that temporary files are removed."""
    raise SystemExit(EXIT_REQUEUE)


requests = Requests()
