"""A board as files: tables as CSV, everything as JSON, and its pages so that no server is needed.

The pages are those that a visitor without a token gets, by the same application, so nothing in them can be more than
what everybody may see.
"""

import argparse
import asyncio
import csv
import functools
import io
import json
import logging
import posixpath
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from sqlalchemy import select
from sqlalchemy.orm import Session

from facesr.errors import DataError
from facesr.files import require_new, whole_folder
from facesr.leaderboard.app import create_app
from facesr.leaderboard.competition import Phase, Place
from facesr.leaderboard.operations import opened
from facesr.leaderboard.phases import CLOSED, is_revealed, state_of, times_of
from facesr.leaderboard.queue import unpacked
from facesr.leaderboard.ranking import Rank
from facesr.leaderboard.standing import PRIVATE, PUBLIC, Standing, shown_round, standing
from facesr.leaderboard.tables import Evaluation, Event, Submission, Team
from facesr.names import shown_cell, shown_path
from facesr.web.database import Database
from facesr.web.rates import Rate
from facesr.web.security import Rates

# What a visitor does on a board needs a server.
_NEEDS_SERVER = re.compile(r"^/(signin|signout|register|team|organiser|api|metrics|healthz|feed|compare)\b")
_LINK = re.compile(r'(href|src)="(/[^"]*)"')
_MAX_PAGES = 20_000
_MAX_CELL = 2000


@dataclass(frozen=True)
class _Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes


def export(options: argparse.Namespace) -> None:
    """Writes everything into a new folder."""
    out: Path = options.out
    require_new(out)
    with opened(options.folder) as (place, database):
        try:
            with whole_folder(out) as made:
                num_rows = write_tables(place, database, made, with_private=options.all)
                num_pages = write_pages(place, database, made / "site")
        except OSError as error:
            raise DataError(f"{shown_path(out)} cannot be written ({error.strerror or error}).") from error
    print(
        f"{shown_path(out)}: {num_rows} ranked rows, {num_pages} pages; open {shown_path(out / 'site' / 'index.html')}"
    )
    if options.all:
        print("it holds private scores: keep it to organisers until every phase is closed")


def write_tables(place: Place, database: Database, out: Path, *, with_private: bool) -> int:
    """Writes board.json, log.jsonl and for each phase its tables as CSV; returns how many ranked rows there are.

    Args:
        place: the competition.
        database: of the board.
        out: a folder.
        with_private: private scores, and scores of single faces, of phases that are not closed, too.
    """
    about: dict[str, Any] = {"title": place.competition.title, "phases": []}
    count = 0
    with database.read() as session:
        for phase in place.competition.phases:
            times, now = times_of(session, phase.name), database.now(session)
            is_open_to_all = with_private or is_revealed(phase, times, now)
            views = [PUBLIC] if phase.public_share == 1 or not is_open_to_all else [PUBLIC, PRIVATE]
            is_closed = state_of(times, now) == CLOSED
            tables = [standing(place, session, phase, view, is_over=is_closed) for view in views]
            is_over = with_private or is_closed
            standings = {table.view: _rows(table, is_over=is_over) for table in tables}
            for view, rows in standings.items():
                count += len(rows)
                _write_csv(out / f"{phase.name}-{view}.csv", rows)
            if is_over:
                _write_csv(out / f"{phase.name}-faces.csv", _faces(session, phase))
            about["phases"].append(
                {
                    "settings": phase.model_dump(mode="json"),
                    "state": state_of(times, now),
                    "starts": times.starts.isoformat(),
                    "ends": times.ends.isoformat(),
                    "standings": standings,
                    "submissions": _submissions(session, phase, with_private=with_private),
                }
            )
        events = session.scalars(select(Event).order_by(Event.seq)).all()
        keys = ("seq", "at", "actor", "kind", "data", "previous", "hash")
        lines = [json.dumps({key: getattr(event, key) for key in keys}) for event in events]
    (out / "log.jsonl").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    (out / "board.json").write_text(json.dumps(about, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    return count


def _rows(table: Standing, *, is_over: bool) -> list[dict[str, Any]]:
    # With a Ladder a score's interval and the other means would say more than the step that is shown.
    is_stepped = table.phase.ladder_step is not None and table.view == PUBLIC and not is_over
    return [
        {
            "place": entry.place,
            "first": None if entry.rank is None else entry.rank.first,
            "last": None if entry.rank is None else entry.rank.last,
            "team": entry.team.name,
            "baseline": entry.team.is_baseline,
            "disqualified": entry.team.disqualified or entry.submission.disqualified,
            "submission": entry.submission.code,
            "received": entry.submission.received.isoformat(),
            "score": entry.shown_score,
            **({} if is_stepped else _measured(entry.rank, entry.means)),
            "white_box": entry.white_box,
            "mean_watts": entry.mean_watts,
            "within_power_limit": entry.within_power_limit,
            "num_parameters": entry.num_parameters,
            "entries": entry.num_entries,
        }
        for entry in table.entries
    ]


def _measured(rank: Rank | None, means: Mapping[str, float]) -> dict[str, Any]:
    ends = (None, None) if rank is None else (rank.low, rank.high)
    return {"low": ends[0], "high": ends[1], **{name: means[name] for name in sorted(means)}}


def _faces(session: Session, phase: Phase) -> list[dict[str, Any]]:
    """Returns the scores of every face of every submission that is shown."""
    this = shown_round(session, phase.name)
    if this is None:
        return []
    rows = session.execute(
        select(Submission.code, Team.name, Evaluation.values)
        .join(Evaluation, Evaluation.submission_id == Submission.id)
        .join(Team, Team.id == Submission.team_id)
        .where(Evaluation.round_id == this.id, Submission.withdrawn.is_(None))
        .order_by(Submission.id)
    )
    found = []
    for code, team, values in rows:
        columns = unpacked(this, values)
        for place, key in enumerate(this.ids):
            scores = {name: float(column[place]) for name, column in columns.items()}
            found.append({"submission": code, "team": team, "face": key, **scores})
    return found


def _submissions(session: Session, phase: Phase, *, with_private: bool) -> list[dict[str, Any]]:
    """Returns all submissions; refusals and notes are for organisers."""
    rows = session.execute(
        select(Submission, Team.name)
        .join(Team, Team.id == Submission.team_id)
        .where(Submission.phase == phase.name)
        .order_by(Submission.id)
    )
    found = []
    for row, team in rows:
        if not with_private and (row.state != "scored" or row.withdrawn is not None):
            continue
        about: dict[str, Any] = {
            "submission": row.code,
            "team": team,
            "received": row.received.isoformat(),
            "archive_sha256": row.archive_sha256,
            "bytes": row.num_bytes,
            "facts": row.facts,
        }
        if with_private:
            about |= {"state": row.state, "problem": row.problem, "note": row.note}
            about |= {"withdrawn": row.withdrawn is not None, "pixels_sha256": row.pixels_sha256}
            about["archive_deleted"] = row.archive_removed is not None
        found.append(about)
    return found


def _write_csv(path: Path, rows: list[dict[str, Any]]) -> None:
    text = io.StringIO()
    names = list(dict.fromkeys(name for row in rows for name in row))
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: _cell(value) for name, value in row.items()} for row in rows)
    path.write_text(text.getvalue(), encoding="utf-8")


