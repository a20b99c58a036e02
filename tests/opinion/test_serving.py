"""A study is served by a process that is killed in the middle, and kept in PostgreSQL instead of SQLite."""

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from sqlalchemy import text

from facesr.opinion import raters
from facesr.opinion.opening import open_database
from facesr.opinion.records import read_records
from facesr.web.database import Database
from tests.leaderboard.conftest import postgres
from tests.opinion.made import Hall, a_study, answer, fields_of

__all__ = ["postgres"]  # a fixture
ROOT = Path(__file__).resolve().parents[2]


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@contextlib.contextmanager
def serving(folder: Path, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """Yields the process of a server that answers; it is killed at the end."""
    command = [sys.executable, "-m", "facesr", "opinion", "serve", str(folder), "--port", str(port)]
    quiet = subprocess.DEVNULL
    with subprocess.Popen(command, cwd=ROOT, stdout=quiet, stderr=quiet) as process:
        try:
            until = time.monotonic() + 60
            while True:
                with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                    break
                assert process.poll() is None and time.monotonic() < until
                time.sleep(0.05)
            yield process
        finally:
            process.kill()
            process.wait(60)


def joined(client: httpx.Client, link: str) -> None:
    client.get(link, follow_redirects=True)
    token = re.search(r'name="form_token" value="(\w+)"', client.get("/").text)
    assert token is not None
    client.post("/consent", data={"form_token": token[1], "language": "en"})


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="no kill -9 there")
def test_a_server_that_is_killed_loses_no_answer(tmp_path: Path) -> None:
    study = a_study(tmp_path, "raters=3")
    database = open_database(study)
    with database.write() as session:
        links = [f"/r/{raters.invite(database, session)}" for _ in range(3)]
    database.close()
    port = free_port()
    stored = [0] * len(links)

    def work(number: int, client: httpx.Client) -> None:
        """Answers until the server is gone; what it has said to have stored is counted."""
        with contextlib.suppress(httpx.HTTPError):
            while True:
                page = client.get("/question")
                if page.status_code == 303:
                    client.get("/")
                    return
                place = int(fields_of(page.text)["place"])
                # What was stored without the answer having come is more than was promised.
                assert stored[number] <= place <= stored[number] + 1
                sent = client.post("/question", data={**fields_of(page.text), "answer": str(number + 1)})
                assert sent.status_code == 303
                stored[number] = place + 1

    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30)) for _ in links]
        for attempt in range(2):
            with serving(study.folder, port) as process:
                if attempt == 0:
                    for client, link in zip(clients, links, strict=True):
                        joined(client, link)
                threads = [threading.Thread(target=work, args=pair) for pair in enumerate(clients)]
                for thread in threads:
                    thread.start()
                until = time.monotonic() + 30
                while min(stored) < 4 * (attempt + 1) and time.monotonic() < until:
                    time.sleep(0.01)
                process.send_signal(signal.SIGKILL)
                for thread in threads:
                    thread.join(60)
    found = read_records(study.folder).ratings
    for number, count in enumerate(stored):
        own = [rating for rating in found if rating.rater == f"r{number + 1:04d}"]
        assert count >= 8 and len(own) in (count, count + 1)
        assert [rating.place for rating in own] == list(range(len(own)))
        assert {rating.answer for rating in own} == {number + 1}


@pytest.mark.slow
@pytest.mark.postgres
def test_a_study_on_postgresql(tmp_path: Path, postgres: str) -> None:
    with contextlib.closing(Database(postgres)) as database, database.write() as session:
        session.execute(text("DROP SCHEMA public CASCADE"))
        session.execute(text("CREATE SCHEMA public"))
    hall = Hall(a_study(tmp_path, f"database='{postgres}'"))
    one, other = hall.joined(), hall.joined()
    for _ in range(3):
        assert answer(one, 4).status_code == answer(other, 2).status_code == 303
    assert one.form("/withdraw", "/withdraw").status_code == 303
    hall.database.close()
    records = read_records(hall.study.folder)
    assert [rating.answer for rating in records.ratings] == [2, 2, 2]
    assert [rater.withdrawn for rater in records.raters] == [True, False]
