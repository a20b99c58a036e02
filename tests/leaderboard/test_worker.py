"""A worker between the queue, the verifier and the scorer, which are stood in for here."""

import os
import threading
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest
from sqlalchemy import select
from sqlalchemy.exc import OperationalError

from facesr.errors import SubmissionError, WeightsError
from facesr.leaderboard import entries, queue, worker
from facesr.leaderboard.competition import Phase, Place
from facesr.leaderboard.desk import LocalDesk, new_round
from facesr.leaderboard.sandbox import OrganiserError, Verified
from facesr.leaderboard.tables import Event, Round, Submission
from facesr.web.database import Database
from tests.leaderboard.made import RANKING, a_team, sha

IDS = ("1", "2", "3", "4")


class Scorer:
    """Scores by what the test says."""

    ids = IDS
    columns: ClassVar[dict[str, Any]] = {RANKING: {"unit": "", "higher_is_better": True}}
    ranking_metric = RANKING
    higher_is_better = True
    basis: ClassVar[dict[str, Any]] = {"metrics": {RANKING: 1}}
    basis_sha256 = "b" * 64

    def __init__(self) -> None:
        self.calls = 0

    def score(self, folder: Path) -> Any:
        self.calls += 1
        assert {path.name for path in folder.iterdir()} == {f"{key}.png" for key in IDS}
        return SimpleNamespace(ids=IDS, columns={RANKING: np.array([0.5, 0.6, 0.7, 0.8])})


