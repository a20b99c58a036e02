"""The pages: what people see and do in a browser, and what the board does not let them do."""

import hashlib
import io
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi import FastAPI
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import event

from facesr.leaderboard import entries, phases, queue, teams
from facesr.leaderboard.app import create_app
from facesr.leaderboard.rows import size_text
from facesr.web.security import Rate, Rates
from tests.leaderboard.site import IDS, Client, Site, make_site


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Site, FastAPI, dict[str, str]]]:
    """A board on which two teams and a baseline have scores; tests add to it and do not count on numbers."""
    site = make_site(tmp_path_factory.mktemp("pages") / "board", "rank_rule: chosen\n    num_chosen: 1")
    first, second, base = (
        site.team("First"),
        site.team("\u0645\u062c\u0645\u0648\u0639\u0629"),
        site.team("bicubic", is_baseline=True),
    )
    codes = {
        "old": site.scored(
            first, 1, 0.60, loss_judges=["builtin"], mean_watts=4000.0, model="<script>alert(2)</script>"
        ),
        "best": site.scored(first, 2, 0.66, guard_on=True, guard_replaced=7, num_parameters=1_544_000),
        "other": site.scored(second, 1, 0.50, num_parameters=987),
        "base": site.scored(base, 1, 0.70),
    }
    yield site, create_app(site.place, site.database), codes
    site.database.close()


Made = tuple[Site, FastAPI, dict[str, str]]


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


def test_cookies_are_strict_and_secure_where_the_connection_is(made: Made) -> None:
    site, app, _ = made
    for scheme, name in (("http", "facesr-session"), ("https", "__Host-facesr-session")):
        client = Client(app, scheme=scheme)
        answer = client.form("/signin", "/signin", token=site.tokens["First"])
        cookie = answer.headers["set-cookie"]
        assert answer.status_code == 303 and answer.headers["location"] == "/team"
        assert (
            cookie.startswith(f"{name}=")
            and "HttpOnly" in cookie
            and "SameSite=strict" in cookie
            and "Path=/" in cookie
        )
        assert ("Secure" in cookie) == (scheme == "https") == ("strict-transport-security" in answer.headers)
        assert client.get("/team").status_code == 200
        kept = dict(client.cookies)
        assert client.form("/team", "/signout").status_code == 303
        client.cookies.update(kept)
        assert client.get("/team").status_code == 303, "a copy of the cookie is worth nothing either"


def test_a_revoked_token_ends_its_sessions(tmp_path: Path) -> None:
    site = make_site(tmp_path / "board")
    site.team("First")
    app = create_app(site.place, site.database)
    client = Client(app).sign_in(site.tokens["First"])
    organiser = Client(app).sign_in(site.organiser)
    answer = organiser.form("/organiser", "/organiser/revoke", team="First", renew="1")
    new = re.search(r"<code>([\w-]{43})</code>", answer.text)
    assert new is not None and new[1] not in organiser.get("/organiser").text
    assert client.get("/team").status_code == 303 and Client(app).sign_in(new[1]).get("/team").status_code == 200
    site.database.close()


def test_forms_need_their_token(made: Made) -> None:
    site, app, codes = made
    member, organiser = Client(app).sign_in(site.tokens["First"]), Client(app).sign_in(site.organiser)
    foreign = member.form_token("/team", "/team/withdraw")
    actions = ["/signin", "/signout", "/register", "/team/withdraw", "/team/choose"]
    actions += [f"/organiser/{name}" for name in ("disqualify", "withdraw", "phase", "invite", "revoke")]
    for client in (member, organiser, Client(app)):
        for action in actions:
            for fields in ({}, {"form_token": foreign if client is not member else "0" * 64}):
                answer = client.request("POST", action, data={"code": codes["old"], **fields})
                assert answer.status_code == 403, action
    data = {"form_token": foreign, "code": codes["old"]}
    assert (
        member.request("POST", "/team/withdraw", data=data, headers={"Sec-Fetch-Site": "cross-site"}).status_code == 403
    )
    assert member.request("POST", "/team/withdraw", content=b"{}").status_code == 415
    assert site.row(codes["old"]).withdrawn is None
    # The organiser's forms with a team's session: the token is the session's, the right is not.
    board = app.state.board
    cookie = member.cookies["facesr-session"]
    for form, action in (("invite", "/organiser/invite"), ("disqualify", "/organiser/disqualify")):
        token = board.sessions.form_token(cookie, form)
        answer = member.request("POST", action, data={"form_token": token, "team": "First", "reason": "x"})
        assert answer.status_code == 401


