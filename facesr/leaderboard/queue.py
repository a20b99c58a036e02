"""The queue: submissions are the jobs, and a worker holds one by a lease that it has to prolong.

A worker that dies lets its lease run out, and another one takes the job. Whoever finishes has to show the lease that
the row has now, so nothing is scored twice, whatever dies when.
"""

import hashlib
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import func, or_, select
from sqlalchemy.orm import Session

from facesr.leaderboard import chain
from facesr.leaderboard.entries import FAILED, QUEUED, REFUSED, SCORED, waiting
from facesr.leaderboard.tables import Evaluation, PhaseTimes, Round, Submission, Team
from facesr.web.database import Database

LEASE_SECONDS = 120.0
MAX_ATTEMPTS = 3


@dataclass(frozen=True)
class Job:
    """A submission that a worker may score now.

    Attributes:
        submission_id: the row.
        code: of the submission.
        phase: of the submission.
        archive_sha256: where the archive lies in the store.
        lease: the worker's secret.
        attempt: 1 for the first.
        num_bytes: of the archive.
        team: that sent it, and whose name it has to state; None for a baseline.
        examples: ids of the faces whose pictures everybody may see.
        lease_seconds: how long the lease lasts unless it is prolonged.
    """

    submission_id: int
    code: str
    phase: str
    archive_sha256: str
    lease: str
    attempt: int
    num_bytes: int = 0
    team: str | None = None
    examples: tuple[str, ...] = ()
    lease_seconds: float = LEASE_SECONDS


