"""A study in a real browser: one whole session by keyboard, one on a phone by touch, and pictures pixel by pixel."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from facesr.opinion import raters
from facesr.opinion.making import make_study
from facesr.opinion.records import read_records
from tests.opinion.made import Hall, a_study, noise, settings_of
from tests.web.reader import NARROW, WIDE, Reader, chromium
from tests.web.serving import served

pytestmark = [pytest.mark.slow, pytest.mark.browser]
KEYS = ("anchors=[]", "training=1")
# Every pixel of every picture is a square of whole device pixels, and lies on their grid.
EXACT = """() => [...document.querySelectorAll(".stage img")].map((one) => {
  const place = one.getBoundingClientRect(), ratio = devicePixelRatio;
  return [place.width * ratio / one.naturalWidth, place.height * ratio / one.naturalHeight,
          (place.left + scrollX) * ratio, (place.top + scrollY) * ratio];
})"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as found:
        yield found


@pytest.fixture
def hall(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[tuple[Hall, str]]:
    found = Hall(a_study(tmp_path, *KEYS, *request.param))
    with served(found.app) as url:
        yield found, url
    found.database.close()


class RaterAtWork(Reader):
    """A rater, who looks at the first page of each sort."""

    def __init__(self, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self.seen: set[str] = set()
        self.scales: set[int] = set()

    def work(self, name: str, act: Any) -> int:
        """Goes through everything behind the consent, and returns how many questions there were."""
        count = 0
        while True:
            is_question = self.page.locator("#question").count() == 1
            is_over = not is_question and self.page.locator("a[data-next]").count() == 0
            sort = "the end" if is_over else "between"
            if is_question:
                kind = self.page.locator("fieldset").get_attribute("class")
                sort = f"{kind} {self.page.locator('.control').count()}"
            if is_question:
                self.page.wait_for_selector(".stage:not(.wait)")
                self.exact()
            if sort not in self.seen:
                self.seen.add(sort)
                self.check(f"{name}-{len(self.seen)}")
            if is_over:
                return count
            count += is_question
            with self.page.expect_navigation():
                act(self.page, is_question)

    def exact(self) -> None:
        for across, down, left, top in self.page.evaluate(EXACT):
            assert across == pytest.approx(round(across), abs=0.01) and down == pytest.approx(across, abs=0.01)
            assert left == pytest.approx(round(left), abs=0.07) and top == pytest.approx(round(top), abs=0.07)
            self.scales.add(round(across))


def by_keyboard(page: Any, is_question: bool) -> None:
    page.wait_for_timeout(20)
    page.keyboard.press("ArrowLeft" if page.locator("fieldset.pair").count() else "2" if is_question else "Enter")


def by_touch(page: Any, is_question: bool) -> None:
    page.wait_for_timeout(20)
    (page.locator("button[name=answer]").last if is_question else page.locator("a[data-next]")).tap()


@pytest.mark.parametrize("hall", [("kinds=[pair,acr]", "faces=4", "with_reference=true")], indirect=True)
def test_a_session_by_keyboard(hall: tuple[Hall, str], browser: Any) -> None:
    found, url = hall
    rater = RaterAtWork(browser, url, WIDE, device_scale_factor=1.25)
    rater.see(found.link(), "consent-1280")
    for _ in range(10):
        rater.page.keyboard.press("Tab")
        if rater.page.evaluate("document.activeElement.tagName") == "BUTTON":
            break
    with rater.page.expect_navigation():
        rater.page.keyboard.press("Enter")
    count = rater.work("keyboard", by_keyboard)
    records = read_records(found.study.folder)
    assert count == len(records.ratings) == found.study.plan.num_trials
    assert {(rating.kind, rating.answer) for rating in records.ratings} == {("pair", 0), ("acr", 2)}
    (one,) = records.raters
    assert (one.pixel_ratio, one.width, one.height, one.touch) == (1.25, 1280, 900, False)
    assert one.scale in rater.scales and 0 < max(rating.seconds for rating in records.ratings) < 30
    # Going back asks the next question anew; withdrawing needs no mouse either.
    rater.see("/withdraw", "withdraw-1280")


@pytest.mark.parametrize("hall", [("kinds=[same,acr]", "faces=5", "repeats=0")], indirect=True)
def test_a_session_on_a_phone(hall: tuple[Hall, str], browser: Any) -> None:
    found, url = hall
    rater = RaterAtWork(browser, url, NARROW, device_scale_factor=3, is_mobile=True, has_touch=True)
    with found.database.write() as session:
        code = raters.open_to_all(session)
    rater.see(f"/join/{code}", "join-390")
    rater.submit("Take part")
    rater.check("link-390")
    rater.page.locator("a.button").tap()
    rater.page.wait_for_selector("#consent")
    rater.check("consent-390")
    rater.submit("I agree, begin")
    assert rater.work("phone", by_touch) == found.study.plan.num_trials
    records = read_records(found.study.folder)
    (one,) = records.raters
    assert one.finished is not None and (one.pixel_ratio, one.width, one.touch) == (3, 390, True)
    rater.page.goto("/withdraw")
    rater.submit("Delete my answers and withdraw")
    rater.check("withdrawn-390")
    assert read_records(found.study.folder).ratings == ()


def test_a_large_picture_is_never_made_smaller(tmp_path: Path, browser: Any) -> None:
    for number in range(8):
        for name in ("high", "ours"):
            noise(tmp_path / name / f"f{number:02d}.png", number, 1024, 1024)
    keys = [f"folders=[{tmp_path / 'ours'}]", f"high={tmp_path / 'high'}", "anchors=[]", "faces=4", "training=0"]
    found = Hall(make_study(settings_of(tmp_path / "study", *keys, "repeats=0", "traps=0", "raters=1", "reserve=0")))
    with served(found.app) as url:
        rater = RaterAtWork(browser, url, WIDE)
        rater.page.goto(found.link())
        rater.submit("I agree, begin")
        rater.page.locator("a[data-next]").click()
        rater.page.wait_for_selector(".stage:not(.wait)")
        rater.exact()
        assert "too small" not in rater.page.inner_text("main"), "it is as wide as the window, and scrolls down"
        rater.page.set_viewport_size({"width": 800, "height": 900})
        rater.page.wait_for_selector("#small:not(:empty)")
        rater.exact()
        rater.check("large-800")
        assert rater.scales == {1} and "at least 1056 x" in rater.page.inner_text("#small")
    found.database.close()
