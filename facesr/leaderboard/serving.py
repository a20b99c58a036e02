"""Serving a board: the web server in this process, workers in others, all of them stopped together."""

import argparse
import contextlib
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from facesr.errors import ConfigError
from facesr.leaderboard.desk import Desk, LocalDesk
from facesr.leaderboard.line import Line
from facesr.leaderboard.operations import opened
from facesr.names import shown_path
from facesr.submission.send import read_token
from facesr.web.serving import log_to_stderr, run_server

_log = logging.getLogger("facesr.board")
# A worker that dies at once is not started more often than this.
_RESTART_SECONDS = 5.0
_STOP_SECONDS = 10.0
# What was half received by a server that was killed.
_ABANDONED_SECONDS = 3600.0


def serve(options: argparse.Namespace) -> None:
    """Serves the board until it is stopped."""
    from facesr.leaderboard.app import create_app
    from facesr.leaderboard.pieces import expire

    log_to_stderr()
    with opened(options.folder) as (place, database):
        place.store().sweep(_ABANDONED_SECONDS)
        expire(database, place.store())
        app = create_app(place, database, trusted_proxy=options.behind_proxy)
        print(f"{place.competition.title}: http://{options.host}:{options.port} (Ctrl-C stops it)", flush=True)
        with _workers(str(options.folder), options.workers):
            run_server(app, options.host, options.port, trusted_proxy=options.behind_proxy)


def worker(options: argparse.Namespace) -> None:
    """Scores what waits until it is stopped; it finishes a submission that it has begun."""
    from facesr.leaderboard.worker import Worker

    log_to_stderr()
    stop = threading.Event()
    parent = os.getppid()
    with _desk(options, stop) as desk:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: stop.set())
        if options.name is not None and options.name.startswith("beside-"):
            threading.Thread(target=_follow, args=(parent, stop), daemon=True).start()
        print(f"worker {desk.name} of {shown_path(options.board)}", flush=True)
        count = Worker(desk, options.device).run(stop, until_idle=options.until_idle)
    print(f"worker {desk.name} ends; it dealt with {count} submissions", flush=True)


@contextlib.contextmanager
def _desk(options: argparse.Namespace, stop: threading.Event) -> Iterator[Desk]:
    """Yields the desk of a competition's folder, or of a board's address.

    Raises:
        FaceSRError: it cannot be opened, or options belong to the other kind.
    """
    if "://" not in options.board:
        if options.token is not None:
            raise ConfigError(f"{options.token} belongs to the address of a board; leave it out with a folder.")
        name = options.name or f"{socket.gethostname()}-{os.getpid()}"
        with opened(Path(options.board)) as (place, database):
            yield LocalDesk(place, database, name)
        return
    from facesr.leaderboard.remote import RemoteDesk

    if options.name is not None:
        raise ConfigError("--name is for a folder; at an address the worker has the name of its token.")
    key, _, file = (options.token or "").partition("=")
    if key != "token" or not file:
        raise ConfigError(f"a worker at an address needs token=FILE: facesr board worker {options.board} token=FILE.")
    yield RemoteDesk(Line(options.board, read_token(Path(file).expanduser()), stop))


def _follow(parent: int, stop: threading.Event) -> None:
    """Stops this worker when the server that started it is gone, however that ended."""
    while not stop.wait(1.0):
        if os.getppid() != parent:
            stop.set()


@contextlib.contextmanager
def _workers(folder: str, count: int) -> Iterator[None]:
    """Runs workers in processes of their own until the block ends; one that dies is started again."""
    over = threading.Event()
    running: dict[int, subprocess.Popen[bytes]] = {}

    def start(number: int) -> None:
        command = [sys.executable, "-m", "facesr", "board", "worker", folder, "--name", f"beside-{number}"]
        # A group of its own: Ctrl-C at the terminal is for the server, which stops its workers itself.
        running[number] = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)

    def watch() -> None:
        while not over.wait(1.0):
            for number, process in list(running.items()):
                if process.poll() is not None and not over.is_set():
                    _log.error("worker %d ended with exit code %s; it is started again", number, process.returncode)
                    over.wait(_RESTART_SECONDS)
                    if not over.is_set():
                        start(number)

    for number in range(1, count + 1):
        start(number)
    thread = threading.Thread(target=watch, name="facesr-workers", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        for process in running.values():
            process.terminate()
        until = time.monotonic() + _STOP_SECONDS
        for process in running.values():
            try:
                process.wait(max(0.1, until - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()  # what it was scoring is taken up by the next worker when its lease ends