@dataclass(frozen=True)
class Outcome:
    """What scoring gave.

    Attributes:
        columns: metric -> values (N,), in the order of the round's ids.
        facts: what the manifest says.
        pixels_sha256: of the decoded pictures.
        examples: id of a face -> sha256 of its PNG in the store.
        seconds: that it took.
        ids: of the faces; they have to be those of the round where they are stated.
    """

    columns: Mapping[str, NDArray[np.float64]]
    facts: dict[str, Any]
    pixels_sha256: str
    examples: Mapping[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    ids: tuple[str, ...] = ()


def claim(database: Database, session: Session, worker: str, phases: Sequence[str], lease: str = "") -> Job | None:
    """Returns the next job of these phases, leased to a worker, or None; jobs that failed too often end here.

    Args:
        database: says what time it is.
        session: of `Database.write`.
        worker: its name, for people.
        phases: whose submissions it can score.
        lease: the worker's secret, by default a new one.
    """
    while True:
        now = database.now(session)
        free = or_(Submission.lease_until.is_(None), Submission.lease_until < now)
        row = session.scalar(
            select(Submission).where(waiting(), free, Submission.phase.in_(phases)).order_by(Submission.id).limit(1)
        )
        if row is None:
            return None
        if row.attempts >= MAX_ATTEMPTS:
            _fail(database, session, row, f"scoring was begun {MAX_ATTEMPTS} times and never finished")
            continue
        row.attempts += 1
        row.lease = lease or secrets.token_hex(16)
        row.lease_until = now + timedelta(seconds=LEASE_SECONDS)
        row.worker = worker[:100]
        return _job(session, row)


def held(session: Session, lease: str, code: str | None = None) -> Job | None:
    """Returns the job that is held by a lease, None where there is none, or where it is another than `code`."""
    row = session.scalar(select(Submission).where(Submission.lease == lease))
    if row is None or (code is not None and row.code != code):
        return None
    job = _job(session, row)
    return None if _held(session, job) is None else job


def num_held(database: Database, session: Session, worker: str) -> int:
    """Returns how many jobs a worker of this name holds by leases that have not run out."""
    rule = (Submission.worker == worker[:100], Submission.lease_until >= database.now(session))
    return session.scalar(select(func.count()).select_from(Submission).where(*rule)) or 0


def _job(session: Session, row: Submission) -> Job:
    team = session.get_one(Team, row.team_id)
    assert row.lease is not None
    return Job(
        submission_id=row.id,
        code=row.code,
        phase=row.phase,
        archive_sha256=row.archive_sha256,
        lease=row.lease,
        attempt=row.attempts,
        num_bytes=row.num_bytes,
        team=None if team.is_baseline else team.name,
        lease_seconds=LEASE_SECONDS,
    )


def prolong(database: Database, session: Session, job: Job) -> bool:
    """Returns whether the job is still the worker's; its lease then begins anew."""
    row = _held(session, job)
    if row is None:
        return False
    row.lease_until = database.now(session) + timedelta(seconds=LEASE_SECONDS)
    return True


def finish_refused(database: Database, session: Session, job: Job, sentence: str) -> bool:
    """Records that the verifier refused the archive, and returns whether the job was still the worker's.

    A submission that has a score keeps it: then a later verifier refuses what an earlier one took, which is for the
    organiser to judge.
    """
    row = _held(session, job)
    if row is None:
        return False
    now = database.now(session)
    row.lease, row.lease_until, row.finished = None, None, now
    if row.state == SCORED:
        row.wanted_round = None
        row.note = f"{row.note}\nrefused when it was scored again: {sentence}".strip()
        chain.append(database, session, f"worker {row.worker}", "re-scoring refused", {"submission": row.code})
        return True
    row.state, row.problem = REFUSED, sentence[:500]
    # The log may be read by everybody; the sentence is for the team.
    chain.append(database, session, f"worker {row.worker}", "archive refused", {"submission": row.code})
    return True


def finish_failed(database: Database, session: Session, job: Job, reason: str) -> bool:
    """Records that the machinery failed, for a reason that organisers see; the job is free for another attempt.

    After `MAX_ATTEMPTS` it is over: the submission has failed, and counts for nothing.
    """
    row = _held(session, job)
    if row is None:
        return False
    row.lease, row.lease_until = None, None
    row.note = f"{row.note}\nattempt {row.attempts}: {reason[:500]}".strip()[-4000:]
    if row.attempts >= MAX_ATTEMPTS:
        _fail(database, session, row, reason)
    return True


def _fail(database: Database, session: Session, row: Submission, reason: str) -> None:
    row.lease, row.lease_until, row.finished = None, None, database.now(session)
    if row.state == SCORED:
        row.wanted_round = None
    else:
        row.state = FAILED
        row.problem = "scoring failed on the organiser's side; this does not count against your limits."
    row.note = f"{row.note}\ngiven up: {reason[:500]}".strip()[-4000:]
    chain.append(database, session, f"worker {row.worker}", "scoring failed", {"submission": row.code})


def finish_scored(database: Database, session: Session, job: Job, round_id: int, outcome: Outcome) -> bool:
    """Records the scores, and returns whether the job was still the worker's.

    Raises:
        ValueError: the columns or faces are not those of the round, or not all values are finite.
    """
    row = _held(session, job)
    if row is None:
        return False
    this = session.get_one(Round, round_id)
    if outcome.ids and list(outcome.ids) != this.ids:
        raise ValueError("these are not the faces of the round")
    values = packed(this, outcome.columns)
    now = database.now(session)
    evaluation = Evaluation(
        submission_id=row.id,
        round_id=this.id,
        made=now,
        worker=row.worker,
        seconds=round(outcome.seconds, 3),
        values=values,
        sha256=scores_sha256(row.code, this, values),
        examples=dict(outcome.examples),
    )
    session.add(evaluation)
    row.state, row.problem, row.finished = SCORED, "", now
    row.lease, row.lease_until = None, None
    # A round that was begun while this one was scored wants it as well; else it would be missing there.
    newest = current_round(session, row.phase)
    row.wanted_round = None
    if newest is not None and newest.id != this.id:
        row.wanted_round, row.attempts = newest.id, 0
    row.facts, row.pixels_sha256 = outcome.facts, outcome.pixels_sha256
    # A digest of 300 doubles says nothing about them, so private scores are safe in the open log.
    data = {
        "submission": row.code,
        "round": this.id,
        "basis": this.basis_sha256,
        # Of the team's own, so that nobody reads in the log which teams have equal pixels.
        "pixels": hashlib.sha256(f"{row.code} {row.pixels_sha256}".encode()).hexdigest(),
        "scores": evaluation.sha256,
    }
    chain.append(database, session, f"worker {row.worker}", "submission scored", data)
    return True


def packed(this: Round, columns: Mapping[str, NDArray[np.float64]]) -> bytes:
    """Returns the values as an evaluation keeps them.

    Raises:
        ValueError: the columns are not those of the round, or not all values are finite.
    """
    if set(columns) != set(this.columns) or any(column.shape != (len(this.ids),) for column in columns.values()):
        raise ValueError("these are not the columns and faces of the round")
    values = np.stack([columns[name] for name in column_names(this)]).astype("<f8")
    if not np.isfinite(values).all():
        raise ValueError("a score is not finite")
    return values.tobytes()


def unpacked(this: Round, values: bytes) -> dict[str, NDArray[np.float64]]:
    """Returns metric -> values (N,) of an evaluation in its round."""
    table = np.frombuffer(values, "<f8").reshape(len(this.columns), len(this.ids))
    return dict(zip(column_names(this), table, strict=True))


def column_names(this: Round) -> list[str]:
    """Returns the metrics of a round in the order of the values; JSON on PostgreSQL keeps no order of its own."""
    return sorted(this.columns)


def scores_sha256(code: str, this: Round, values: bytes) -> str:
    """Returns the digest of scores that the log holds: of whom, on which basis, of which faces, and the values."""
    digest = hashlib.sha256()
    for text in (code, this.basis_sha256, *column_names(this), *this.ids):
        digest.update(text.encode() + b"\0")
    digest.update(values)
    return digest.hexdigest()


def current_round(session: Session, phase: str) -> Round | None:
    """Returns the round in which submissions of a phase are scored now: its newest."""
    return session.scalar(select(Round).where(Round.phase == phase).order_by(Round.id.desc()).limit(1))


def begin_round(database: Database, session: Session, this: Round, actor: str) -> Round:
    """Adds a round to its phase; the first one is published at once, a later one when the organiser says so.

    Every submission that has a score waits to be scored in it.
    """
    times = session.get_one(PhaseTimes, this.phase)
    this.created = database.now(session)
    session.add(this)
    session.flush()
    data = {"round": this.id, "phase": this.phase, "basis": this.basis_sha256}
    chain.append(database, session, actor, "round of scoring begun", data)
    if times.published_round is None:
        this.published, times.published_round = this.created, this.id
    for row in session.scalars(
        select(Submission).where(
            Submission.phase == this.phase, Submission.state == SCORED, Submission.withdrawn.is_(None)
        )
    ):
        row.wanted_round, row.attempts = this.id, 0
    return this


def _held(session: Session, job: Job) -> Submission | None:
    """Returns the row of a job while it is the worker's."""
    row = session.get(Submission, job.submission_id)
    if row is None or row.lease != job.lease or row.withdrawn is not None:
        return None
    return row if row.state == QUEUED or row.wanted_round is not None else None
