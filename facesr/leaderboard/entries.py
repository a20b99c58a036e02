"""What teams do with archives (send, withdraw, choose), within the limits of a phase; and what organisers do."""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, and_, func, or_, select
from sqlalchemy.orm import Session

from facesr.leaderboard import chain
from facesr.leaderboard.competition import Phase
from facesr.leaderboard.faults import NotAllowed, NotFound, NotNow, OverLimit
from facesr.leaderboard.phases import CLOSED, require_open, state_of, times_of
from facesr.leaderboard.tables import Submission, Team
from facesr.web.database import Database
from facesr.web.store import Stored

QUEUED, SCORED, REFUSED, FAILED = "queued", "scored", "refused", "failed"
STATES = (QUEUED, SCORED, REFUSED, FAILED)


@dataclass(frozen=True)
class Allowance:
    """What a team may still send to a phase.

    Attributes:
        scored_left: submissions that may be scored today.
        refused_left: refusals that are borne today.
        in_all_left: submissions that may be scored in the whole phase.
        waiting_left: submissions that may wait beside those that do.
        resets: when the counts of the day begin anew, in UTC.
    """

    scored_left: int
    refused_left: int
    in_all_left: int
    waiting_left: int
    resets: datetime

    @property
    def is_left(self) -> bool:
        """Whether an archive would be taken now."""
        return min(self.scored_left, self.refused_left, self.in_all_left, self.waiting_left) > 0


def allowance(
    database: Database, session: Session, team: Team, phase: Phase, received: datetime | None = None
) -> Allowance:
    """Returns what a team may still send; a failure of the organiser's counts for nothing.

    Args:
        database: of the board.
        session: of the database.
        team: that sends.
        phase: that it sends to.
        received: a moment of the day that counts, in UTC; None is now.
    """
    day = (received or database.now(session)).replace(hour=0, minute=0, second=0, microsecond=0)
    resets = day + timedelta(days=1)

    def count(states: Sequence[str], since: datetime | None = None) -> int:
        rule = [Submission.team_id == team.id, Submission.phase == phase.name, Submission.state.in_(states)]
        if since is not None:
            rule += [Submission.received >= since, Submission.received < resets]
        return session.scalar(select(func.count()).select_from(Submission).where(*rule)) or 0

    limits = phase.limits
    return Allowance(
        scored_left=max(0, limits.scored_per_day - count([QUEUED, SCORED], day)),
        refused_left=max(0, limits.refused_per_day - count([REFUSED], day)),
        in_all_left=max(0, limits.scored_in_all - count([QUEUED, SCORED])),
        waiting_left=max(0, limits.waiting - _num_waiting(session, team, phase)),
        resets=resets,
    )


def _num_waiting(session: Session, team: Team, phase: Phase) -> int:
    rule = (Submission.team_id == team.id, Submission.phase == phase.name, Submission.state == QUEUED)
    found = select(func.count()).select_from(Submission).where(*rule, Submission.withdrawn.is_(None))
    return session.scalar(found) or 0


def require_allowance(
    database: Database, session: Session, team: Team, phase: Phase, received: datetime | None = None
) -> None:
    """Checks that an archive of a team would be taken; `received` is when its last byte came, None is now.

    Raises:
        NotNow: the phase was not open at that moment.
        NotAllowed: the team is disqualified.
        OverLimit: a limit is reached; the sentence says which, and when it ends.
    """
    received = received or database.now(session)
    require_open(times_of(session, phase.name), received)
    if team.disqualified:
        raise NotAllowed("this team is disqualified; write to the organiser.")
    left, limits = allowance(database, session, team, phase, received), phase.limits
    until = f"it begins anew at {left.resets:%Y-%m-%d %H:%M} UTC"
    if left.in_all_left == 0:
        raise OverLimit(f"the limit of {limits.scored_in_all} scored submissions in this phase is reached.")
    if left.scored_left == 0:
        raise OverLimit(f"the limit of {limits.scored_per_day} scored submissions a day is reached; {until}.")
    if left.refused_left == 0:
        raise OverLimit(f"the limit of {limits.refused_per_day} refused archives a day is reached; {until}.")
    if left.waiting_left == 0:
        raise OverLimit(f"{limits.waiting} of your submissions wait already; send the next one when one is scored.")


def receive(
    database: Database,
    session: Session,
    team: Team,
    phase: Phase,
    stored: Stored,
    *,
    received: datetime | None = None,
    is_baseline: bool = False,
) -> Submission:
    """Returns the submission of an archive that lies in the store; the same archive again is the same submission.

    So a client that has lost the answer sends it again without harm. One that failed by the organiser's fault is
    queued again. A baseline of the organiser's has neither limits nor a time. `received` is when the last byte came,
    in UTC, which decides about the phase's end and the limits of the day; None is now.

    Raises:
        BoardError: see `require_allowance`; or the same archive was withdrawn.
    """
    known = same_archive(session, team, phase, stored.sha256)
    if known is not None and known.state != FAILED:
        return known
    received = received or database.now(session)
    if not is_baseline:
        require_allowance(database, session, team, phase, received)
    if known is None:
        known = Submission(
            code=secrets.token_urlsafe(12),
            team_id=team.id,
            phase=phase.name,
            received=received,
            archive_sha256=stored.sha256,
            num_bytes=stored.num_bytes,
            state=QUEUED,
            facts={},
        )
        session.add(known)
    else:
        known.state, known.attempts, known.problem, known.received = QUEUED, 0, "", received
    session.flush()
    data = {"submission": known.code, "phase": phase.name, "archive": stored.sha256, "bytes": stored.num_bytes}
    chain.append(database, session, f"team {team.name}", "archive received", data)
    return known


