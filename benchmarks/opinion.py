"""Load on an opinion study: many raters at once, each on a connection of their own.

    uv run --extra board benchmarks/opinion.py [--raters 50] [--seconds 20] [--pause 3]

It makes a study of noise in a temporary folder, serves it by ``facesr opinion serve`` and has raters answer: each loads
the question and its picture, waits for about a pause, and sends the answer. It prints the latency of each sort of
request, how many failed, and whether every answer was stored once. Client and server share the machine.
"""

import argparse
import asyncio
import random
import re
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from urllib.parse import urlencode

import numpy as np

from facesr.build import load_settings
from facesr.config import OpinionSettings
from facesr.opinion import raters
from facesr.opinion.making import make_study
from facesr.opinion.opening import open_database
from facesr.opinion.records import read_records
from facesr.png import write_png

_HEIGHT, _WIDTH, _FACES = 112, 96, 24
_METHODS = ("first", "second", "third", "fourth")


class Browser:
    """A connection that stays open, with its cookie."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._cookie = ""
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, method: str, path: str, fields: dict[str, str] | None = None) -> tuple[int, str, bytes, float]:
        """Returns status, Location, body and seconds of a request."""
        start = time.perf_counter()
        body = urlencode(fields or {}).encode()
        head = f"{method} {path} HTTP/1.1\r\nHost: study\r\nCookie: {self._cookie}\r\n"
        if method == "POST":
            head += f"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {len(body)}\r\n"
        for attempt in range(2):
            try:
                if self._streams is None:
                    self._streams = await asyncio.open_connection("127.0.0.1", self._port)
                reader, writer = self._streams
                writer.write(head.encode() + b"\r\n" + body)
                got = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                break
            except (ConnectionError, asyncio.IncompleteReadError):  # the server ends idle connections
                self._streams = None
                if attempt:
                    raise
        if found := re.search(r"(?i)^set-cookie: ([^;]+)", got, re.MULTILINE):
            self._cookie = found[1]
        length = re.search(r"(?i)^content-length: (\d+)", got, re.MULTILINE)
        content = await reader.readexactly(int(length[1]) if length else 0)
        location = re.search(r"(?i)^location: (\S+)", got, re.MULTILINE)
        return int(got[9:12]), location[1] if location else "", content, time.perf_counter() - start


def make(folder: Path, num_raters: int) -> list[str]:
    """Makes a study, and returns the paths of personal links."""
    rng = np.random.default_rng(0)
    for name in ("high", *_METHODS):
        (folder / name).mkdir()
        for number in range(_FACES):
            picture = rng.integers(0, 256, (_HEIGHT, _WIDTH, 3), dtype=np.uint8)
            write_png(folder / name / f"{number:03d}.png", picture)
    named = ",".join(str(folder / name) for name in _METHODS)
    keys = [f"dir={folder / 'study'}", f"folders=[{named}]", f"high={folder / 'high'}", f"raters={num_raters}"]
    study = make_study(load_settings("opinion", OpinionSettings, keys))
    database = open_database(study)
    with database.write() as session:
        links = [f"/r/{raters.invite(database, session)}" for _ in range(num_raters)]
    database.close()
    return links


async def rate(
    port: int, link: str, pause: float, until: float, found: dict[str, list[float]], failed: dict[int, int]
) -> int:
    """Answers questions until a moment, and returns how many."""
    browser, rng, count = Browser(port), random.Random(link), 0
    await asyncio.sleep(rng.random() * pause)

    async def ask(sort: str, method: str, path: str, fields: dict[str, str] | None = None) -> tuple[int, str, str]:
        status, location, body, seconds = await browser.ask(method, path, fields)
        found[sort].append(seconds)
        if status >= 400:
            failed[status] = failed.get(status, 0) + 1
        return status, location, body.decode("latin-1")

    await ask("consent", "GET", link)
    _, _, page = await ask("consent", "GET", "/")
    token = re.search(r'name="form_token" value="(\w+)"', page)
    await ask("consent", "POST", "/consent", {"form_token": token[1] if token else "", "language": "en"})
    while time.monotonic() < until:
        status, _, page = await ask("question", "GET", "/question")
        if status != 200:
            break
        for address in re.findall(r'<img src="([^"]+)"', page):
            await ask("picture", "GET", address)
        await asyncio.sleep(pause * (0.5 + rng.random()))
        hidden = dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)"', page))
        status, _, _ = await ask("answer", "POST", "/question", {**hidden, "answer": "3", "ms": "1000"})
        count += status == 303
    return count


def _quantiles(times: list[float]) -> str:
    if not times:
        return "none"
    cuts = np.quantile(times, [0.5, 0.95, 1.0]) * 1000
    return f"{len(times):6} requests   p50 {cuts[0]:6.0f} ms   p95 {cuts[1]:6.0f} ms   max {cuts[2]:6.0f} ms"


async def load(options: argparse.Namespace, port: int, links: list[str]) -> int:
    """Has all raters work, prints what it took, and returns how many answers were taken."""
    until = time.monotonic() + options.seconds
    found: dict[str, list[float]] = {sort: [] for sort in ("consent", "question", "picture", "answer")}
    failed: dict[int, int] = {}
    counts = await asyncio.gather(*(rate(port, link, options.pause, until, found, failed) for link in links))
    for sort, times in found.items():
        print(f"{sort:10} {_quantiles(times)}")
    print(f"failed     {failed or 'none'}")
    return sum(counts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--raters", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--pause", type=float, default=3.0, help="seconds that a rater looks at a picture")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        links = make(Path(name), options.raters)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        command = [sys.executable, "-m", "facesr", "opinion", "serve", str(Path(name) / "study"), "--port", str(port)]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
            try:
                while True:
                    try:
                        socket.create_connection(("127.0.0.1", port)).close()
                        break
                    except OSError:
                        time.sleep(0.1)
                count = asyncio.run(load(options, port, links))
            finally:
                server.terminate()
        stored = len(read_records(Path(name) / "study").ratings)
        print(f"answers    {count} taken, {stored} stored")


if __name__ == "__main__":
    main()
