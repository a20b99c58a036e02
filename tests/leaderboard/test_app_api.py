"""The API and uploads: what programs read and send, and that a refused archive leaves nothing behind."""

import hashlib
import xml.etree.ElementTree as ET
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from sqlalchemy import text

from facesr.leaderboard import chain, entries, phases, teams
from facesr.leaderboard.app import create_app
from facesr.leaderboard.faults import OverLimit
from facesr.leaderboard.tables import Event
from facesr.web.database import Database
from tests.leaderboard.site import Client, Site, make_site

SEND = "/api/v1/phases/final/submissions"


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=[pytest.mark.postgres, pytest.mark.slow])])
def made(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Site, FastAPI]]:
    url = None
    if request.param == "postgresql":
        url = request.getfixturevalue("postgres")
        empty(url)
    site = make_site(tmp_path / "board", "limits: {waiting: 2, scored_per_day: 4}", url)
    site.team("First")
    yield site, create_app(site.place, site.database)
    site.database.close()


Made = tuple[Site, FastAPI]


def empty(url: str) -> None:
    database = Database(url)
    with database.write() as session:
        session.execute(text("DROP SCHEMA public CASCADE"))
        session.execute(text("CREATE SCHEMA public"))
    database.close()


def headers(site: Site, data: bytes | None = None, name: str = "First") -> dict[str, str]:
    found = {"Authorization": f"Bearer {site.tokens[name]}", "Content-Type": "application/zip"}
    return found if data is None else {**found, "X-Content-SHA256": hashlib.sha256(data).hexdigest()}


def stored(site: Site) -> list[str]:
    """Returns all files in the store."""
    return sorted(path.name for path in site.place.store().folder.rglob("*") if path.is_file())


def is_read(answer_to: Any) -> Any:
    async def body() -> AsyncIterator[bytes]:
        answer_to.append(1)
        yield b"x"

    return body()


def test_an_archive_is_taken_once_however_often_it_is_sent(made: Made) -> None:
    site, app = made
    client, data = Client(app), b"PK" + b"a" * 3000
    first = client.request("POST", SEND, content=data, headers=headers(site, data))
    assert first.status_code == 201 and first.headers["location"] == f"/api/v1/submissions/{first.json()['code']}"
    assert first.json()["place_in_queue"] == 1 and first.json()["state"] == "queued"
    for sent in (headers(site, data), headers(site)):
        again = client.request("POST", SEND, content=data, headers=sent)
        assert again.status_code == 200 and again.json()["code"] == first.json()["code"]
    assert stored(site) == [hashlib.sha256(data).hexdigest()]
    other = b"PK other"
    assert client.request("POST", SEND, content=other, headers=headers(site, other)).status_code == 201
    third = client.request("POST", SEND, content=b"PK third", headers=headers(site))
    assert third.status_code == 429 and third.json()["kind"] == "limit" and third.json()["retry_after"] == 30
    assert third.json()["error"].startswith("2 of your submissions wait already")
    known = client.request("POST", SEND, content=data, headers=headers(site, data))
    assert known.status_code == 200, "a client that lost the answer gets it, whatever the limits say by then"
    assert len(stored(site)) == 2


@pytest.mark.parametrize(
    ("change", "status", "kind"),
    [
        ({"Authorization": "Bearer " + "a" * 43}, 401, "not_allowed"),
        ({"Authorization": "Basic abc"}, 401, "not_allowed"),
        ({"Authorization": None}, 401, "not_allowed"),
        ({"Content-Type": "text/html"}, 415, "bad_type"),
        ({"Content-Length": str(50 << 30)}, 413, "too_large"),
        ({"X-Content-SHA256": "zz"}, 400, "bad_digest"),
    ],
)
def test_what_can_be_told_before_is_refused_unread(
    made: Made, change: dict[str, str | None], status: int, kind: str
) -> None:
    site, app = made
    sent = {key: value for key, value in {**headers(site), **change}.items() if value is not None}
    read: list[int] = []
    answer = Client(app).request("POST", SEND, content=is_read(read), headers=sent)
    assert answer.status_code == status and answer.json()["kind"] == kind and read == []
    assert stored(site) == [] and answer.headers["connection"] == "close"


def test_what_comes_is_counted_and_compared(made: Made) -> None:
    site, app = made
    client = Client(app)
    wrong = client.request("POST", SEND, content=b"PK1", headers=headers(site, b"PK2"))
    assert wrong.status_code == 400 and "another sha256" in wrong.json()["error"]

    async def endless() -> AsyncIterator[bytes]:
        for _ in range(100):
            yield b"x" * 100_000

    large = client.request("POST", SEND, content=endless(), headers=headers(site))
    assert large.status_code == 413 and large.json()["error"] == "at most 1 MiB are taken here."
    empty = client.request("POST", SEND, content=b"", headers=headers(site))
    assert empty.status_code == 400 and empty.json()["kind"] == "empty"
    assert stored(site) == []
    with site.database.read() as session:
        assert (
            entries.allowance(site.database, session, teams.team_named(session, "First"), site.phase).waiting_left == 2
        )


