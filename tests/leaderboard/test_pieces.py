"""Uploads in pieces: what came counts once, what breaks off goes on, and nobody gets more room than is his."""

import asyncio
import hashlib
import http.client
import time
from collections import namedtuple
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from fastapi import FastAPI
from sqlalchemy import select, update
from starlette.requests import ClientDisconnect

from facesr.leaderboard import entries, phases, pieces, uploads
from facesr.leaderboard.access import Viewer
from facesr.leaderboard.app import create_app
from facesr.leaderboard.faults import Elsewhere, OverLimit
from facesr.leaderboard.tables import Submission, Team, Upload
from facesr.web.store import Incoming, Stored
from tests.leaderboard.site import Client, Site, make_site
from tests.leaderboard.test_app_api import empty, stored
from tests.web.serving import served

ZIP = {"Content-Type": "application/zip"}
UPLOADS = "/api/v1/phases/final/uploads"
DATA = np.random.default_rng(0).bytes(200_000)
HALF = 100_000


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=[pytest.mark.postgres, pytest.mark.slow])])
def made(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Site, FastAPI, "Sender"]]:
    url = None
    if request.param == "postgresql":
        url = request.getfixturevalue("postgres")
        empty(url)
    site = make_site(tmp_path / "board", "limits: {waiting: 2, scored_per_day: 4}", url)
    site.team("First")
    site.team("Second")
    app = create_app(site.place, site.database)
    yield site, app, Sender(Client(app), site.tokens["First"])
    site.database.close()


Made = tuple[Site, FastAPI, "Sender"]


class Sender:
    """A program of a team's."""

    def __init__(self, client: Client, token: str) -> None:
        self._client = client
        self._token = {"Authorization": f"Bearer {token}"}

    def announce(self, data: bytes = DATA, **more: Any) -> httpx.Response:
        """Announces an archive."""
        body = {"sha256": hashlib.sha256(data).hexdigest(), "num_bytes": len(data), **more}
        return self._client.request("POST", UPLOADS, json=body, headers=self._token)

    def send(self, code: str, offset: int | str | bytes, data: Any) -> httpx.Response:
        """Sends a piece."""
        headers = {
            **self._token,
            "Content-Type": "application/offset+octet-stream",
            "Upload-Offset": offset if isinstance(offset, bytes) else str(offset),
        }
        return self._client.request("PATCH", f"/api/v1/uploads/{code}", content=data, headers=headers)

    def ask(self, code: str, method: str = "HEAD") -> httpx.Response:
        """Asks how far an upload is."""
        return self._client.request(method, f"/api/v1/uploads/{code}", headers=self._token)


def test_pieces_become_a_submission_and_leave_nothing_else(made: Made) -> None:
    site, _, sender = made
    first = sender.announce()
    code = first.json()["code"]
    assert first.status_code == 201 and first.headers["location"] == f"/api/v1/uploads/{code}"
    assert sender.ask(code).headers["upload-offset"] == "0" and sender.ask(code).content == b""
    sent = sender.send(code, 0, DATA[:HALF])
    assert sent.status_code == 200 and sent.headers["upload-offset"] == str(HALF) and sent.json()["submission"] is None
    again = sender.announce()
    assert again.status_code == 200 and (again.json()["code"], again.json()["offset"]) == (code, HALF)
    assert sender.ask(code, "GET").json()["offset"] == HALF
    done = sender.send(code, HALF, DATA[HALF:])
    assert done.status_code == 200 and done.json()["submission"]["place_in_queue"] == 1
    assert stored(site) == [hashlib.sha256(DATA).hexdigest()]
    assert site.place.store().path(stored(site)[0]).read_bytes() == DATA
    assert sender.ask(code).status_code == 404 and sender.send(code, len(DATA), b"").status_code == 404
    known = sender.announce()
    assert known.status_code == 200 and known.json()["submission"]["code"] == done.json()["submission"]["code"]
    assert site.row(done.json()["submission"]["code"]).num_bytes == len(DATA)
    assert not list(site.place.store().incoming_folder.iterdir())


def test_wrong_offsets_and_too_many_bytes_change_nothing(made: Made) -> None:
    site, _, sender = made
    code = sender.announce().json()["code"]
    assert sender.send(code, 0, DATA[:HALF]).status_code == 200
    for offset in (0, 1, HALF - 1, HALF + 1, 10**15):
        answer = sender.send(code, offset, DATA[:HALF])
        assert answer.status_code == 409 and answer.json()["kind"] == "elsewhere", offset
        assert "goes on at byte 100000" in answer.json()["error"]
    for offset in ("-1", "", "1e5", "\u00b2".encode("latin-1"), "9" * 40):
        assert sender.send(code, offset, b"x").status_code == 400, offset
    more = sender.send(code, HALF, DATA[HALF:] + b"x")
    assert more.status_code == 413 and "100000 bytes of this archive are missing" in more.json()["error"]
    small = sender.send(code, HALF, b"x" * 1000)
    assert small.status_code == 400 and small.json()["kind"] == "small_piece"
    assert sender.send(code, HALF, b"").status_code == 400
    assert sender.ask(code).headers["upload-offset"] == str(HALF)
    assert len(stored(site)) == 1 and stored(site)[0].endswith(".part")
    assert sender.send(code, HALF, DATA[HALF:]).json()["submission"] is not None


