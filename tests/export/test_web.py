"""facesr export --web: the folder, where onnxruntime-web comes from, and the page in a browser."""

import hashlib
import io
import re
import tarfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from facesr.data.export import FIRST_SYNTHETIC, SEED
from facesr.data.synthetic.face.render import render_faces
from facesr.errors import WeightsError
from facesr.export import web, web_runtime
from facesr.export.command import main
from facesr.export.parity import Parity
from facesr.export.web import export_web, page_texts
from facesr.export.web_runtime import runtime_files
from facesr.image import to_float, to_uint8
from facesr.methods.onnx_about import OnnxAbout
from facesr.methods.onnx_file import read_exported
from facesr.metrics.consistency import consistency_of_pictures
from facesr.png import png_remark, read_png, write_png
from facesr.resample import cubic_kernel, downscale_uint8, resize
from facesr.snapshots.network import network_of
from facesr.snapshots.snapshot import read_snapshot
from facesr.task import NOTE
from tests.browser import Tab, browser, served

ABOUT = OnnxAbout("<b>run", "0" * 64, "0" * 64, 1.0, (), None, "<i>use", 29, "", "0.1.0")
FRAMING = '{"width": 96, "height": 112, "face_box_centre": [48.0, 56.0], "face_box_size": [66.0, 82.0]}'