def test_a_phase_that_is_not_open_takes_nothing(made: Made) -> None:
    site, app = made
    client, read = Client(app), []
    answer = client.request("POST", SEND.replace("final", "later"), content=is_read(read), headers=headers(site))
    assert answer.status_code == 409 and "begins at" in answer.json()["error"]
    with site.database.write() as session:
        phases.close(site.database, session, "final", "")
    answer = client.request("POST", SEND, content=is_read(read), headers=headers(site))
    assert answer.status_code == 409 and answer.json() == {
        "error": "phase final is closed; nothing more is taken.",
        "kind": "not_now",
    }
    assert client.request("POST", "/api/v1/phases/no/submissions", headers=headers(site)).status_code == 404
    assert read == []


def test_a_submission_is_withdrawn_and_not_sent_again(made: Made) -> None:
    site, app = made
    site.team("Second")
    client, data = Client(app), b"PK1"
    code = client.request("POST", SEND, content=data, headers=headers(site, data)).json()["code"]
    address = f"/api/v1/submissions/{code}"
    assert client.get(address).status_code == 404
    assert client.get(address, headers=headers(site, name="Second")).status_code == 404
    assert client.request("DELETE", address, headers=headers(site, name="Second")).status_code == 404
    assert client.request("DELETE", address).status_code == 401
    assert client.request("DELETE", address, headers=headers(site)).json()["withdrawn"] is True
    assert client.request("DELETE", address, headers=headers(site)).status_code == 409
    again = client.request("POST", SEND, content=data, headers=headers(site, data))
    assert again.status_code == 409 and "withdrawn" in again.json()["error"]
    assert client.request("PUT", f"{address}/chosen", headers=headers(site)).status_code == 409
    assert client.request("PUT", f"{address}/chosen", content=b"{", headers=headers(site)).status_code == 400


def test_a_browser_sends_a_form_and_a_script_in_the_name_does_no_harm(made: Made) -> None:
    site, app = made
    member = Client(app).sign_in(site.tokens["First"])
    token = member.form_token("/team", "/team/upload/final")
    name = '"><script>alert(1)</script>\u202egpj.\x00/../../etc/passwd'

    def send(data: bytes, token: str = token, phase: str = "final", field: str = "archive") -> Any:
        more = {"data": {"form_token": token}, "files": {field: (name, data, "image/png")}}
        return member.request("POST", f"/team/upload/{phase}", **more)

    answer = send(b"PK1" * 1000)
    digest = hashlib.sha256(b"PK1" * 1000).hexdigest()
    assert answer.status_code == 303 and answer.headers["location"].startswith("/team?sent=")
    told = member.get(answer.headers["location"]).text
    assert "Received" in told and "3,000 bytes" in told and digest in told
    site.team("Second")
    other = Client(app).sign_in(site.tokens["Second"]).get(answer.headers["location"]).text
    assert "Received" not in other and digest not in other
    assert stored(site) == [digest]
    assert "alert(1)" not in member.get("/team").text and "place 1 in the queue" in member.get("/team").text
    found = [send(b"PK2", token="0" * 64), send(b"PK3", phase="later"), send(b""), send(b"x" * (1 << 20 | 1))]
    found += [send(b"PK4", field="other"), member.request("POST", "/team/upload/final", content=b"PK")]
    assert [answer.status_code for answer in found] == [403, 409, 400, 413, 400, 415]
    assert all('id="problem"' in answer.text for answer in found)
    cut = member.request(
        "POST",
        "/team/upload/final",
        headers={"Content-Type": "multipart/form-data; boundary=b"},
        content=f'--b\r\nContent-Disposition: form-data; name="form_token"\r\n\r\n{token}\r\n--b\r\n'
        'Content-Disposition: form-data; name="archive"; filename="a"\r\n\r\nPK5',
    )
    assert cut.status_code == 400 and "did not come in full" in cut.text
    assert len(stored(site)) == 1
    assert Client(app).request("POST", "/team/upload/final", content=b"x").status_code == 401


def test_no_more_than_two_archives_of_a_team_come_at_once(made: Made) -> None:
    site, app = made
    slots = app.state.board.slots
    with slots.taken(1), slots.taken(1):
        answer = Client(app).request("POST", SEND, content=b"PK", headers=headers(site))
    assert answer.status_code == 429 and answer.json()["kind"] == "rate"
    assert Client(app).request("POST", SEND, content=b"PK", headers=headers(site)).status_code == 201


