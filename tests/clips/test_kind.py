"""Films are known by their content, and without PyAV one sentence says how to install it."""

import importlib.util
from pathlib import Path

import pytest

from facesr.clips.kind import film_format, films_below, require_reader
from facesr.errors import ConfigError
from facesr.restore_photo.wishes import scale_for_film, span_of


@pytest.mark.parametrize(
    ("start", "format"),
    [
        (b"\0\0\0\x20ftypisom", "mp4"),
        (b"\0\0\0\x14ftypqt  ", "mov"),
        (b"\0\0\0\x08wide", "mov"),
        (b"\x1aE\xdf\xa3\x9fB\x86\x81\x01B\x82\x84webm", "webm"),
        (b"\x1aE\xdf\xa3\x9fB\x86\x81\x01B\x82\x88matroska", "matroska"),
        (b"RIFF\0\0\0\0AVI LIST", "avi"),
        (b"RIFF\0\0\0\0WEBPVP8 ", None),
        (b"\0\0\0\x20ftypheic", None),
        (b"\0\0\0\x20ftypcrx ", None),
        (b"\xff\xd8\xff", None),
        (b"", None),
    ],
)
def test_films_are_known_by_their_content(tmp_path: Path, start: bytes, format: str | None) -> None:
    path = tmp_path / "named.txt"
    path.write_bytes(start + bytes(100))
    assert film_format(path) == format
    assert film_format(tmp_path / "nothing") is None


def test_films_of_a_folder(tmp_path: Path) -> None:
    for name in ("b.mp4", "in/a.MKV", ".hidden/c.mp4", "d.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert films_below(tmp_path) == ["b.mp4", "in/a.MKV"]


def test_without_the_package_the_command_that_installs_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="uv sync --extra video"):
        require_reader()


@pytest.mark.parametrize("frames", ["5", "5:5", "7:3", "-1:3", "a:b", ""])
def test_frames_that_make_no_sense_are_refused(frames: str) -> None:
    with pytest.raises(ConfigError, match="frames="):
        span_of(frames)


def test_frames_and_scale() -> None:
    assert [span_of(frames) for frames in (None, "2:9", "2:", ":9")] == [(0, None), (2, 9), (2, None), (0, 9)]
    sizes = ((320, 240), (480, 270), (640, 480), (960, 544), (1280, 720))
    assert [scale_for_film("auto", *size) for size in sizes] == [4, 4, 2, 2, 1]
    assert scale_for_film("3", 1280, 720) == 3
