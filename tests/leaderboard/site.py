"""A board with made-up rows, and a client that talks to it without a socket; nothing here scores a picture."""

import asyncio
import atexit
import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from fastapi import FastAPI

from facesr.leaderboard import entries, phases, queue, teams
from facesr.leaderboard.competition import KEY, SETTINGS, Phase, Place
from facesr.leaderboard.schema import upgrade
from facesr.leaderboard.split import example_ids, public_mask
from facesr.leaderboard.tables import Round, Submission, Team
from facesr.png import write_png
from facesr.web.database import Database
from facesr.web.store import Stored

# One loop for all clients: no test has to close one.
_RUNNER = asyncio.Runner()
atexit.register(_RUNNER.close)
IDS = [f"face{number:03d}" for number in range(12)]
COLUMNS = {
    "is/builtin": {"unit": "", "higher_is_better": True},
    "is/other": {"unit": "", "higher_is_better": True},
    "psnr_rgb": {"unit": "dB", "higher_is_better": True},
    "consistency": {"unit": "dB", "higher_is_better": True},
}
_SETTINGS = """
title: "A <b>demo</b> & more"
description: |
  Restore faces 4x.

  <script>alert(1)</script>
max_archive_mib: 1
phases:
  - name: final
    title: ID similarity
    protocol: asc19_final
    starts: {starts}
    ends: {ends}
    references: references/final
    held_out_judges: [other]
    power_limit_watts: 3000
    num_examples: 2
    {rest}
  - name: later
    title: Later
    protocol: asc19_final
    starts: {ends}
    ends: {end}
    references: references/final
"""


@dataclass
class Site:
    """A board's folder and database."""

    place: Place
    database: Database
    tokens: dict[str, str] = field(default_factory=dict)
    organiser: str = ""

    @property
    def phase(self) -> Phase:
        """The phase that is open."""
        return self.place.competition.phases[0]

    def team(self, name: str, *, is_baseline: bool = False) -> int:
        """Returns the id of a new team."""
        with self.database.write() as session:
            team = teams.new_team(self.database, session, name, ["Ada", "<i>Bob</i>"], is_baseline=is_baseline)
            self.tokens[name] = teams.issue_token(self.database, session, teams.TEAM, team)
            return team.id

    def queued(self, team_id: int, number: int) -> str:
        """Returns the code of a submission that waits."""
        with self.database.write() as session:
            stored = Stored(f"{team_id:032x}{number:032x}", 1000)
            team = session.get_one(Team, team_id)
            row = entries.receive(self.database, session, team, self.phase, stored, is_baseline=team.is_baseline)
            return row.code

    def scored(self, team_id: int, number: int, score: float | tuple[float, float], **facts: Any) -> str:
        """Returns the code of a submission that is scored: a mean, or what all public and all private faces have."""
        code = self.queued(team_id, number)
        with self.database.write() as session:
            self._round(session)
            job = queue.claim(self.database, session, "test", ["final"])
            assert job is not None and job.code == code
            examples = {key: self._picture(team_id * 100 + number) for key in self.examples}
            outcome = queue.Outcome(
                self._values(team_id, score), facts, f"{int(np.mean(score) * 1e6):064x}", examples, 1.0
            )
            current = queue.current_round(session, "final")
            assert current is not None and queue.finish_scored(self.database, session, job, current.id, outcome)
        return code

    def public(self) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """Returns which faces are public."""
        return public_mask(self.place.key, "final", IDS, self.phase.public_share)

    @property
    def examples(self) -> list[str]:
        """Ids of the agreed example faces."""
        return list(example_ids(self.place.key, "final", IDS, self.phase.public_share, self.phase.num_examples))

    def _values(self, seed: int, score: float | tuple[float, float]) -> Mapping[str, Any]:
        noise = np.random.default_rng(seed).normal(0, 0.02, len(IDS))
        main = np.where(self.public(), *score) if isinstance(score, tuple) else score + noise - noise.mean()
        return {"is/builtin": main, "is/other": main - 0.03, "psnr_rgb": 25 + 3 * main, "consistency": 40 + main}

    def _picture(self, seed: int) -> str:
        path = self.place.folder / "made.png"
        write_png(path, np.random.default_rng(seed).integers(0, 256, (16, 12, 3), dtype=np.uint8))
        return self.place.store().put([path.read_bytes()], 1 << 20).sha256

    def _round(self, session: Any) -> None:
        if queue.current_round(session, "final") is None:
            this = Round(
                phase="final",
                basis={},
                basis_sha256="0" * 64,
                ids=IDS,
                columns=COLUMNS,
                ranking_metric="is/builtin",
                higher_is_better=True,
            )
            queue.begin_round(self.database, session, this, "worker test")

    def row(self, code: str) -> Submission:
        """Returns the row of a submission."""
        with self.database.read() as session:
            return entries.submission_of(session, code)