def test_what_is_another_than_announced_is_thrown_away(made: Made) -> None:
    site, _, sender = made
    code = sender.announce().json()["code"]
    answer = sender.send(code, 0, DATA[:-1] + bytes([DATA[-1] ^ 1]))
    assert answer.status_code == 400 and answer.json()["kind"] == "bad_digest"
    assert stored(site) == [] and sender.ask(code).status_code == 404
    assert sender.announce().status_code == 201


@pytest.mark.parametrize(
    ("more", "status"),
    [
        ({"num_bytes": 0}, 413),
        ({"num_bytes": (1 << 20) + 1}, 413),
        ({"num_bytes": 50 << 30}, 413),
        ({"num_bytes": -1}, 400),
        ({"num_bytes": True}, 400),
        ({"num_bytes": 1.5}, 400),
        ({"num_bytes": 10**30}, 400),
        ({"sha256": "zz"}, 400),
        ({"sha256": "../../../etc/passwd"}, 400),
    ],
)
def test_hostile_announcements(made: Made, more: dict[str, Any], status: int) -> None:
    site, _, sender = made
    assert sender.announce(**more).status_code == status and stored(site) == []


def test_another_teams_upload_is_none(made: Made) -> None:
    site, app, sender = made
    code = sender.announce().json()["code"]
    other = Sender(Client(app), site.tokens["Second"])
    assert other.ask(code).status_code == other.send(code, 0, DATA).status_code == other.ask(code, "DELETE").status_code
    assert other.ask(code).status_code == 404 and Client(app).get(f"/api/v1/uploads/{code}").status_code == 401
    theirs = other.announce()
    assert theirs.status_code == 201 and theirs.json()["code"] != code, "nobody learns what another team sends"
    assert sender.ask(code, "DELETE").status_code == 204 and sender.ask(code).status_code == 404


def test_unfinished_uploads_are_few_and_expire(made: Made) -> None:
    site, _, sender = made
    codes = [sender.announce(bytes([number]) * HALF).json()["code"] for number in range(2)]
    assert sender.send(codes[0], 0, bytes(70_000)).status_code == 200
    third = sender.announce(b"3" * HALF)
    assert third.status_code == 429 and third.json()["kind"] == "limit" and "unfinished" in third.json()["error"]
    with site.database.write() as session:
        session.execute(update(Upload).where(Upload.code == codes[0]).values(expires=Upload.created))
    assert sender.ask(codes[0]).status_code == sender.send(codes[0], 70_000, bytes(30_000)).status_code == 404
    assert len(stored(site)) == 1
    assert sender.announce(b"3" * HALF).status_code == 201
    assert stored(site) == [] and sender.ask(codes[1]).status_code == 200
    assert sender.announce(b"\1" * HALF, num_bytes=HALF + 1).status_code == 409


def test_a_piece_moves_the_end(made: Made) -> None:
    site, _, sender = made
    code = sender.announce().json()["code"]
    with site.database.write() as session:
        soon = site.database.now(session) + timedelta(minutes=1)
        session.execute(update(Upload).values(expires=soon))
    sender.send(code, 0, DATA[:HALF])
    with site.database.read() as session:
        assert session.scalars(select(Upload.expires)).one() > soon + timedelta(hours=20)


def test_of_two_who_send_the_same_piece_at_once_one_counts(made: Made) -> None:
    """The second one has begun before the first one ends, and still changes nothing."""
    site, app, sender = made
    code = sender.announce().json()["code"]
    board, viewer = app.state.board, Viewer("team", 1)

    async def both() -> list[Any]:
        first_is_in, second_is_in = asyncio.Event(), asyncio.Event()

        async def first() -> AsyncIterator[bytes]:
            yield DATA[:70_000]
            first_is_in.set()
            await second_is_in.wait()
            yield DATA[70_000:HALF]

        async def second() -> AsyncIterator[bytes]:
            await first_is_in.wait()
            yield b"x" * 90_000
            second_is_in.set()
            await asyncio.sleep(0.2)

        jobs = [pieces.append(board, viewer, code, 0, body()) for body in (first, second)]
        return await asyncio.gather(*jobs, return_exceptions=True)

    good, bad = asyncio.run(both())
    assert good.num_received == HALF and isinstance(bad, Elsewhere)
    assert len(stored(site)) == 1
    assert sender.send(code, HALF, DATA[HALF:]).json()["submission"] is not None
    assert site.place.store().is_intact(hashlib.sha256(DATA).hexdigest())


