"""The parts of a running board that its pages share, and what a request brings along."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated

import numpy as np
from fastapi import Depends, Request
from numpy.typing import NDArray
from sqlalchemy.orm import Session

from facesr.errors import ConfigError
from facesr.leaderboard.access import Doorkeeper, Viewer
from facesr.leaderboard.cache import Rendered, Standings
from facesr.leaderboard.competition import Competition, Phase, Place
from facesr.leaderboard.faults import NotFound
from facesr.leaderboard.handout import Handouts
from facesr.leaderboard.phases import times_of
from facesr.leaderboard.references import References
from facesr.leaderboard.sight import Sight, sight_of
from facesr.leaderboard.slots import Slots
from facesr.leaderboard.split import public_mask
from facesr.leaderboard.tables import PhaseTimes, Round
from facesr.web.database import Database
from facesr.web.forms import Form, cookie_name, is_from_elsewhere
from facesr.web.metrics import Metrics
from facesr.web.pace import Pace
from facesr.web.security import Rates, Refusal, Visit, visit_of
from facesr.web.sessions import Sessions
from facesr.web.shared_rates import SharedBuckets
from facesr.web.store import Store


@dataclass(frozen=True)
class PhaseNow:
    """A phase at this moment.

    Attributes:
        settings: of competition.yaml.
        times: when it runs.
        now: this moment.
        sight: what of it the viewer may see.
    """

    settings: Phase
    times: PhaseTimes
    now: datetime
    sight: Sight


class Board:
    """A running board.

    Attributes:
        place: the competition's folder.
        database: of the board.
        store: of archives and pictures.
        sessions: cookies and form tokens.
        limits: counts of requests that all servers of the board share.
        door: who asks.
        standings: the ranked tables.
        rendered: pages as they were sent.
        metrics: counts of requests.
        slots: archives that are being received.
        pace: how fast they are read.
        handouts: what teams get.
        references: what workers elsewhere get.
    """

    def __init__(self, place: Place, database: Database, rates: Rates) -> None:
        self.place = place
        self.database = database
        self.store: Store = place.store()
        self.sessions = Sessions(place.key)
        self.limits = SharedBuckets(database, place.key)
        self.door = Doorkeeper(database, self.sessions, rates, self.limits)
        self.standings = Standings(place, database)
        self.rendered = Rendered()
        self.metrics = Metrics()
        self.slots = Slots()
        self.pace = Pace(place.competition.uploads_mib_per_second << 20)
        self.handouts = Handouts(place)
        self.references = References(place)
        self._key = place.key

    @property
    def competition(self) -> Competition:
        """The settings."""
        return self.place.competition

    @property
    def max_archive_bytes(self) -> int:
        """The most bytes of an archive."""
        return self.competition.max_archive_mib << 20

    def phase(self, name: str) -> Phase:
        """Returns the settings of a phase.

        Raises:
            NotFound: there is none of that name.
        """
        try:
            return self.competition.phase(name)
        except ConfigError as error:
            raise NotFound("there is no such phase.") from error

    def phase_now(self, session: Session, phase: Phase, viewer: Viewer) -> PhaseNow:
        """Returns a phase with what of it may be seen now."""
        times, now = times_of(session, phase.name), self.database.now(session)
        return PhaseNow(phase, times, now, sight_of(phase, times, now, is_organiser=viewer.is_organiser))

    def faces(self, this: Round, phase: Phase, view: str) -> NDArray[np.bool_]:
        """Returns which of a round's faces belong to a view, bool (N,)."""
        seen = _public_faces(self._key, phase.name, tuple(this.ids), phase.public_share)
        return seen if view == "public" else ~seen


@functools.lru_cache(64)
def _public_faces(key: bytes, phase: str, ids: tuple[str, ...], share: float) -> NDArray[np.bool_]:
    found = public_mask(key, phase, ids, share)
    found.flags.writeable = False
    return found


@dataclass(frozen=True)
class Asked:
    """What a request brings along.

    Attributes:
        board: the board.
        viewer: who asks, by the cookie.
        visit: from where.
        cookie: of the session, or of a visitor without one; forms are signed for it.
        path: of the address.
    """

    board: Board
    viewer: Viewer
    visit: Visit
    cookie: str
    path: str

    def form_token(self, form: str) -> str:
        """Returns the token that a form brings along."""
        return self.board.sessions.form_token(self.cookie, form)


def asked(request: Request) -> Asked:
    """Returns what a request brings along."""
    board, visit = board_of(request), visit_of(request.scope)
    session = request.cookies.get(cookie_name(visit), "")[:300]
    viewer = board.door.by_cookie(session)
    visitor = request.cookies.get(cookie_name(visit, "visitor"), "")[:64]
    return Asked(board, viewer, visit, viewer.cookie or visitor, request.url.path)


def board_of(request: Request) -> Board:
    """Returns the board that a request is for."""
    found = request.app.state.board
    assert isinstance(found, Board)
    return found


AskedNow = Annotated[Asked, Depends(asked)]


def require_form_token(asked: Asked, request: Request, form: str, token: str) -> None:
    """Checks that a form was sent from a page of the board, by whoever it was made for.

    Raises:
        Refusal: it was not; 403.
    """
    if is_from_elsewhere(request) or not asked.board.sessions.is_form_token(asked.cookie, form, token):
        raise Refusal(403, "bad_form", "this form is not from this page, or is too old; load the page anew.")


def checked(form: str) -> Callable[[Request, Asked, dict[str, str]], dict[str, str]]:
    """Returns a dependency: the fields of a form whose token was checked."""

    def fields(request: Request, asked: AskedNow, fields: Form) -> dict[str, str]:
        require_form_token(asked, request, form, fields.get("form_token", ""))
        return fields

    return fields