@pytest.fixture(autouse=True)
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FACESR_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Returns a .tgz in the form of the npm package, which counts as the true one."""
    path, files = tmp_path / "package.tgz", {}
    with tarfile.open(path, "w:gz") as archive:
        for name, known in web_runtime._FILES.items():
            data = known.name.encode()
            member = tarfile.TarInfo(f"package/{name}")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
            files[name] = web_runtime._File(known.name, len(data), hashlib.sha256(data).hexdigest())
    monkeypatch.setattr(web_runtime, "_FILES", files)
    monkeypatch.setattr(web_runtime, "_TGZ_BYTES", path.stat().st_size)
    monkeypatch.setattr(web_runtime, "_TGZ_SHA256", hashlib.sha256(path.read_bytes()).hexdigest())
    return path


def test_the_runtime_comes_from_a_package_or_its_folder(package: Path, tmp_path: Path) -> None:
    with tarfile.open(package) as archive:
        archive.extractall(tmp_path, filter="data")
    for place in (package, tmp_path / "package"):
        found = runtime_files(place)
        assert set(found) == {"ort.js", "ort.wasm", "LICENSE.txt", "ThirdPartyNotices.txt"}
        assert found["ort.wasm"] == b"ort.wasm" and found["LICENSE.txt"].startswith(b"MIT License")


def test_a_package_that_is_not_the_true_one_is_not_even_opened(
    package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with tarfile.open(package) as archive:
        archive.extractall(tmp_path, filter="data")
    (tmp_path / "package/dist/ort-wasm-simd-threaded.wasm").write_bytes(b"ort.wasm!")
    package.write_bytes(package.read_bytes() + b"\0")
    (tmp_path / "empty").mkdir()
    monkeypatch.setattr(web_runtime.tarfile, "open", None)
    monkeypatch.setattr(web, "checked_model", None)
    for place, words in {
        "package.tgz": "is not onnxruntime-web 1.30.0 as npm has it; fetch it",
        "package": "ort-wasm-simd-threaded.wasm in --runtime .* is not that of onnxruntime-web 1.30.0; fetch it",
        "empty": "has no dist/ort.wasm.bundle.min.mjs, so it is no npm package onnxruntime-web; fetch it",
        "nothing": "is no folder and no file; fetch it",
    }.items():
        assert main(["x", "--web", str(tmp_path / "site"), "--runtime", str(tmp_path / place)]) == 2
        told = capsys.readouterr().err
        assert re.search(words, told) and told.count("\n") == 1
    assert not (tmp_path / "site").exists()


def test_what_was_fetched_is_kept_and_else_it_says_how_to_get_it(
    package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "npm").write_text(f"#!/bin/sh\ncp '{package}' onnxruntime-web-1.30.0.tgz\n")
    (tmp_path / "npm").chmod(0o755)
    monkeypatch.setattr(web_runtime.shutil, "which", lambda name: None)
    with pytest.raises(
        WeightsError, match="and npm is not installed; fetch it where there is a network with: npm pack"
    ):
        runtime_files()
    monkeypatch.setattr(web_runtime.shutil, "which", lambda name: str(tmp_path / name))
    monkeypatch.setenv("FACESR_OFFLINE", "1")
    with pytest.raises(WeightsError, match="and FACESR_OFFLINE is set"):
        runtime_files()
    monkeypatch.delenv("FACESR_OFFLINE")
    first = runtime_files()
    monkeypatch.setenv("FACESR_OFFLINE", "1")
    assert runtime_files() == first
    (tmp_path / "cache/onnxruntime-web-1.30.0/dist/ort-wasm-simd-threaded.wasm").write_bytes(b"damaged")
    monkeypatch.delenv("FACESR_OFFLINE")
    (tmp_path / "npm").write_text("#!/bin/sh\nexit 1\n")
    with pytest.raises(WeightsError, match=r"npm could not fetch onnxruntime-web 1\.30\.0"):
        runtime_files()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "give either the .onnx file to write or --web FOLDER"),
        (["a.onnx", "--web", "site"], "give either the .onnx file to write or --web FOLDER"),
        (["a.onnx", "--runtime", "x"], "--runtime is for a page alone"),
        (["--web", "full"], "--web full exists; give a new or empty folder"),
        (["--web", "full/file"], "--web full/file exists"),
        (["--web", "full/file/site"], "cannot be written, because .*file is no folder"),
    ],
)
def test_what_it_refuses(
    arguments: list[str], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(web, "runtime_files", None)  # nothing of this takes long
    (tmp_path / "full").mkdir()
    (tmp_path / "full/file").touch()
    assert main(["pretrained:asc19_psnr", *arguments]) == 2
    told = capsys.readouterr().err
    assert re.search(words, told) and told.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["full"]


def test_the_folder_appears_whole_or_not_at_all(
    package: Path, pair: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = pair[1].read_bytes()
    model = (data, read_exported(data, pair[1])[1], Parity(0.0, 0, 0.0, ""))
    monkeypatch.setattr(web, "checked_model", lambda spec, out: model)
    place = tmp_path / "new/site"
    page = export_web("spec", place, package)
    files = {path.relative_to(place).as_posix(): path.stat().st_size for path in place.rglob("*") if path.is_file()}
    assert set(files) == {
        "index.html", "page.css", "page.js", "slider.js", "worker.js", "model.onnx",
        "runtime/ort.js", "runtime/ort.wasm", "runtime/LICENSE.txt", "runtime/ThirdPartyNotices.txt",
    }  # fmt: skip
    assert sum(files.values()) == page.num_bytes and (place / "model.onnx").read_bytes() == data
    full = {"page.css", "worker.js"}

    def write(path: Path, content: bytes) -> int:
        if path.name in full:
            raise OSError(28, "No space left on device")
        return len(content)

    monkeypatch.setattr(Path, "write_bytes", write)
    with pytest.raises(Exception, match=r"site cannot be written: No space left on device\."):
        export_web("spec", tmp_path / "other/site", package)
    assert list((tmp_path / "other").iterdir()) == []


def test_the_page_holds_no_code_of_strangers_and_asks_nobody_else() -> None:
    texts = page_texts(ABOUT, web.name_of("x", ABOUT))
    index = texts["index.html"]
    assert "&lt;b&gt;run" in index and "&lt;i&gt;use" in index and NOTE in index
    assert NOTE == "The detail in restored faces is invented. Not for identifying anyone."
    # Nothing inline, which the policy would refuse.
    assert not re.search(r"<style|style=|\son\w+=|<script>", index)
    assert "data-face" not in index and "data-bound" not in index and 'data-width="24" data-height="28"' in index
    for text in texts.values():
        assert not re.search(r"https?://|url\(|@import|eval\(|innerHTML", text)
    framed = page_texts(OnnxAbout("r", "0" * 64, "0" * 64, 1.0, (), None, "u", 29, FRAMING, "0.1.0"), "r")
    assert 'data-face="16.15 13.84 68.75 73.21"' in framed["index.html"] and "one face" in framed["index.html"]
    general = replace(ABOUT, framing='{"crop": "pieces", "width": 128, "height": 16}')
    index = page_texts(general, web.name_of("pretrained:general", general))["index.html"]
    assert 'data-width="32" data-height="8"' in index and "Restore a small picture" in index and "a part" in index
    assert "pretrained:general, facesr" in index and "data-face" not in index


@pytest.fixture
def site(pair: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Yields the address of a page with a small network and the true onnxruntime-web."""
    monkeypatch.delenv("FACESR_OFFLINE", raising=False)
    try:
        runtime_files()
    except WeightsError as error:
        pytest.skip(str(error))
    export_web(str(pair[0]), tmp_path / "site")
    with served(tmp_path / "site") as address:
        yield address


