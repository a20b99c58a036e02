"""Pieces from a browser's session: the API's rules, the form's token, and one sentence for whatever goes wrong."""

import hashlib
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from fastapi import FastAPI
from sqlalchemy import select, update

from facesr.leaderboard import entries, phases, pieces, teams
from facesr.leaderboard.access import Viewer
from facesr.leaderboard.app import create_app
from facesr.leaderboard.tables import Submission, Team, Upload
from tests.leaderboard.site import Client, Site, make_site
from tests.leaderboard.test_app_api import stored

DATA = np.random.default_rng(0).bytes(200_000)
DIGEST = hashlib.sha256(DATA).hexdigest()
HALF = 100_000
FORM = "/team/upload/final"


@pytest.fixture
def made(tmp_path: Path) -> Iterator[tuple[Site, FastAPI, "Browser"]]:
    site = make_site(tmp_path / "board", "limits: {waiting: 2, scored_per_day: 4}")
    site.team("First")
    site.team("Second")
    app = create_app(site.place, site.database)
    yield site, app, Browser(app, site.tokens["First"])
    site.database.close()


Made = tuple[Site, FastAPI, "Browser"]


class Browser:
    """What the script of a team's page does."""

    def __init__(self, app: FastAPI, token: str) -> None:
        self.client = Client(app).sign_in(token)
        self.headers = {"X-Form-Token": self.client.form_token("/team", FORM), "Sec-Fetch-Site": "same-origin"}

    def announce(self, data: bytes = DATA, phase: str = "final", **more: Any) -> httpx.Response:
        body = {"sha256": hashlib.sha256(data).hexdigest(), "num_bytes": len(data), **more}
        return self.client.request("POST", f"/team/pieces/{phase}", json=body, headers=self.headers)

    def send(self, code: str, offset: int, data: bytes) -> httpx.Response:
        more = {"Content-Type": "application/offset+octet-stream", "Upload-Offset": str(offset)}
        return self.client.request("PATCH", f"/team/pieces/{code}", content=data, headers={**self.headers, **more})


def test_pieces_become_a_submission_and_the_page_shows_its_digest(made: Made) -> None:
    site, _, browser = made
    first = browser.announce()
    code = first.json()["code"]
    assert first.status_code == 200 and first.json()["offset"] == 0
    assert browser.send(code, 0, DATA[:HALF]).json()["offset"] == HALF
    page = browser.client.get("/team").text
    assert "0.1 MiB of 0.2 MiB came" in page and DIGEST in page
    again = Browser(made[1], site.tokens["First"])
    assert again.announce().json() == {**again.announce().json(), "code": code, "offset": HALF}
    done = again.send(code, HALF, DATA[HALF:]).json()
    assert done["submission"]["place_in_queue"] == 1 and stored(site) == [DIGEST]
    told = browser.client.get(f"/team?sent={done['submission']['code']}").text
    assert "200,000 bytes" in told and DIGEST in told and "Unfinished" not in told
    assert browser.announce().json()["submission"]["code"] == done["submission"]["code"], "the same archive counts once"
    for hostile in ("no", "%00", "a" * 65, "%3Cscript%3E"):
        assert "Received" not in browser.client.get(f"/team?sent={hostile}").text


def test_a_program_and_a_browser_go_on_with_the_same_upload(made: Made) -> None:
    site, app, browser = made
    code = browser.announce().json()["code"]
    browser.send(code, 0, DATA[:HALF])
    token = {"Authorization": f"Bearer {site.tokens['First']}"}
    answer = Client(app).get(f"/api/v1/uploads/{code}", headers=token)
    assert answer.json()["offset"] == HALF


def test_nobody_acts_without_the_forms_token_or_by_a_token_for_programs(made: Made) -> None:
    site, app, browser = made
    code = browser.announce().json()["code"]
    foreign = Browser(app, site.tokens["Second"]).headers["X-Form-Token"]
    right = browser.headers["X-Form-Token"]
    other_form = browser.client.form_token("/team", "/team/giveup")
    for headers in (
        {},
        {"X-Form-Token": ""},
        {"X-Form-Token": foreign},
        {"X-Form-Token": other_form},
        {"X-Form-Token": right, "Sec-Fetch-Site": "cross-site"},
        {"X-Form-Token": right, "Sec-Fetch-Site": "same-site"},
    ):
        browser.headers = headers
        for answer in (browser.announce(b"x" * HALF), browser.send(code, 0, DATA)):
            assert answer.status_code == 403 and answer.json()["kind"] == "bad_form", headers
    browser.headers = {"X-Form-Token": right, "Authorization": f"Bearer {site.tokens['First']}"}
    browser.client.cookies.clear()
    for answer in (browser.announce(), browser.send(code, 0, DATA)):
        assert answer.status_code == 401 and "www-authenticate" not in answer.headers
    # And the API knows no sessions.
    member = Client(app).sign_in(site.tokens["First"])
    assert member.get(f"/api/v1/uploads/{code}").status_code == 401
    organiser = Client(app).sign_in(site.organiser)
    assert organiser.request("POST", "/team/pieces/final", json={}).status_code == 401
    assert stored(site) == []


