"""Private scores: before a phase ends they are in no answer to anybody but the organiser, whatever is asked.

Every GET route of the application is asked, so that a new one is covered as soon as it exists. Public and private faces
have scores that no chance makes; whatever is made of the private ones is looked for in every body and header.
"""

import inspect
import itertools
import re
import struct
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
from fastapi import FastAPI
from sqlalchemy import select

from facesr.leaderboard import phases
from facesr.leaderboard.access import NOBODY
from facesr.leaderboard.app import create_app
from facesr.leaderboard.scores import examples_of
from facesr.leaderboard.static import ASSETS
from facesr.leaderboard.tables import Evaluation
from tests.leaderboard.site import IDS, Client, Site, make_site

PUBLIC, PRIVATE = 0.123456789, 0.987654321
# What could be shown of private faces: means of each metric, and means over all faces, which would tell them as well.
_NUMBER = re.compile(r"\d+\.\d{3,}")


def forbidden(site: Site) -> list[float]:
    share = site.public().mean()
    both = share * PUBLIC + (1 - share) * PRIVATE
    means = [value for one in (PRIVATE, both) for value in (one, one - 0.03, 25 + 3 * one, 40 + one)]
    return [*means, PRIVATE - PUBLIC]


def make(folder: Path, rest: str = "public_share: 0.5", private: float = PRIVATE) -> tuple[Site, list[str]]:
    site = make_site(folder, rest)
    first, second, baseline = site.team("First"), site.team("Second"), site.team("Base", is_baseline=True)
    codes = [site.scored(first, 1, (PUBLIC, private), model="m", mean_watts=5.0)]
    codes.append(site.scored(first, 2, (PUBLIC - 0.01, private)))
    codes.append(site.scored(second, 1, (PUBLIC - 0.02, private)))
    codes.append(site.scored(baseline, 1, (PUBLIC - 0.03, private)))
    codes.append(site.queued(first, 3))
    return site, codes


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Site, list[str], FastAPI]]:
    site, codes = make(tmp_path_factory.mktemp("leak") / "board")
    yield site, codes, create_app(site.place, site.database)
    site.database.close()


def get_routes(app: FastAPI) -> dict[str, set[str]]:
    """Returns the patterns of all addresses that answer to GET, each with what its function asks for."""

    def walk(routes: list[object]) -> Iterator[tuple[str, set[str]]]:
        for route in routes:
            inner = getattr(route, "original_router", None)
            if inner is not None:
                yield from walk(inner.routes)
            elif "GET" in route.methods:  # type: ignore[attr-defined]
                yield route.path, set(inspect.signature(route.endpoint).parameters)  # type: ignore[attr-defined]

    return dict(walk(list(app.routes)))


def addresses(site: Site, app: FastAPI, codes: list[str]) -> list[str]:
    """Returns every GET address with everything that can stand in it, and with every question that is known."""
    with site.database.read() as session:
        phase = app.state.board.phase_now(session, site.phase, NOBODY)
        pictures = [examples_of(app.state.board, session, site.row(code), phase) for code in codes[:2]]
    files = {name for found in pictures for one in found for name in (one.low, one.restored, one.high)}
    known = {"name": ["final"], "code": codes, "sha256": sorted(files)}
    asked = ["view=private", "view=public", "sort=-score", "baselines=0", "before=1000"]
    found = []
    for pattern, names in sorted(get_routes(app).items()):
        values = {**known, "name": list(ASSETS)} if pattern.startswith("/static/") else known
        parts = re.findall(r"\{(\w+)\}", pattern)
        assert set(parts) <= set(values), f"tell this test what to put into {pattern}"
        for filling in itertools.product(*(values[part] for part in parts)):
            address = pattern.format(**dict(zip(parts, filling, strict=True)))
            found += [address, *(f"{address}?{one}" for one in asked if one.partition("=")[0] in names)]
    return found


def leaks(site: Site, answer: httpx.Response) -> list[str]:
    """Returns what an answer tells of private faces."""
    head = "\n".join(f"{key}: {value}" for key, value in answer.headers.items())
    body = answer.content
    # Teams get all faces, public and private ones alike.
    is_handout = answer.url.path.endswith("/low.zip")
    found = [] if is_handout else [key for key in IDS if key.encode() in body or key in head]
    # The first is a number in text; the others are the doubles themselves.
    is_metrics = answer.url.path == "/metrics"
    text = head + ("" if is_metrics else body.decode("utf-8", "replace"))
    for value in forbidden(site):
        found += [number for number in _NUMBER.findall(text) if abs(float(number) - value) < 6e-5]
        found += ["double"] * (struct.pack("<d", value) in body or struct.pack(">d", value) in body)
    # As a share of a hundred, and in full without its point. Fewer digits stand in one of many thousand random codes.
    return [*found, *(["text"] if b"98.765" in body or b"98765432" in body else [])]


