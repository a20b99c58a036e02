"""The pages of a study over HTTP: consent, questions one by one, what can be sent twice, withdrawal, strangers."""

import logging
import re
import sqlite3
import struct
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from facesr.opinion import raters
from facesr.opinion.opening import open_database
from facesr.opinion.records import read_records
from facesr.opinion.study import Study
from facesr.opinion.tables import RaterRow
from facesr.web.rates import Rate
from facesr.web.security import Rates
from tests.leaderboard.site import Client
from tests.opinion.made import Hall, a_study, answer, fields_of, whole_session

SMALL = ("kinds=[same,pair,acr]", "faces=7", "anchors=[bicubic]")


class Clock:
    now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a study; its database is made anew for each test."""
    return a_study(tmp_path_factory.mktemp("opinion"), *SMALL, "rules.min_seconds=0.2").folder


@pytest.fixture
def hall(folder: Path) -> Iterator[Hall]:
    for path in folder.glob("study.sqlite*"):
        path.unlink()
    served = Hall(Study(folder), clock=Clock())
    yield served
    served.database.close()


def pictures_of(page: str) -> list[str]:
    return re.findall(r'<img src="(/pictures/[0-9a-f]{32}\.png)"', page)


def test_a_session_from_the_link_to_the_thanks(hall: Hall) -> None:
    link = hall.link()
    client = hall.visitor()
    opened = client.get(link)
    assert opened.status_code == 303 and opened.headers["location"] == "/"
    assert opened.headers["referrer-policy"] == "no-referrer" and "httponly" in opened.headers["set-cookie"].lower()
    first = client.get("/").text
    assert "Your consent" in first and hall.study.plan.sha256 in first and "token" not in first.split("form_token")[0]
    assert client.get("/question").status_code == 303, "no question before the consent"
    assert client.form("/", "/consent", language="en").status_code == 303
    assert "Is this the same person?" in client.get("/").text
    trials = hall.trials(link)
    assert whole_session(
        client, lambda page: 1, ms="900", ratio="2", width="390", height="800", scale="7", touch="1"
    ) == len(trials)
    assert "Thank you" in client.get("/").text and "/withdraw" in client.get("/").text
    records = read_records(hall.study.folder)
    assert [rating.answer for rating in records.ratings] == [1] * len(trials)
    assert [(rating.part, rating.kind, rating.face, rating.method) for rating in records.ratings] == [
        (trial.part, trial.kind, trial.face, trial.method) for trial in trials
    ]
    (rater,) = records.raters
    assert (rater.pixel_ratio, rater.width, rater.height, rater.scale, rater.touch) == (2.0, 390, 800, 7, True)
    assert rater.finished is not None and records.trials == len(trials) and rater.language == "en"
    assert records.rules.min_seconds == 0.2 and records.high is not None and records.high.is_dir()
    assert set(records.folders) == {"ours", "theirs", "bicubic"}


def test_pages_between_questions(hall: Hall) -> None:
    client = hall.joined()
    seen = []
    for _ in range(20):
        page = client.get("/")
        seen.append(re.findall(r"<h1[^>]*>([^<]+)", page.text)[0])
        if "/question" not in page.text:
            break
        while answer(client, 1).headers["location"] == "/question":
            pass
    titles = ["Is this the same person?", "The practice is over", "Which picture is better?", "The practice is over"]
    without_breaks = [title for title in seen if title != "Time for a break"]
    assert without_breaks == [*titles, "How good is the picture?", "The practice is over", "Thank you"]
    assert "Time for a break" in seen


def test_sent_twice_counts_once(hall: Hall) -> None:
    client = hall.joined()
    page = client.get("/question").text
    data = fields_of(page)
    for value in ("1", "0", "0"):
        assert client.request("POST", "/question", data={**data, "answer": value}).status_code == 303
    assert hall.num_answers() == 1
    assert read_records(hall.study.folder).ratings[0].answer == 1
    # Going back shows the next question, not the one that was answered.
    assert fields_of(client.get("/question").text)["place"] == "1"


def test_no_question_can_be_skipped_or_forged(hall: Hall) -> None:
    one, other = hall.joined(), hall.joined()
    data = fields_of(one.get("/question").text)
    for wrong in ({"place": "5"}, {"mark": "0" * 80}, {"mark": data["mark"][:-1] + "x"}, {"mark": ""}):
        assert one.request("POST", "/question", data={**data, **wrong, "answer": "1"}).status_code == 403
    assert other.request("POST", "/question", data={**data, "answer": "1"}).status_code == 403
    for wrong in ({"answer": "2"}, {"answer": "-1"}, {"answer": "x"}, {}, {"answer": "9" * 50}):
        assert one.request("POST", "/question", data={**data, **wrong}).status_code == 400, wrong
    foreign = one.request("POST", "/question", data={**data, "answer": "1"}, headers={"sec-fetch-site": "cross-site"})
    assert foreign.status_code == 403 and hall.num_answers() == 0


def test_resuming_by_the_link_on_another_device(hall: Hall) -> None:
    link = hall.link()
    client = hall.joined(link)
    for _ in range(3):
        answer(client, 1)
    again = hall.visitor()
    again.get(link)
    assert "Welcome back" in again.get("/").text
    assert fields_of(again.get("/question").text)["place"] == "3"
    # The page that is still open on the first device goes on as well.
    assert answer(client, 0).status_code == 303 and hall.num_answers() == 4


def test_seconds_are_the_browsers_but_no_more_than_have_passed(hall: Hall) -> None:
    clock = Clock()
    hall.database.close()
    hall = Hall(hall.study, clock=clock)
    client = hall.joined()
    for milliseconds in ("1500", "9000", "", "-5", "nan", "1e99"):
        data = fields_of(client.get("/question").text)
        clock.now += 4
        client.request("POST", "/question", data={**data, "answer": "1", "ms": milliseconds})
    assert [rating.seconds for rating in read_records(hall.study.folder).ratings] == [1.5, 4, 4, 4, 4, 4]
    hall.database.close()


def test_what_a_browser_says_of_itself_is_checked(hall: Hall) -> None:
    client = hall.joined()
    answer(client, 1, ratio="inf", width="1e9", height="-3", scale="<b>", touch="yes")
    (rater,) = read_records(hall.study.folder).raters
    assert (rater.pixel_ratio, rater.width, rater.height, rater.scale, rater.touch) == (0.0, 0, 0, 0, False)


def test_withdrawing_deletes_the_answers_for_good(hall: Hall) -> None:
    link = hall.link()
    client = hall.joined(link)
    slot = hall.slot(link)
    for _ in range(4):
        answer(client, 1, ratio="7.123456789")

    def holds(number: float) -> bool:
        """Returns whether any of SQLite's files holds a number, as it stores one."""
        files = hall.study.folder.glob("study.sqlite*")
        return any(struct.pack(">d", number) in path.read_bytes() for path in files)

    assert holds(7.123456789)
    assert "all 4 answers" in client.get("/withdraw").text
    assert client.form("/withdraw", "/withdraw").status_code == 303
    assert "You have withdrawn" in client.get("/").text and client.get("/question").status_code == 303
    assert hall.num_answers() == 0
    records = read_records(hall.study.folder)
    assert records.ratings == () and [rater.withdrawn for rater in records.raters] == [True]
    assert not holds(7.123456789)
    with sqlite3.connect(hall.study.folder / "study.sqlite") as direct:
        assert direct.execute("SELECT count(*) FROM answers").fetchone() == (0,)
    other = hall.link()
    hall.joined(other)
    assert hall.slot(other) == slot, "the session is free again"


