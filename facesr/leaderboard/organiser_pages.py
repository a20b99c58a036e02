"""Pages of the organiser: teams, submissions of all of them, phases, invitations."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Depends, Query
from sqlalchemy import func, select
from sqlalchemy.orm import Session
from starlette.responses import Response

from facesr.leaderboard import entries, phases, teams
from facesr.leaderboard.access import require_organiser
from facesr.leaderboard.answers import page, see_other
from facesr.leaderboard.board import Asked, AskedNow, PhaseNow, checked
from facesr.leaderboard.entries import FAILED, QUEUED
from facesr.leaderboard.faults import BoardError
from facesr.leaderboard.scores import private_means, public_means
from facesr.leaderboard.standing import PRIVATE
from facesr.leaderboard.tables import Submission, Team, Token
from facesr.web.database import Database

router = APIRouter(include_in_schema=False)
SENT_PER_PAGE = 100
_MAX_REASON = 300
_FORMS = ("signout", "disqualify", "withdraw-any", "phase", "invite", "revoke")


@dataclass(frozen=True)
class Sent:
    """A submission as the organiser sees it."""

    submission: Submission
    team: Team
    public: float | None
    private: float | None
    queue: int | None
    alike: list[str]


@router.api_route("/organiser", methods=["GET", "HEAD"])
def organiser_page(asked: AskedNow, before: Annotated[int | None, Query(ge=1, le=2**31 - 1)] = None) -> Response:
    """Everything at one look."""
    if not asked.viewer.scope:
        return see_other("/signin")
    require_organiser(asked.viewer)
    return _shown(asked, before)


def _shown(asked: Asked, before: int | None = None, secret: str = "") -> Response:
    board = asked.board
    with board.database.read() as session:
        found = {phase.name: board.phase_now(session, phase, asked.viewer) for phase in board.competition.phases}
        wanted = select(Submission, Team).join(Team).order_by(Submission.id.desc()).limit(SENT_PER_PAGE)
        if before is not None:
            wanted = wanted.where(Submission.id < before)
        rows = [(one, team) for one, team in session.execute(wanted) if one.phase in found]
        sent = _sent(asked, session, rows, found)
        rows_of = session.execute(select(Submission.team_id, func.count()).group_by(Submission.team_id))
        counts = {int(team): int(count) for team, count in rows_of}
        valid = select(Token.team_id, func.count()).where(Token.revoked.is_(None)).group_by(Token.team_id)
        tokens = {team: int(count) for team, count in session.execute(valid)}
        listed = session.scalars(select(Team).order_by(Team.is_baseline, Team.name)).all()
        failed = session.scalars(
            select(Submission).where(Submission.state == FAILED).order_by(Submission.id.desc()).limit(SENT_PER_PAGE)
        ).all()
    return page(
        asked,
        "organiser.html",
        "Organiser",
        phases=list(found.values()),
        sent=sent,
        older=rows[-1][0].id if len(rows) == SENT_PER_PAGE else None,
        teams=[(team, counts.get(team.id, 0), tokens.get(team.id, 0)) for team in listed],
        failed=failed,
        secret=secret,
        tokens={form: asked.form_token(form) for form in _FORMS},
    )


def _sent(
    asked: Asked, session: Session, rows: list[tuple[Submission, Team]], found: Mapping[str, PhaseNow]
) -> list[Sent]:
    public: dict[int, float] = {}
    private: dict[int, float] = {}
    for phase in found.values():
        those = [one for one, _ in rows if one.phase == phase.settings.name]
        public |= public_means(asked.board, session, phase, those)
        if PRIVATE in phase.sight.views:
            private |= private_means(asked.board, session, phase, those)
    names = {team.id: team.name for team in session.scalars(select(Team))}
    return [
        Sent(
            one,
            team,
            public.get(one.id),
            private.get(one.id),
            entries.place_in_queue(session, one) if one.state == QUEUED and one.withdrawn is None else None,
            sorted({names[other.team_id] for other in entries.alike(session, one)}),
        )
        for one, team in rows
    ]


def _changed(asked: Asked, change: Callable[[Database, Session], object]) -> Response:
    require_organiser(asked.viewer)
    with asked.board.database.write() as session:
        change(asked.board.database, session)
    return see_other("/organiser")


def _reason(fields: Mapping[str, str]) -> str:
    return " ".join(fields.get("reason", "").split())[:_MAX_REASON]


@router.post("/organiser/disqualify")
def disqualify(asked: AskedNow, fields: Annotated[dict[str, str], Depends(checked("disqualify"))]) -> Response:
    """Disqualifies a team or a submission for a reason, or takes that back."""
    reason = _reason(fields) if fields.get("undo") != "1" else ""
    if not reason and fields.get("undo") != "1":
        raise BoardError("a disqualification needs a reason; it stands in the log.")

    def change(database: Database, session: Session) -> None:
        subject: Team | Submission
        if fields.get("team"):
            subject = teams.team_named(session, fields["team"])
        else:
            subject = entries.submission_of(session, fields.get("code", ""))
        entries.disqualify(database, session, subject, reason)

    return _changed(asked, change)


@router.post("/organiser/withdraw")
def withdraw(asked: AskedNow, fields: Annotated[dict[str, str], Depends(checked("withdraw-any"))]) -> Response:
    """Takes a submission off the board."""

    def change(database: Database, session: Session) -> None:
        submission = entries.submission_of(session, fields.get("code", ""))
        entries.withdraw(database, session, submission, "organiser")

    return _changed(asked, change)


@router.post("/organiser/phase")
def move_phase(asked: AskedNow, fields: Annotated[dict[str, str], Depends(checked("phase"))]) -> Response:
    """Closes a phase, or moves its end."""
    name, reason = asked.board.phase(fields.get("phase", "")).name, _reason(fields)
    if fields.get("action") == "close":
        if fields.get("sure") != "1":
            raise BoardError("closing a phase shows its private scores to everybody; tick the box if you mean it.")
        return _changed(asked, lambda database, session: phases.close(database, session, name, reason))
    ends = _moment(fields.get("ends", ""))
    return _changed(asked, lambda database, session: phases.move(database, session, name, ends=ends, reason=reason))


def _moment(text: str) -> datetime:
    try:
        found = datetime.fromisoformat(text.strip()[:40])
        return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise BoardError("the end has to be a moment in UTC, such as 2026-12-01T18:00.") from error


@router.post("/organiser/invite")
def invite(asked: AskedNow, fields: Annotated[dict[str, str], Depends(checked("invite"))]) -> Response:
    """Makes an invitation and shows it once."""
    require_organiser(asked.viewer)
    uses = fields.get("uses", "1").strip()
    if not (uses.isascii() and uses.isdigit() and 1 <= int(uses[:4]) <= 1000 and len(uses) <= 4):
        raise BoardError("an invitation is for 1 to 1000 teams.")
    label = " ".join(fields.get("label", "").split())[:100]
    with asked.board.database.write() as session:
        code = teams.invite(asked.board.database, session, uses=int(uses), label=label)
    return _shown(asked, secret=code)


@router.post("/organiser/revoke")
def revoke(asked: AskedNow, fields: Annotated[dict[str, str], Depends(checked("revoke"))]) -> Response:
    """Revokes the tokens of a team and shows a new one once."""
    require_organiser(asked.viewer)
    with asked.board.database.write() as session:
        team = teams.team_named(session, fields.get("team", ""))
        teams.revoke_tokens(asked.board.database, session, teams.TEAM, team)
        if fields.get("renew") != "1":
            return see_other("/organiser")
        token = teams.issue_token(asked.board.database, session, teams.TEAM, team, "renewed by the organiser")
    return _shown(asked, secret=token)