def viewers(site: Site, app: FastAPI) -> dict[str, tuple[Client, dict[str, str]]]:
    bearer = {name: {"Authorization": f"Bearer {site.tokens[name]}"} for name in ("First", "Second")}
    return {
        "nobody": (Client(app), {}),
        "the team": (Client(app).sign_in(site.tokens["First"]), bearer["First"]),
        "another team": (Client(app).sign_in(site.tokens["Second"]), bearer["Second"]),
    }


def test_nothing_private_is_in_any_answer_before_the_end_and_it_is_there_after_it(
    planted: tuple[Site, list[str], FastAPI],
) -> None:
    site, codes, app = planted
    assert 0 < site.public().sum() < len(IDS)
    asked = [*addresses(site, app, codes[::2]), f"/compare?a={codes[0]}&b={codes[2]}"]
    asked += [f"{asked[-1]}&view=private"]
    seen: dict[int, int] = {}
    # First, so that what is kept of the organiser's pages could come to others.
    organiser = Client(app).sign_in(site.organiser)
    for address in asked:
        if address.startswith(("/phases/final?view", "/compare")):
            organiser.get(address)
    for who, (client, headers) in viewers(site, app).items():
        for address in asked:
            if who != "nobody" and address.startswith(("/static", "/badge", "/feed", "/healthz")):
                continue
            answer = client.get(address, headers=headers)
            assert answer.status_code < 500, (who, address)
            assert leaks(site, answer) == [], (who, address)
            seen[answer.status_code] = seen.get(answer.status_code, 0) + 1
    assert seen[200] > 60

    assert "0.9877" in organiser.get("/organiser").text
    assert "0.9877" in organiser.get("/phases/final?view=private").text
    reader = Client(app)
    before = reader.get("/phases/final")
    assert "0.1235" in before.text and reader.get("/phases/final?view=private").status_code == 404
    with site.database.write() as session:
        phases.close(site.database, session, "final", "over")
    report = Client(app).sign_in(site.tokens["First"]).get(f"/submissions/{codes[0]}/report.html")
    assert leaks(site, report) != []
    after = reader.get("/phases/final", headers={"If-None-Match": before.headers["etag"]})
    assert after.status_code == 200 and "0.9877" in after.text
    assert leaks(site, reader.get("/api/v1/phases/final/standing")) != []
    assert IDS[0] in reader.get(f"/submissions/{codes[0]}").text
    with site.database.write() as session:
        later = site.phase.ends
        phases.move(site.database, session, "final", ends=later)
    assert "0.9877" not in reader.get("/phases/final").text


def test_no_answer_depends_on_private_scores(tmp_path: Path) -> None:
    site, codes = make(tmp_path / "board")
    given: list[dict[str, tuple[int, bytes, dict[str, str]]]] = []
    for _ in range(2):
        app, seen = create_app(site.place, site.database), {}
        client = Client(app)
        for address in addresses(site, app, codes[:1]):
            if address.startswith(("/register", "/signin", "/metrics", "/static", "/phases/final/low.zip")):
                continue  # new form tokens and measured times each time
            answer = client.get(address)
            seen[address] = answer.status_code, answer.content, dict(answer.headers)
        report = f"/submissions/{codes[0]}/report.html"
        answer = Client(app).sign_in(site.tokens["First"]).get(report)
        assert answer.status_code == 200
        seen[f"{report} of the team"] = 200, answer.content, dict(answer.headers)
        given.append(seen)
        with site.database.write() as session:
            faces = site.public()
            for row in session.scalars(select(Evaluation)):
                table = np.frombuffer(row.values, "<f8").reshape(-1, len(IDS)).copy()
                table[:, ~faces] = 1 - table[:, ~faces] * (row.id % 3)
                row.values = table.tobytes()
    site.database.close()
    first, second = given
    assert [key for key in first if first[key] != second[key]] == [] and len(first) > 20


def test_drawings_do_not_depend_on_private_scores(tmp_path: Path) -> None:
    drawn = []
    for name, private in (("a", PRIVATE), ("b", 0.5)):
        site, _ = make(tmp_path / name, private=private)
        client = Client(create_app(site.place, site.database))
        drawn.append(client.get("/phases/final/plane.png").content)
        site.database.close()
    assert drawn[0] == drawn[1] and drawn[0].startswith(b"\x89PNG")


def test_with_a_ladder_nobody_sees_more_than_its_steps(tmp_path: Path) -> None:
    site = make_site(tmp_path / "board", "public_share: 0.5\n    ladder_step: 0.05")
    team = site.team("First")
    codes = [site.scored(team, number, (score, 0.5)) for number, score in enumerate((0.61234, 0.62345))]
    app = create_app(site.place, site.database)
    for client in (Client(app), Client(app).sign_in(site.tokens["First"])):
        for address in ("/", "/phases/final", "/team", "/feed.atom", "/badge/final.svg", "/phases/final/plane.png"):
            assert not re.search(r"0\.623|0\.5934|0\.612[34]", client.get(address).text), address
        for address in (
            "/api/v1/phases/final/standing",
            *(f"{way}{codes[1]}" for way in ("/submissions/", "/api/v1/submissions/")),
        ):
            text = client.get(address).text
            assert not re.search(r"0\.623|0\.5934|0\.612[34]", text), address
    site.database.close()