def test_what_was_withdrawn_leaves_the_log_when_nobody_reads_it_any_more(hall: Hall) -> None:
    client = hall.joined()
    answer(client, 1, ratio="7.123456789")
    path = hall.study.folder / "study.sqlite"
    log = path.with_name("study.sqlite-wal")
    with closing(sqlite3.connect(path, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        assert reader.execute("SELECT count(*) FROM answers").fetchone() == (1,)
        # Nobody waits for the reader, and nothing else fails meanwhile.
        assert client.form("/withdraw", "/withdraw").status_code == 303
        assert struct.pack(">d", 7.123456789) in log.read_bytes()
        assert answer(hall.joined(), 1).status_code == 303
        with hall.database.engine.connect() as connection:
            assert connection.exec_driver_sql("PRAGMA busy_timeout").scalar() == 30_000
        reader.execute("COMMIT")
    client.get("/")
    assert log.read_bytes() == b""
    assert struct.pack(">d", 7.123456789) not in path.read_bytes()


def test_a_log_that_was_in_use_is_emptied_at_the_end_and_by_whoever_opens_the_study(hall: Hall) -> None:
    client = hall.joined()
    path = hall.study.folder / "study.sqlite"
    log = path.with_name("study.sqlite-wal")
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        for ends in (hall.database.close, lambda: open_database(hall.study).close()):
            answer(client, 1)
            assert log.read_bytes() != b""
            if ends == hall.database.close:
                other.execute("BEGIN")
                other.execute("SELECT count(*) FROM answers").fetchone()
                hall.database.empty_log()
                assert log.read_bytes() != b""
                other.execute("COMMIT")
            ends()
            assert log.read_bytes() == b""


def test_sessions_are_given_in_turn_and_given_again_when_abandoned(hall: Hall) -> None:
    links = [hall.link() for _ in range(5)]
    clients = [hall.joined(link) for link in links]
    assert [hall.slot(link) for link in links] == [0, 1, 2, 3, 4]
    late = hall.visitor()
    late.get(hall.link())
    refused = late.form("/", "/consent", language="en")
    assert refused.status_code == 409 and "all the people that it needs" in refused.text
    with hall.database.write() as session:
        for row in session.query(RaterRow).filter(RaterRow.slot == 2):
            row.seen = row.seen.replace(year=2020) if row.seen else None
    assert late.form("/", "/consent", language="en").status_code == 303
    # Who comes back after all goes on.
    assert answer(clients[2], 1).status_code == 303
    with hall.database.read() as session:
        found = raters.progress(hall.database, session, hall.study)
    assert (found.joined, found.free, found.withdrawn) == (6, 0, 0)


def test_pictures_are_for_their_rater_and_their_question(hall: Hall) -> None:
    link = hall.link()
    client, other = hall.joined(link), hall.joined()
    page = client.get("/question").text
    first = pictures_of(page)
    assert len(first) == 2
    for address in first:
        answered = client.get(address)
        assert answered.status_code == 200 and answered.headers["content-type"] == "image/png"
        assert answered.headers["cache-control"] == "private, max-age=3600, no-transform"
        assert not {"etag", "last-modified"} & set(answered.headers), "they would tell equal pictures"
        assert other.get(address).status_code == hall.visitor().get(address).status_code == 404
    upcoming = re.findall(r"/pictures/[0-9a-f]{32}\.png", page.split('data-next="')[1].split('"')[0])
    assert all(client.get(address).status_code == 200 for address in upcoming)
    names = set(first)
    for _ in range(11):
        answer(client, 1)
        shown = pictures_of(client.get("/question").text)
        assert names.isdisjoint(shown), "a picture that comes again has another address"
        names |= set(shown)
    assert client.get(first[0]).status_code == 404, "a question that was answered shows nothing any more"
    # No address or page says what is shown.
    assert not re.search(
        r"ours|theirs|bicubic|nearest|original/|f\d\d|trap|repeat|training", re.sub(r"[0-9a-f]{16,}", "", page)
    )


def test_registering_oneself(hall: Hall) -> None:
    with hall.database.write() as session:
        code = raters.open_to_all(session)
    client = hall.visitor()
    assert client.get(f"/join/{'x' * 43}").status_code == 404
    assert "Take part" in client.get(f"/join/{code}").text
    told = client.request("POST", f"/join/{code}", data={}).text
    link = re.search(r"http://board.test(/r/[\w-]{43})", told)
    assert link is not None
    assert "Your consent" in client.get("/").text
    again = hall.visitor()
    again.get(link[1])
    assert "Your consent" in again.get("/").text
    with hall.database.write() as session:
        raters.close_to_all(session)
    assert client.get(f"/join/{code}").status_code == 404


def test_strangers_learn_nothing_and_cannot_guess(hall: Hall) -> None:
    stranger = hall.visitor()
    front = stranger.get("/")
    assert "personal link" in front.text and "form" not in front.text
    assert stranger.get("/question").status_code == stranger.get("/withdraw").status_code == 303
    for path in ("/consent", "/withdraw", "/question"):
        answered = stranger.request("POST", path, data={"place": "0", "answer": "1"})
        assert answered.status_code == 401, path
    assert stranger.get("/nothing").status_code == 404 and "traceback" not in stranger.get("/nothing").text.lower()
    statuses = {stranger.get(f"/r/{number:043d}").status_code for number in range(25)}
    assert statuses == {404, 429}


def test_forms_need_the_tokens_of_their_pages(hall: Hall) -> None:
    client = hall.visitor()
    client.get(hall.link())
    assert client.request("POST", "/consent", data={"language": "en"}).status_code == 403
    joined = hall.joined()
    answer(joined, 1)
    assert joined.request("POST", "/withdraw", data={"form_token": "0" * 64}).status_code == 403
    assert hall.num_answers() == 1


def test_a_busy_address_is_told_to_wait(folder: Path, hall: Hall) -> None:
    served = Hall(hall.study, rates=Rates(changes=Rate(2, 0.01)))
    client = served.joined()
    answer(client, 1)
    refused = answer(client, 1)
    assert refused.status_code == 429 and "Please wait" in refused.text and int(refused.headers["retry-after"]) > 1
    served.database.close()


def test_nothing_personal_is_logged_or_stored(hall: Hall, capfd: pytest.CaptureFixture[str]) -> None:
    logging.getLogger("facesr.web.requests").setLevel(logging.INFO)
    link = hall.link()
    client = Client(hall.app, "203.0.113.77")
    client.get(link, headers={"user-agent": "Netscape"})
    client.form("/", "/consent", language="en")
    answer(client, 1)
    told = capfd.readouterr().err
    assert '"route": "/r/{token}"' in told and "203.0.113" not in told and link not in told and "Netscape" not in told
    stored = b"".join(path.read_bytes() for path in hall.study.folder.glob("study.sqlite*"))
    assert b"203.0.113" not in stored and link[3:].encode() not in stored and b"Netscape" not in stored


def test_languages(hall: Hall) -> None:
    client = hall.visitor()
    link = hall.link()
    client.get(link)
    chinese = client.get("/", headers={"accept-language": "fr;q=0.9, zh-CN;q=0.8, en;q=0.1"}).text
    assert '<html lang="zh"' in chinese and "\u540c\u610f" in chinese
    assert '<html lang="en"' in client.get("/?lang=en", headers={"accept-language": "zh"}).text
    client.form("/?lang=zh", "/consent", language="zh")
    assert '<html lang="zh"' in client.get("/question", headers={"accept-language": "en"}).text
    answer(client, 1)
    assert read_records(hall.study.folder).raters[0].language == "zh"
