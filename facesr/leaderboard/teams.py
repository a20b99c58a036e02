"""Teams: how they register, and who a token belongs to."""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from facesr.leaderboard import chain
from facesr.leaderboard.faults import BoardError, NotAllowed, NotFound, NotNow
from facesr.leaderboard.tables import Invitation, Team, Token
from facesr.submission.manifest import is_team, without_unseen
from facesr.web.database import Database
from facesr.web.tokens import digest, is_token, new_token

TEAM, ORGANISER, WORKER = "team", "organiser", "worker"
MAX_MEMBERS = 20
_MAX_MEMBER_LENGTH = 80
# Cyrillic and Greek letters, in lower case, and the Latin ones that they or their capitals look like.
# Source: https://www.unicode.org/Public/security/latest/confusables.txt, the common ones.
_LOOK_ALIKES = str.maketrans(
    "\u0430\u0435\u043a\u043c\u043d\u043e\u0440\u0441\u0442\u0443\u0445\u0432\u0456\u0455\u0458\u04bb\u0501\u051b\u051d\u04cf"
    "\u03b1\u03b2\u03b5\u03b6\u03b7\u03b9\u03ba\u03bc\u03bd\u03bf\u03c1\u03c4\u03c5\u03c7",
    "aekmhopctyxbisjhdqwlabezhikmnoptyx",
)


@dataclass(frozen=True)
class Holder:
    """Who holds a token.

    Attributes:
        scope: ``team``, ``organiser`` or ``worker``.
        team: the team, for that scope.
        label: of the token; for ``worker`` the worker's name.
    """

    scope: str
    team: Team | None = None
    label: str = ""

    @property
    def actor(self) -> str:
        """How the log calls the holder."""
        return f"team {self.team.name}" if self.team is not None else self.scope


def holder_of(session: Session, token: str, scopes: Sequence[str]) -> Holder:
    """Returns who holds a token.

    Raises:
        NotAllowed: nobody, the token was revoked, or it is for other things; the sentence does not say which.
    """
    refusal = NotAllowed("this token is not valid here; check it, or ask the organiser for a new one.")
    if not is_token(token):
        raise refusal
    row = session.scalar(select(Token).where(Token.sha256 == digest(token)))
    if row is None or row.revoked is not None or row.scope not in scopes:
        raise refusal
    return Holder(row.scope, None if row.team_id is None else session.get(Team, row.team_id), row.label)


def issue_token(
    database: Database,
    session: Session,
    scope: str,
    team: Team | None = None,
    label: str = "",
    actor: str = "organiser",
) -> str:
    """Returns a new token; it is shown this once, the database keeps its digest."""
    token = new_token()
    team_id = None if team is None else team.id
    session.add(
        Token(sha256=digest(token), scope=scope, team_id=team_id, created=database.now(session), label=label[:100])
    )
    data = {"scope": scope, "team": None if team is None else team.name, "sha256": digest(token)[:16]}
    if scope == WORKER:
        data["worker"] = label
    chain.append(database, session, actor, "token issued", data)
    return token


def revoke_tokens(database: Database, session: Session, scope: str, team: Team | None = None) -> int:
    """Revokes all tokens of a team or of a scope, and returns how many there were."""
    found = session.scalars(
        select(Token).where(
            Token.scope == scope, Token.revoked.is_(None), Token.team_id == (None if team is None else team.id)
        )
    ).all()
    now = database.now(session)
    for row in found:
        row.revoked = now
    data = {"scope": scope, "team": None if team is None else team.name, "count": len(found)}
    chain.append(database, session, "organiser", "tokens revoked", data)
    return len(found)


def invite(
    database: Database, session: Session, *, uses: int = 1, expires: datetime | None = None, label: str = ""
) -> str:
    """Returns a new invitation code, for so many teams."""
    code = new_token()
    session.add(
        Invitation(
            sha256=digest(code), created=database.now(session), expires=expires, uses_left=uses, label=label[:100]
        )
    )
    data = {"uses": uses, "expires": None if expires is None else expires.isoformat(), "label": label[:100]}
    chain.append(database, session, "organiser", "invitation made", data)
    return code


def register(
    database: Database, session: Session, code: str, name: str, members: Sequence[str] = ()
) -> tuple[Team, str]:
    """Returns a new team and its token; the invitation has one use less.

    Raises:
        NotAllowed: the invitation is unknown, used up or expired.
        BoardError: the name is none, or a team has it.
    """
    invitation = session.scalar(select(Invitation).where(Invitation.sha256 == digest(code))) if is_token(code) else None
    now = database.now(session)
    expired = invitation is not None and invitation.expires is not None and invitation.expires <= now
    if invitation is None or expired or invitation.uses_left < 1:
        raise NotAllowed("this invitation is not valid, or was used already; ask the organiser for another one.")
    team = new_team(database, session, name, members, actor="team")
    invitation.uses_left -= 1
    return team, issue_token(database, session, TEAM, team, "registration", actor=f"team {team.name}")


def new_team(
    database: Database,
    session: Session,
    name: str,
    members: Sequence[str] = (),
    *,
    is_baseline: bool = False,
    actor: str = "organiser",
) -> Team:
    """Returns a new team.

    Raises:
        BoardError: the name or a member is none, or a team has the name.
    """
    name = unicodedata.normalize("NFC", name).strip()
    if not is_team(name):
        raise BoardError(
            "a team's name has 1 to 64 letters and digits, with spaces, dots, _ and - between them, and no "
            "invisible characters; choose another one."
        )
    key = key_of(name)
    if session.scalar(select(Team.id).where(Team.key == key)) is not None:
        raise NotNow("there is a team of that name, or of one that looks like it; choose another one.")
    listed = [_member(member) for member in members if member.strip()]
    if len(listed) > MAX_MEMBERS:
        raise BoardError(f"a team has at most {MAX_MEMBERS} members.")
    team = Team(name=name, key=key, members=listed, created=database.now(session), is_baseline=is_baseline)
    session.add(team)
    session.flush()
    kind = "baseline added" if is_baseline else "team registered"
    chain.append(database, session, f"team {name}" if actor == TEAM else actor, kind, {"team": name})
    return team


def key_of(name: str) -> str:
    """Returns what of a name has to be unique: not letter case, width, spaces, the unseen or look-alikes' script."""
    # First, because the unseen keeps letters and marks apart that are one character without it.
    text = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", without_unseen(name)).casefold())
    return "".join(text.translate(_LOOK_ALIKES).split())[:256]


def team_named(session: Session, name: str) -> Team:
    """Returns a team.

    Raises:
        NotFound: there is none of that name.
    """
    # By the name itself first: keys that were made by older rules stay as they are.
    team = session.scalar(select(Team).where(Team.name == unicodedata.normalize("NFC", name).strip()))
    team = team or session.scalar(select(Team).where(Team.key == key_of(name)))
    if team is None:
        raise NotFound(f"there is no team {name[:64]!r}.")
    return team


def _member(name: str) -> str:
    name = unicodedata.normalize("NFC", name).strip()
    if len(name) > _MAX_MEMBER_LENGTH or not name.isprintable():
        raise BoardError(f"a member's name is one line of at most {_MAX_MEMBER_LENGTH} characters.")
    return name
