"""The pages that everybody may see: front page, board of a phase, a submission, two compared, the log."""

import json
from pathlib import Path as FilePath
from typing import Annotated

from fastapi import APIRouter, Path, Query, Request
from sqlalchemy import select
from starlette.responses import FileResponse, Response

from facesr.leaderboard import chain
from facesr.leaderboard.answers import kept, page_text
from facesr.leaderboard.board import Asked, AskedNow, PhaseNow
from facesr.leaderboard.drawings import MAX_MARKERS, axes_of, plane_of
from facesr.leaderboard.faults import NotFound
from facesr.leaderboard.phases import UPCOMING
from facesr.leaderboard.rows import has_judge, table_of
from facesr.leaderboard.scores import given_picture
from facesr.leaderboard.sight import Sight
from facesr.leaderboard.standing import PUBLIC, Entry, Standing
from facesr.leaderboard.static import ASSETS
from facesr.leaderboard.tables import Event
from facesr.names import one_line
from facesr.web.assets import FOREVER

router = APIRouter(include_in_schema=False)
LINES_PER_PAGE = 200
_TOP = 3

Key = Annotated[str, Path(max_length=64)]
Word = Annotated[str, Query(max_length=64)]
Digest = Annotated[str, Path(pattern="^[0-9a-f]{64}$")]


def phases_now(asked: Asked) -> tuple[chain.Head, list[PhaseNow]]:
    """Returns the log's head, and all phases as they may be seen now."""
    board = asked.board
    with board.database.read() as session:
        found = [board.phase_now(session, phase, asked.viewer) for phase in board.competition.phases]
        return chain.head(session), found


def one_phase(asked: Asked, name: str) -> PhaseNow:
    """Returns a phase as it may be seen now.

    Raises:
        NotFound: there is none of that name.
    """
    phase = asked.board.phase(name)
    with asked.board.database.read() as session:
        return asked.board.phase_now(session, phase, asked.viewer)


def table_mark(table: Standing, phase: PhaseNow) -> tuple[object, ...]:
    """Returns all that a page with a phase's table is made of, for `kept`."""
    times = phase.times
    return (table.log, table.view, phase.sight, times.starts, times.ends, times.closed)


@router.api_route("/", methods=["GET", "HEAD"])
def front(asked: AskedNow, request: Request) -> Response:
    """The front page."""
    head, found = phases_now(asked)
    tables = [
        asked.board.standings.get(phase.settings, phase.sight.views[0], is_over=phase.sight.is_over) for phase in found
    ]
    tops: list[list[Entry]] = [[one for one in table.entries if one.rank is not None][:_TOP] for table in tables]

    def make() -> str:
        paragraphs = [text for text in asked.board.competition.description.split("\n\n") if text.strip()]
        return page_text(
            asked.board,
            asked.viewer,
            "front.html",
            asked.board.competition.title,
            paragraphs=paragraphs,
            contact=asked.board.competition.contact,
            phases=list(zip(found, tables, tops, strict=True)),
            head=head,
        )

    mark = (head, *(table_mark(table, phase) for table, phase in zip(tables, found, strict=True)))
    return kept(asked, request, mark, make)


@router.api_route("/phases/{name}", methods=["GET", "HEAD"])
def board_page(
    asked: AskedNow,
    request: Request,
    name: Key,
    sort: Word = "",
    view: Word = "",
    baselines: Annotated[int, Query(ge=0, le=1)] = 1,
) -> Response:
    """The board of a phase."""
    phase = one_phase(asked, name)
    shown = phase.sight.view(view)
    table = asked.board.standings.get(phase.settings, shown, is_over=phase.sight.is_over)
    # Of the rows shown: in the public view another submission of a team may count.
    others = {} if shown == PUBLIC else {one.submission.id: one.public_score for one in table.entries}

    def make() -> str:
        address = _address(name, view, baselines)
        return page_text(
            asked.board,
            asked.viewer,
            "phase.html",
            phase.settings.title,
            phase=phase,
            standing=table,
            table=table_of(
                table,
                sort=sort,
                baselines=bool(baselines),
                address=f"{address}sort=",
                others=others,
                is_stepped=_is_stepped(phase.sight, shown),
            ),
            baselines=bool(baselines),
            views=[(one, _address(name, one, baselines).rstrip("&")) for one in phase.sight.views],
            other_baselines=_address(name, view, 1 - baselines).rstrip("&"),
            has_judge=has_judge(table),
            plane=f"/phases/{name}/plane.png?view={shown}" if _has_plane(phase, table) else "",
            max_markers=MAX_MARKERS,
        )

    return kept(asked, request, (table_mark(table, phase), view, sort, baselines), make)


