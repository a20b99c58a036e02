"""report.html of facesr restore: what it shows, that it needs nothing but itself, and how it is written."""

import base64
import io
import json
import re
import shutil
import subprocess
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from facesr.build import load_settings
from facesr.config import RestoreSettings
from facesr.errors import FaceSRError
from facesr.photos.photo_file import Photo, read_photo
from facesr.photos.search import FoundFace
from facesr.restore_photo import command, report, work
from facesr.restore_photo import photo as module
from facesr.restore_photo.command import with_inputs
from facesr.restore_photo.photo import interpolated
from facesr.restore_photo.sidecar import read_told, sidecar_of

POINTS = np.array([[-0.25, -0.2], [0.25, -0.2], [0.0, 0.1], [-0.2, 0.35], [0.2, 0.35]])
HOSTILE = "<b onload='x()'>&\".png"
TOLD = {
    **{"number": 0, "reason": None, "less_certain": [], "centre": [30.0, 30.0], "width": 16.0, "height": 20.0},
    **{"roll_degrees": 3.0, "mirror_agreement": 0.991, "consistency_db": 51.0},
}


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Returns a folder with two photographs; in each a face that is restored, a small and a huge one are found."""

    def find(picture: np.ndarray, detector: object, min_face: float) -> list[FoundFace]:
        middle = np.array([picture.shape[1], picture.shape[0]]) / 2
        widths = (40.0, 16.5, 11.0)
        return [FoundFace(middle, width, 1.24 * width, 0.0, POINTS * width + middle, 0.99) for width in widths]

    monkeypatch.setattr(module, "find_faces", find)
    monkeypatch.setattr(work, "detector", lambda device: None)
    folder = tmp_path / "photos"
    (folder / "inner").mkdir(parents=True)
    Image.fromarray(waves(60, 50)).save(folder / HOSTILE)
    Image.fromarray(waves(60, 50)).save(folder / "inner" / "b, c.jpg", quality=90)
    return folder


def waves(height: int, width: int) -> np.ndarray:
    down, across = np.mgrid[:height, :width] / 9.0
    return (np.stack([np.sin(across), np.cos(down), np.sin(across + down)], 2) * 60 + 128).astype(np.uint8)


def run(*arguments: str) -> None:
    command.run(load_settings("restore", RestoreSettings, with_inputs(arguments)))


class Page(HTMLParser):
    """What a browser makes of a page: its text, pictures by their alternative text, and what it would fetch."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text = ""
        self.pictures: dict[str, Image.Image] = {}
        self.shown: dict[str, tuple[int, int]] = {}
        self.ranges: list[str] = []
        self.feed(text)
        assert self.open == []
        # Nothing is fetched: neither by the style, nor by the script.
        assert not re.search(r"url\(|@import|https?://|fetch|XMLHttp|import\(", text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        assert tag not in ("link", "iframe", "b", "object")
        if tag not in ("meta", "img", "input", "wbr"):
            self.open.append(tag)
        found = {name: value or "" for name, value in attributes}
        assert len(found) == len(attributes) and not any(name.startswith("on") for name in found)
        assert not {"href", "data", "action", "srcset"} & set(found) and (tag == "img") == ("src" in found)
        if tag == "img":
            kind, _, data = found["src"].partition(",")
            assert kind == "data:image/jpeg;base64"
            self.pictures[found["alt"]] = Image.open(io.BytesIO(base64.b64decode(data, validate=True)))
            self.shown[found["alt"]] = int(found["width"]), int(found["height"])
        if tag == "input":
            assert found["type"] == "range"
            self.ranges.append(found["aria-label"])

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("style", "script"):
            self.text += data


def test_a_page_shows_every_photograph_and_face(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    run(str(photos), f"out={out}", "report=true")
    assert f"report: {out / 'report.html'}" in capsys.readouterr().out
    page = Page((out / "report.html").read_text(encoding="utf-8"))
    assert "The detail in restored faces is invented. Not for identifying anyone." in page.text
    # The name is text and nothing else.
    assert HOSTILE in page.text and "inner/b, c.jpg" in page.text and len(page.ranges) == 2
    assert page.text.count("50x60 to 200x240 pixels; 3 faces found, 2 restored, 1 less certain") == 2
    assert page.text.count("only 11 px wide") == 2 and page.text.count("left as it is: 160 px wide") == 2
    for side in ("before", "after"):
        picture = page.pictures[f"{HOSTILE} {side}"]
        assert (picture.size, picture.format) == ((200, 240), "JPEG") and page.shown[f"{HOSTILE} {side}"] == (200, 240)
    for alt, size in page.shown.items():
        if alt.startswith("face"):
            assert size == tuple(3 * side for side in page.pictures[alt].size)
    assert {"face 1 before", "face 1 after", "face 2 before"} < set(page.pictures)
    assert "face 0 before" not in page.pictures
    told = json.loads(sidecar_of(out / HOSTILE).read_text())["faces"][1]
    assert f"{told['mirror_agreement']:.3f}" in page.text and f"{told['consistency_db']:.1f} dB" in page.text
    # What is shown is what was written, and before it what cubic interpolation makes of the photograph.
    with Image.open(out / HOSTILE) as written:
        assert close(page.pictures[f"{HOSTILE} after"], np.asarray(written))
    assert close(page.pictures[f"{HOSTILE} before"], interpolated(waves(60, 50), 4))
    assert not list(out.rglob("*.tmp"))


def close(picture: Image.Image, expected: np.ndarray) -> bool:
    """Returns whether a JPEG shows what is expected, its losses apart."""
    difference = np.abs(np.asarray(picture, np.float64) - expected)
    return difference.mean() < 1.5 and difference.max() < 24


def test_what_was_restored_before_is_read_again(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(str(photos), f"out={out}", "method=bicubic")
    assert not (out / "report.html").exists()
    run(str(photos), f"out={out}", "method=bicubic", "report=true")
    again = (out / "report.html").read_text(encoding="utf-8")
    page = Page(again)
    assert page.text.count("restored before") == 2 and page.text.count("3 faces found, 2 restored, 1 less certain") == 2
    # The page of this call replaces the one of an earlier call; a call without it leaves it.
    run(str(photos / HOSTILE), f"out={out}", "method=bicubic", "report=true")
    assert "inner/b" not in Page((out / "report.html").read_text(encoding="utf-8")).text
    before = (out / "report.html").stat().st_mtime_ns
    run(str(photos / HOSTILE), f"out={out}", "method=bicubic")
    assert (out / "report.html").stat().st_mtime_ns == before


def test_a_sidecar_that_was_edited_does_no_harm(tmp_path: Path) -> None:
    photo = Photo(waves(60, 50), None, False, "PNG")
    for told in (["x"], [{}], [TOLD | {"width": float("nan")}], [TOLD | {"centre": [1]}], [TOLD | {"number": 1e999}]):
        page = report.Report(tmp_path)
        page.add(tmp_path / "a.png", photo, photo, told)
        assert "nothing is known of its faces" in page.write("m", "bicubic").read_text(encoding="utf-8")
    page = report.Report(tmp_path)
    page.add(
        tmp_path / "a.png", photo, photo, [TOLD | {"less_certain": ["<i>"], "width": 1e300, "centre": [-1e9, 1e9]}]
    )
    found = Page(page.write("<i>m", "bicubic").read_text(encoding="utf-8"))
    assert found.text.count("<i>") == 2 and found.pictures["face 0 after"].size == (50, 60)
    sidecar = sidecar_of(tmp_path / "a.png")
    for text in ("no JSON", "[]", "{}", '{"faces": {}}'):
        sidecar.write_text(text)
        assert read_told(tmp_path / "a.png") is None
    sidecar.unlink()
    assert read_told(tmp_path / "a.png") is None


def test_what_was_not_restored_is_told(photos: Path, tmp_path: Path) -> None:
    (photos / "<b>.jpg").write_text("no picture")
    with pytest.raises(FaceSRError, match="1 of 3 photographs were not restored"):
        run(str(photos), f"out={tmp_path / 'out'}", "report=true", "method=bicubic")
    page = Page((tmp_path / "out" / "report.html").read_text(encoding="utf-8"))
    assert "<b>.jpg is text" in page.text and page.text.count("3 faces found") == 2


def test_an_old_page_stays_whole_until_the_new_one_is(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "report.html").write_text("old")
    write = Path.write_text

    def killed(path: Path, text: str, **keys: str) -> int:
        write(path, text[: len(text) // 2], **keys)
        if "report.html" in path.name:
            raise KeyboardInterrupt
        return write(path, text, **keys)

    monkeypatch.setattr(Path, "write_text", killed)
    with pytest.raises(KeyboardInterrupt):
        run(str(photos), f"out={out}", "report=true", "method=bicubic")
    assert (out / "report.html").read_text() == "old"


def test_only_so_many_photographs_are_shown(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "MOST_PHOTOS", 1)
    monkeypatch.setattr(report, "MOST_PAIRS", 1)
    run(str(photos), f"out={tmp_path / 'out'}", "method=bicubic", "report=true")
    page = Page((tmp_path / "out" / "report.html").read_text(encoding="utf-8"))
    assert "This page shows the first 1 photographs; 1 more is left out." in page.text and len(page.ranges) == 1
    assert "1 more restored face" in page.text and "face 2 after" not in page.pictures


@pytest.mark.parametrize(
    ("kind", "sentence"),
    [
        ("folder", "report.html is a folder, and report=true writes a file there"),
        ("inner", "would be written into a folder report.html"),
        ("link", "report=true would write over .*link.png"),
    ],
)
def test_a_page_that_has_no_place_is_refused_before_anything_is_written(
    photos: Path, tmp_path: Path, kind: str, sentence: str
) -> None:
    out = tmp_path / "out"
    if kind == "folder":
        (out / "report.html").mkdir(parents=True)
    elif kind == "inner":
        (photos / "inner").rename(photos / "Report.html")
    else:
        out.mkdir()
        shutil.copy(photos / HOSTILE, out / "report.html")
        (photos / "link.png").symlink_to(out / "report.html")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(FaceSRError, match=sentence):
        run(str(photos), f"out={out}", "report=true")
    assert sorted(tmp_path.rglob("*")) == before


def test_pictures_are_small_and_kinds_of_photographs_are_shown_as_they_look(tmp_path: Path) -> None:
    large = waves(700, 3000)
    alpha = np.full((700, 3000), 65535, np.uint16)
    alpha[:, :1500] = 0
    deep = Photo(large.astype(np.uint16) * 257, alpha, False, "PNG")
    page = report.Report(tmp_path)
    page.add(tmp_path / "deep.png", deep, deep, [TOLD | {"centre": [2000.0, 300.0]}, TOLD | {"number": 1}])
    small = Photo(large[:7, :300], None, False, "PNG")
    twice = replace(small, pixels=interpolated(small.pixels, 2))
    page.add(tmp_path / "small.png", small, twice, [TOLD | {"number": 2, "centre": [299.0, 0.0]}])
    page.add(tmp_path / "thin.png", *[Photo(large[:1], None, False, "PNG")] * 2, None)
    found = Page(page.write("m", "bicubic").read_text(encoding="utf-8"))
    shown = found.pictures["deep.png after"]
    assert shown.size == (1200, 280)
    expected = np.asarray(Image.fromarray(large).resize((1200, 280), Image.Resampling.BOX), np.float64)
    expected[:, :600] = 255.0  # what is transparent is white
    assert close(shown, expected)
    # Crops hold the pixels as they are: the face and four tenths around it, less at the border.
    assert found.pictures["face 0 after"].size == (29, 29)
    assert close(found.pictures["face 0 after"], large[286:315, 1986:2015])
    assert np.asarray(found.pictures["face 1 after"]).min() > 250
    assert close(found.pictures["face 2 before"], np.asarray(found.pictures["face 2 after"]))
    assert found.pictures["face 2 after"].size == (30, 14)
    assert found.pictures["thin.png before"].size == (1200, 1)


def measured(folder: Path, text: str, script: str, width: int) -> str:
    """Returns what a script on the page says, when the page is shown in a frame of a width."""
    (folder / "page.html").write_text(text.replace("</body>", f"<script>{script}</script></body>"), encoding="utf-8")
    (folder / "frame.html").write_text(
        "<body>waiting<script>onmessage=event=>{document.body.textContent='is '+event.data+'.'}</script>"
        f"<iframe src=page.html style='width:{width}px;height:600px;border:0'></iframe>"
    )
    browser = next(path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name)))
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=3000", "--dump-dom"]
    options += [f"--user-data-dir={folder / 'profile'}", str(folder / "frame.html")]
    done = subprocess.run([browser, *options], capture_output=True, text=True, timeout=100, check=True)
    return re.findall(r"is (.*?)\.<", done.stdout)[0]


@pytest.fixture
def text(tmp_path: Path) -> str:
    """Returns a page with a long name and faces of every kind."""
    page, photo = report.Report(tmp_path), Photo(waves(500, 900), None, False, "PNG")
    told = [
        TOLD | {"width": 90.0, "height": 110.0, "centre": [400.0, 200.0], "less_certain": ["a reason " * 9]},
        TOLD | {"number": 1, "reason": "left_for_a_reason_of_one_word" * 4, "mirror_agreement": None},
    ]
    page.add(tmp_path / f"{'name' * 40}.png", photo, photo, told)
    return page.write("m", "bicubic").read_text(encoding="utf-8")


@pytest.mark.browser
@pytest.mark.parametrize("width", [320, 390, 1200])
def test_no_screen_has_to_scroll_sideways(tmp_path: Path, text: str, width: int) -> None:
    script = "onload=()=>parent.postMessage(document.documentElement.scrollWidth,'*')"
    assert int(measured(tmp_path, text, script, width)) <= width
    # Without the page's own script both pictures stand beside each other.
    plain = re.sub(r"<script>.*?</script>", "", text, flags=re.DOTALL)
    boxes = "[...document.querySelectorAll('.side')].map(side=>side.getBoundingClientRect())"
    script = (
        f"onload=()=>{{const [a,b]={boxes};parent.postMessage([a.top==b.top,a.right<=b.left,b.right<={width}],'*')}}"
    )
    assert measured(tmp_path, plain, script, width) == "true,true,true"


@pytest.mark.browser
def test_the_slider_follows_keys_and_pointers(tmp_path: Path, text: str) -> None:
    script = """onload=()=>{const sides=document.querySelector('.sides'),input=sides.querySelector('input');
    const clip=()=>getComputedStyle(sides.querySelector('.after')).clipPath;const said=[clip()];
    input.dispatchEvent(new KeyboardEvent('keydown',{key:'ArrowRight',bubbles:true}));said.push(clip());
    input.value=10;input.dispatchEvent(new Event('input'));said.push(clip());
    const box=sides.getBoundingClientRect();sides.setPointerCapture=()=>{};
    sides.dispatchEvent(new PointerEvent('pointerdown',{clientX:box.left+box.width/4,button:0}));said.push(clip());
    said.push(document.activeElement===input);parent.postMessage(said.join(' | '),'*')}"""
    left = "inset(0px 0px 0px {}%)"
    expected = [*(left.format(share) for share in (50, 52, 10, 25)), "true"]
    assert measured(tmp_path, text, script, 390) == " | ".join(expected)


def test_pages_do_not_change_what_is_read(photos: Path) -> None:
    photo = read_photo(photos / HOSTILE)
    before = photo.pixels.copy()
    report.Report(photos).add(photos / HOSTILE, photo, photo, [TOLD])
    assert np.array_equal(photo.pixels, before)
