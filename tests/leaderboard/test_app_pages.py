"""The pages: what people see in a browser, and what the board does not show them."""

import hashlib
import io
import re
import zipfile
from pathlib import Path

import pytest
from sqlalchemy import event

from facesr.leaderboard import entries, phases
from facesr.leaderboard.app import create_app
from facesr.leaderboard.rows import size_text
from tests.leaderboard.site import IDS, Client, Made, make_site


def test_the_board_has_places_marks_and_no_place_for_baselines(made: Made) -> None:
    _, app, codes = made
    text = Client(app).get("/phases/final").text
    rows = re.findall(r"<tr.*?</tr>", text, re.DOTALL)[1:]
    assert [re.search(r"<td>(.*?)</td>", row)[1] for row in rows] == ["1", "2", "-"]  # type: ignore[index]
    assert codes["best"] in rows[0] and ">baseline<" in rows[2]
    assert "bicubic" not in Client(app).get("/phases/final?baselines=0").text


@pytest.mark.parametrize(
    ("sort", "first"),
    [
        ("score", "other"),
        ("-score", "base"),
        ("is/other", "other"),
        ("-date", "base"),
        ("parameters", "other"),
        ("-parameters", "best"),
    ],
)
def test_columns_sort_both_ways_and_say_so(made: Made, sort: str, first: str) -> None:
    _, app, codes = made
    text = Client(app).get(f"/phases/final?sort={sort}").text
    assert re.findall(r'scope="row"><a href="/submissions/([^"]+)"', text)[0] == codes[first]
    assert text.count('aria-sort="none"') == text.count("aria-sort=") - 1
    assert ("descending" if sort[0] == "-" else "ascending") in re.findall(r'aria-sort="(\w+)"', text)
    assert Client(app).get("/phases/final?sort=nothing").status_code == 404


def test_what_a_manifest_states_of_guard_and_size_and_a_dash_without(made: Made) -> None:
    _, app, _ = made
    text = Client(app).get("/phases/final").text
    heads = [re.sub("<.*?>", "", head) for head in re.findall(r"<th scope=\"col\".*?</th>", text)]
    rows = re.findall(r"<tr.*?</tr>", text, re.DOTALL)[1:]
    cells = [re.findall(r"<td.*?>(.*?)</td>", row) for row in rows]
    size, guard = heads.index("Parameters") - 1, heads.index("Guard") - 1
    assert [row[size] for row in cells] == ["1.54 M", "987", "-"] and [row[guard] for row in cells] == ["7", "-", "-"]
    entries = Client(app).get("/api/v1/phases/final/standing").json()["entries"]
    assert [one["num_parameters"] for one in entries] == [1_544_000, 987, None]
    assert [one["guard_replaced"] for one in entries] == [7, None, None]


@pytest.mark.parametrize(
    ("number", "text"),
    [(None, "-"), (1, "1"), (999, "999"), (1000, "1 k"), (16_700_000, "16.7 M"), (2_340_000_000, "2.34 G")],
)
def test_sizes_as_people_write_them(number: int | None, text: str) -> None:
    assert size_text(number) == text


def test_hostile_text_is_escaped_on_every_page(made: Made) -> None:
    _, app, codes = made
    for address in ("/", "/phases/final", f"/submissions/{codes['old']}", "/log"):
        text = Client(app).get(address).text
        assert "<script>alert" not in text and "<b>demo" not in text and "<i>Bob" not in text
        assert not re.search(r"<style|\sstyle=|\son\w+=|<script(?! src=\"/static/)", text)
        assert not re.search(r'(?:src|href|action)="(?!/|#)', text), "everything comes from the board itself"


def test_pages_are_kept_by_etag_and_not_for_who_is_signed_in(made: Made) -> None:
    site, app, codes = made
    reader, member = Client(app), Client(app).sign_in(site.tokens["First"])
    for address in ("/", "/phases/final", "/log", "/feed.atom"):
        answer = reader.get(address)
        again = reader.get(address, headers={"If-None-Match": answer.headers["etag"]})
        assert again.status_code == 304 and again.content == b"" and answer.headers["cache-control"] == "no-cache"
    pages = len(app.state.board.rendered._pages)
    assert reader.get("/phases/final?other=1").headers["etag"] == reader.get("/phases/final").headers["etag"]
    assert len(app.state.board.rendered._pages) == pages
    # What another page asks is nothing to this one.
    for address, other in (
        ("/", "view=x"),
        ("/phases/final", "a=1&before=2"),
        ("/phases/final/plane.png", "a=1&b=2&sort=score&baselines=0&view=public"),
        ("/log", "sort=1"),
        ("/log?before=9999998", "before=9999999"),
        (f"/submissions/{codes['best']}", "view=1&sort=1&before=1"),
    ):
        path, _, asks = address.partition("?")
        first = reader.get(address).headers["etag"]
        pages = len(app.state.board.rendered._pages)
        asks = "" if other.startswith("before=999") else f"{asks}&"
        assert reader.get(f"{path}?{asks}{other}").headers["etag"] == first, address
        assert len(app.state.board.rendered._pages) == pages
    differing = ("", "?sort=score", "?sort=-score", "?baselines=0", "?view=public", "?sort=score&baselines=0")
    assert len({reader.get(f"/phases/final{one}").headers["etag"] for one in differing}) == len(differing)
    assert len({reader.get(f"/log{one}").headers["etag"] for one in ("", "?before=2", "?before=3")}) == 3
    ways = [(codes["best"], codes["other"]), (codes["other"], codes["best"]), (codes["best"], codes["old"])]
    assert len({reader.get(f"/compare?a={a}&b={b}").headers["etag"] for a, b in ways}) == 3
    assert member.get("/").headers["cache-control"] == "no-store" and "etag" not in member.get("/").headers
    assert "Your team" in member.get("/").text and "Your team" not in reader.get("/").text