def _is_stepped(sight: Sight, view: str) -> bool:
    return sight.is_stepped and view == PUBLIC


def _address(name: str, view: str, baselines: int) -> str:
    return f"/phases/{name}?" + (f"view={view}&" if view else "") + ("" if baselines else "baselines=0&")


def _has_plane(phase: PhaseNow, table: Standing) -> bool:
    return bool(table.entries) and axes_of(table) is not None and not phase.sight.is_stepped


@router.api_route("/phases/{name}/plane.png", methods=["GET", "HEAD"])
def plane_picture(asked: AskedNow, request: Request, name: Key, view: Word = "") -> Response:
    """All entries of a phase by distortion and perception."""
    phase = one_phase(asked, name)
    table = asked.board.standings.get(phase.settings, phase.sight.view(view), is_over=phase.sight.is_over)
    if not _has_plane(phase, table):
        raise NotFound("there is no such drawing now.")

    def make() -> bytes:
        drawn = plane_of(table)
        if drawn is None:
            raise NotFound("this phase has no metrics for such a drawing.")
        return drawn

    return kept(asked, request, table_mark(table, phase), make, "image/png")


@router.api_route("/phases/{name}/low.zip", methods=["GET", "HEAD"])
def low_pictures(asked: AskedNow, name: Key) -> Response:
    """The low-resolution pictures that teams restore; from the phase's start on."""
    phase = one_phase(asked, name)
    if phase.sight.state == UPCOMING and not asked.viewer.is_organiser:
        raise NotFound("the pictures of this phase are given out when it begins.")
    handout = asked.board.handouts.of(phase.settings)
    return FileResponse(
        asked.board.store.path(handout.sha256),
        media_type="application/zip",
        filename=f"{phase.settings.name}_low.zip",
        headers={"cache-control": "no-cache"},
    )


@router.api_route("/log", methods=["GET", "HEAD"])
def log_page(
    asked: AskedNow, request: Request, before: Annotated[int | None, Query(ge=1, le=2**31 - 1)] = None
) -> Response:
    """The newest lines of the log, or those before one."""
    with asked.board.database.read() as session:
        head = chain.head(session)
        wanted = select(Event).order_by(Event.seq.desc()).limit(LINES_PER_PAGE)
        lines = session.scalars(wanted if before is None else wanted.where(Event.seq < before)).all()

    def make() -> str:
        last = lines[-1].seq if lines else 1
        return page_text(
            asked.board,
            asked.viewer,
            "log.html",
            "Log",
            lines=[(line, _told(line.data)) for line in lines],
            head=head,
            is_newest=before is None,
            older=last if last > 1 else None,
        )

    # Those before a line that is not there yet are those before the newest.
    return kept(asked, request, (head, before is None, lines[0].seq if lines else 0), make)


def _told(data: str) -> list[tuple[str, str]]:
    found = json.loads(data)
    return [(key, one_line(value) if isinstance(value, str) else json.dumps(value)) for key, value in found.items()]


@router.api_route("/pictures/{sha256}.png", methods=["GET", "HEAD"])
def picture_file(asked: AskedNow, sha256: Digest) -> Response:
    """A picture of an example face as it is given."""
    with asked.board.database.read() as session:
        path = given_picture(asked.board, session, sha256, asked.viewer)
    return picture_answer(path)


def picture_answer(path: FilePath) -> Response:
    """Returns the answer with a picture.

    Raises:
        NotFound: it is not there.
    """
    if not path.is_file():
        raise NotFound("there is no such picture.")
    # A withdrawn submission's pictures go with it, so that nobody keeps them for long.
    return FileResponse(path, media_type="image/png", headers={"cache-control": "private, max-age=3600"})


@router.api_route("/static/{name}", methods=["GET", "HEAD"])
def static_file(name: str) -> Response:
    """Style, script or icon."""
    asset = ASSETS.get(name)
    if asset is None:
        raise NotFound("there is no such file.")
    return Response(asset.content, headers={"content-type": asset.kind, "cache-control": FOREVER})