def test_a_request_that_breaks_off_is_kept_as_far_as_it_came(made: Made) -> None:
    _, app, sender = made
    code = sender.announce().json()["code"]
    board, viewer = app.state.board, Viewer("team", 1)

    async def cut(num_bytes: int) -> AsyncIterator[bytes]:
        yield DATA[:num_bytes]
        raise ClientDisconnect

    asyncio.run(pieces.append(board, viewer, code, 0, cut(1000)))
    assert sender.ask(code).headers["upload-offset"] == "0", "too little to be worth a file"
    asyncio.run(pieces.append(board, viewer, code, 0, cut(70_000)))
    assert sender.ask(code).headers["upload-offset"] == "70000"
    assert sender.send(code, 70_000, DATA[70_000:]).json()["submission"] is not None


def test_a_piece_that_was_written_and_not_counted_is_sent_again(made: Made) -> None:
    """The process is killed between the file and its row."""
    site, _, sender = made
    code = sender.announce().json()["code"]
    folder = site.place.store().incoming_folder / f"pieces-{code}"
    folder.mkdir()
    (folder / f"{0:012d}.part").write_bytes(b"torn")
    (folder / f"{HALF:012d}.part").write_bytes(b"torn as well")
    assert sender.send(code, 0, DATA[:HALF]).status_code == 200
    assert sender.send(code, HALF, DATA[HALF:]).json()["submission"] is not None
    assert stored(site) == [hashlib.sha256(DATA).hexdigest()]