def canvas(tab: Tab, name: str) -> np.ndarray:
    """Returns the pixels of a canvas, uint8 (H, W, 3)."""
    height, width, *values = tab.evaluate(
        f"(() => {{ const shown = document.getElementById('{name}'), {{width, height}} = shown;"
        "const c = new OffscreenCanvas(width, height).getContext('2d'); c.drawImage(shown, 0, 0);"
        "return [height, width, ...c.getImageData(0, 0, width, height).data]; })()"
    )
    return np.array(values, np.uint8).reshape(height, width, 4)[..., :3]


def restored(network: torch.nn.Module, low: np.ndarray) -> np.ndarray:
    batch = to_float(low[None])
    with torch.no_grad():
        return to_uint8(0.5 * (network(batch) + network(batch.flip(-1)).flip(-1)))[0]


def box_matrix(size: int, start: int, length: int, count: int) -> np.ndarray:
    """Returns the weights (count, size) of an antialiased cubic shrinking of a part that lies far from the border."""
    pitch = length / count
    centre = start + (np.arange(count) + 0.5) * pitch - 0.5
    weights = cubic_kernel((centre[:, None] - np.arange(size)) / pitch)
    return weights / weights.sum(1, keepdims=True)


def differ_by_at_most_one(first: np.ndarray, second: np.ndarray) -> bool:
    return first.shape == second.shape and int(np.abs(first.astype(int) - second).max()) <= 1


