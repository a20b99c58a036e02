"""What programs outside read: records as an Atom feed, a badge, health, and figures for Prometheus."""

import shutil
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Path, Request
from sqlalchemy import func, select
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session
from starlette.responses import JSONResponse, PlainTextResponse, Response

from facesr.evaluation.over_set import over_set
from facesr.leaderboard import chain
from facesr.leaderboard.access import NOBODY
from facesr.leaderboard.answers import kept
from facesr.leaderboard.board import Asked, AskedNow, Board, PhaseNow, board_of
from facesr.leaderboard.drawings import label_of
from facesr.leaderboard.entries import SCORED, STATES, waiting
from facesr.leaderboard.queue import unpacked
from facesr.leaderboard.standing import PUBLIC, shown_round
from facesr.leaderboard.tables import Evaluation, Submission, Team
from facesr.web.page import render

router = APIRouter(include_in_schema=False)
_MAX_RECORDS = 50
_SPARE_BYTES = 64 << 20
_FEED = uuid.UUID("5b1f6a5e-7a35-5f0c-9f0e-6f2c8d0a1c11")
_PIXELS_PER_LETTER = 7


@dataclass(frozen=True)
class Record:
    """A public score that was better than all before it in its phase."""

    id: str
    title: str
    code: str
    made: datetime


@router.api_route("/feed.atom", methods=["GET", "HEAD"])
def feed(asked: AskedNow, request: Request) -> Response:
    """New records."""
    # Like a reader who is not signed in, whoever asks: feeds are passed on.
    asked = Asked(asked.board, NOBODY, asked.visit, "", asked.path)
    board = asked.board
    with board.database.read() as session:
        head = chain.head(session)
        phases = [board.phase_now(session, phase, NOBODY) for phase in board.competition.phases]

    def make() -> str:
        with board.database.read() as session:
            found = [record for phase in phases for record in _records(board, session, phase)]
        found = sorted(found, key=lambda record: record.made, reverse=True)[:_MAX_RECORDS]
        return render(
            "board/feed.xml",
            title=_printable(board.competition.title),
            id=uuid.uuid5(_FEED, board.competition.title).urn,
            updated=found[0].made if found else datetime(2020, 1, 1, tzinfo=UTC),
            records=found,
        )

    return kept(asked, request, (head, *(phase.sight for phase in phases)), make, "application/atom+xml")


def _records(board: Board, session: Session, phase: PhaseNow) -> list[Record]:
    this = shown_round(session, phase.settings.name)
    # Steps of the Ladder are a team's own; the best of all is not told before the end.
    if this is None or phase.sight.is_stepped:
        return []
    rows = session.execute(
        select(Submission.code, Team.name, Evaluation.made, Evaluation.values)
        .join(Submission, Submission.id == Evaluation.submission_id)
        .join(Team, Team.id == Submission.team_id)
        .where(
            Evaluation.round_id == this.id,
            Submission.state == SCORED,
            Submission.withdrawn.is_(None),
            Submission.disqualified == "",
            Team.disqualified == "",
            Team.is_baseline.is_(False),
        )
        .order_by(Submission.received, Submission.id)
    )
    faces = board.faces(this, phase.settings, PUBLIC)
    sign = 1.0 if this.higher_is_better else -1.0
    best: float | None = None
    found = []
    for code, team, made, values in rows:
        score = over_set(this.ranking_metric, unpacked(this, values)[this.ranking_metric][faces])
        if best is None or sign * score > sign * best:
            best = score
            title = f"{phase.settings.title}: {team}, {label_of(this.ranking_metric)} {score:.4f}"
            found.append(Record(uuid.uuid5(_FEED, f"{this.id} {code}").urn, _printable(title), code, made))
    return found


def _printable(text: str) -> str:
    return "".join(letter if letter.isprintable() else " " for letter in text)


@router.api_route("/badge/{name}.svg", methods=["GET", "HEAD"])
def badge(asked: AskedNow, request: Request, name: Annotated[str, Path(max_length=64)]) -> Response:
    """The best score of a phase as a small picture, for pages elsewhere."""
    asked = Asked(asked.board, NOBODY, asked.visit, "", asked.path)
    board = asked.board
    with board.database.read() as session:
        phase = board.phase_now(session, board.phase(name), NOBODY)
    table = board.standings.get(phase.settings, phase.sight.views[0], is_over=phase.sight.is_over)
    first = next((one for one in table.entries if one.rank is not None), None)
    value = "no score yet" if first is None else f"{first.shown_score:.4f}"

    def make() -> str:
        left, right = _width(phase.settings.title), _width(value)
        return render(
            "board/badge.svg", title=_printable(phase.settings.title), value=value, left=left, width=left + right
        )

    response = kept(asked, request, (table.log, phase.sight), make, "image/svg+xml")
    response.headers["cross-origin-resource-policy"] = "cross-origin"
    return response


def _width(text: str) -> int:
    return _PIXELS_PER_LETTER * len(text) + 16


@router.api_route("/healthz", methods=["GET", "HEAD"])
def health(request: Request) -> Response:
    """Whether the board can do its work; 503 where it cannot."""
    board = board_of(request)
    problems = []
    try:
        with board.database.read() as session:
            chain.head(session)
    except DBAPIError:
        problems.append("the database cannot be reached")
    try:
        if shutil.disk_usage(board.store.folder).free < board.max_archive_bytes + _SPARE_BYTES:
            problems.append("the disk is nearly full")
    except OSError:
        problems.append("the store cannot be read")
    if problems:
        return JSONResponse({"status": "failing", "problems": problems}, 503)
    return JSONResponse({"status": "ok"})


@router.api_route("/metrics", methods=["GET", "HEAD"])
def metrics(request: Request) -> Response:
    """Figures in Prometheus' text format."""
    board = board_of(request)
    with board.database.read() as session:
        rows = session.execute(select(Submission.state, func.count()).group_by(Submission.state))
        states = {str(state): int(count) for state, count in rows}
        num_waiting = session.scalar(select(func.count()).select_from(Submission).where(waiting())) or 0
        oldest = session.scalar(select(Submission.received).where(waiting()).order_by(Submission.id).limit(1))
        age = 0.0 if oldest is None else (board.database.now(session) - oldest).total_seconds()
    text = board.metrics.text(
        {
            "facesr_queue_length": ("Submissions that wait to be scored.", [((), num_waiting)]),
            "facesr_queue_oldest_seconds": ("Age of the oldest of them.", [((), round(max(age, 0.0), 3))]),
            "facesr_submissions": (
                "Submissions by state.",
                [((("state", state),), states.get(state, 0)) for state in STATES],
            ),
            "facesr_store_free_bytes": (
                "Room on the disk of the store.",
                [((), shutil.disk_usage(board.store.folder).free)],
            ),
        }
    )
    return PlainTextResponse(text, media_type="text/plain; version=0.0.4")
