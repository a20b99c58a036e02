"""A team's report: complete in one file, for its team alone, and no more in it than the team may see."""

import base64
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi import FastAPI

from facesr.leaderboard import phases, team_report
from facesr.leaderboard.access import NOBODY
from facesr.leaderboard.app import create_app
from facesr.leaderboard.sight import sight_of
from tests.leaderboard.site import IDS, Client, Site, make_site


@pytest.fixture
def made(tmp_path: Path) -> Iterator[tuple[Site, FastAPI, str]]:
    site = make_site(tmp_path / "board")
    code = site.scored(site.team("First"), 1, (0.25, 0.75), model="<b>m</b>")
    site.team("Second")
    yield site, create_app(site.place, site.database), code
    site.database.close()


def rows_of(text: str) -> list[list[str]]:
    """Returns the cells of the table of faces, without its head."""
    rows = re.findall(r"<tr>(.*?)</tr>", text, re.DOTALL)
    return [re.findall(r"<t[hd][^>]*>([^<]*)</t[hd]>", row) for row in rows if "scope='row'" in row]


def test_it_is_for_its_team_and_the_organiser_who_get_the_same(made: tuple[Site, FastAPI, str]) -> None:
    site, app, code = made
    address = f"/submissions/{code}/report.html"
    for client in (Client(app), Client(app).sign_in(site.tokens["Second"])):
        assert client.get(f"/submissions/{code}").status_code == 200
        assert address not in client.get(f"/submissions/{code}").text
        assert client.get(address).status_code == 404
    member, organiser = Client(app).sign_in(site.tokens["First"]), Client(app).sign_in(site.organiser)
    assert address in member.get(f"/submissions/{code}").text
    mine, theirs = member.get(address), organiser.get(address)
    assert mine.content == theirs.content and "0.7500" not in theirs.text
    assert mine.headers["content-disposition"] == f'attachment; filename="report-{code}.html"'
    assert mine.headers["cache-control"] == "no-store"
    assert "&lt;b&gt;m&lt;/b&gt;" in mine.text
    waiting = site.queued(1, 2)
    assert member.get(f"/submissions/{waiting}/report.html").status_code == 404


def test_it_needs_no_other_file(made: tuple[Site, FastAPI, str]) -> None:
    site, app, code = made
    text = Client(app).sign_in(site.tokens["First"]).get(f"/submissions/{code}/report.html").text
    sources = re.findall(r"(?:src|href)=[\"']([^\"']*)", text)
    assert len(sources) == 6 and all(one.startswith("data:image/png;base64,") for one in sources)
    assert "url(" not in text and "<script" not in text and "@import" not in text
    face = site.examples[0]
    original = base64.b64encode((site.place.high(site.phase) / f"{face}.png").read_bytes()).decode()
    assert sources[2].endswith(original)


def test_faces_have_no_names_and_no_values_that_a_team_can_compute_itself_before_the_end(
    made: tuple[Site, FastAPI, str],
) -> None:
    site, app, code = made
    client = Client(app).sign_in(site.tokens["First"])
    address = f"/submissions/{code}/report.html"
    text = client.get(address).text
    num_public = int(site.public().sum())
    rows = rows_of(text)
    assert [row[0] for row in rows] == [str(number + 1) for number in range(num_public)]
    assert {tuple(row[1:]) for row in rows} == {("0.2500", "0.2200", "25.7500")}
    assert "<th>LR consistency</th>" not in text and "LR consistency 40.2500" in text
    assert not any(face in text for face in IDS)
    # The same holds for the page, and for two of a team's own beside each other.
    page = client.get(f"/submissions/{code}").text
    assert "IS builtin of 6 faces" in page and "LR consistency of" not in page
    second = site.scored(1, 2, (0.26, 0.75))
    compared = client.get(f"/compare?a={code}&b={second}").text
    assert "difference of PSNR" in compared and "difference of LR consistency" not in compared
    with site.database.write() as session:
        phases.close(site.database, session, "final", "over")
    text = client.get(address).text
    rows = rows_of(text)
    assert sorted(row[0] for row in rows) == IDS and len(rows[0]) == 5
    by_face = {row[0]: row[1] for row in rows}
    assert [by_face[face] == "0.2500" for face in IDS] == site.public().tolist()
    assert "LR consistency of" in client.get(f"/submissions/{code}").text
    assert "Single faces are shown after the end" in page and "Single faces" not in text


def test_faces_and_pictures_are_bounded(made: tuple[Site, FastAPI, str], monkeypatch: pytest.MonkeyPatch) -> None:
    site, app, code = made
    size = sum(
        path.stat().st_size
        for face in site.examples[:1]
        for path in site.place.folder.rglob(f"references/**/{face}.png")
    )
    monkeypatch.setattr(team_report, "MAX_FACES", 4)
    monkeypatch.setattr(team_report, "MAX_PICTURE_BYTES", size + 1000)
    text = Client(app).sign_in(site.tokens["First"]).get(f"/submissions/{code}/report.html").text
    assert len(rows_of(text)) == 4 and "the first 4<" in text
    assert "1 of 2; the others are too large" in text and text.count("<img") == 3


def test_the_worst_stand_first_whatever_the_direction(tmp_path: Path) -> None:
    site = make_site(tmp_path / "board")
    code = site.scored(site.team("First"), 1, 0.5)
    client = Client(create_app(site.place, site.database)).sign_in(site.tokens["First"])
    shown = [float(row[1]) for row in rows_of(client.get(f"/submissions/{code}/report.html").text)]
    assert shown == sorted(shown) and shown[0] < shown[-1]
    site.database.close()


def test_with_a_ladder_it_has_the_step_alone_until_the_end(tmp_path: Path) -> None:
    site = make_site(tmp_path / "board", "public_share: 0.5\n    ladder_step: 0.05")
    code = site.scored(site.team("First"), 1, (0.61234, 0.5))
    client = Client(create_app(site.place, site.database)).sign_in(site.tokens["First"])
    text = client.get(f"/submissions/{code}/report.html").text
    assert "<b>0.6000</b>" in text and "0.6123" not in text and rows_of(text) == [] and "<svg" not in text
    with site.database.write() as session:
        phases.close(site.database, session, "final", "over")
    assert "0.6123" in client.get(f"/submissions/{code}/report.html").text
    site.database.close()


def test_only_the_sight_decides(made: tuple[Site, FastAPI, str]) -> None:
    site, app, _ = made
    with site.database.read() as session:
        phase = app.state.board.phase_now(session, site.phase, NOBODY)
        organiser = sight_of(site.phase, phase.times, phase.now, is_organiser=True)
    assert [phase.sight.shows_faces(name) for name in ("is/builtin", "psnr_rgb", "consistency", "niqe")] == [
        True,
        True,
        False,
        False,
    ]
    assert organiser.shows_faces("consistency")