def same_archive(session: Session, team: Team, phase: Phase, sha256: str) -> Submission | None:
    """Returns the submission that a team made of an archive before, None where there is none.

    Raises:
        NotNow: it was withdrawn.
    """
    found = session.scalar(
        select(Submission).where(
            Submission.team_id == team.id,
            Submission.phase == phase.name,
            Submission.archive_sha256 == sha256,
        )
    )
    if found is not None and found.withdrawn is not None:
        raise NotNow("this archive was withdrawn; it cannot be sent again.")
    return found


def place_in_queue(session: Session, submission: Submission) -> int:
    """Returns how many jobs come before a waiting submission, and itself: 1 is next or being scored."""
    before = select(func.count()).select_from(Submission).where(waiting(), Submission.id <= submission.id)
    return session.scalar(before) or 0


def waiting() -> ColumnElement[bool]:
    """Returns the condition for submissions that have to be scored, in a first or in another round."""
    return and_(
        or_(Submission.state == QUEUED, and_(Submission.state == SCORED, Submission.wanted_round.is_not(None))),
        Submission.withdrawn.is_(None),
    )


def submission_of(session: Session, code: str, team: Team | None = None) -> Submission:
    """Returns a submission by its code; with a team, only that team's.

    Raises:
        NotFound: there is none.
    """
    found = session.scalar(select(Submission).where(Submission.code == code))
    if found is None or (team is not None and found.team_id != team.id):
        raise NotFound("there is no such submission.")
    return found


def withdraw(database: Database, session: Session, submission: Submission, actor: str) -> None:
    """Takes a submission off the board; it still counts against the limits.

    Raises:
        NotNow: it was withdrawn already, or the phase is closed.
    """
    times = times_of(session, submission.phase)
    if submission.withdrawn is not None:
        raise NotNow("this submission was withdrawn already.")
    if state_of(times, database.now(session)) == CLOSED and actor != "organiser":
        raise NotNow(f"phase {times.name} is closed; ask the organiser.")
    submission.withdrawn, submission.chosen = database.now(session), None
    chain.append(database, session, actor, "submission withdrawn", {"submission": submission.code})


def choose(database: Database, session: Session, submission: Submission, phase: Phase, *, chosen: bool) -> None:
    """Chooses a submission as final, or takes that back.

    Raises:
        NotNow: the phase's rule is another one, it is closed, the submission has no score, or too many are chosen.
    """
    if phase.rank_rule != "chosen":
        raise NotNow(f"in phase {phase.name} the {phase.rank_rule} submission of a team counts; nothing is chosen.")
    require_open(times_of(session, phase.name), database.now(session))
    if chosen and (submission.state != SCORED or submission.withdrawn is not None):
        raise NotNow("only a scored submission can be chosen.")
    if chosen and submission.chosen is None:
        others = session.scalar(
            select(func.count())
            .select_from(Submission)
            .where(
                Submission.team_id == submission.team_id,
                Submission.phase == phase.name,
                Submission.chosen.is_not(None),
            )
        )
        if (others or 0) >= phase.num_chosen:
            raise NotNow(f"{phase.num_chosen} submissions are chosen already; take one of them back first.")
    if chosen == (submission.chosen is not None):
        return
    submission.chosen = database.now(session) if chosen else None
    team = session.get_one(Team, submission.team_id)
    kind = "submission chosen" if chosen else "choice taken back"
    chain.append(database, session, f"team {team.name}", kind, {"submission": submission.code})


def disqualify(database: Database, session: Session, subject: Team | Submission, reason: str) -> None:
    """Disqualifies a team or a submission for a reason, or with "" takes that back.

    Its other entries stay on the board.
    """
    subject.disqualified = reason
    what = {"team": subject.name} if isinstance(subject, Team) else {"submission": subject.code}
    kind = "disqualified" if reason else "disqualification taken back"
    chain.append(database, session, "organiser", kind, {**what, "reason": reason})


def alike(session: Session, submission: Submission) -> list[Submission]:
    """Returns submissions of other teams to the same phase with equal pixels, oldest first; for the organiser."""
    if not submission.pixels_sha256:
        return []
    rule = and_(
        Submission.pixels_sha256 == submission.pixels_sha256,
        Submission.phase == submission.phase,
        Submission.team_id != submission.team_id,
    )
    return list(session.scalars(select(Submission).where(rule).order_by(Submission.id)))