def test_guessing_tokens_is_ended_and_others_are_not_shut_out(tmp_path: Path) -> None:
    site = make_site(tmp_path / "board")
    site.team("First")
    app = create_app(site.place, site.database, rates=Rates(failures=Rate(20, 0.01), changes=Rate(1000, 10)))
    guesser, known = Client(app, "203.0.113.5"), {"Authorization": f"Bearer {site.tokens['First']}"}
    address = "/api/v1/phases/final/allowance"
    assert guesser.get(address, headers=known).status_code == 200
    found = [
        guesser.get(address, headers={"Authorization": f"Bearer {number:043d}"}).status_code for number in range(50)
    ]
    assert found == [401] * 20 + [429] * 30
    for page, fields in (("/signin", {"token": "a" * 43}), ("/register", {"code": "a" * 43, "team": "B"})):
        answer = guesser.form(page, page, **fields)
        assert answer.status_code == 429 and int(answer.headers["retry-after"]) > 1
    assert guesser.get(address, headers=known).status_code == 200, "it was right before, from whatever address"
    assert Client(app, "203.0.113.6").get(address, headers=known).status_code == 200
    site.database.close()


# Teams


def test_a_team_registers_signs_in_and_sees_its_token_once(made: Made) -> None:
    site, app, _ = made
    client = Client(app)
    for name, sentence in (
        ("<script>", "1 to 64 letters"),
        ("a\u202eb", "1 to 64 letters"),
        ("FIRST", "a team of that name"),
    ):
        answer = client.form("/register", "/register", code=site.tokens["invitation"], team=name)
        assert answer.status_code in (400, 409) and sentence in answer.text
    answer = client.form("/register", "/register", code=site.tokens["invitation"], team="New one", members="A\n\nB\n")
    token = re.search(r"<code>([\w-]{43})</code>", answer.text)
    assert answer.status_code == 200 and token is not None and answer.headers["cache-control"] == "no-store"
    assert "A, B" in client.sign_in(token[1]).get("/team").text
    assert client.form("/register", "/register", code="a" * 43, team="Another").status_code == 401


def test_a_team_withdraws_and_chooses_its_own_alone(made: Made) -> None:
    site, app, codes = made
    member = Client(app).sign_in(site.tokens["First"])
    assert member.form("/team", "/team/choose", code=codes["old"], chosen="1").status_code == 303
    assert codes["old"] in Client(app).get("/phases/final").text
    answer = member.form("/team", "/team/choose", code=codes["best"], chosen="1")
    assert answer.status_code == 409 and "1 submissions are chosen already" in answer.text
    assert member.form("/team", "/team/withdraw", code=codes["other"]).status_code == 404
    assert member.form("/team", "/team/withdraw", code=codes["old"]).status_code == 303
    assert Client(app).get(f"/submissions/{codes['old']}").status_code == 404
    assert "withdrawn" in member.get(f"/submissions/{codes['old']}").text
    assert codes["old"] not in Client(app).get("/phases/final").text


def test_a_refusal_is_for_its_team_alone(tmp_path: Path) -> None:
    site = make_site(tmp_path / "board")
    code = site.queued(site.team("First"), 1)
    site.team("Second")
    with site.database.write() as session:
        job = queue.claim(site.database, session, "w", ["final"])
        assert job is not None and queue.finish_refused(site.database, session, job, "a.png is <b>no</b> PNG.")
    app = create_app(site.place, site.database)
    member = Client(app).sign_in(site.tokens["First"])
    assert "a.png is &lt;b&gt;no&lt;/b&gt; PNG." in member.get("/team").text
    assert "19</b> of 20 refusals today left" in member.get("/team").text
    for client in (Client(app), Client(app).sign_in(site.tokens["Second"])):
        assert client.get(f"/submissions/{code}").status_code == 404 and "PNG." not in client.get("/log").text
    site.database.close()


