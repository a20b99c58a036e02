"""The API for programs, under /api/v1: the same rules as the pages, with a bearer token instead of a session."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Request
from sqlalchemy import select
from sqlalchemy.orm import Session

from facesr.leaderboard import chain, entries
from facesr.leaderboard.access import NOBODY, Viewer, team_of
from facesr.leaderboard.board import Board, PhaseNow, board_of
from facesr.leaderboard.entries import QUEUED
from facesr.leaderboard.faults import NotAllowed
from facesr.leaderboard.rows import guard_count
from facesr.leaderboard.scores import scores_of, summary_of, visible
from facesr.leaderboard.shapes import (
    AllowanceShape,
    CompetitionShape,
    EntryShape,
    LineShape,
    LogShape,
    PhaseShape,
    ScoreShape,
    StandingShape,
    SubmissionShape,
    problems,
)
from facesr.leaderboard.standing import Entry
from facesr.leaderboard.storage import left_bytes
from facesr.leaderboard.submission_pages import facts_of
from facesr.leaderboard.tables import Event, Submission, Team
from facesr.web.security import visit_of

router = APIRouter(prefix="/api/v1")
MAX_LINES = 1000

Name = Annotated[str, Path(max_length=64, description="name of the phase")]
Code = Annotated[str, Path(pattern="^[A-Za-z0-9_-]{1,64}$", description="code of the submission")]


def json_body(schema: dict[str, Any]) -> dict[str, Any]:
    """Returns what the API's description says of a route whose body is JSON of a schema."""
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


def viewer_of(request: Request) -> Viewer:
    """Returns who asks, nobody without a token.

    Raises:
        NotAllowed: the token is not valid.
    """
    token = bearer(request)
    if token is None:
        return NOBODY
    return board_of(request).door.by_token(token, visit_of(request.scope).client, changes=is_change(request))


def bearer(request: Request) -> str | None:
    """Returns the token that a request brings along, None without one.

    Raises:
        NotAllowed: it is not brought along as it has to be.
    """
    header = request.headers.get("authorization")
    if header is None:
        return None
    scheme, _, token = header.partition(" ")
    if scheme.lower() != "bearer":
        raise NotAllowed("send the token as Authorization: Bearer TOKEN.")
    return token.strip()[:200]


def is_change(request: Request) -> bool:
    """Returns whether a request is to change something."""
    return request.method not in ("GET", "HEAD")


def team_viewer(request: Request) -> Viewer:
    """Returns the team that asks.

    Raises:
        NotAllowed: it is none.
    """
    viewer = viewer_of(request)
    if viewer.team_id is None:
        raise NotAllowed("this needs a team's token as Authorization: Bearer TOKEN.")
    return viewer


This = Annotated[Board, Depends(board_of)]
Asking = Annotated[Viewer, Depends(viewer_of)]
Sending = Annotated[Viewer, Depends(team_viewer)]
# For OpenAPI: what only a team may do.
TOKEN_NEEDED: dict[str, Any] = {"security": [{"token": []}]}


@router.get("/competition")
def competition(board: This, viewer: Asking) -> CompetitionShape:
    """The competition, its phases, and the head of its log."""
    settings = board.competition
    with board.database.read() as session:
        head = chain.head(session)
        found = [_phase_shape(board.phase_now(session, phase, viewer)) for phase in settings.phases]
    return CompetitionShape(
        title=settings.title,
        description=settings.description,
        contact=settings.contact,
        max_archive_bytes=board.max_archive_bytes,
        log_seq=head.seq,
        log_hash=head.hash,
        phases=found,
    )


@router.get("/phases")
def phases(board: This, viewer: Asking) -> list[PhaseShape]:
    """All phases."""
    with board.database.read() as session:
        return [_phase_shape(board.phase_now(session, phase, viewer)) for phase in board.competition.phases]


def _phase_shape(phase: PhaseNow) -> PhaseShape:
    settings = phase.settings
    return PhaseShape(
        name=settings.name,
        title=settings.title,
        protocol=settings.protocol,
        state=phase.sight.state,
        starts=phase.times.starts,
        ends=phase.times.closed or phase.times.ends,
        rank_rule=settings.rank_rule,
        num_chosen=settings.num_chosen,
        public_share=settings.public_share,
        power_limit_watts=settings.power_limit_watts,
        limits=settings.limits.model_dump(),
    )


