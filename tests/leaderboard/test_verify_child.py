"""The program that verifies, run in this process."""

import dataclasses
import io
import json
import zipfile
from pathlib import Path

import pytest

from facesr.leaderboard import verify_child
from facesr.leaderboard.facts import facts_of
from facesr.png import encode_png
from tests.leaderboard.sandboxes import Desk, a_desk, another_program, pixels_of, whether_isolated  # noqa: F401
from tests.submission.conftest import (
    bench,  # noqa: F401
    stored,
)


def told(desk: Desk, archive: bytes) -> list[bytes]:
    """Returns what the verifier answers, asked in this process: its line, and the pixels behind it."""
    path = desk.bench.root / "secret-place.zip"
    path.write_bytes(archive)
    request = {
        "archive": str(path),
        "low": str(desk.bench.low),
        "protocol": dataclasses.asdict(desk.bench.protocol),
        "is_isolated": False,
    }
    answers = io.BytesIO()
    verify_child._answer(request, answers)
    assert desk.bench.left_behind() == []
    return answers.getvalue().split(b"\n", 1)


class TestVerifier:
    """The program of the other process, run in this one."""

    def test_pixels_follow_the_facts(self, desk, tmp_path):
        line, data = told(desk, stored(desk.bench.members()))
        assert json.loads(line)["facts"] == facts_of(desk.bench.manifest, is_synthetic=False)
        wanted = pixels_of(desk.bench.pictures, tmp_path)
        assert data == b"".join(wanted[name].tobytes() for name in sorted(wanted))

    def test_an_invented_face_is_told(self, desk, tmp_path):
        picture = pixels_of(desk.bench.pictures, tmp_path)["302.png"]
        pictures = {**desk.bench.pictures, "302.png": encode_png(picture, "synthetic face: invented by facesr pulse")}
        assert json.loads(told(desk, stored(desk.bench.members(pictures)))[0])["facts"]["synthetic"] is True

    @pytest.mark.parametrize(
        ("bend", "words"),
        [
            (lambda members: [*members, ("../evil.png", b"x")], "unsafe names"),
            (lambda members: [*members, ("extra.png", b"x")], "leave extra files out"),
            (lambda members: members[:-1], "no manifest.json"),
            (lambda members: [("301.png", b"no picture"), *members[1:]], "another sha256"),
            (lambda members: [], "empty archive"),
        ],
    )
    def test_broken_rules_are_told_without_paths(self, desk, bend, words):
        line, data = told(desk, stored(bend(desk.bench.members())))
        answer = json.loads(line)
        assert answer["answer"] == "refused" and data == b""
        assert words in answer["sentence"] and str(desk.bench.root) not in answer["sentence"]

    def test_the_folder_of_low_pictures_has_no_path(self, desk):
        for archive in (
            stored(desk.bench.members(low_sha256="0" * 64)),
            stored(desk.bench.members(dict(list(desk.bench.pictures.items())[:2]))),
        ):
            sentence = json.loads(told(desk, archive)[0])["sentence"]
            assert "the pictures that were given out" in sentence and str(desk.bench.root) not in sentence

    def test_a_bomb(self, desk):
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as opened:
            for name, data in desk.bench.members():
                opened.writestr(name, b"\0" * (16 << 20) if name == "301.png" else data)
        assert "unpacks more than 100-fold" in json.loads(told(desk, file.getvalue())[0])["sentence"]

    @pytest.mark.parametrize(("number", "answer"), [(27, "exhausted"), (28, "failed"), (5, "failed")])
    def test_files_that_cannot_be_written(self, desk, monkeypatch, number, answer):
        def full(path, data):
            raise OSError(number, "no space")

        monkeypatch.setattr(Path, "write_bytes", full)
        path = desk.bench.root / "secret-place.zip"
        with path.open("wb") as file:
            file.write(stored(desk.bench.members()))
        answers = io.BytesIO()
        asked = {"archive": str(path), "low": str(desk.bench.low), "is_isolated": False}
        verify_child._answer({**asked, "protocol": dataclasses.asdict(desk.bench.protocol)}, answers)
        assert json.loads(answers.getvalue())["answer"] == answer

    def test_it_bounds_itself(self, monkeypatch):
        resource = pytest.importorskip("resource")
        set_to = {}
        infinite = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
        monkeypatch.setattr(resource, "getrlimit", lambda kind: (9, 9) if kind == resource.RLIMIT_CPU else infinite)
        monkeypatch.setattr(resource, "setrlimit", set_to.__setitem__)
        verify_child._limit({"memory_bytes": 1 << 31, "cpu_seconds": 60, "file_bytes": 1 << 29})
        assert set_to == {
            resource.RLIMIT_AS: (1 << 31, 1 << 31),
            resource.RLIMIT_CPU: (8, 9),
            resource.RLIMIT_FSIZE: (1 << 29, 1 << 29),
            resource.RLIMIT_NOFILE: (256, 256),
            resource.RLIMIT_CORE: (0, 0),
            resource.RLIMIT_NPROC: (0, 0),
        }
