"""What submit.py attaches for a protocol with folders: the snapshot, its run's settings, and the team's programs."""

import os
import re
import shlex
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from facesr.build import load_settings
from facesr.config import SubmitSettings
from facesr.errors import FaceSRError
from facesr.methods import folder as restore
from facesr.methods.method import Interpolation, Method
from facesr.models.sicnn import SICNN
from facesr.png import write_png
from facesr.snapshots.interpolation_parts import InterpolationParts
from facesr.snapshots.rules import SHIPPED
from facesr.snapshots.snapshot import Snapshot, read_snapshot, write_snapshot
from facesr.submission import command as submit
from facesr.submission.attachments import attachments_for
from facesr.submission.verify import opened_submission
from facesr.weights import sha256_of

pytestmark = pytest.mark.usefixtures("steady_code")

BICUBIC = Method("bicubic", torch.nn.Identity())


@pytest.fixture
def low(tmp_path: Path) -> Path:
    """Two pictures of two sizes."""
    folder = tmp_path / "low"
    folder.mkdir()
    for number, (height, width) in enumerate(((9, 7), (6, 11))):
        picture = np.random.default_rng(number).integers(0, 256, (height, width, 3), dtype=np.uint8)
        write_png(folder / f"{number}.png", picture)
    return folder


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    folder = tmp_path / "programs"
    for name in ("train.py", "tools/run.sh", "README", ".git/config", "tools/__pycache__/a.pyc", ".env", "Thumbs.db"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    return folder


def settings(tmp_path: Path, **keys: object) -> SubmitSettings:
    """Returns composed settings; None leaves a key as configs/submit.yaml has it."""
    honest = {"checkpoint": "bicubic", "low": tmp_path / "low", "team": "Team 1", "out": tmp_path / "out.zip"}
    given = {"protocol": "asc19_preliminary", "device": "cpu", "restored_dir": tmp_path / "kept", **honest, **keys}
    return load_settings(
        "submit", SubmitSettings, [f"{key}={value}" for key, value in given.items() if value is not None]
    )


def members(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def write_run(folder: Path, seed: int = 0) -> Path:
    """Writes a run with a snapshot and settings, and returns the snapshot."""
    torch.manual_seed(seed)
    node = {"_target_": "facesr.models.sicnn.SICNN"}
    path = folder / "snapshots" / "best.safetensors"
    write_snapshot(path, Snapshot(SICNN().state_dict(), node, folder.name, 1.5, "b" * 64, (), {}, ""))
    (folder / "config.yaml").write_text(f"name: {folder.name}\n")
    return path


class TestSubmitting:
    def test_an_interpolation(self, tmp_path, low, capsys):
        submit.run(settings(tmp_path))
        assert "attached  2 files in model/ and script/" in capsys.readouterr().out
        found = members(tmp_path / "out.zip")
        names = ["HR_images/0.png", "HR_images/1.png", "manifest.json", "model/README.txt", "script/README.txt"]
        assert list(found) == names
        assert b"no weights" in found["model/README.txt"]
        assert str(tmp_path).encode() not in b"".join(found.values())
        submit.run(settings(tmp_path, out=tmp_path / "again.zip"))
        assert (tmp_path / "again.zip").read_bytes() == (tmp_path / "out.zip").read_bytes()
        absent = {"checkpoint": None, "team": None, "out": None}
        submit.run(settings(tmp_path, verify=tmp_path / "out.zip", **absent))
        assert "attached  2 files" in capsys.readouterr().out

    def test_a_run_and_programs(self, tmp_path, low, programs):
        snapshot = write_run(tmp_path / "runs" / "demo")
        given = settings(tmp_path, checkpoint=tmp_path / "runs" / "demo", script=programs)
        submit.run(given)
        found = members(tmp_path / "out.zip")
        assert [name for name in found if not name.startswith("HR_images/")] == [
            *("manifest.json", "model/best.safetensors", "model/config.yaml"),
            *("script/README", "script/tools/run.sh", "script/train.py"),
        ]
        assert found["model/best.safetensors"] == snapshot.read_bytes()
        assert found["model/config.yaml"] == b"name: demo\n"
        for path in programs.rglob("*"):
            os.utime(path, (0, 1_000_000_000))
        submit.run(settings(tmp_path, checkpoint=snapshot, script=programs, out=tmp_path / "again.zip"))
        assert (tmp_path / "again.zip").read_bytes() == (tmp_path / "out.zip").read_bytes()
        with opened_submission(tmp_path / "out.zip", given.protocol, low) as submission:
            assert sorted(path.name for path in submission.folder.iterdir()) == ["0.png", "1.png"]
            assert submission.sizes == {"0": (28, 36), "1": (44, 24)}

    def test_a_snapshot_that_changed_meanwhile_is_not_packed(self, tmp_path, low, monkeypatch):
        snapshot = write_run(tmp_path / "runs" / "demo")

        def restoring(*arguments, **named):
            write_run(tmp_path / "runs" / "demo", seed=1)
            return original(*arguments, **named)

        original = restore.restore_folder
        monkeypatch.setattr(restore, "restore_folder", restoring)
        with pytest.raises(FaceSRError, match="pack the snapshot that restored"):
            submit.run(settings(tmp_path, checkpoint=snapshot))
        assert not (tmp_path / "out.zip").exists()

    def test_the_command_of_the_readme_restores_the_same(self, tmp_path, low, monkeypatch):
        write_run(tmp_path / "runs" / "demo")
        submit.run(settings(tmp_path, checkpoint=tmp_path / "runs" / "demo", self_ensemble=True))
        unpacked = tmp_path / "unpacked"
        with zipfile.ZipFile(tmp_path / "out.zip") as archive:
            archive.extractall(unpacked)
        low.rename(unpacked / "LR")
        text = (unpacked / "script" / "README.txt").read_text()
        words = shlex.split(next(line for line in text.splitlines() if "uv run" in line))
        assert words[:3] == ["uv", "run", "submit.py"] and "team=Team 1" in words and "self_ensemble=true" in words
        monkeypatch.chdir(unpacked)
        submit.run(load_settings("submit", SubmitSettings, words[3:]))
        again, first = members(unpacked / "again.zip"), members(tmp_path / "out.zip")
        assert list(again) == [name for name in first if name != "model/config.yaml"]
        assert {name: again[name] for name in again if name.startswith("HR")} == {
            name: data for name, data in first.items() if name.startswith("HR")
        }

    def test_a_blend(self, tmp_path, low):
        first, second = write_run(tmp_path / "runs" / "psnr"), write_run(tmp_path / "runs" / "gan", 1)
        submit.run(
            settings(tmp_path, checkpoint=first, interpolate_with=second.parent.parent, interpolation_weight=0.25)
        )
        found = members(tmp_path / "out.zip")
        assert found["model/best.safetensors"] == first.read_bytes()
        assert found["model/blend_with-best.safetensors"] == second.read_bytes()


def test_a_flat_protocol_attaches_nothing(tmp_path):
    assert attachments_for(settings(tmp_path, protocol="asc19_final"), BICUBIC) == {}


def harmed(programs: Path, kind: str) -> None:
    deep = programs.joinpath(*"abcdefgh")
    if kind == "link":
        (programs / "link.py").symlink_to("train.py")
    elif kind == "linked folder":
        (programs / "link").symlink_to("/etc")
    elif kind == "pipe":
        os.mkfifo(programs / "pipe")
    elif kind == "deep":
        deep.mkdir(parents=True)
        (deep / "a.py").touch()
    elif kind == "many":
        for number in range(1001):
            (programs / f"{number}.py").touch()
    elif kind == "large":
        with (programs / "large.txt").open("wb") as file:
            file.truncate((1 << 26) + 1)
    elif kind == "empty":
        for path in (programs / "train.py", programs / "README", programs / "tools" / "run.sh"):
            path.unlink()
    else:
        (programs / kind).write_text("x")


HARMS = {
    "link": r"link\.py is a symbolic link",
    "linked folder": "link is a symbolic link",
    "pipe": "pipe is no regular file",
    "deep": "below more than 8 folders",
    "many": "more than 1000 files",
    "large": "bytes in script/ where at most 67108864",
    "empty": "holds no files to pack",
    "data.zip": "'script/data.zip'",
    "weights.pth": "'script/weights.pth', where script/ takes programs as text",
    "TRAIN.py": "differ only by letter case",
    "a:b.py": "unsafe names ('script/a:b.py')",
}


@pytest.mark.parametrize("kind", HARMS)
def test_programs_that_no_archive_may_hold(tmp_path, programs, kind):
    harmed(programs, kind)
    with pytest.raises(FaceSRError) as caught:
        attachments_for(settings(tmp_path, script=programs), BICUBIC)
    sentence = str(caught.value)
    assert re.search(HARMS[kind].replace("(", r"\(").replace(")", r"\)"), sentence)
    assert sentence.endswith(".") and "\n" not in sentence and sentence.count(". ") == 0


@pytest.mark.parametrize(
    ("keys", "word"),
    [
        ({"script": "absent"}, "script=absent is not a folder"),
        ({"script": "programs/train.py"}, "is not a folder"),
        ({"script": "programs", "protocol": "asc19_final"}, "script has no meaning with protocol=asc19_final"),
    ],
)
def test_odd_keys(tmp_path, programs, monkeypatch, keys, word):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FaceSRError, match=word):
        attachments_for(settings(tmp_path, **keys), BICUBIC)


def test_script_has_no_meaning_together_with_verify(tmp_path):
    absent = {"checkpoint": None, "team": None, "out": None}
    with pytest.raises(FaceSRError, match="script has no meaning together with verify"):
        submit.run(settings(tmp_path, verify="a.zip", script="programs", **absent))


def test_a_snapshot_of_another_ending(tmp_path):
    path = tmp_path / "weights.bin"
    path.touch()
    with pytest.raises(FaceSRError, match=r"'model/weights\.bin', where model/ takes only"):
        attachments_for(settings(tmp_path), Method("demo", torch.nn.Identity(), path=path))
    path.unlink()
    with pytest.raises(FaceSRError, match=r"weights\.bin cannot be packed as"):
        attachments_for(settings(tmp_path), Method("demo", torch.nn.Identity(), path=path))


def test_what_a_snapshot_builds_on_goes_beside_it(tmp_path):
    psnr = read_snapshot(SHIPPED / "asc19_psnr.safetensors")
    path = tmp_path / "mine.safetensors"
    base = ("asc19_psnr", psnr.sha256)
    write_snapshot(path, replace(psnr, state={"cleaner.head.weight": torch.zeros(16, 3, 3, 3)}, base=base))
    found = attachments_for(settings(tmp_path), Method("demo", torch.nn.Identity(), path=path))
    names = ["model/asc19_psnr.safetensors", "model/mine.safetensors"]
    assert sorted(name for name in found if name.startswith("model/")) == names
    assert sha256_of(found["model/asc19_psnr.safetensors"]) == psnr.sha256


def test_both_snapshots_of_a_blend(tmp_path):
    first, second = write_run(tmp_path / "runs" / "psnr"), write_run(tmp_path / "runs" / "gan", 1)
    parts = InterpolationParts(("a" * 64, "b" * 64), ("c" * 64, "d" * 64), 0.25)
    method = Method("psnr+0.25*gan", torch.nn.Identity(), path=first, interpolation=Interpolation(second, parts))
    found = attachments_for(settings(tmp_path), method)
    assert list(found) == [
        *("model/best.safetensors", "model/blend_with-best.safetensors", "model/config.yaml"),
        *("model/blend_with-config.yaml", "script/README.txt"),
    ]
    assert found["model/blend_with-best.safetensors"] == second
    words = "checkpoint=model/best.safetensors interpolate_with=model/blend_with-best.safetensors "
    words += "interpolation_weight=0.25 low=LR"
    assert words.encode() in found["script/README.txt"]
