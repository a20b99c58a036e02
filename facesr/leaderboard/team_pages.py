"""Pages of teams: register, sign in and out, withdraw, choose, and how the team and its uploads have come along."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Depends, Query
from markupsafe import Markup
from sqlalchemy import select
from sqlalchemy.orm import Session
from starlette.responses import Response

from facesr.leaderboard import entries, pieces, teams
from facesr.leaderboard.access import team_of
from facesr.leaderboard.answers import page, see_other, set_session, with_visitor
from facesr.leaderboard.board import Asked, AskedNow, PhaseNow, checked
from facesr.leaderboard.drawings import curve_svg
from facesr.leaderboard.entries import QUEUED, Allowance
from facesr.leaderboard.faults import BoardError, NotAllowed
from facesr.leaderboard.scores import public_means
from facesr.leaderboard.standing import shown_round
from facesr.leaderboard.storage import left_bytes, require_quota, stored_bytes
from facesr.leaderboard.tables import Submission, Team, Upload

router = APIRouter(include_in_schema=False)
# What a browser sends in one request: of a piece that breaks off only the last bytes are lost.
_PIECE_BYTES = 8 << 20


@dataclass(frozen=True)
class Sent:
    """A submission as its team sees it."""

    submission: Submission
    queue: int | None
    score: float | None


@dataclass(frozen=True)
class TeamPhase:
    """A phase as a team sees it.

    Attributes:
        phase: as it is now.
        allowance: what may still be sent.
        refusal: why nothing would be taken now, or "".
        max_bytes: an archive that is larger is refused, whatever it holds.
        unfinished: uploads that go on when the same archive is chosen again.
        sent: submissions, newest first.
        num_chosen: how many of them are chosen.
        chart: of public scores, where there are two.
    """

    phase: PhaseNow
    allowance: Allowance
    refusal: str
    max_bytes: int
    unfinished: list[Upload]
    sent: list[Sent]
    num_chosen: int
    chart: Markup | None


@router.api_route("/register", methods=["GET", "HEAD"])
def register_page(asked: AskedNow) -> Response:
    """The form with which a team registers."""
    return with_visitor(asked, lambda it: page(it, "register.html", "Register", token=it.form_token("register")))


@router.post("/register")
def register(asked: AskedNow, fields: Annotated[dict[str, str], Depends(checked("register"))]) -> Response:
    """Registers a team and shows its token once."""
    board, client = asked.board, asked.visit.client
    board.door.require_calm(client)
    members = [line for line in fields.get("members", "").splitlines() if line.strip()]
    try:
        with board.database.write() as session:
            team, token = teams.register(
                board.database, session, fields.get("code", "").strip(), fields.get("team", ""), members
            )
            name = team.name
    except NotAllowed:
        board.door.failed(client)
        raise
    return page(asked, "token.html", "Registered", name=name, secret=token, token=asked.form_token("signin"))


@router.api_route("/signin", methods=["GET", "HEAD"])
def signin_page(asked: AskedNow) -> Response:
    """The form for a token."""
    return with_visitor(asked, lambda it: page(it, "signin.html", "Sign in", token=it.form_token("signin")))


@router.post("/signin")
def signin(asked: AskedNow, fields: Annotated[dict[str, str], Depends(checked("signin"))]) -> Response:
    """Begins a session."""
    token = fields.get("token", "").strip()
    viewer = asked.board.door.by_token(token, asked.visit.client, changes=True)
    response = see_other("/organiser" if viewer.is_organiser else "/team")
    set_session(asked, response, asked.board.door.begin(token))
    return response


@router.post("/signout")
def signout(asked: AskedNow, fields: Annotated[dict[str, str], Depends(checked("signout"))]) -> Response:
    """Ends the session."""
    asked.board.sessions.end(asked.viewer.cookie)
    response = see_other("/")
    set_session(asked, response, "")
    return response


@router.api_route("/team", methods=["GET", "HEAD"])
def team_page(asked: AskedNow, sent: Annotated[str, Query(max_length=64)] = "") -> Response:
    """A team's own page; `sent` is the code of the submission that was made of an archive just now."""
    if asked.viewer.team_id is None:
        return see_other("/organiser" if asked.viewer.is_organiser else "/signin")
    board = asked.board
    with board.database.read() as session:
        team = team_of(session, asked.viewer)
        stored = stored_bytes(session, team)
        received = session.scalar(select(Submission).where(Submission.code == sent, Submission.team_id == team.id))
        found = [
            _team_phase(asked, session, team, board.phase_now(session, phase, asked.viewer))
            for phase in board.competition.phases
        ]
    return page(
        asked,
        "team.html",
        team.name,
        team=team,
        phases=found,
        received=received,
        piece_bytes=_PIECE_BYTES,
        stored_mib=stored / 2**20,
        storage_mib=board.competition.team_storage_mib,
        tokens={form: asked.form_token(form) for form in ("signout", "upload", "giveup", "withdraw", "choose")},
    )


