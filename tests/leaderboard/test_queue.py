"""The queue: every submission is scored once, whoever dies when."""

import threading
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import func, select

from facesr.leaderboard import entries, queue, teams
from facesr.leaderboard.competition import Phase
from facesr.leaderboard.tables import Evaluation, Submission
from facesr.web.database import Database
from facesr.web.store import Stored
from tests.leaderboard.made import RANKING, a_round, a_team, scored, sha

IDS = ["1", "2"]


def outcome(value: float) -> queue.Outcome:
    return queue.Outcome({RANKING: np.array([value, value])}, {}, sha(1))


def run_out(submission: Submission) -> None:
    assert submission.lease_until is not None
    submission.lease_until -= timedelta(seconds=2 * queue.LEASE_SECONDS)


def test_lease_that_ran_out_goes_to_another_worker(database: Database, phase: Phase) -> None:
    with database.write() as session:
        team, _ = a_team(database, session, "Alpha")
        this = a_round(database, session, phase.name, IDS)
        sent = entries.receive(database, session, team, phase, Stored(sha(1), 1))
        first = queue.claim(database, session, "one", [phase.name])
        assert first is not None and queue.claim(database, session, "two", [phase.name]) is None
        assert queue.prolong(database, session, first)
        run_out(sent)
        session.flush()
        second = queue.claim(database, session, "two", [phase.name])
        assert second is not None and second.attempt == 2 and second.lease != first.lease
        # The first worker was slow, not dead: it has no say any more.
        assert not queue.prolong(database, session, first)
        assert not queue.finish_scored(database, session, first, this.id, outcome(0.1))
        assert not queue.finish_refused(database, session, first, "no.")
        assert not queue.finish_failed(database, session, first, "no.")
        assert queue.finish_scored(database, session, second, this.id, outcome(0.2))
        assert not queue.finish_scored(database, session, second, this.id, outcome(0.3))
        values = [queue.unpacked(this, row.values)[RANKING][0] for row in session.scalars(select(Evaluation))]
        assert values == [0.2]


def test_worker_that_dies_every_time_ends_the_job(database: Database, phase: Phase) -> None:
    with database.write() as session:
        team, _ = a_team(database, session, "Alpha")
        sent = entries.receive(database, session, team, phase, Stored(sha(1), 1))
        for _ in range(queue.MAX_ATTEMPTS):
            assert queue.claim(database, session, "w", [phase.name]) is not None
            run_out(sent)
            session.flush()
        assert queue.claim(database, session, "w", [phase.name]) is None
        assert sent.state == entries.FAILED


def test_withdrawn_while_it_is_scored(database: Database, phase: Phase) -> None:
    with database.write() as session:
        team, _ = a_team(database, session, "Alpha")
        this = a_round(database, session, phase.name, IDS)
        sent = entries.receive(database, session, team, phase, Stored(sha(1), 1))
        job = queue.claim(database, session, "w", [phase.name])
        assert job is not None
        entries.withdraw(database, session, sent, "team Alpha")
        assert not queue.finish_scored(database, session, job, this.id, outcome(0.5))
        assert queue.claim(database, session, "w", [phase.name]) is None


@pytest.mark.parametrize(
    "columns",
    [
        {RANKING: np.array([1.0, np.nan])},
        {RANKING: np.array([1.0])},
        {"psnr": np.array([1.0, 2.0])},
        {RANKING: np.array([1.0, 2.0]), "psnr": np.array([1.0, 2.0])},
    ],
)
def test_scores_have_to_fit_the_round(database: Database, phase: Phase, columns: dict[str, np.ndarray]) -> None:
    with database.write() as session:
        team, _ = a_team(database, session, "Alpha")
        this = a_round(database, session, phase.name, IDS)
        entries.receive(database, session, team, phase, Stored(sha(1), 1))
        job = queue.claim(database, session, "w", [phase.name])
        assert job is not None
        with pytest.raises(ValueError, match=r"round|finite"):
            queue.finish_scored(database, session, job, this.id, queue.Outcome(columns, {}, ""))


def test_new_round_queues_what_has_scores(database: Database, phase: Phase) -> None:
    with database.write() as session:
        team, _ = a_team(database, session, "Alpha")
        old = a_round(database, session, phase.name, IDS)
        done = scored(database, session, team, phase, 1, old, np.array([0.1, 0.1]))
        gone = scored(database, session, team, phase, 2, old, np.array([0.2, 0.2]))
        entries.withdraw(database, session, gone, "team Alpha")
        new = a_round(database, session, phase.name, IDS, "c" * 64)
        assert (old.published is not None, new.published) == (True, None)
        job = queue.claim(database, session, "w", [phase.name])
        assert job is not None and job.code == done.code
        assert queue.claim(database, session, "w", [phase.name]) is None
        assert queue.finish_scored(database, session, job, new.id, outcome(0.9))
        assert done.wanted_round is None and done.state == entries.SCORED
        assert session.scalar(select(func.count()).select_from(Evaluation)) == 3
        # The scores are still in the database as they were logged.
        before = session.scalar(select(Evaluation).where(Evaluation.round_id == old.id).order_by(Evaluation.id))
        assert before is not None and queue.scores_sha256(done.code, old, before.values) == before.sha256


def test_round_that_begins_while_one_is_scored_gets_it_too(database: Database, phase: Phase) -> None:
    with database.write() as session:
        team, _ = a_team(database, session, "Alpha")
        old = a_round(database, session, phase.name, IDS)
        first = entries.receive(database, session, team, phase, Stored(sha(1), 1))
        job = queue.claim(database, session, "w", [phase.name])
        new = a_round(database, session, phase.name, IDS, "c" * 64)
        assert job is not None and queue.finish_scored(database, session, job, old.id, outcome(0.5))
        assert (first.state, first.wanted_round, first.attempts) == (entries.SCORED, new.id, 0)
        again = queue.claim(database, session, "w", [phase.name])
        newest = a_round(database, session, phase.name, IDS, "d" * 64)
        assert again is not None and queue.finish_scored(database, session, again, new.id, outcome(0.5))
        assert first.wanted_round == newest.id


def test_refusal_in_a_later_round_takes_no_score_away(database: Database, phase: Phase) -> None:
    with database.write() as session:
        team, _ = a_team(database, session, "Alpha")
        old = a_round(database, session, phase.name, IDS)
        done = scored(database, session, team, phase, 1, old, np.array([0.1, 0.1]))
        a_round(database, session, phase.name, IDS, "c" * 64)
        job = queue.claim(database, session, "w", [phase.name])
        assert job is not None and queue.finish_refused(database, session, job, "a new rule.")
        assert (done.state, done.problem, done.wanted_round) == (entries.SCORED, "", None)
        assert "a new rule" in done.note


def test_many_workers_score_each_once(tmp_path: Path, phase: Phase, database: Database) -> None:
    with database.write() as session:
        this = a_round(database, session, phase.name, IDS)
        for number in range(24):
            team = teams.new_team(database, session, f"T{number}")
            entries.receive(database, session, team, phase, Stored(sha(number), 1))
    dealt: list[str] = []

    def work(name: str) -> None:
        while True:
            with database.write() as session:
                job = queue.claim(database, session, name, [phase.name])
            if job is None:
                return
            with database.write() as session:
                assert queue.finish_scored(database, session, job, this.id, outcome(0.5))
            dealt.append(job.code)

    threads = [threading.Thread(target=work, args=(f"w{number}",)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(dealt) == len(set(dealt)) == 24
    with database.read() as session:
        assert session.scalar(select(func.count()).select_from(Evaluation)) == 24
