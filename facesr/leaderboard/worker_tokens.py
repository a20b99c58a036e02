"""Tokens of workers elsewhere: each has a name, opens the addresses for workers alone, and can be taken back."""

import argparse
import re

from sqlalchemy import select
from sqlalchemy.orm import Session

from facesr.errors import ConfigError
from facesr.leaderboard import chain, teams
from facesr.leaderboard.operations import opened
from facesr.leaderboard.tables import Token
from facesr.web.database import Database

_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,38}[A-Za-z0-9])?")


def worker_token(options: argparse.Namespace) -> None:
    """Makes a token of a worker, or takes one back, or lists those that hold."""
    if options.name is None and options.revoke:
        raise ConfigError("--revoke needs the name of a worker: facesr board worker-token DIR NAME --revoke.")
    with opened(options.folder) as (_, database):
        if options.name is None:
            with database.read() as session:
                lines = [f"{row.label}  since {row.created:%Y-%m-%d %H:%M} UTC" for row in _valid(session)]
            print("\n".join(lines) or "no worker has a token")
            return
        with database.write() as session:
            if options.revoke:
                revoke(database, session, options.name)
                print(f"the token of worker {options.name} is taken back; a job of its goes back when its lease ends")
            else:
                print(issue(database, session, options.name))


def issue(database: Database, session: Session, name: str) -> str:
    """Returns a new token of a worker; it is shown this once, the database keeps its digest.

    Raises:
        ConfigError: the name is none, or a worker of that name has a token.
    """
    if not _NAME.fullmatch(name):
        raise ConfigError(f"{name[:60]!a} is no name of a worker; take 1 to 40 of A-Z, a-z, 0-9, dots, _ and -.")
    if _valid(session, name):
        raise ConfigError(f"worker {name} has a token; take it back by --revoke first, or choose another name.")
    return teams.issue_token(database, session, teams.WORKER, label=name)


def revoke(database: Database, session: Session, name: str) -> None:
    """Takes the token of a worker back.

    Raises:
        ConfigError: no worker of that name has one.
    """
    found = _valid(session, name)
    if not found:
        raise ConfigError(f"no worker {name[:60]!a} has a token; list them by facesr board worker-token DIR.")
    for row in found:
        row.revoked = database.now(session)
    data = {"scope": teams.WORKER, "team": None, "count": len(found), "worker": name}
    chain.append(database, session, "organiser", "tokens revoked", data)


def _valid(session: Session, name: str | None = None) -> list[Token]:
    rule = [Token.scope == teams.WORKER, Token.revoked.is_(None)]
    if name is not None:
        rule.append(Token.label == name)
    return list(session.scalars(select(Token).where(*rule).order_by(Token.id)))
