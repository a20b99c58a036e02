"""Workers elsewhere as processes of their own: what they score, and that one that is killed loses nothing."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from facesr.leaderboard import checking, queue, worker_tokens
from facesr.leaderboard.desk import LocalDesk
from facesr.leaderboard.worker import Worker
from tests.leaderboard.elsewhere import Contest, contest, held_by

ROOT = Path(__file__).resolve().parents[2]
SECONDS = 120.0

pytestmark = pytest.mark.slow


def started(board: Contest, name: str, *more: str) -> "subprocess.Popen[str]":
    """Returns a worker that sees nothing but the board's address and a token."""
    home = board.folder / f"machine-{name}"
    home.mkdir(exist_ok=True)
    (home / "token.txt").write_text(board.token(name))
    command = [sys.executable, "-m", "facesr", "board", "worker", board.url, f"token={home / 'token.txt'}", *more]
    environment = {**os.environ, "FACESR_CACHE": str(home / "cache"), "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        command, cwd=home, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )


def until(is_so: Callable[[], bool], pause: float = 0.01) -> None:
    end = time.monotonic() + SECONDS
    while not is_so():
        assert time.monotonic() < end
        time.sleep(pause)


def test_a_process_scores_and_one_that_is_killed_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue, "LEASE_SECONDS", 4.0)
    with contest(tmp_path) as board:
        near = board.sent("Near")
        # The first round is the organiser's to begin.
        Worker(LocalDesk(board.place, board.database, "beside")).run(threading.Event(), until_idle=True)
        code = board.sent("Farr")
        killed = started(board, "killed")
        until(lambda: held_by(board) == code)
        killed.send_signal(signal.SIGKILL)
        killed.communicate()
        assert board.row(code).state == "queued" and board.row(code).worker == "killed"
        second = started(board, "second")
        until(lambda: board.row(code).state == "scored", 0.1)
        assert (board.row(code).attempts, board.evaluation(code).worker) == (2, "second")
        one, other = board.evaluation(near), board.evaluation(code)
        assert one.values == other.values and one.examples == other.examples
        with board.database.write() as session:
            worker_tokens.revoke(board.database, session, "second")
        told, _ = second.communicate(timeout=SECONDS)
        assert second.returncode == 2 and "does not take this worker's token" in told
        assert "Traceback" not in told, told
        with board.database.read() as session:
            assert checking.first_fault(session, board.place.store()) is None
        assert not list((tmp_path / "machine-second" / "cache" / "references").glob("*.part"))