def _team_phase(asked: Asked, session: Session, team: Team, phase: PhaseNow) -> TeamPhase:
    board = asked.board
    mine = (Submission.team_id == team.id, Submission.phase == phase.settings.name)
    rows = session.scalars(select(Submission).where(*mine).order_by(Submission.received, Submission.id)).all()
    scores = public_means(board, session, phase, rows)
    sent = [
        Sent(
            row,
            entries.place_in_queue(session, row) if row.state == QUEUED and row.withdrawn is None else None,
            scores.get(row.id),
        )
        for row in rows
    ]
    values = [one.score for one in sent if one.score is not None]
    this = shown_round(session, phase.settings.name)
    chart = None
    if len(values) > 1 and this is not None:
        best = max(values) if this.higher_is_better else min(values)
        chart = curve_svg(
            values,
            f"public scores of {team.name} in the order of sending",
            "submissions, oldest first",
            lines={best: f"best {best:.4f}"},
            has_points=True,
        )
    allowance = entries.allowance(board.database, session, team, phase.settings)
    unfinished = pieces.unfinished(board.database, session, team, phase.settings)
    # Their room is taken already, by what they announced.
    room = left_bytes(session, team, board.competition) + max((one.num_bytes for one in unfinished), default=0)
    refusal = ""
    try:
        entries.require_allowance(board.database, session, team, phase.settings)
        if room == 0:
            require_quota(session, team, board.competition, 1)
    except BoardError as error:
        refusal = str(error)
    return TeamPhase(
        phase=phase,
        allowance=allowance,
        refusal=refusal,
        max_bytes=min(room, board.max_archive_bytes),
        unfinished=unfinished,
        sent=sent[::-1],
        num_chosen=sum(row.chosen is not None for row in rows),
        chart=chart,
    )


def _own(asked: Asked, session: Session, code: str) -> tuple[Team, Submission]:
    team = team_of(session, asked.viewer)
    return team, entries.submission_of(session, code, team)


@router.post("/team/withdraw")
def withdraw(asked: AskedNow, fields: Annotated[dict[str, str], Depends(checked("withdraw"))]) -> Response:
    """Takes a submission of the team off the board."""
    with asked.board.database.write() as session:
        team, submission = _own(asked, session, fields.get("code", ""))
        entries.withdraw(asked.board.database, session, submission, f"team {team.name}")
    return see_other("/team")


@router.post("/team/choose")
def choose(asked: AskedNow, fields: Annotated[dict[str, str], Depends(checked("choose"))]) -> Response:
    """Chooses a submission of the team as final, or takes that back."""
    board = asked.board
    with board.database.write() as session:
        _, submission = _own(asked, session, fields.get("code", ""))
        phase = board.phase(submission.phase)
        entries.choose(board.database, session, submission, phase, chosen=fields.get("chosen") == "1")
    return see_other("/team")