def test_everything_else_is_read(made: Made) -> None:
    site, app = made
    code = site.scored(1, 1, 0.6, model="m", loss_judges=["other"])
    client = Client(app)
    about = client.get("/api/v1/competition").json()
    assert about["phases"][0]["state"] == "open" and about["max_archive_bytes"] == 1 << 20
    assert [phase["name"] for phase in client.get("/api/v1/phases").json()] == ["final", "later"]
    table = client.get("/api/v1/phases/final/standing").json()
    assert table["entries"][0]["place"] == "1" and table["entries"][0]["white_box"] is False
    assert table["views"] == ["public"] and table["num_faces"] == site.public().sum()
    scores = client.get(f"/api/v1/submissions/{code}").json()["scores"]
    assert set(scores) == {"public"} and scores["public"]["is/builtin"]["low"] <= scores["public"]["is/builtin"]["mean"]
    left = client.get("/api/v1/phases/final/allowance", headers=headers(site)).json()
    assert left["scored_left"] == 3 and left["is_left"] is True and left["resets"].endswith("Z")
    lines = client.get("/api/v1/log?after=0").json()["lines"]
    assert chain.first_fault([Event(**line) for line in lines]) is None
    assert client.get(f"/api/v1/log?after={len(lines)}").json() == {"lines": [], "more": False}
    body = {"code": site.tokens["invitation"], "team": "By program", "members": ["A"]}
    made_team = client.request("POST", "/api/v1/teams", json=body)
    assert made_team.status_code == 201 and len(made_team.json()["token"]) == 43
    for wrong in ([], {"code": 1, "team": 2}, {"code": "a", "team": "b", "members": "c"}, None):
        assert client.request("POST", "/api/v1/teams", json=wrong).status_code == 400
    assert client.get("/healthz").json() == {"status": "ok"}
    figures = client.get("/metrics").text
    assert 'facesr_submissions{state="scored"} 1' in figures and "facesr_queue_length 0" in figures
    assert 'route="/api/v1/phases/{name}/standing",method="GET",status="200"} 1' in figures
    entry = ET.fromstring(client.get("/feed.atom").content).find("{http://www.w3.org/2005/Atom}entry")
    assert entry is not None and entry[3].attrib["href"] == f"/submissions/{code}"
    badge = client.get("/badge/final.svg")
    assert (
        ET.fromstring(badge.content).tag.endswith("svg")
        and badge.headers["cross-origin-resource-policy"] == "cross-origin"
    )
    operations = client.get("/api/v1/openapi.json").json()["paths"]
    assert set(operations[SEND.replace("final", "{name}")]["post"]["responses"]) >= {
        "200",
        "201",
        "401",
        "409",
        "413",
        "429",
    }
    assert all(path in client.get("/api").text for path in operations)


def test_refusals_are_json_for_programs_and_pages_for_people(made: Made) -> None:
    client = Client(made[1])
    for path in ("/api/v1/nothing", "/api/v1/phases/no/standing", "/api/v1/submissions/%3Cb%3E"):
        assert client.get(path).json()["kind"] == "not_found"
    for method in ("DELETE", "TRACE"):
        answer = client.request(method, "/api/v1/phases")
        assert answer.status_code == 405 and "GET" in answer.headers["allow"]
    assert client.get("/api/v1/log?after=-1").json() == {
        "error": "after has a value that is not taken here.",
        "kind": "bad_request",
    }
    assert "<h1>Not found</h1>" in client.get("/nothing").text
    for answer in (client.get("/api/v1/nothing"), client.get("/nothing"), client.request("BREW", "/")):
        assert answer.headers["content-security-policy"].startswith("default-src 'none'")


def test_a_database_that_is_away_is_told_in_one_sentence(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    from sqlalchemy.exc import OperationalError

    client = Client(made[1])

    def away(*_: Any) -> Any:
        raise OperationalError("SELECT secret", {}, Exception("no connection"))

    monkeypatch.setattr(chain, "head", away)
    assert client.get("/healthz").status_code == 503
    answer = client.get("/api/v1/competition")
    assert answer.status_code == 503 and "secret" not in answer.text and answer.json()["retry_after"] == 60


def test_an_archive_that_is_refused_at_last_leaves_nothing(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    site, app = made

    def late(*_: Any, **__: Any) -> Any:
        raise OverLimit("another one was quicker.")

    monkeypatch.setattr(entries, "receive", late)
    answer = Client(app).request("POST", SEND, content=b"PK1", headers=headers(site))
    assert answer.status_code == 429 and answer.json()["error"] == "another one was quicker." and stored(site) == []
