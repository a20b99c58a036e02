"""Checking a board: the log against itself, and scores, submissions and files against the log."""

import argparse
import json
from collections.abc import Iterator
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from facesr.errors import DataError
from facesr.leaderboard import chain
from facesr.leaderboard.operations import opened
from facesr.leaderboard.queue import scores_sha256
from facesr.leaderboard.tables import Evaluation, Event, Round, Submission
from facesr.web.store import Store


def verify_log(options: argparse.Namespace) -> None:
    """Checks everything and tells the head, or fails with the first fault."""
    with opened(options.folder) as (place, database), database.read() as session:
        fault = first_fault(session, place.store())
        head = chain.head(session)
    if fault is not None:
        raise DataError(f"the board was changed behind the log's back: {fault}.")
    print(f"{head.seq} lines, whole; head {head.hash}")
    print("compare the head with one that you wrote down, or that a team saw on the board")


def first_fault(session: Session, store: Store) -> str | None:
    """Returns what does not fit the log, in words, or None."""
    events = list(session.scalars(select(Event).order_by(Event.seq)))
    return chain.first_fault(events) or next(_faults(session, store, events), None)


def _faults(session: Session, store: Store, events: list[Event]) -> Iterator[str]:
    received: dict[str, dict[str, Any]] = {}
    deleted: dict[str, dict[str, Any]] = {}
    scored: dict[tuple[str, int], dict[str, Any]] = {}
    for event in events:
        data = json.loads(event.data)
        if event.kind == "archive received":
            received[data["submission"]] = data
        elif event.kind == "archive deleted":
            deleted[data["submission"]] = data
        elif event.kind == "submission scored":
            scored[data["submission"], data["round"]] = data
    rounds = {this.id: this for this in session.scalars(select(Round))}
    codes: dict[int, str] = {}
    for row in session.scalars(select(Submission).order_by(Submission.id)):
        codes[row.id] = row.code
        data = received.pop(row.code, {})
        if (data.get("archive"), data.get("phase")) != (row.archive_sha256, row.phase):
            yield f"submission {row.code} has another archive or phase than the log says"
        if (row.archive_removed is not None) != (row.code in deleted):
            yield f"the log and the submission {row.code} do not agree whether its archive was deleted"
        elif row.archive_removed is None and not store.is_intact(row.archive_sha256):
            yield f"the archive of submission {row.code} is missing or damaged"
    for code in received:
        yield f"submission {code} is in the log and nowhere else"
    for evaluation in session.scalars(select(Evaluation).order_by(Evaluation.id)):
        code = codes.get(evaluation.submission_id, "?")
        data = scored.pop((code, evaluation.round_id), {})
        digest = scores_sha256(code, rounds[evaluation.round_id], evaluation.values)
        if not digest == evaluation.sha256 == data.get("scores"):
            yield f"the scores of submission {code} in round {evaluation.round_id} are not those of the log"
    for code, number in scored:
        yield f"the scores of submission {code} in round {number} are in the log and nowhere else"