def test_the_closed_table_has_the_public_score_of_the_submission_that_it_shows(tmp_path: Path) -> None:
    """Another one of the two that a team chose leads the public view."""
    site = make_site(tmp_path / "board", "rank_rule: chosen\n    num_chosen: 2")
    team = site.team("First")
    codes = [site.scored(team, 1, (0.81, 0.52)), site.scored(team, 2, (0.63, 0.94))]
    with site.database.write() as session:
        for code in codes:
            entries.choose(site.database, session, entries.submission_of(session, code), site.phase, chosen=True)
        phases.close(site.database, session, "final", "test")
    text = Client(create_app(site.place, site.database)).get("/phases/final").text
    (row,) = re.findall(r"<tr.*?</tr>", text, re.DOTALL)[1:]
    site.database.close()
    assert codes[1] in row and "0.9400" in row and "0.6300" in row


def test_example_pictures_are_shown_and_no_others(made: Made) -> None:
    site, app, codes = made
    client = Client(app)
    shown = re.findall(r'src="(/\S+/(\w{64})\.png)"', client.get(f"/submissions/{codes['best']}").text)
    assert len(shown) == 6 and sum(codes["best"] in address for address, _ in shown) == 2
    for address, digest in shown:
        answer = client.get(address)
        assert answer.headers["content-type"] == "image/png" and answer.content.startswith(b"\x89PNG")
        assert hashlib.sha256(answer.content).hexdigest() == digest
    low, restored = shown[0][1], shown[1][1]
    hidden = site.place.high(site.phase) / f"{next(key for key in IDS if key not in site.examples)}.png"
    secret = site.place.store().put([b"an archive"], 100).sha256
    others = [secret, "0" * 64, hashlib.sha256(hidden.read_bytes()).hexdigest(), "..%2f..%2fsecret", "x"]
    for name in (*others, restored):
        assert client.get(f"/pictures/{name}.png").status_code == 404
    for code, name in (
        (codes["other"], restored),
        (codes["best"], low),
        ("none", restored),
        *((codes["best"], one) for one in others),
    ):
        assert client.get(f"/submissions/{code}/pictures/{name}.png").status_code == 404


def test_a_picture_of_a_withdrawn_submission_is_its_teams_alone(tmp_path: Path) -> None:
    site = make_site(tmp_path / "board")
    code = site.scored(site.team("First"), 1, 0.6)
    site.team("Second")
    app = create_app(site.place, site.database)
    address = re.findall(rf"/submissions/{code}/pictures/\w+\.png", Client(app).get(f"/submissions/{code}").text)[0]
    assert Client(app).get(address).status_code == 200
    with site.database.write() as session:
        entries.withdraw(site.database, session, entries.submission_of(session, code), "team First")
    assert Client(app).get(address).status_code == 404
    assert Client(app).sign_in(site.tokens["Second"]).get(address).status_code == 404
    assert Client(app).sign_in(site.tokens["First"]).get(address).status_code == 200
    site.database.close()


def test_a_picture_reads_only_what_it_shows(tmp_path: Path) -> None:
    """However many submissions there are: one row of scores for a restored picture, none for a given one."""
    site = make_site(tmp_path / "board")
    team = site.team("First")
    codes = [site.scored(team, number, 0.5 + number / 100) for number in range(4)]
    client = Client(create_app(site.place, site.database))
    shown = re.findall(r'src="(/\S+/\w{64}\.png)"', client.get(f"/submissions/{codes[0]}").text)
    asked: list[str] = []
    event.listen(site.database.engine, "before_cursor_execute", lambda *found: asked.append(found[2]))
    counts = []
    for address in shown[:3]:
        asked.clear()
        assert client.get(address).status_code == 200
        reads = [" ".join(one.split()) for one in asked if "FROM evaluations" in one]
        assert all("evaluations.submission_id = " in one and "evaluations.values" not in one for one in reads)
        counts.append((len(reads), len([one for one in asked if "FROM" in one])))
    assert [reads for reads, _ in counts] == [0, 1, 0] and max(number for _, number in counts) <= 6, counts
    site.database.close()


def test_teams_get_the_low_pictures_of_a_phase_that_has_begun(made: Made) -> None:
    site, app, _ = made
    client = Client(app)
    answer = client.get("/phases/final/low.zip")
    assert answer.headers["content-disposition"] == 'attachment; filename="final_low.zip"'
    with zipfile.ZipFile(io.BytesIO(answer.content)) as file:
        low = site.place.low(site.phase)
        assert {name: file.read(name) for name in file.namelist()} == {
            f"final_low/{path.name}": path.read_bytes() for path in low.iterdir()
        }
    assert client.get("/phases/later/low.zip").status_code == 404
    assert client.get("/phases/later").text.count("low.zip") == 0


def test_two_entries_are_compared_without_ids_before_the_end(made: Made) -> None:
    _, app, codes = made
    text = Client(app).get(f"/compare?a={codes['best']}&b={codes['other']}").text
    assert "+0.1" in text and "face0" not in text
    assert Client(app).get(f"/compare?a={codes['best']}&b=nothing").status_code == 404
    assert Client(app).get("/compare").status_code == 400


# Signing in
