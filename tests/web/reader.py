"""Somebody with a browser who looks at the pages of a site; needs `uv run --group browser` and Chromium."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

playwright = pytest.importorskip("playwright.sync_api", reason="uv run --group browser brings it")
axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="uv run --group browser brings it")

WIDE, NARROW = {"width": 1280, "height": 900}, {"width": 390, "height": 844}


@contextlib.contextmanager
def chromium() -> Iterator[Any]:
    """Yields a browser, which ends with the block."""
    with playwright.sync_playwright() as started:
        path = next(found for found in ("/usr/bin/chromium", "/usr/bin/google-chrome") if Path(found).exists())
        found = started.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield found
        found.close()


class Reader:
    """Somebody with a browser, who looks at what is wrong with every page."""

    def __init__(self, browser: Any, url: str, size: dict[str, int], **more: Any) -> None:
        self.page = browser.new_context(viewport=size, base_url=url, **more).new_page()
        self.page.set_default_timeout(30_000)
        self.faults: list[str] = []
        self.page.on("pageerror", lambda error: self.faults.append(f"script: {error}"))
        self.page.on("console", lambda line: self.faults.append(line.text) if line.type == "error" else None)

    def see(self, address: str, name: str) -> str:
        """Opens a page, checks it, keeps a picture where one is wanted, and returns its text."""
        if address:
            self.page.goto(address)
        self.check(name)
        return str(self.page.inner_text("main"))

    def check(self, name: str) -> None:
        found = axe.Axe().run(self.page).response["violations"]
        serious = [one["id"] for one in found if one["impact"] in ("serious", "critical")]
        assert serious == [], (name, [(one["id"], one["nodes"][0]["html"]) for one in found])
        width = self.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert width <= 0, f"{name} is wider than the window"
        assert self.faults == [], (name, self.faults)
        if folder := os.environ.get("FACESR_SHOTS"):
            self.page.screenshot(path=str(Path(folder) / f"{name}.png"), full_page=True)

    def submit(self, button: str) -> None:
        self.page.get_by_role("button", name=button, exact=True).click()
        self.page.wait_for_load_state()
