"""Archives from a real browser: lines that break, pages that are loaded anew, two tabs, the keyboard, and no script."""

import hashlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy import select

from facesr.leaderboard import phases, team_pages
from facesr.leaderboard.app import create_app
from facesr.leaderboard.tables import Submission, Upload
from facesr.web.page import plain_text
from tests.leaderboard.site import Site, make_site
from tests.web.line import Line, line_to
from tests.web.reader import NARROW, WIDE, Reader, chromium, playwright
from tests.web.serving import served

pytestmark = [pytest.mark.slow, pytest.mark.browser]

PIECE, LARGE_PIECE = 100_000, 300_000
DATA = np.random.default_rng(3).bytes(900_000)
DIGEST = hashlib.sha256(DATA).hexdigest()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as found:
        yield found


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Site, Line, Path]]:
    """A board with a team, the line to it, and an archive of some pieces."""
    monkeypatch.setattr(team_pages, "_PIECE_BYTES", PIECE)
    site = make_site(tmp_path / "board", "limits: {waiting: 3, scored_per_day: 9, scored_in_all: 9}")
    site.team("First")
    path = tmp_path / "archive.zip"
    path.write_bytes(DATA)
    with served(create_app(site.place, site.database)) as url, line_to(url) as line:
        yield site, line, path
    site.database.close()


Made = tuple[Site, Line, Path]


class Member(Reader):
    """A member of a team with a browser."""

    def __init__(self, browser: Any, line: Line, site: Site, size: dict[str, int] = WIDE, **more: Any) -> None:
        super().__init__(browser, line.url, size, **more)
        self.page.goto("/signin")
        self.page.fill("input[name=token]", site.tokens["First"])
        self.submit("Sign in")

    def choose(self, path: Path) -> None:
        self.page.set_input_files("input[name=archive]", path)

    def send(self) -> None:
        self.page.get_by_role("button", name="Send", exact=True).click()

    def wait_done(self) -> str:
        try:
            # The page itself gives a line up on which nothing moves for a minute, and takes another one.
            self.page.wait_for_url("**/team?sent=*", timeout=100_000)
        except playwright.TimeoutError as error:
            raise AssertionError((self.page.inner_text("main"), self.faults)) from error
        return str(self.page.inner_text(".done"))

    def wait_alarm(self) -> str:
        self.page.wait_for_selector("[role=alert]:not([hidden])")
        return str(self.page.inner_text("[role=alert]"))


def num_received(site: Site) -> int:
    with site.database.read() as session:
        return session.scalar(select(Upload.num_received)) or 0


def wait_for(site: Site, num_bytes: int, most: int = len(DATA)) -> None:
    until = time.monotonic() + 30
    while not num_bytes <= num_received(site) <= most:
        assert time.monotonic() < until
        time.sleep(0.02)


def submissions(site: Site) -> list[Submission]:
    with site.database.read() as session:
        return list(session.scalars(select(Submission)))


def test_sha256_is_that_of_the_standard(browser: Any) -> None:
    page = browser.new_page()
    page.add_script_tag(content=plain_text("board/sha256.js"))
    script = """([data, steps]) => { const sum = new Sha256(); let at = 0;
        for (const step of steps) { sum.update(Uint8Array.from(data.slice(at, at + step))); at += step; }
        sum.update(Uint8Array.from(data.slice(at))); return sum.end(); }"""
    random = np.random.default_rng(0)
    # Around every border of blocks and of the length behind them.
    for length in [*range(131), 1000, 70_000]:
        data = random.bytes(length)
        steps = [int(one) for one in random.integers(0, 130, 4)]
        assert page.evaluate(script, [list(data), steps]) == hashlib.sha256(data).hexdigest(), (length, steps)
    # Lengths above 2**32 bits, whose upper word counts.
    script = "() => { const sum = new Sha256(); const some = new Uint8Array(2 ** 24);" + (
        "for (let i = 0; i < 33; i++) sum.update(some); return sum.end(); }"
    )
    oracle = hashlib.sha256()
    for _ in range(33):
        oracle.update(bytes(1 << 24))
    assert page.evaluate(script) == oracle.hexdigest()
    page.close()