def _cell(value: Any) -> Any:
    return shown_cell(value[:_MAX_CELL]) if isinstance(value, str) else value


def write_pages(place: Place, database: Database, out: Path) -> int:
    """Writes the pages that everybody may see as files that link to each other; returns how many."""
    logging.getLogger("facesr.web.requests").setLevel(logging.WARNING)  # nobody asks, so nobody is logged
    plenty = Rate(1_000_000, 1_000_000)
    app = create_app(place, database, rates=Rates(plenty, plenty, plenty, plenty))
    todo, done = ["/"], {"/"}
    while todo:
        path = todo.pop()
        answer = asyncio.run(_get(app, path))
        if answer.status >= 500:
            raise DataError(f"the board's page {path} cannot be made ({answer.status}); see the message above.")
        if answer.status != 200:
            continue
        body = answer.body
        if answer.headers.get("content-type", "").startswith("text/html"):
            text = body.decode()
            for link in _links(text):
                if link not in done and len(done) < _MAX_PAGES:
                    done.add(link)
                    todo.append(link)
            body = _LINK.sub(functools.partial(_relative, path), text).encode()
        target = out / file_of(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(body)
    return sum(1 for _ in out.rglob("*.html"))


def _links(text: str) -> Iterable[str]:
    """Returns the addresses that a page leads to; of those that differ in a question only the first."""
    for found in _LINK.finditer(text):
        address = found[2].replace("&amp;", "&")
        if not _NEEDS_SERVER.match(address):
            yield _without_question(address)


def _without_question(address: str) -> str:
    """Returns an address without what sorts a table; a drawing's view is part of what it is."""
    parts = urlsplit(address)
    return f"{parts.path}?{parts.query}" if parts.path.endswith((".png", ".svg")) and parts.query else parts.path


def file_of(address: str) -> str:
    """Returns the file of an address, relative to the folder of the pages."""
    parts = urlsplit(address)
    path = parts.path.strip("/") or "index"
    if parts.query:
        stem, suffix = posixpath.splitext(path)
        path = f"{stem}-{re.sub('[^A-Za-z0-9]+', '-', parts.query)}{suffix}"
    return path if posixpath.splitext(path)[1] else f"{path}.html"


def _relative(page: str, found: re.Match[str]) -> str:
    address = found[2].replace("&amp;", "&")
    if _NEEDS_SERVER.match(address):
        return 'aria-disabled="true"'  # a link without an address leads nowhere
    here = posixpath.dirname(file_of(page))
    return f'{found[1]}="{posixpath.relpath(file_of(_without_question(address)), here or ".")}"'


async def _get(app: Any, address: str) -> _Answer:
    """Returns what an application answers to a visitor, without a network."""
    parts = urlsplit(address)
    status, headers, body = 500, {}, bytearray()

    asked = False

    async def receive() -> dict[str, Any]:
        nonlocal asked
        if asked:  # a visitor who stays: whoever waits for the end of the connection is cancelled with the answer
            await asyncio.Event().wait()
        asked = True
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        nonlocal status, headers
        if message["type"] == "http.response.start":
            status = message["status"]
            headers = {name.decode().lower(): value.decode() for name, value in message["headers"]}
        else:
            body.extend(message.get("body", b""))

    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": parts.path,
        "raw_path": parts.path.encode(),
        "query_string": parts.query.encode(),
        "root_path": "",
        "headers": [(b"host", b"localhost")],
        "client": ("127.0.0.1", 1),
        "server": ("localhost", 80),
        "state": {},
    }
    await app(scope, receive, send)
    return _Answer(status, headers, bytes(body))