@router.get("/phases/{name}/standing", responses=problems(404))
def standing(board: This, viewer: Asking, name: Name, view: Annotated[str, Query(max_length=16)] = "") -> StandingShape:
    """The ranked table of a phase: public scores, after the end private ones as well (`view=public|private`)."""
    with board.database.read() as session:
        phase = board.phase_now(session, board.phase(name), viewer)
    table = board.standings.get(phase.settings, phase.sight.view(view), is_over=phase.sight.is_over)
    is_stepped = phase.sight.is_stepped
    return StandingShape(
        phase=name,
        view=table.view,
        views=list(phase.sight.views),
        num_faces=table.num_faces,
        ranking_metric=table.ranking_metric,
        higher_is_better=table.higher_is_better,
        log_seq=table.log.seq,
        log_hash=table.log.hash,
        entries=[_entry_shape(one, is_stepped=is_stepped) for one in table.entries],
    )


def _entry_shape(one: Entry, *, is_stepped: bool) -> EntryShape:
    rank = one.rank
    return EntryShape(
        place=one.place,
        first=None if rank is None else rank.first,
        last=None if rank is None else rank.last,
        team=one.team.name,
        submission=one.submission.code,
        is_baseline=one.team.is_baseline,
        disqualified=bool(one.team.disqualified or one.submission.disqualified),
        score=one.shown_score,
        low=None if rank is None or is_stepped else rank.low,
        high=None if rank is None or is_stepped else rank.high,
        means={} if is_stepped else dict(one.means),
        white_box=one.white_box,
        guard_replaced=guard_count(one.submission.facts),
        mean_watts=one.mean_watts,
        within_power_limit=one.within_power_limit,
        num_parameters=one.num_parameters,
        num_entries=one.num_entries,
        received=one.submission.received,
    )


@router.get("/submissions/{code}", responses=problems(401, 404))
def submission(board: This, viewer: Asking, code: Code) -> SubmissionShape:
    """A submission: a scored one, or one of the team whose token is sent."""
    with board.database.read() as session:
        return submission_shape(board, session, viewer, *visible(session, code, viewer))


def submission_shape(board: Board, session: Session, viewer: Viewer, row: Submission, team: Team) -> SubmissionShape:
    """Returns a submission with what of it the viewer may see."""
    phase = board.phase_now(session, board.phase(row.phase), viewer)
    is_own = viewer.is_organiser or viewer.team_id == row.team_id
    scores: dict[str, dict[str, ScoreShape]] = {}
    for view in () if phase.sight.is_stepped else phase.sight.views:
        found = scores_of(board, session, row, phase, view)
        if found is not None:
            summaries = {name: summary_of(name, column) for name, column in found.columns.items()}
            scores[view] = {name: ScoreShape(mean=s.value, low=s.low, high=s.high) for name, s in summaries.items()}
    waits = row.state == QUEUED and row.withdrawn is None
    return SubmissionShape(
        code=row.code,
        phase=row.phase,
        team=team.name,
        state=row.state,
        received=row.received,
        withdrawn=row.withdrawn is not None,
        chosen=row.chosen is not None,
        disqualified=bool(row.disqualified or team.disqualified),
        scores=scores,
        facts=facts_of(row.facts),
        archive_sha256=row.archive_sha256 if is_own else None,
        place_in_queue=entries.place_in_queue(session, row) if is_own and waits else None,
        problem=(row.problem or None) if is_own else None,
    )


@router.get("/phases/{name}/allowance", openapi_extra=TOKEN_NEEDED, responses=problems(401, 404))
def allowance(board: This, viewer: Sending, name: Name) -> AllowanceShape:
    """What the team may still send to a phase."""
    with board.database.read() as session:
        phase = board.phase_now(session, board.phase(name), viewer)
        team = team_of(session, viewer)
        left = entries.allowance(board.database, session, team, phase.settings)
        room = left_bytes(session, team, board.competition)
    return AllowanceShape(
        phase=name,
        state=phase.sight.state,
        is_left=left.is_left and phase.sight.state == "open",
        scored_left=left.scored_left,
        refused_left=left.refused_left,
        in_all_left=left.in_all_left,
        waiting_left=left.waiting_left,
        storage_left_bytes=room,
        resets=left.resets,
    )


@router.get("/log")
def log(board: This, after: Annotated[int, Query(ge=0, le=2**31 - 1)] = 0) -> LogShape:
    """Lines of the log after a number, at most 1000: whoever keeps them can tell whether the log was rewritten."""
    with board.database.read() as session:
        rows = session.scalars(select(Event).where(Event.seq > after).order_by(Event.seq).limit(MAX_LINES + 1)).all()
    lines = [
        LineShape(seq=r.seq, at=r.at, actor=r.actor, kind=r.kind, data=r.data, previous=r.previous, hash=r.hash)
        for r in rows[:MAX_LINES]
    ]
    return LogShape(lines=lines, more=len(rows) > MAX_LINES)