# A board, its application, and the codes of its submissions by name.
Made = tuple[Site, FastAPI, dict[str, str]]


def make_site(folder: Path, rest: str = "public_share: 0.5", url: str | None = None) -> Site:
    """Returns a new board in a folder, with an organiser and an invitation for 3 teams (``tokens["invitation"]``)."""
    now = datetime.now(UTC).replace(microsecond=0)
    days = [f"{now + timedelta(days=number):%Y-%m-%dT%H:%M:%SZ}" for number in (-1, 10, 20)]
    settings = _SETTINGS.format(starts=days[0], ends=days[1], end=days[2], rest=rest)
    folder.mkdir(exist_ok=True)
    (folder / SETTINGS).write_text(settings, encoding="utf-8")
    (folder / KEY).write_text("5a" * 32 + "\n", encoding="ascii")
    for kind, shape in (("low", (7, 6, 3)), ("high", (28, 24, 3))):
        (folder / "references" / "final" / kind).mkdir(parents=True)
        for number, key in enumerate(IDS):
            picture = np.random.default_rng(number).integers(0, 256, shape, dtype=np.uint8)
            write_png(folder / "references" / "final" / kind / f"{key}.png", picture)
    logging.getLogger("facesr.web.requests").setLevel(logging.WARNING)
    place = Place(folder, url)
    database = Database(place.url)
    upgrade(database)
    site = Site(place, database)
    with database.write() as session:
        phases.sync(database, session, place.competition)
        site.organiser = teams.issue_token(database, session, teams.ORGANISER)
        site.tokens["invitation"] = teams.invite(database, session, uses=3)
    return site


class Client:
    """A browser or a program at an address; it keeps cookies and follows nothing."""

    def __init__(self, app: FastAPI, address: str = "192.0.2.1", scheme: str = "http") -> None:
        transport = httpx.ASGITransport(app=app, client=(address, 1234), raise_app_exceptions=False)
        self._client = httpx.AsyncClient(transport=transport, base_url=f"{scheme}://board.test")

    @property
    def cookies(self) -> httpx.Cookies:
        """The cookies that it has."""
        return self._client.cookies

    def request(self, method: str, path: str, **more: Any) -> httpx.Response:
        """Returns the answer."""
        return _RUNNER.run(self._client.request(method, path, **more))

    def get(self, path: str, **more: Any) -> httpx.Response:
        """Returns the answer to a GET."""
        return self.request("GET", path, **more)

    def form(self, page: str, action: str, /, **fields: str) -> httpx.Response:
        """Loads a page, fills in the first form with an action, and returns the answer."""
        return self.request("POST", action, data={"form_token": self.form_token(page, action), **fields})

    def form_token(self, page: str, action: str) -> str:
        """Returns the token of the first form with an action in a page."""
        text = self.get(page).text
        found = re.search(rf'action="{re.escape(action)}".*?name="form_token" value="(\w+)"', text, re.DOTALL)
        assert found is not None, f"{page} has no form for {action}"
        return found[1]

    def sign_in(self, token: str) -> "Client":
        """Signs in and returns this client."""
        answer = self.form("/signin", "/signin", token=token)
        assert answer.status_code == 303, answer.text
        return self