@pytest.mark.slow
@pytest.mark.browser
def test_the_page_restores_as_pytorch_does_and_asks_nobody_else(
    site: str, pair: tuple[Path, Path], tmp_path: Path
) -> None:
    network = network_of(read_snapshot(pair[0]), pair[0])
    high = render_faces(1, seed=SEED, first=FIRST_SYNTHETIC, num_workers=0)[0]
    low = downscale_uint8(high)[0]
    write_png(tmp_path / "low.png", low)
    write_png(tmp_path / "high.png", high[0])
    (tmp_path / "none.png").write_bytes(b"no picture")
    with browser(tmp_path / "profile") as tab:
        tab.call("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path / "down"))
        tab.size(1280, 1400)
        tab.call("Page.navigate", url=site)
        tab.wait("document.readyState === 'complete' && document.getElementById('status').textContent === ''")

        tab.give("#file", tmp_path / "none.png")
        tab.wait("document.getElementById('error').textContent.startsWith('none.png is no picture')")
        # A small picture is restored at once, as a whole.
        tab.give("#file", tmp_path / "low.png")
        tab.wait("!document.getElementById('result').hidden")
        assert differ_by_at_most_one(canvas(tab, "after"), restored(network, low))
        told = tab.evaluate("document.getElementById('facts').textContent")
        decibels = consistency_of_pictures(canvas(tab, "after")[None], low[None])[0]
        assert re.fullmatch(rf"96x112 pixels in \d+\.\d\d s \(two passes\); consistency {decibels:.1f} dB", told)
        # The small network states a bound of 12.5 dB.
        assert tab.evaluate("document.getElementById('unsure').hidden")
        tab.evaluate("document.querySelector('main').dataset.bound = '99'")
        assert tab.evaluate("document.getElementById('error').hidden")
        tab.evaluate("document.getElementById('download').click()")
        while not list((tmp_path / "down").glob("*.png")):
            tab.evaluate("new Promise((done) => setTimeout(done, 50))")
        (saved,) = (tmp_path / "down").glob("*.png")
        assert saved.name == "low_restored.png" and png_remark(saved.read_bytes()) == NOTE
        np.testing.assert_array_equal(read_png(saved), canvas(tab, "after"))

        # Of a larger one the part in the frame, shrunk to the largest grid; keys move and resize the frame.
        tab.give("#file", tmp_path / "high.png")
        told_now = "document.getElementById('told').textContent"
        tab.wait(f"{told_now} === '96x112 pixels, shrunk to 32x37; becomes 128x148'")
        tab.press("-")
        tab.press("ArrowRight")
        assert tab.evaluate(told_now).startswith("91x106 pixels")
        assert tab.evaluate("document.getElementById('box').style.left") != "0%"
        for key in "+++":
            tab.press(key)
        tab.press("Enter")
        tab.wait("document.getElementById('facts').textContent.startsWith('128x148')")
        assert tab.evaluate("document.getElementById('unsure').textContent").endswith("(consistency below 99 dB).")
        assert not tab.evaluate("document.getElementById('unsure').hidden")
        shrunk = to_uint8(resize(to_float(high).double(), 37, 32).float())[0]
        assert differ_by_at_most_one(canvas(tab, "after"), restored(network, shrunk))

        # The mouse draws another frame, which begins where it was pressed.
        for key in "-" * 20:
            tab.press(key)
        stage = "document.getElementById('stage').getBoundingClientRect()"
        x, y, side = (tab.evaluate(f"{stage}.{name}") for name in ("x", "y", "width"))
        pixel = side / 96
        tab.drag(*((x + place * pixel, y + place * pixel) for place in (10, 20, 50)))
        assert tab.evaluate(told_now).startswith("40x47 pixels, shrunk to 32x37")
        tab.evaluate("document.getElementById('facts').textContent = ''")
        tab.press("Enter")
        tab.wait("document.getElementById('facts').textContent.startsWith('128x148')")
        # What lies around the frame counts.
        rows, columns = box_matrix(112, 10, 47, 37), box_matrix(96, 10, 40, 32)
        shrunk = np.floor(np.einsum("ih,hwc,jw->ijc", rows, high[0], columns) + 0.5).clip(0, 255).astype(np.uint8)
        assert differ_by_at_most_one(canvas(tab, "after"), restored(network, shrunk))

        for width in (390, 1280):
            tab.size(width, 844)
            assert tab.evaluate("document.documentElement.scrollWidth") <= width
        assert all(address.removeprefix("blob:").startswith((site, "data:")) for address in tab.requests())
        assert len(tab.requests()) > 8 and tab.complaints() == []
        # Neither the page nor its worker could send a picture away.
        other = site.replace("127.0.0.1", "localhost")
        for session in (None, *tab.workers):
            assert tab.evaluate(f"fetch('{site}page.css').then(() => 'came', () => 'refused')", session) == "came"
            assert tab.evaluate(f"fetch('{other}page.css').then(() => 'came', () => 'refused')", session) == "refused"
        assert len(tab.workers) == 1 and any("Content Security Policy" in told for told in tab.complaints())
