"""Rows for tests of the board, made by the functions that make them in earnest."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from sqlalchemy.orm import Session

from facesr.leaderboard import entries, queue, teams
from facesr.leaderboard.competition import Phase
from facesr.leaderboard.tables import Round, Submission, Team
from facesr.web.database import Database
from facesr.web.store import Stored

RANKING = "is/builtin"


def sha(number: int) -> str:
    """Returns a digest of nothing in particular."""
    return f"{number:064x}"


def a_team(database: Database, session: Session, name: str) -> tuple[Team, str]:
    """Returns a registered team and its token."""
    return teams.register(database, session, teams.invite(database, session), name)


def a_round(database: Database, session: Session, phase: str, ids: Sequence[str], basis: str = "b" * 64) -> Round:
    """Returns a new round with one metric."""
    this = Round(
        phase=phase,
        basis={"metrics": {RANKING: 1}},
        basis_sha256=basis,
        ids=list(ids),
        columns={RANKING: {"unit": "", "higher_is_better": True}},
        ranking_metric=RANKING,
        higher_is_better=True,
    )
    return queue.begin_round(database, session, this, "worker test")


def scored(
    database: Database,
    session: Session,
    team: Team,
    phase: Phase,
    number: int,
    this: Round,
    values: NDArray[np.float64],
    pixels: str = "",
) -> Submission:
    """Returns a submission that went all the way to its scores."""
    submission = entries.receive(database, session, team, phase, Stored(sha(number), 10), is_baseline=True)
    session.flush()
    job = queue.claim(database, session, "test", [phase.name])
    assert job is not None and job.code == submission.code
    outcome = queue.Outcome({RANKING: values}, {"team": team.name}, pixels or sha(number))
    assert queue.finish_scored(database, session, job, this.id, outcome)
    return submission
