"""Who asks: by the cookie of a session or by a token; guessing tokens is made slow."""

import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from facesr.leaderboard import teams
from facesr.leaderboard.faults import NotAllowed
from facesr.leaderboard.tables import Team, Token
from facesr.web.database import Database
from facesr.web.rates import Both, Buckets
from facesr.web.security import Rates, require, too_often
from facesr.web.sessions import Sessions
from facesr.web.shared_rates import SharedBuckets
from facesr.web.tokens import digest

_MAX_KNOWN = 10_000


@dataclass(frozen=True)
class Viewer:
    """Who asks.

    Attributes:
        scope: ``team``, ``organiser``, ``worker``, or "" for anybody.
        team_id: of the team.
        name: of the team, or of the worker.
        cookie: of the session, "" without one.
    """

    scope: str = ""
    team_id: int | None = None
    name: str = ""
    cookie: str = ""

    @property
    def is_organiser(self) -> bool:
        """Whether private scores may be seen before the end."""
        return self.scope == teams.ORGANISER


NOBODY = Viewer()


class Doorkeeper:
    """Knows sessions and tokens, and who has been guessing."""

    def __init__(self, database: Database, sessions: Sessions, rates: Rates, shared: SharedBuckets) -> None:
        self._database = database
        self._sessions = sessions
        self._failures = Both(Buckets(rates.failures), shared.limit("failures", rates.failures))
        self._by_token = Buckets(rates.by_token)
        self._changes_by_token = Both(self._by_token, shared.limit("by token", rates.by_token))
        self._lock = threading.Lock()
        # Digests that were right a while ago: they are let in although somebody guesses from the same address.
        self._known: OrderedDict[str, None] = OrderedDict()

    def by_cookie(self, cookie: str) -> Viewer:
        """Returns who a session's cookie belongs to: nobody where it is not valid or its token was revoked."""
        found = self._sessions.digest_of(cookie)
        if found is None:
            return NOBODY
        with self._database.read() as session:
            row = session.scalar(select(Token).where(Token.sha256 == found, Token.revoked.is_(None)))
            if row is None or row.scope not in (teams.TEAM, teams.ORGANISER):
                return NOBODY
            return _viewer(row.scope, None if row.team_id is None else session.get(Team, row.team_id), cookie)

    def by_token(
        self, token: str, client: str, scopes: Sequence[str] = (teams.TEAM, teams.ORGANISER), *, changes: bool
    ) -> Viewer:
        """Returns who a token of one of these scopes belongs to.

        Args:
            token: as it was sent.
            client: the address that it came from.
            scopes: that are let in.
            changes: whether the request is to change something; these are counted by all servers together.

        Raises:
            NotAllowed: to nobody.
            Refusal: too many wrong ones came from this address, or too many requests with this token.
        """
        known = digest(token)
        self.require_calm(client, known)
        try:
            with self._database.read() as session:
                holder = teams.holder_of(session, token, scopes)
        except NotAllowed:
            self.failed(client)
            raise
        with self._lock:
            self._known[known] = None
            self._known.move_to_end(known)
            if len(self._known) > _MAX_KNOWN:
                self._known.popitem(last=False)
        require(self._changes_by_token if changes else self._by_token, known, "requests with this token")
        if holder.scope == teams.WORKER:
            return Viewer(holder.scope, name=holder.label)
        return _viewer(holder.scope, holder.team)

    def require_calm(self, client: str, known: str = "") -> None:
        """Checks that not too many wrong tokens came from an address.

        Args:
            client: the address.
            known: digest of a token, which is let through where it was right before.

        Raises:
            Refusal: they did; 429.
        """
        if known in self._known:
            return
        wait = self._failures.wait(client)
        if wait > 0:
            raise too_often("wrong tokens", wait)

    def failed(self, client: str) -> None:
        """Counts a wrong token, invitation or form token."""
        self._failures.take(client)

    def begin(self, token: str) -> str:
        """Returns the cookie of a new session for a token that was checked."""
        return self._sessions.begin(digest(token))


def team_of(session: Session, viewer: Viewer) -> Team:
    """Returns the team of a viewer.

    Raises:
        NotAllowed: it is none.
    """
    team = None if viewer.team_id is None else session.get(Team, viewer.team_id)
    if team is None:
        raise NotAllowed("this is for teams; sign in with your team's token.")
    return team


def require_organiser(viewer: Viewer) -> None:
    """Checks who asks.

    Raises:
        NotAllowed: it is not the organiser.
    """
    if not viewer.is_organiser:
        raise NotAllowed("this is for the organiser; sign in with the organiser's token.")


def _viewer(scope: str, team: Team | None, cookie: str = "") -> Viewer:
    if team is None:
        return Viewer(scope, cookie=cookie)
    return Viewer(scope, team.id, team.name, cookie)
