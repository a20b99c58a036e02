"""A contest in a real browser: three teams, five archives, one of them hostile and one a copy, to the private ranks."""

import threading
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from facesr.leaderboard import founding, worker
from facesr.leaderboard.app import create_app
from facesr.leaderboard.competition import Place
from facesr.leaderboard.desk import LocalDesk
from facesr.leaderboard.operations import opened
from facesr.leaderboard.scoring import protocol_named
from facesr.methods.folder import RestoreOptions, restore_folder
from facesr.methods.low import LowPictures
from facesr.methods.open import open_method
from facesr.png import list_png, read_png
from facesr.submission.pack import pack
from facesr.tiles import Tiles
from facesr.web.tokens import is_token
from tests.leaderboard.made import RANKING
from tests.web.reader import NARROW, WIDE, Reader, chromium
from tests.web.serving import served

pytestmark = [pytest.mark.slow, pytest.mark.browser]


class Scorer:
    """Scores by the mean difference from the original, so that no judge has to be loaded."""

    columns: ClassVar[dict[str, Any]] = {
        RANKING: {"unit": "", "higher_is_better": True},
        "psnr_rgb": {"unit": "dB", "higher_is_better": True},
    }
    ranking_metric = RANKING
    higher_is_better = True
    basis: ClassVar[dict[str, Any]] = {"metrics": {RANKING: 1}}
    basis_sha256 = "b" * 64

    def __init__(self, high: Path) -> None:
        self.high = dict(sorted(list_png(high).items()))
        self.ids = tuple(self.high)

    def score(self, folder: Path) -> Any:
        difference = np.array(
            [
                np.abs(read_png(folder / f"{key}.png").astype(float) - read_png(path)).mean()
                for key, path in self.high.items()
            ]
        )
        self.columns_found = {RANKING: 1 - difference / 255, "psnr_rgb": 20 * np.log10(255 / (difference + 1))}
        return type("Scored", (), {"ids": self.ids, "columns": self.columns_found})()


def archives(place: Place, folder: Path) -> dict[str, Path]:
    """Returns archives by what they are."""
    phase = place.competition.phases[0]
    low = LowPictures.open(place.low(phase))
    options = RestoreOptions(torch.device("cpu"), 8, False, Tiles(192, 24))
    found = {}
    for team, method in (("Alpha", "bicubic"), ("Beta", "nearest"), ("Gamma", "nearest")):
        restored = restore_folder(open_method(method, options.device), low, options, folder / "restored")
        out = folder / f"{team}.zip"
        found[team] = pack(restored.path, out, team=team, protocol=protocol_named(phase.protocol)).path
    found["hostile"] = folder / "<img src=x onerror=alert(1)>.zip"
    with zipfile.ZipFile(found["hostile"], "w") as file:
        file.writestr("../../etc/passwd", b"root")
    return found


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, str, Place]]:
    """Address of a served demo with a worker, the organiser's token, and its folder."""
    monkeypatch.setattr(founding, "DEMO_FACES", 8)
    monkeypatch.setattr(worker, "open_scorer", lambda phase, high, low, device: Scorer(high))
    token = founding.make_competition(tmp_path / "demo", title="Faces <b>2027</b>")
    with opened(tmp_path / "demo") as (place, database), served(create_app(place, database)) as url:
        stop = threading.Event()
        desk = LocalDesk(place, database, "test")
        desk.poll_seconds = 0.1
        thread = threading.Thread(target=worker.Worker(desk).run, args=(stop,))
        thread.start()
        yield url, token, place
        stop.set()
        thread.join(60)


@pytest.fixture
def browser() -> Iterator[Any]:
    with chromium() as found:
        yield found