class Bench:
    """A worker with stand-ins: `answers` are what the verifier says, one a call."""

    def __init__(self, place: Place, database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
        self.scorer = Scorer()
        self.answers: list[Exception | None] = []
        desk = LocalDesk(place, database, "test")
        desk.poll_seconds = 0.0
        self.worker = worker.Worker(desk)
        monkeypatch.setattr(worker, "verify_apart", self._verify)
        monkeypatch.setattr(worker, "open_scorer", lambda *_: self.scorer)

    def _verify(self, archive: Path, low: Path, protocol: Any, out: Path) -> Verified:
        answer = self.answers.pop(0) if self.answers else None
        if answer is not None:
            raise answer
        for key in IDS:
            (out / f"{key}.png").write_bytes(b"picture " + key.encode())
        # What `sent` puts into the store is the name of a team.
        return Verified({"team": archive.read_text(encoding="utf-8")}, IDS, sha(1), 10, "p" * 64, False)


@pytest.fixture
def bench(place: Place, database: Database, phase: Phase, monkeypatch: pytest.MonkeyPatch) -> Bench:
    return Bench(place, database, monkeypatch)


def sent(place: Place, database: Database, phase: Phase, name: str = "Alpha", packed_for: str = "") -> str:
    with database.write() as session:
        team, _ = a_team(database, session, name)
        stored = place.store().put([(packed_for or name).encode()], 100)
        return entries.receive(database, session, team, phase, stored).code


def row_of(database: Database, code: str) -> Submission:
    with database.read() as session:
        return entries.submission_of(session, code)


def test_scores_what_waits(place: Place, database: Database, phase: Phase, bench: Bench) -> None:
    code = sent(place, database, phase)
    assert bench.worker.run(threading.Event(), until_idle=True) == 1
    row = row_of(database, code)
    assert (row.state, row.facts, row.pixels_sha256) == ("scored", {"team": "Alpha", "is_isolated": False}, "p" * 64)
    with database.read() as session:
        this = session.scalars(select(Round)).one()
        assert (this.ids, this.published is not None) == (list(IDS), True)
        kinds = [event.kind for event in session.scalars(select(Event).order_by(Event.seq))]
    assert kinds[-2:] == ["round of scoring begun", "submission scored"]
    assert not bench.worker.step()


def test_example_pictures_are_public_ones_and_kept(
    place: Place, database: Database, phase: Phase, bench: Bench
) -> None:
    from facesr.leaderboard.split import example_ids
    from facesr.leaderboard.tables import Evaluation

    sent(place, database, phase)
    bench.worker.step()
    with database.read() as session:
        examples = session.scalars(select(Evaluation)).one().examples
    wanted = example_ids(place.key, phase.name, IDS, phase.public_share, phase.num_examples)
    assert sorted(examples) == wanted != []
    for key, digest in examples.items():
        assert place.store().path(digest).read_bytes() == b"picture " + key.encode()


@pytest.mark.parametrize("face", ["/home/somebody/photo", "../photo", "5"])
def test_only_pictures_of_the_phase_are_read(
    place: Place, database: Database, phase: Phase, bench: Bench, monkeypatch: pytest.MonkeyPatch, face: str
) -> None:
    code = sent(place, database, phase)
    monkeypatch.setattr(LocalDesk, "with_examples", lambda self, session, job: replace(job, examples=(face,)))
    bench.worker.step()
    row = row_of(database, code)
    assert row.state != "scored" and "no faces of the phase" in row.note and "FileNotFound" not in row.note


def test_refusal_is_for_the_team_and_failure_for_the_organiser(
    place: Place, database: Database, phase: Phase, bench: Bench
) -> None:
    code = sent(place, database, phase)
    bench.answers = [OrganiserError("bwrap is gone"), RuntimeError("a bug"), SubmissionError("the archive is no ZIP.")]
    assert bench.worker.run(threading.Event(), until_idle=True) == 3
    row = row_of(database, code)
    assert (row.state, row.problem, row.attempts) == ("refused", "the archive is no ZIP.", 3)
    assert "bwrap is gone" in row.note and "RuntimeError: a bug" in row.note


def test_archive_of_another_team_is_refused(place: Place, database: Database, phase: Phase, bench: Bench) -> None:
    stolen = sent(place, database, phase, packed_for="Beta")
    alike = sent(place, database, phase, "Gamma", packed_for="gamma")
    bench.worker.run(threading.Event(), until_idle=True)
    assert row_of(database, stolen).state == "refused"
    assert row_of(database, stolen).problem.startswith("the archive was packed for team 'Beta', and team 'Alpha' sent")
    assert row_of(database, alike).state == "scored" and bench.scorer.calls == 1


def test_gives_up_after_three_attempts_and_goes_on(
    place: Place, database: Database, phase: Phase, bench: Bench
) -> None:
    bad, good = sent(place, database, phase), sent(place, database, phase, "Beta")
    bench.answers = [OrganiserError("disk full")] * queue.MAX_ATTEMPTS
    bench.worker.run(threading.Event(), until_idle=True)
    assert (row_of(database, bad).state, row_of(database, good).state) == ("failed", "scored")
    assert "disk full" not in row_of(database, bad).problem


def test_score_that_is_not_finite_fails_the_submission_alone(
    place: Place, database: Database, phase: Phase, bench: Bench
) -> None:
    bad = sent(place, database, phase)
    values = {RANKING: np.array([0.5, np.nan, 0.7, 0.8])}
    bench.scorer.score = lambda _: SimpleNamespace(ids=IDS, columns=values)  # type: ignore[method-assign,assignment]
    assert bench.worker.run(threading.Event(), until_idle=True) == queue.MAX_ATTEMPTS
    assert row_of(database, bad).state == "failed" and "not finite" in row_of(database, bad).note


def test_round_that_begins_before_a_job_is_taken(
    place: Place, database: Database, phase: Phase, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = sent(place, database, phase)
    bench.worker.step()
    claim = LocalDesk.claim

    def late(*arguments: Any) -> Any:
        monkeypatch.setattr(LocalDesk, "claim", claim)
        with database.write() as session:
            queue.begin_round(database, session, new_round(phase.name, other), "organiser")
        return claim(*arguments)

    other: Any = Scorer()
    other.basis_sha256 = "c" * 64
    sent(place, database, phase, "Beta")
    monkeypatch.setattr(LocalDesk, "claim", late)
    # Both wait for the new round, which this worker cannot score.
    assert bench.worker.run(threading.Event(), until_idle=True) == 0
    row = row_of(database, code)
    assert (row.state, row.attempts, row.wanted_round is not None, row.note) == ("scored", 0, True, "")


def test_database_that_is_away_for_a_moment_ends_no_worker(
    place: Place, database: Database, phase: Phase, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, claim, stop = sent(place, database, phase), queue.claim, threading.Event()

    def away(*arguments: Any) -> Any:
        monkeypatch.setattr(queue, "claim", claim)
        raise OperationalError("", {}, Exception("gone"))

    monkeypatch.setattr(queue, "claim", away)
    monkeypatch.setattr(worker, "_AWAY_SECONDS", 0.0)
    score = bench.scorer.score

    def last(folder: Path) -> Any:
        stop.set()
        return score(folder)

    bench.scorer.score = last  # type: ignore[method-assign]
    assert bench.worker.run(stop) == 1 and row_of(database, code).state == "scored"


def test_another_basis_scores_nothing(
    place: Place, database: Database, phase: Phase, bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    sent(place, database, phase)
    bench.worker.step()
    bench.scorer.basis_sha256 = "c" * 64
    code = sent(place, database, phase, "Beta")
    for _ in range(3):
        assert not bench.worker.step()
    assert (row_of(database, code).state, row_of(database, code).attempts) == ("queued", 0)
    told = [record.message for record in caplog.records if "rescore" in record.message]
    assert len(told) == 1


def test_missing_judge_is_told_once_and_takes_no_job(
    place: Place, database: Database, phase: Phase, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def missing(*_: object) -> None:
        raise WeightsError("edgeface has no weights")

    monkeypatch.setattr(worker, "open_scorer", missing)
    code = sent(place, database, phase)
    one = worker.Worker(LocalDesk(place, database, "test"))
    for _ in range(3):
        assert not one.step()
    assert row_of(database, code).attempts == 0
    assert sum("edgeface has no weights" in record.message for record in caplog.records) == 1


def test_lease_is_prolonged_while_it_is_scored(
    place: Place, database: Database, phase: Phase, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue, "LEASE_SECONDS", 0.04)
    code = sent(place, database, phase)
    seen: list[Any] = []
    done = bench.scorer.score

    def slow(folder: Path) -> Any:
        first = row_of(database, code).lease_until
        for _ in range(200):
            if row_of(database, code).lease_until != first:
                break
            threading.Event().wait(0.02)
        seen.append((first, row_of(database, code).lease_until))
        return done(folder)

    bench.scorer.score = slow  # type: ignore[method-assign]
    bench.worker.step()
    ((first, later),) = seen
    assert first is not None and later is not None and later > first


def test_pictures_of_killed_workers_are_removed(
    place: Place, database: Database, phase: Phase, bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    for name, age in (("facesr-board-old", 7200), ("facesr-board-new", 60), ("another", 7200)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "301.png").touch()
        os.utime(tmp_path / name, (time.time() - age,) * 2)
    bench.worker.run(threading.Event(), until_idle=True)
    left = {
        path.name for path in tmp_path.iterdir() if path.name in ("facesr-board-old", "facesr-board-new", "another")
    }
    assert left == {"facesr-board-new", "another"}