def test_a_full_disk_and_a_limit_meanwhile(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    site, _, sender = made
    code = sender.announce().json()["code"]
    usage = namedtuple("usage", "total used free")
    with monkeypatch.context() as full:
        full.setattr(uploads.shutil, "disk_usage", lambda _: usage(1 << 40, 1 << 40, 1 << 20))
        assert sender.send(code, 0, DATA[:HALF]).json()["kind"] == "no_room"
        assert sender.announce(b"2" * HALF).json()["kind"] == "no_room"
    # What was announced before takes its room, although nothing of it has come.
    free = (257 << 20) + 2 * HALF
    with monkeypatch.context() as nearly:
        nearly.setattr(uploads.shutil, "disk_usage", lambda _: usage(1 << 40, 0, free))
        assert sender.announce(b"2" * HALF).status_code == 201
    receive = entries.receive

    def late(*_: Any, **__: Any) -> Any:
        raise OverLimit("another one was quicker.")

    monkeypatch.setattr(entries, "receive", late)
    answer = sender.send(code, 0, DATA)
    assert answer.status_code == 429 and sender.ask(code).headers["upload-offset"] == str(len(DATA))
    monkeypatch.setattr(entries, "receive", receive)
    assert sender.send(code, len(DATA), b"").json()["submission"]["state"] == "queued"
    with site.database.read() as session:
        assert len(session.scalars(select(Submission)).all()) == 1


def end_phase(site: Site) -> None:
    """The phase ends now."""
    with site.database.write() as session:
        phases.times_of(session, "final").ends = site.database.now(session)


@pytest.mark.parametrize("is_whole", [True, False])
def test_what_came_in_time_is_taken_though_the_disk_is_slow(
    made: Made, monkeypatch: pytest.MonkeyPatch, is_whole: bool
) -> None:
    site, _, sender = made
    settle = Incoming.settle

    def slow(part: Incoming) -> None:
        monkeypatch.setattr(Incoming, "settle", settle)
        end_phase(site)
        settle(part)

    monkeypatch.setattr(Incoming, "settle", slow)
    if is_whole:
        sent = sender._client.request(
            "POST", "/api/v1/phases/final/submissions", content=DATA, headers={**sender._token, **ZIP}
        )
        assert sent.status_code == 201
    else:
        assert sender.send(sender.announce().json()["code"], 0, DATA).json()["submission"] is not None
    with site.database.read() as session:
        row = session.scalars(select(Submission)).one()
        assert row.received < phases.times_of(session, "final").ends


def test_what_was_complete_in_time_is_finished_after_the_end(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    """The process is killed between the last piece and the submission; the team comes back when the phase is over."""
    site, _, sender = made
    code, part = sender.announce().json()["code"], sender.announce(DATA[:HALF]).json()["code"]
    with monkeypatch.context() as killed:
        killed.setattr(pieces, "take", lambda *_: (_ for _ in ()).throw(OverLimit("killed.")))
        assert sender.send(code, 0, DATA).status_code == 429
    end_phase(site)
    assert sender.send(part, 0, DATA[:HALF]).status_code == 409
    assert sender.announce(DATA[:HALF]).status_code == 409
    assert sender.announce().json()["offset"] == len(DATA)
    assert sender.send(code, len(DATA), b"").json()["submission"]["state"] == "queued"


def test_a_last_byte_that_came_late_is_refused_before_anything_is_copied(
    made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    site, _, sender = made
    code = sender.announce().json()["code"]
    moment = uploads.moment

    def late(board: Any) -> Any:
        end_phase(site)
        return moment(board)

    monkeypatch.setattr(pieces, "moment", late)
    monkeypatch.setattr(Incoming, "write", lambda *_: pytest.fail("it was copied"))
    assert sender.send(code, 0, DATA).json()["kind"] == "not_now"
    assert sender.send(code, len(DATA), b"").json()["kind"] == "not_now"


def test_a_limit_of_the_day_on_which_the_last_byte_came(made: Made) -> None:
    """It counts for that day; where nothing is left of that day, for the one on which it is finished."""
    site, _, sender = made
    with site.database.write() as session:
        yesterday = site.database.now(session) - timedelta(days=1)
        phases.times_of(session, "final").starts = yesterday - timedelta(days=1)
        team = session.scalars(select(Team).where(Team.name == "First")).one()
        phase = site.place.competition.phases[0]
        for number in range(4):
            row = entries.receive(site.database, session, team, phase, Stored(f"{number:064d}", 1), received=yesterday)
            row.state = entries.SCORED
        assert entries.allowance(site.database, session, team, phase).scored_left == 4
        assert entries.allowance(site.database, session, team, phase, yesterday).scored_left == 0
        with pytest.raises(OverLimit, match="4 scored submissions a day"):
            entries.receive(site.database, session, team, phase, Stored("5" * 64, 1), received=yesterday)
    assert sender.announce().status_code == 201


def test_a_phase_that_is_not_open_announces_nothing(made: Made) -> None:
    site, _, sender = made
    body = {"sha256": "a" * 64, "num_bytes": 5}
    client = sender._client
    for name, status in (("later", 409), ("no", 404)):
        answer = client.request("POST", UPLOADS.replace("final", name), json=body, headers=sender._token)
        assert answer.status_code == status
    assert client.request("POST", UPLOADS, json=body).status_code == 401
    assert sender.send("no", 0, b"x").status_code == 404
    wrong = {**sender._token, "Upload-Offset": "0", "Content-Type": "application/zip"}
    assert client.request("PATCH", "/api/v1/uploads/a", content=b"x", headers=wrong).status_code == 415
    large = {**wrong, "Content-Length": str(pieces.MAX_PIECE_BYTES + 1)}
    assert client.request("PATCH", "/api/v1/uploads/a", content=b"x", headers=large).status_code == 413
    assert stored(site) == []


def test_a_line_that_is_cut_in_the_middle_of_a_piece(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`submit.py board=` and a served board: a real connection ends after two thirds of a piece."""
    from facesr.submission import exchange as exchanging
    from facesr.submission import send as sending

    site = make_site(tmp_path / "board")
    site.team("First")
    data = np.random.default_rng(1).bytes(500_000)
    path = tmp_path / "a.zip"
    path.write_bytes(data)
    digest = hashlib.sha256(data).hexdigest()
    offsets: list[int] = []

    def cut(method: str, address: str, token: str, body: Any, num_bytes: int, headers: Any) -> Any:
        if method == "PATCH":
            offsets.append(int(headers["Upload-Offset"]))
            if len(offsets) == 2:
                host, port = address.split("/")[2].split(":")
                connection = http.client.HTTPConnection(host, int(port))
                connection.putrequest("PATCH", address.partition(f":{port}")[2])
                for key, value in {**headers, "Authorization": f"Bearer {token}", "Content-Length": num_bytes}.items():
                    connection.putheader(key, str(value))
                connection.endheaders(body[: num_bytes * 2 // 3])
                time.sleep(0.3)
                connection.close()
                raise ConnectionResetError("cut")
        return exchanging.exchange(method, address, token, body, num_bytes, headers)

    def pause(_: float) -> None:
        until = time.monotonic() + 20
        while time.monotonic() < until:
            with site.database.read() as session:
                if session.scalars(select(Upload.num_received)).one() > 200_000:
                    return
            time.sleep(0.05)

    monkeypatch.setattr(sending, "PIECE_BYTES", 200_000)
    monkeypatch.setattr(sending, "exchange", cut)
    with served(create_app(site.place, site.database)) as url:
        found = sending.send(path, digest, url, site.tokens["First"], "final", pause=pause)
        again = sending.send(path, digest, url, site.tokens["First"], "final")
    assert offsets == [0, 200_000, 333_333] and found.state == "queued" and not found.known
    assert again.known and again.code == found.code and site.place.store().is_intact(digest)
    site.database.close()