def test_a_line_that_is_cut_in_the_middle_of_pieces(made: Made, browser: Any) -> None:
    site, line, path = made
    member = Member(browser, line, site)
    member.choose(path)
    line.cuts = [130_000, 630_000]
    line.num_bytes = 0
    member.send()
    told = member.wait_done()
    assert DIGEST in told and "900,000 bytes" in told and line.cuts == []
    assert [(one.archive_sha256, one.num_bytes) for one in submissions(site)] == [(DIGEST, len(DATA))]
    assert site.place.store().is_intact(DIGEST)
    # Chromium by itself sends a request again that was cut on a connection that it had used before.
    assert line.num_bytes < len(DATA) + 2 * 2 * PIECE, "a cut costs two pieces at most"
    # What the browser itself says of a broken line is all that stands in the console.
    assert all("ERR_" in fault for fault in member.faults), member.faults


def test_what_came_of_a_piece_that_was_cut_counts(made: Made, browser: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    site, line, path = made
    monkeypatch.setattr(team_pages, "_PIECE_BYTES", LARGE_PIECE)
    member = Member(browser, line, site)
    member.page.goto("/team")
    member.choose(path)
    line.cuts, line.num_bytes, line.bytes_per_second = [LARGE_PIECE + 250_000], 0, 600_000
    member.send()
    wait_for(site, LARGE_PIECE + 200_000, most=LARGE_PIECE * 2 - 1)
    assert DIGEST in member.wait_done() and site.place.store().is_intact(DIGEST)


@pytest.mark.parametrize("size", [WIDE, NARROW])
def test_a_page_that_is_loaded_anew_in_the_middle_goes_on(made: Made, browser: Any, size: dict[str, int]) -> None:
    site, line, path = made
    member = Member(browser, line, site, size)
    width = size["width"]
    member.see("/team", f"upload-before-{width}")
    line.bytes_per_second = 150_000
    member.choose(path)
    member.send()
    wait_for(site, 4 * PIECE)
    bar = member.page.locator("progress")
    assert bar.is_visible() and 0.3 < bar.evaluate("one => one.value") < 1
    member.check(f"upload-sending-{width}")
    assert "Sending: " in member.page.inner_text("[role=status]")
    before = num_received(site)
    member.page.reload()
    told = member.page.inner_text("main")
    assert "Unfinished" in told and DIGEST in told
    member.check(f"upload-unfinished-{width}")
    line.bytes_per_second, line.num_bytes = None, 0
    member.choose(path)
    member.send()
    assert DIGEST in member.wait_done()
    # The end of the request that the old page left may come, and count, only now. The board then refuses one piece
    # with 409 and tells where the upload goes on; Chromium writes every 409 into its console.
    member.faults = [fault for fault in member.faults if "409 (Conflict)" not in fault]
    assert line.num_bytes < len(DATA) - before + 2 * PIECE
    member.check(f"upload-done-{width}")
    assert len(submissions(site)) == 1 and "Unfinished" not in member.page.inner_text("main")


def test_a_piece_that_came_late_moves_the_upload_on(made: Made, browser: Any) -> None:
    site, line, path = made
    member = Member(browser, line, site)
    early: list[int] = []
    statuses: list[int] = []

    def sent_before(route: Any) -> None:
        """The same piece comes first from elsewhere, as from a page that was closed."""
        request = route.request
        if request.method == "PATCH" and not early:
            headers = {name: request.headers[name] for name in ("content-type", "upload-offset", "x-form-token")}
            answer = member.page.context.request.patch(request.url, headers=headers, data=DATA[:PIECE])
            early.append(answer.status)
        route.continue_()

    member.page.route("**/team/pieces/*", sent_before)
    member.page.on("response", lambda answer: statuses.append(answer.status))
    member.choose(path)
    member.send()
    assert DIGEST in member.wait_done() and site.place.store().is_intact(DIGEST)
    assert early == [200] and statuses.count(409) == 1, (early, statuses)
    assert all("409 (Conflict)" in fault for fault in member.faults), member.faults


def test_stop_and_go_by_the_keyboard(made: Made, browser: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    site, line, path = made
    monkeypatch.setattr(team_pages, "_PIECE_BYTES", LARGE_PIECE)
    member = Member(browser, line, site)
    focus = "document.activeElement.textContent"
    line.bytes_per_second = 80_000
    member.choose(path)
    member.page.locator("input[name=archive]").focus()
    member.page.keyboard.press("Tab")
    assert member.page.evaluate(focus) == "Send"
    member.page.keyboard.press("Enter")
    wait_for(site, 2 * LARGE_PIECE)
    line.num_bytes = 0
    while line.num_bytes < 20_000:
        time.sleep(0.02)
    assert member.page.evaluate(focus) == "Stop"
    member.page.keyboard.press("Enter")
    assert "Stopped." in member.wait_alarm() and member.page.evaluate(focus) == "Send"
    assert line.num_bytes < LARGE_PIECE, "the end of a piece was waited for"
    member.check("upload-stopped-1280")
    line.bytes_per_second, line.num_bytes = None, 0
    member.page.keyboard.press("Enter")
    assert DIGEST in member.wait_done()
    # The last piece, and as much again where the end of the stopped request has still come.
    assert line.num_bytes < 2 * LARGE_PIECE + 100_000


def test_two_tabs_send_the_same_archive(made: Made, browser: Any) -> None:
    site, line, path = made
    member = Member(browser, line, site)
    tab = member.page.context.new_page()
    tab.goto("/team")
    tab.set_input_files("input[name=archive]", path)
    member.choose(path)
    line.bytes_per_second = 400_000
    member.send()
    tab.get_by_role("button", name="Send", exact=True).click()
    assert DIGEST in member.wait_done()
    tab.wait_for_url("**/team?sent=*")
    assert DIGEST in tab.inner_text(".done") and len(submissions(site)) == 1
    assert site.place.store().is_intact(DIGEST)


def test_a_session_and_a_phase_that_end_in_the_middle(made: Made, browser: Any) -> None:
    site, line, path = made
    member = Member(browser, line, site)
    line.bytes_per_second = 200_000
    member.choose(path)
    member.send()
    wait_for(site, PIECE)
    member.page.context.clear_cookies()
    told = member.wait_alarm()
    assert "sign in" in told and "goes on" in told, told
    before = num_received(site)
    member = Member(browser, line, site)
    member.choose(path)
    member.send()
    wait_for(site, before + PIECE)
    with site.database.write() as session:
        phases.close(site.database, session, "final", "over")
    assert "phase final is closed" in member.wait_alarm()
    assert submissions(site) == []


def test_what_is_too_large_or_no_file_is_told_at_once(made: Made, browser: Any, tmp_path: Path) -> None:
    site, line, path = made
    member = Member(browser, line, site, NARROW)
    large = tmp_path / "large.zip"
    large.write_bytes(bytes((1 << 20) + 200_000))
    member.choose(large)
    line.num_bytes = 0
    member.send()
    assert member.wait_alarm() == "The archive has 1.2 MiB; 1.0 MiB are taken at most."
    assert line.num_bytes == 0
    member.check("upload-large-390")
    member.choose(path)
    path.write_bytes(DATA + b"x")
    member.send()
    assert "The file cannot be read: it was changed" in member.wait_alarm()
    assert submissions(site) == [] and line.num_bytes == 0
    member.choose(path)
    line.bytes_per_second = 200_000
    member.send()
    wait_for(site, PIECE)
    path.write_bytes(DATA)
    member.page.wait_for_selector("text=it was changed")
    assert submissions(site) == []


def test_a_dropped_archive_is_sent(made: Made, browser: Any) -> None:
    site, line, _ = made
    member = Member(browser, line, site)
    drop = """(names) => { const data = new DataTransfer();
        for (const name of names) data.items.add(new File([new Uint8Array(300000)], name));
        const event = new DragEvent("drop", { dataTransfer: data, cancelable: true });
        document.querySelector("form.upload").dispatchEvent(event); }"""
    member.page.evaluate(drop, ["a.zip", "b.zip"])
    assert member.wait_alarm() == "Drop one archive."
    member.page.evaluate(drop, ["a.zip"])
    member.send()
    assert hashlib.sha256(bytes(300_000)).hexdigest() in member.wait_done()


def test_a_board_that_is_away_is_waited_for(made: Made, browser: Any) -> None:
    site, line, path = made
    member = Member(browser, line, site)
    member.choose(path)
    line.is_down = True
    member.send()
    member.page.wait_for_selector("text=The line broke; trying again in")
    assert member.page.get_by_role("button", name="Stop").is_visible()
    line.is_down = False
    assert DIGEST in member.wait_done()


def test_the_form_works_without_a_script(made: Made, browser: Any) -> None:
    site, line, path = made
    member = Member(browser, line, site, NARROW, java_script_enabled=False)
    assert not member.page.locator("progress").is_visible()
    assert not member.page.get_by_role("button", name="Stop").is_visible()
    member.choose(path)
    member.send()
    assert DIGEST in member.wait_done() and [one.num_bytes for one in submissions(site)] == [len(DATA)]
