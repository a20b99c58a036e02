"""Workers that are killed at any moment: nothing is lost, nothing is scored twice."""

import multiprocessing
import os
import random
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from sqlalchemy import func, select

from facesr.leaderboard import checking, entries, queue, worker
from facesr.leaderboard.competition import Phase, Place
from facesr.leaderboard.desk import LocalDesk
from facesr.leaderboard.sandbox import Verified
from facesr.leaderboard.tables import Evaluation, Submission
from facesr.leaderboard.teams import new_team
from facesr.web.database import Database
from tests.leaderboard.test_worker import IDS, RANKING, Scorer

COUNT = int(os.environ.get("FACESR_CHAOS", "24"))
WORKERS, KILLED_AFTER = 4, (0.3, 2.0)
SECONDS = 300.0 if COUNT > 24 else 60.0


class Slow(Scorer):
    """Takes as long as a small phase on a fast machine."""

    def score(self, folder: Path) -> Any:
        time.sleep(random.uniform(0.01, 0.03))
        return SimpleNamespace(ids=IDS, columns={RANKING: np.random.default_rng().random(4)})


def _verify(archive: Path, low: Path, protocol: Any, out: Path) -> Verified:
    time.sleep(random.uniform(0.01, 0.02))
    for key in IDS:
        (out / f"{key}.png").write_bytes(b"picture " + key.encode())
    return Verified({"team": archive.read_text(encoding="utf-8").split()[0]}, IDS, "0" * 64, 10, "p" * 64, False)


def _work(place: Place, name: str) -> None:
    database = Database(place.url)
    desk = LocalDesk(place, database, name)
    desk.poll_seconds = 0.05
    worker.Worker(desk).run(threading.Event())


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.skipif(not hasattr(os, "fork"), reason="stand-ins reach workers by fork")
def test_workers_killed_at_any_moment(
    place: Place, database: Database, phase: Phase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue, "LEASE_SECONDS", 1.0)
    monkeypatch.setattr(worker, "verify_apart", _verify)
    monkeypatch.setattr(worker, "open_scorer", lambda *_: Slow())
    place = Place(place.folder, database.engine.url.render_as_string(hide_password=False))
    with database.write() as session:
        teams = [new_team(database, session, f"T{number}") for number in range(5)]
        for number in range(COUNT):
            team = teams[number % 5]
            stored = place.store().put([f"{team.name} {number}".encode()], 100)
            entries.receive(database, session, team, phase, stored, is_baseline=True)
    database.close()
    context = multiprocessing.get_context("fork")
    number_killed = 0

    def start(name: str) -> tuple[Any, float]:
        process = context.Process(target=_work, args=(place, name), daemon=True)
        process.start()
        return process, time.monotonic() + random.uniform(*KILLED_AFTER)

    running = {f"w{number}": start(f"w{number}") for number in range(WORKERS)}
    # One is killed in any case, however quickly the others are done.
    running["w0"] = (running["w0"][0], 0.0)
    try:
        until = time.monotonic() + SECONDS
        while _num_waiting(database) and time.monotonic() < until:
            time.sleep(0.1)
            for name, (process, due) in list(running.items()):
                if time.monotonic() > due:
                    process.kill()
                    process.join()
                    number_killed += 1
                    running[name] = start(name)
    finally:
        for process, _ in running.values():
            process.kill()
            process.join()
    with database.read() as session:
        rows = session.scalars(select(Submission)).all()
        evaluated = list(session.scalars(select(Evaluation.submission_id)))
        states = {row.id: row.state for row in rows}
        print(
            f"{number_killed} kills, {list(states.values()).count('failed')} failed,"
            f" {sum(row.attempts > 1 for row in rows)} attempted again"
        )
        assert number_killed > 0 and len(rows) == COUNT
        assert set(states.values()) <= {entries.SCORED, entries.FAILED}
        assert sorted(evaluated) == [key for key, state in sorted(states.items()) if state == entries.SCORED]
        assert all(row.attempts == queue.MAX_ATTEMPTS for row in rows if row.state == entries.FAILED)
        assert checking.first_fault(session, place.store()) is None


def _num_waiting(database: Database) -> int:
    with database.read() as session:
        return session.scalar(select(func.count()).select_from(Submission).where(entries.waiting())) or 0
