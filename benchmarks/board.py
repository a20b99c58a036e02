"""Load on a board: many readers of the table beside teams that upload archives.

    uv run --extra board benchmarks/board.py [--readers 200] [--uploads 20] [--seconds 20] [--rate 1] [--pace 20]

It makes a board with 500 made-up submissions of 300 faces in a temporary folder, serves it by ``facesr board serve``
without workers, and prints the latency of the pages, of the uploads, and the server's memory. Client and server share
the machine. A reader loads the front page, the board and a submission's page in turn, every few seconds. A poster sends
a form without its token four times a second, which is refused behind the limits: the price of a limit on changes.
"""

import argparse
import asyncio
import hashlib
import random
import socket
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np

from facesr.leaderboard import entries, phases, queue, teams
from facesr.leaderboard.competition import KEY, SETTINGS, Place
from facesr.leaderboard.schema import upgrade
from facesr.leaderboard.tables import Round
from facesr.web.database import Database
from facesr.web.store import Stored

_SETTINGS = """
title: Load
max_archive_mib: 16
uploads_mib_per_second: {pace}
phases:
  - name: final
    title: ID similarity
    protocol: asc19_final
    starts: {starts}
    ends: {ends}
    references: references/final
    limits: {{scored_per_day: 1000, refused_per_day: 1000, scored_in_all: 1000, waiting: 1000}}
"""
_METRICS = ("is/builtin", "is/edgeface", "psnr_rgb", "consistency")
_ARCHIVE_BYTES = 8 << 20
_PIECE_BYTES = 1 << 16


def make(folder: Path, num_submissions: int, num_faces: int, pace: int) -> tuple[list[str], list[str]]:
    """Returns the codes of scored submissions and the tokens of their teams, five submissions each."""
    now = datetime.now(UTC)
    spans = {key: f"{now + timedelta(days=days):%Y-%m-%dT%H:%M:%SZ}" for key, days in (("starts", -1), ("ends", 9))}
    (folder / SETTINGS).write_text(_SETTINGS.format(pace=pace, **spans), encoding="utf-8")
    (folder / KEY).write_text("5a" * 32, encoding="ascii")
    for kind in ("low", "high"):
        (folder / "references" / "final" / kind).mkdir(parents=True)
    place = Place(folder)
    database = Database(place.url)
    upgrade(database)
    codes, tokens = [], []
    rng = np.random.default_rng(0)
    phase = place.competition.phases[0]
    with database.write() as session:
        phases.sync(database, session, place.competition)
        this = Round(
            phase=phase.name,
            basis={},
            basis_sha256="0" * 64,
            ids=[f"{number:04d}" for number in range(num_faces)],
            columns={name: {"unit": "", "higher_is_better": True} for name in _METRICS},
            ranking_metric=_METRICS[0],
            higher_is_better=True,
        )
        queue.begin_round(database, session, this, "worker made")
        for number in range(num_submissions):
            if number % 5 == 0:
                team = teams.new_team(database, session, f"Team {number // 5}")
                tokens.append(teams.issue_token(database, session, teams.TEAM, team))
            stored = Stored(hashlib.sha256(str(number).encode()).hexdigest(), 1000)
            codes.append(entries.receive(database, session, team, phase, stored, is_baseline=True).code)
            job = queue.claim(database, session, "made", [phase.name])
            assert job is not None
            skill = 0.4 + 0.3 * rng.random()
            columns = {name: skill + 0.1 * rng.standard_normal(num_faces) for name in _METRICS}
            outcome = queue.Outcome(columns, {"team": team.name, "model": "m"}, f"{number:064x}")
            queue.finish_scored(database, session, job, this.id, outcome)
    database.close()
    return codes, tokens


async def ask(port: int, address: str, source: str, method: str = "GET") -> tuple[int, int, float]:
    """Returns status, bytes and seconds of a request without a body on a connection of its own."""
    start = time.perf_counter()
    reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(source, 0))
    length = "" if method == "GET" else "Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 0\r\n"
    writer.write(f"{method} {address} HTTP/1.1\r\nHost: board\r\nConnection: close\r\n{length}\r\n".encode())
    body = await reader.read(-1)
    writer.close()
    return int(body[9:12] or b"0"), len(body), time.perf_counter() - start


