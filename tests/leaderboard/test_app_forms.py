"""The pages: what people do in a browser, and what the board does not let them do."""

import re
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from facesr.leaderboard import entries, phases, queue, teams
from facesr.leaderboard.app import create_app
from facesr.web.security import Rate, Rates
from tests.leaderboard.site import Client, Made, make_site


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