# Organiser


def test_the_organiser_acts_and_it_stands_in_the_log(made: Made) -> None:
    site, app, codes = made
    organiser = Client(app).sign_in(site.organiser)
    page, name = "/organiser", "\u0645\u062c\u0645\u0648\u0639\u0629"
    assert organiser.form(page, "/organiser/disqualify", team=name).status_code == 400, "a reason is needed"
    assert organiser.form(page, "/organiser/disqualify", team=name, reason="Two <accounts>").status_code == 303
    text = organiser.get(page).text
    assert "Two &lt;accounts&gt;" in text and "disqualified" in Client(app).get("/phases/final").text
    assert organiser.form(page, "/organiser/disqualify", team=name, undo="1").status_code == 303
    assert "Two &lt;accounts&gt;" in Client(app).get("/log").text
    code = re.search(r"<code>([\w-]{43})</code>", organiser.form(page, "/organiser/invite", uses="2").text)
    with site.database.write() as session:
        assert code is not None and teams.register(site.database, session, code[1], "Invited")
    assert organiser.form(page, "/organiser/invite", uses="0").status_code == 400
    assert organiser.form(page, "/organiser/phase", phase="final", action="close").status_code == 400, "box not ticked"
    assert organiser.form(page, "/organiser/phase", phase="final", action="move", ends="soon").status_code == 400
    ends = "2099-01-02T03:04"
    assert organiser.form(page, "/organiser/phase", phase="final", action="move", ends=ends).status_code == 303
    assert "2099-01-02 03:04 UTC" in Client(app).get("/phases/final").text
    for address in ("/organiser", "/phases/final?view=private"):
        assert Client(app).sign_in(site.tokens["First"]).get(address).status_code in (401, 404)
    assert entries.SCORED in text and codes["best"] in text


def test_equal_pixels_and_failed_jobs_are_shown_to_the_organiser(tmp_path: Path) -> None:
    site = make_site(tmp_path / "board")
    site.scored(site.team("First"), 1, 0.6)
    site.scored(site.team("Second"), 1, 0.6)
    site.queued(site.team("Third"), 1)
    with site.database.write() as session:
        for _ in range(queue.MAX_ATTEMPTS):
            job = queue.claim(site.database, session, "w", ["final"])
            assert job is not None
            queue.finish_failed(site.database, session, job, "no judge")
    app = create_app(site.place, site.database)
    text = Client(app).sign_in(site.organiser).get("/organiser").text
    assert "The same pixels as Second." in text and "The same pixels as First." in text and "no judge" in text
    assert "same pixels" not in Client(app).sign_in(site.tokens["First"]).get("/team").text
    with site.database.write() as session:
        phases.close(site.database, session, "final", "")
    assert "closed" in Client(app).get("/").text
    site.database.close()


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    path=st.sampled_from(
        [
            "/",
            "/phases/",
            "/submissions/",
            "/compare",
            "/log",
            "/pictures/",
            "/static/",
            "/badge/",
            "/api/v1/",
            "/team/",
        ]
    ),
    rest=st.text(max_size=20),
    query=st.dictionaries(
        st.sampled_from(["sort", "view", "before", "after", "a", "b", "baselines"]), st.text(max_size=8)
    ),
)
def test_no_address_makes_the_board_fail(made: Made, path: str, rest: str, query: dict[str, str]) -> None:
    from urllib.parse import quote, urlencode

    address = f"{path}{quote(rest.encode('utf-8', 'replace'), safe='')}?{urlencode(query, errors='replace')}"
    assert Client(made[1]).get(address).status_code < 500