def test_another_teams_upload_is_none(made: Made) -> None:
    site, app, browser = made
    code = browser.announce().json()["code"]
    other = Browser(app, site.tokens["Second"])
    unknown, theirs = other.send("no", 0, DATA), other.send(code, 0, DATA)
    assert unknown.status_code == theirs.status_code == 404 and unknown.json() == theirs.json()
    other.announce(b"2" * HALF)
    assert other.client.form("/team", "/team/giveup", code=code).status_code == 404
    assert browser.send(code, 0, DATA[:HALF]).status_code == 200
    assert DIGEST not in other.client.get("/team").text


def test_pieces_out_of_order_overlapping_small_and_too_many(made: Made) -> None:
    site, _, browser = made
    code = browser.announce().json()["code"]
    assert browser.send(code, HALF, DATA[HALF:]).json()["kind"] == "elsewhere"
    assert browser.send(code, 0, DATA[:HALF]).status_code == 200
    for offset in (0, HALF - 1, HALF + 1):
        answer = browser.send(code, offset, DATA[offset : offset + 70_000])
        assert answer.status_code == 409 and "goes on at byte 100000" in answer.json()["error"]
    assert browser.send(code, HALF, DATA[HALF:] + b"x").json()["kind"] == "too_large"
    assert browser.send(code, HALF, b"x").json()["kind"] == "small_piece"
    assert browser.send(code, HALF, bytes((16 << 20) + 1)).status_code == 413
    assert browser.announce().json()["offset"] == HALF
    assert browser.send(code, HALF, DATA[HALF:-1] + b"?").json()["kind"] == "bad_digest"
    assert stored(site) == []


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"{", 400),
        (b"[]", 400),
        (b'{"sha256": "zz", "num_bytes": 1}', 400),
        (b'{"sha256": "' + b"a" * 64 + b'", "num_bytes": 1e3}', 400),
        (b'{"sha256": "' + b"a" * 64 + b'", "num_bytes": 0}', 413),
        (b'{"sha256": "' + b"a" * 64 + b'", "num_bytes": 1048577}', 413),
        (b" " * 70_000, 413),
    ],
)
def test_hostile_announcements(made: Made, body: bytes, status: int) -> None:
    site, _, browser = made
    answer = browser.client.request("POST", "/team/pieces/final", content=body, headers=browser.headers)
    assert answer.status_code == status and set(answer.json()) >= {"error", "kind"} and stored(site) == []
    assert browser.announce(phase="no").status_code == 404 and browser.announce(phase="later").status_code == 409


def test_a_session_that_ends_in_the_middle(made: Made) -> None:
    site, app, browser = made
    code = browser.announce().json()["code"]
    browser.send(code, 0, DATA[:HALF])
    app.state.board.sessions.end(browser.client.cookies["facesr-session"])
    for answer in (browser.send(code, HALF, DATA[HALF:]), browser.announce()):
        assert answer.status_code == 401 and "sign in" in answer.json()["error"]
    later = Browser(app, site.tokens["First"])
    assert later.announce().json()["offset"] == HALF
    assert later.send(code, HALF, DATA[HALF:]).json()["submission"] is not None
    # A token that is revoked ends what its sessions have begun.
    later.announce(b"2" * 200_000)
    with site.database.write() as session:
        team = session.scalars(select(Team).where(Team.name == "First")).one()
        teams.revoke_tokens(site.database, session, teams.TEAM, team)
    assert later.announce(b"2" * 200_000).status_code == 401


