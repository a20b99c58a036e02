"""The log of a board: every event with the hash of the one before, so that nothing can be changed unseen.

hash = sha256(previous LF seq LF at LF actor LF kind LF data), all as text in UTF-8; the first line's previous is 64
zeros. Whoever knows an old head can tell whether the log was rewritten since: the head stands on every page of the
board.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from facesr.errors import DataError
from facesr.leaderboard.tables import Event
from facesr.web.database import Database

BEGINNING = "0" * 64


@dataclass(frozen=True)
class Head:
    """The last line of the log.

    Attributes:
        seq: its number, 0 where there is none.
        hash: its hash.
    """

    seq: int
    hash: str


def head(session: Session) -> Head:
    """Returns the last line of the log."""
    row = session.execute(select(Event.seq, Event.hash).order_by(Event.seq.desc()).limit(1)).first()
    return Head(0, BEGINNING) if row is None else Head(row.seq, row.hash)


def append(database: Database, session: Session, actor: str, kind: str, data: Mapping[str, Any]) -> Event:
    """Returns the new last line; `session` has to be a writer's, so that no other one comes between.

    Args:
        database: says what time it is.
        session: of `Database.write`.
        actor: ``organiser``, ``team NAME``, ``worker NAME`` or ``board``.
        kind: what happened, in a word or two.
        data: plain values; nothing in it may be secret before the end of a phase.

    Raises:
        DataError: a text cannot be written as UTF-8, so that no page could show the line.
    """
    try:
        json.dumps([actor, kind, data], ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise DataError(f"the log takes no text that is not Unicode ({kind}); give another text.") from error
    last = head(session)
    at = database.now(session).isoformat(timespec="microseconds")
    text = json.dumps(data, sort_keys=True, ensure_ascii=True, separators=(",", ":"), allow_nan=False)
    seq = last.seq + 1
    event = Event(
        seq=seq,
        at=at,
        actor=actor,
        kind=kind,
        data=text,
        previous=last.hash,
        hash=hash_of(last.hash, seq, at, actor, kind, text),
    )
    session.add(event)
    session.flush()
    return event


def hash_of(previous: str, seq: int, at: str, actor: str, kind: str, data: str) -> str:
    """Returns the hash of a line."""
    return hashlib.sha256("\n".join([previous, str(seq), at, actor, kind, data]).encode()).hexdigest()


def first_fault(events: Iterable[Event]) -> str | None:
    """Returns what is wrong with the first line that does not follow from the one before, or None.

    Args:
        events: all lines, by number.
    """
    previous = BEGINNING
    for number, event in enumerate(events, 1):
        if event.seq != number:
            return f"line {number} is missing"
        if event.previous != previous:
            return f"line {number} does not follow from line {number - 1}"
        if event.hash != hash_of(event.previous, event.seq, event.at, event.actor, event.kind, event.data):
            return f"line {number} ({event.kind!r}) was changed"
        previous = event.hash
    return None
