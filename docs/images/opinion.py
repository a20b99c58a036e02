"""Takes docs/images/opinion.png, the picture in docs/opinion.md: a question in Chromium, 1280 and 390 pixels wide.

    uv run --extra board --group browser docs/images/opinion.py

The faces are synthetic.
"""

import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
from playwright.sync_api import sync_playwright

import facesr
from facesr.build import load_settings
from facesr.config import OpinionSettings
from facesr.data.synthetic.face.render import render_faces
from facesr.opinion import raters
from facesr.opinion.making import make_study
from facesr.opinion.opening import opened
from facesr.png import write_png

METHODS = ("pretrained:asc19_final", "pretrained:asc19_psnr")
SCREENS = (({"width": 1280, "height": 800}, 1), ({"width": 390, "height": 800}, 1))


def make(folder: Path) -> list[str]:
    """Makes a study in folder/study, and returns the paths of two personal links."""
    high, _ = render_faces(12, seed=11, pictures_per_identity=1, num_workers=0)
    low = facesr.degrade(high)
    pictures = {"high": high} | {
        name.removeprefix("pretrained:"): facesr.open_method(name, device="cpu").restore(low) for name in METHODS
    }
    for name, batch in pictures.items():
        (folder / name).mkdir()
        for number, picture in enumerate(batch):
            write_png(folder / name / f"{number:02d}.png", picture)
    named = ",".join(str(folder / name) for name in pictures if name != "high")
    keys = [f"dir={folder / 'study'}", f"folders=[{named}]", f"high={folder / 'high'}", "faces=8", "repeats=1"]
    make_study(load_settings("opinion", OpinionSettings, [*keys, "traps=1"]))
    with opened(folder / "study") as (_, database), database.write() as session:
        return [f"/r/{raters.invite(database, session)}" for _ in SCREENS]


def main() -> None:
    """Writes opinion.png beside this file."""
    with tempfile.TemporaryDirectory() as name, socket.socket() as free:
        links = make(Path(name))
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()
        command = [sys.executable, "-m", "facesr", "opinion", "serve", str(Path(name) / "study"), "--port", str(port)]
        with subprocess.Popen(command) as server, sync_playwright() as started:
            try:
                time.sleep(5)
                browser = started.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
                shots = [
                    _shot(browser, f"http://127.0.0.1:{port}{link}", *screen)
                    for link, screen in zip(links, SCREENS, strict=True)
                ]
                browser.close()
            finally:
                server.terminate()
    gap = np.full((shots[0].shape[0], 24, 3), 255, np.uint8)
    cv2.imwrite(str(Path(__file__).with_name("opinion.png")), np.hstack([shots[0], gap, shots[1]]))


def _shot(browser: object, address: str, size: dict[str, int], ratio: int) -> np.ndarray:
    page = browser.new_context(viewport=size, device_scale_factor=ratio).new_page()  # type: ignore[attr-defined]
    page.goto(address)
    page.locator("section form button").click()
    page.locator("a[data-next]").click()
    for number in range(8):  # past the practice
        page.wait_for_selector(".stage:not(.wait)")
        if number == 7:
            break
        page.wait_for_timeout(100)
        with page.expect_navigation():
            page.locator("button[name=answer]").first.click()
        if page.locator("a[data-next]").count():
            page.locator("a[data-next]").click()
    page.wait_for_timeout(300)
    shot = cv2.imdecode(np.frombuffer(page.screenshot(), np.uint8), cv2.IMREAD_COLOR)
    assert shot is not None
    return np.asarray(shot, np.uint8)


if __name__ == "__main__":
    main()