def test_a_phase_that_ends_in_the_middle_takes_no_more(made: Made) -> None:
    site, _, browser = made
    code = browser.announce().json()["code"]
    browser.send(code, 0, DATA[:HALF])
    with site.database.write() as session:
        phases.close(site.database, session, "final", "over")
    for answer in (browser.send(code, HALF, DATA[HALF:]), browser.announce()):
        assert answer.status_code == 409 and "is closed" in answer.json()["error"]
    page = browser.client.get("/team").text
    assert "Unfinished" in page and FORM not in page, "what takes room can be given up, after the end, too"
    assert len(stored(site)) == 1
    with site.database.write() as session:
        now = site.database.now(session)
        phases.move(site.database, session, "final", ends=now + timedelta(days=1), reason="more time")
    assert browser.send(code, HALF, DATA[HALF:]).json()["submission"] is not None


def test_what_is_refused_at_the_end_is_refused_before_the_first_byte(made: Made) -> None:
    site, _, browser = made
    code = browser.announce().json()["code"]
    sent = browser.send(code, 0, DATA).json()["submission"]["code"]
    assert browser.client.form("/team", "/team/withdraw", code=sent).status_code == 303
    answer = browser.announce()
    assert answer.status_code == 409 and "was withdrawn" in answer.json()["error"]
    with site.database.read() as session:
        assert session.scalars(select(Upload)).all() == []


def test_an_unfinished_upload_is_given_up(made: Made) -> None:
    site, _, browser = made
    codes = [browser.announce(bytes([number]) * HALF).json()["code"] for number in range(2)]
    browser.send(codes[0], 0, bytes(70_000))
    assert browser.announce().json()["kind"] == "limit"
    assert browser.client.request("POST", "/team/giveup", data={"code": codes[0]}).status_code == 403
    assert browser.client.form("/team", "/team/giveup", code=codes[0]).status_code == 303
    assert stored(site) == [] and browser.announce().status_code == 200
    assert browser.client.form("/team", "/team/giveup", code=codes[0]).status_code == 404
    with site.database.write() as session:
        session.execute(update(Upload).values(expires=Upload.created))
    assert "Unfinished" not in browser.client.get("/team").text


def test_the_page_says_what_is_taken_before_anything_is_sent(tmp_path: Path) -> None:
    site = make_site(tmp_path / "board")
    team_id = site.team("First")
    settings = site.place.competition
    browser = Browser(create_app(site.place, site.database), site.tokens["First"])
    object.__setattr__(settings, "team_storage_mib", 1)
    assert 'data-max="1048576"' in browser.client.get("/team").text
    site.queued(team_id, 1)  # of 1,000 bytes
    assert f'data-max="{(1 << 20) - 1000}"' in browser.client.get("/team").text
    code = browser.announce(b"x" * 500_000).json()["code"]
    assert f'data-max="{(1 << 20) - 1000}"' in browser.client.get("/team").text, "its room is its own"
    with site.database.write() as session:
        session.execute(update(Submission).values(num_bytes=(1 << 20) - 500_000))
    assert browser.announce(b"x" * 500_000).json()["code"] == code
    browser.client.form("/team", "/team/giveup", code=code)
    with site.database.write() as session:
        session.execute(update(Submission).values(num_bytes=1 << 20))
    page = browser.client.get("/team").text
    assert "1.0 MiB, and 1 MiB are kept at most" in page and FORM not in page
    site.database.close()


def test_two_tabs_that_finish_at_once_make_one_submission(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both have all bytes counted, and the second one finds the pieces taken."""
    site, app, browser = made
    code = browser.announce().json()["code"]
    receive, board, viewer = entries.receive, app.state.board, Viewer("team", 1)

    def late(*_: Any, **__: Any) -> Any:
        raise pieces.OverLimit("a moment.")

    with monkeypatch.context() as slow:
        slow.setattr(entries, "receive", late)
        browser.send(code, 0, DATA)
    monkeypatch.setattr(entries, "receive", receive)
    with site.database.read() as session:
        upload = pieces.upload_of(site.database, session, code, viewer)
    found: list[pieces.Receipt] = []
    phase = board.phase("final")
    jobs = [
        threading.Thread(target=lambda: found.append(pieces.finish(board, viewer, phase, upload))) for _ in range(2)
    ]
    for job in jobs:
        job.start()
    for job in jobs:
        job.join()
    found.append(pieces.finish(board, viewer, phase, upload))
    assert len({one.code for one in found}) == 1 and len(found) == 3 and sum(one.is_new for one in found) == 1
    with site.database.read() as session:
        assert len(session.scalars(select(Submission)).all()) == 1
    assert stored(site) == [DIGEST]
