"""Archives come in at the board's pace, whichever way they are sent."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi import FastAPI

from facesr.leaderboard.app import create_app
from facesr.web.pace import Pace
from tests.leaderboard.site import Client, Site, make_site
from tests.leaderboard.test_pieces import DATA, HALF, Sender


class Counting(Pace):
    """A pace that never waits, and says what it has counted."""

    def __init__(self) -> None:
        super().__init__(1e12)
        self.num_bytes = 0

    def take(self, num_bytes: int) -> float:
        self.num_bytes += num_bytes
        return super().take(num_bytes)


@pytest.fixture
def made(tmp_path: Path) -> Iterator[tuple[Site, FastAPI, Counting]]:
    site = make_site(tmp_path / "board", "limits: {waiting: 2, scored_per_day: 4}")
    site.team("First")
    app = create_app(site.place, site.database)
    app.state.board.pace = Counting()
    yield site, app, app.state.board.pace
    site.database.close()


def test_in_one_request(made: tuple[Site, FastAPI, Counting]) -> None:
    site, app, pace = made
    headers = {"Authorization": f"Bearer {site.tokens['First']}", "Content-Type": "application/zip"}
    answer = Client(app).request("POST", "/api/v1/phases/final/submissions", content=DATA, headers=headers)
    assert answer.status_code == 201
    assert pace.num_bytes == len(DATA)


def test_in_pieces(made: tuple[Site, FastAPI, Counting]) -> None:
    site, app, pace = made
    sender = Sender(Client(app), site.tokens["First"])
    code = sender.announce().json()["code"]
    assert pace.num_bytes == 0
    assert sender.send(code, 0, DATA[:HALF]).status_code == 200
    assert pace.num_bytes == HALF
    assert sender.send(code, HALF, DATA[HALF:]).json()["submission"] is not None
    assert pace.num_bytes == len(DATA)