class Member(Reader):
    """An organiser, or a member of a team."""

    def sign_in(self, token: str) -> None:
        self.page.goto("/signin")
        self.page.fill("input[name=token]", token)
        self.submit("Sign in")

    def upload(self, path: Path, name: str = "") -> None:
        """Sends an archive by the form of the team's page."""
        self.page.goto("/team")
        self.page.set_input_files(
            "input[name=archive]",
            {"name": name or path.name, "mimeType": "application/zip", "buffer": path.read_bytes()},
        )
        self.page.get_by_role("button", name="Send", exact=True).click()
        self.page.wait_for_url("**/team?sent=*")

    def wait_for(self, text: str, address: str) -> str:
        until = time.monotonic() + 60
        while True:
            self.page.goto(address)
            found = str(self.page.inner_text("main"))
            if text in found:
                return found
            assert time.monotonic() < until, found
            time.sleep(0.3)


def test_contest_in_a_browser(site: tuple[str, str, Place], browser: Any, tmp_path: Path) -> None:
    url, token, place = site
    made = archives(place, tmp_path)
    organiser = Member(browser, url, WIDE)
    anybody = Member(browser, url, NARROW)
    assert "ID similarity" in anybody.see("/", "front-390")
    organiser.sign_in(token)
    organiser.see("/organiser", "organiser-1280")
    organiser.page.locator("form[action='/organiser/invite'] input[name=uses]").fill("3")
    organiser.submit("Make an invitation")
    organiser.check("invitation-1280")
    code = next(word for word in organiser.page.inner_text("main").split() if is_token(word))
    teams = {}
    for name, size in (("Alpha", WIDE), ("Beta", NARROW), ("Gamma", NARROW)):
        team = teams[name] = Member(browser, url, size)
        team.see("/register", f"register-{size['width']}")
        team.page.fill("input[name=code]", code)
        team.page.fill("input[name=team]", name)
        team.submit("Register")
        team.check(f"token-{size['width']}")
        team.submit("Sign in now")
    teams["Alpha"].upload(made["Alpha"])
    teams["Beta"].upload(made["Beta"])
    teams["Gamma"].upload(made["Gamma"])
    teams["Gamma"].upload(made["hostile"], made["hostile"].name)
    teams["Alpha"].upload(made["Beta"])
    told = teams["Gamma"].wait_for("refused", "/team")
    assert "place" not in told or "queue" not in told.split("refused")[1]
    teams["Gamma"].check("team-390")
    teams["Alpha"].wait_for("packed for team 'Beta'", "/team")
    teams["Alpha"].check("team-1280")
    rows = anybody.wait_for("Gamma", "/phases/final")
    assert "Alpha" in rows and "2-3" in rows
    anybody.check("phase-390")
    organiser.see("/phases/final", "phase-1280")
    assert "private" not in anybody.page.inner_text("table").lower()
    organiser.see("/organiser", "organiser-scored-1280")
    seen = organiser.page.inner_text("main")
    assert "The same pixels as Gamma." in seen and "packed for team 'Beta'" in seen
    anybody.page.locator("a[href^='/submissions/']").first.click()
    anybody.check("submission-390")
    assert anybody.page.locator("img").count() >= 3
    broken = anybody.page.evaluate("[...document.images].filter(one => !one.complete || !one.naturalWidth).length")
    assert broken == 0
    for address in ("/log", "/api", "/signin"):
        anybody.see(address, f"{address.strip('/')}-390")
    anybody.page.goto("/phases/final")
    anybody.page.keyboard.press("Tab")
    assert anybody.page.evaluate("document.activeElement.textContent") == "To the content"
    organiser.page.goto("/organiser")
    organiser.page.locator("form:has(button:has-text('Close'))").locator("input[name=sure]").first.check()
    organiser.page.get_by_role("button", name="Close ID similarity now").click()
    closed = anybody.wait_for("rivate", "/phases/final")
    assert "Alpha" in closed
    anybody.check("closed-390")
    assert "no script" not in closed
    plain = browser.new_context(java_script_enabled=False, base_url=url).new_page()
    plain.goto("/phases/final")
    assert "Alpha" in plain.inner_text("table")