async def send(port: int, token: str, number: int, source: str, rate: float) -> tuple[int, float]:
    """Returns status and seconds of an upload at a rate in MiB/s."""
    start = time.perf_counter()
    reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(source, 0))
    writer.write(
        f"POST /api/v1/phases/final/submissions HTTP/1.1\r\nHost: board\r\nConnection: close\r\n"
        f"Content-Type: application/zip\r\nAuthorization: Bearer {token}\r\n"
        f"Content-Length: {_ARCHIVE_BYTES}\r\n\r\n".encode()
    )
    piece = number.to_bytes(8, "big") * (_PIECE_BYTES // 8)
    for count in range(_ARCHIVE_BYTES // _PIECE_BYTES):
        writer.write(piece)
        await writer.drain()
        await asyncio.sleep(max(0.0, start + count * _PIECE_BYTES / (rate * 2**20) - time.perf_counter()))
    answer = await reader.read(-1)
    writer.close()
    return int(answer[9:12] or b"0"), time.perf_counter() - start


async def load(options: argparse.Namespace, port: int, codes: list[str], tokens: list[str]) -> None:
    """Reads and sends for a while, and prints what it took."""
    until = time.monotonic() + options.seconds
    pages = ("/phases/final", "/", f"/submissions/{codes[7]}")
    found: dict[str, list[float]] = {page: [] for page in pages}
    statuses: dict[int, int] = {}
    sent: list[float] = []
    posted: list[float] = []

    async def read(number: int) -> None:
        rng = random.Random(number)
        await asyncio.sleep(rng.random() * options.pause)
        while time.monotonic() < until:
            page = pages[rng.randrange(len(pages))]
            status, _, seconds = await ask(port, page, f"127.0.1.{number % 250 + 1}")
            statuses[status] = statuses.get(status, 0) + 1
            found[page].append(seconds)
            await asyncio.sleep(options.pause * (0.5 + rng.random()))

    async def upload(number: int) -> None:
        for again in range(1000):
            if time.monotonic() > until:
                return
            status, seconds = await send(
                port, tokens[number % len(tokens)], number * 1000 + again + 1, f"127.0.2.{number + 1}", options.rate
            )
            statuses[status] = statuses.get(status, 0) + 1
            sent.append(seconds)
            await asyncio.sleep(1.0)

    async def post(number: int) -> None:
        await asyncio.sleep(number / max(1, options.posters) / 4)
        while time.monotonic() < until:
            status, _, seconds = await ask(port, "/signin", f"127.0.3.{number + 1}", "POST")
            statuses[status] = statuses.get(status, 0) + 1
            posted.append(seconds)
            await asyncio.sleep(0.25)

    jobs = [
        *map(read, range(options.readers)),
        *map(upload, range(options.uploads)),
        *map(post, range(options.posters)),
    ]
    await asyncio.gather(*jobs)
    for page, times in found.items():
        print(f"{page:32} {_quantiles(times)}")
    print(f"{'upload of 8 MiB':32} {_quantiles(sent)}")
    print(f"{'form without its token':32} {_quantiles(posted)}")
    print(f"answers by status: {dict(sorted(statuses.items()))}")


def _quantiles(times: list[float]) -> str:
    if not times:
        return "none"
    middle, high, most = (1000 * float(np.quantile(times, share)) for share in (0.5, 0.95, 1.0))
    return f"{len(times):5d} answers, p50 {middle:.0f} ms, p95 {high:.0f} ms, longest {most:.0f} ms"


def _memory(process: int) -> str:
    text = Path(f"/proc/{process}/status").read_text(encoding="ascii")
    return ", ".join(line for line in text.splitlines() if line.startswith(("VmRSS", "VmHWM"))).replace("\t", " ")


def main() -> None:
    """Makes the board, serves it, and loads it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--readers", type=int, default=200)
    parser.add_argument("--uploads", type=int, default=20)
    parser.add_argument("--posters", type=int, default=0, help="who send forms, each from an address of its own")
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--pause", type=float, default=5.0, help="mean seconds between two pages of a reader")
    parser.add_argument(
        "--rate", type=float, default=1.0, help="MiB/s of an upload; 20 teams have one of 8 Mbit/s each"
    )
    parser.add_argument("--pace", type=int, default=20, help="uploads_mib_per_second of the board")
    parser.add_argument("--submissions", type=int, default=500)
    parser.add_argument("--faces", type=int, default=300)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="facesr-load-") as name, socket.socket() as free:
        codes, tokens = make(Path(name), options.submissions, options.faces, options.pace)
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()
        command = [sys.executable, "-m", "facesr", "board", "serve", name, "--workers", "0", "--port", str(port)]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
            try:
                _wait(port)
                start = time.perf_counter()
                asyncio.run(ask(port, "/phases/final", "127.0.0.1"))
                print(f"first table after {time.perf_counter() - start:.2f} s; {_memory(server.pid)}")
                asyncio.run(load(options, port, codes, tokens))
                print(f"server: {_memory(server.pid)}")
            finally:
                server.terminate()


def _wait(port: int) -> None:
    for _ in range(600):
        try:
            if asyncio.run(ask(port, "/healthz", "127.0.0.1"))[0] == 200:
                return
        except OSError:
            time.sleep(0.1)
    raise SystemExit("the server does not come up")


if __name__ == "__main__":
    main()
