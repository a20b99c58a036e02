"""What the guard replaced is told by both scripts, in every file that they write, and by the pictures themselves."""

import csv
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from facesr.build import load_settings
from facesr.config import EvaluateSettings, SubmitSettings
from facesr.embedders.builtin import SmallRecogniser
from facesr.errors import FaceSRError
from facesr.evaluation import run as evaluate
from facesr.methods import open as restoration
from facesr.methods.folder import RestoreOptions, restore_folder
from facesr.methods.low import LowPictures
from facesr.methods.open import open_method
from facesr.methods.restore import restore_pictures
from facesr.metrics.consistency import consistency_of_pictures
from facesr.png import png_remark, read_png, write_png
from facesr.snapshots.snapshot import Snapshot, write_snapshot
from facesr.submission import command as submit

CPU = torch.device("cpu")
IDS = ("301", "302", "303", "304")
ROUGH = ("302", "304")


def snapshot(path: Path, bound: float | None, name: str) -> str:
    node = {"_target_": f"facesr.models.interpolation.{name}"}
    write_snapshot(path, Snapshot({}, node, path.stem, 1.0, "c" * 64, (), {}, "", bound))
    return str(path)


@pytest.fixture
def pictures(make_faces, tmp_path):
    """Four faces of the competition's size; bicubic contradicts two of them, which are noise."""
    faces = make_faces(tmp_path / "pictures", 96, 112, IDS)
    for key in ROUGH:
        write_png(faces.low / f"{key}.png", np.random.default_rng(int(key)).integers(0, 256, (28, 24, 3), np.uint8))
    return faces


@pytest.fixture
def method(tmp_path, monkeypatch):
    """A guarded snapshot of bicubic, whose fallback is one of nearest."""
    monkeypatch.setattr(restoration, "FALLBACK", snapshot(tmp_path / "fallback.safetensors", 0.0, "Nearest"))
    return snapshot(tmp_path / "guarded.safetensors", 30.0, "Bicubic")


@pytest.fixture
def evaluated(pictures, method, tmp_path, monkeypatch):
    """Runs evaluate.py with keys and returns its output folder."""
    monkeypatch.setenv("FACESR_CACHE", str(tmp_path / "cache"))
    torch.save(SmallRecogniser().state_dict(), tmp_path / "random.pt")
    honest = {"device": "cpu", "embedder.weights": tmp_path / "random.pt", "num_resamples": 50, "num_examples": 0}

    def call(name: str, **keys: object) -> Path:
        given = {**honest, "high": pictures.high, "low": pictures.low, "out": tmp_path / name}
        given |= {"restored_dir": tmp_path / "kept", **keys}
        overrides = [f"{key}={value}" for key, value in given.items() if value is not None]
        evaluate.run(load_settings("evaluate", EvaluateSettings, overrides))
        return tmp_path / name

    return call


@pytest.fixture
def submitted(pictures, method, tmp_path):
    """Runs submit.py with keys."""
    honest = {"checkpoint": method, "low": pictures.low, "team": "Team", "restored_dir": tmp_path / "kept"}

    def call(**keys: object) -> None:
        given = {**honest, "device": "cpu", "out": tmp_path / "team.zip", **keys}
        overrides = [f"{key}={value}" for key, value in given.items() if value is not None]
        submit.run(load_settings("submit", SubmitSettings, overrides))

    return call


def rows_of(out: Path) -> dict[str, dict[str, str]]:
    return {row["id"]: row for row in csv.DictReader((out / "per_image.csv").read_text().splitlines())}


def subject_of(out: Path) -> dict:
    return json.loads((out / "summary.json").read_text())["subject"]


def pixels_as(name: str, low: Path, key: str) -> np.ndarray:
    picture = read_png(low / f"{key}.png")[None]
    return restore_pictures(open_method(name, CPU), picture, device=CPU)[0]


def test_an_evaluation_tells_it_everywhere(evaluated, pictures, method, capsys):
    out = evaluated("out", method=method)
    printed = capsys.readouterr().out
    assert printed.count("note: Guard: 2 of 4 pictures were below the bound of 30 dB") == 1
    guard = subject_of(out)["guard"]
    assert guard["on"] and guard["bound_db"] == 30.0 and sorted(guard["replaced"]) == list(ROUGH)
    assert [one["name"] for one in guard["fallbacks"]] == [restoration.FALLBACK, "bicubic"]
    assert all(len(one["weights_sha256"]) == 64 for one in guard["fallbacks"][:1])
    rows = rows_of(out)
    for key in IDS:
        path = Path(subject_of(out)["pictures"]) / f"{key}.png"
        data = path.read_bytes()
        is_rough = key in ROUGH
        expected = pixels_as("nearest" if is_rough else "bicubic", pictures.low, key)
        assert np.array_equal(read_png(path), expected)
        assert png_remark(data).startswith("guard: restored by") == is_rough
        assert rows[key]["guard"] == (restoration.FALLBACK if is_rough else "")
        low = read_png(pictures.low / f"{key}.png")[None]
        if is_rough:
            refused = consistency_of_pictures(pixels_as("bicubic", pictures.low, key)[None], low)[0]
            assert float(rows[key]["guard_db"]) == pytest.approx(refused, abs=1e-4)
            assert guard["replaced"][key]["consistency_db"] == pytest.approx(refused, abs=1e-4)
        else:
            assert rows[key]["guard_db"] == ""
    page = (out / "report.html").read_text()
    assert "<h2>Guard</h2>" in page and all(f"<th scope='row'>{key}</th>" in page for key in ROUGH)


def test_off_leaves_the_pictures_and_says_so(evaluated, pictures, method, capsys):
    out = evaluated("out", method=method, guard="off")
    assert "Guard" not in capsys.readouterr().out and "guard" not in rows_of(out)["301"]
    assert subject_of(out)["guard"]["on"] is False and "<p class='quiet'>off.</p>" in (out / "report.html").read_text()
    for key in IDS:
        restored = read_png(Path(subject_of(out)["pictures"]) / f"{key}.png")
        assert np.array_equal(restored, pixels_as("bicubic", pictures.low, key))
    with pytest.raises(FaceSRError, match="another evaluation"):
        evaluated("out", method=method)


def test_a_snapshot_without_a_bound_is_recorded_as_such(evaluated, tmp_path):
    out = evaluated("out", method=snapshot(tmp_path / "plain.safetensors", None, "Bicubic"))
    assert subject_of(out)["guard"] == {"on": True, "bound_db": None, "fallbacks": [], "replaced": {}}
    assert "no bound stated" in (out / "report.html").read_text()
    assert "guard" not in subject_of(evaluated("other", method="bicubic"))


def test_an_archive_and_its_restored_folder_tell_it(evaluated, submitted, pictures, tmp_path, capsys):
    submitted()
    assert "guard     2 of 4 pictures were below the bound of 30 dB" in capsys.readouterr().out
    with zipfile.ZipFile(tmp_path / "team.zip") as archive:
        guard = json.loads(archive.read("manifest.json"))["guard"]
    assert sorted(guard["replaced"]) == [f"{key}.png" for key in ROUGH] and guard["bound_db"] == 30.0
    submitted(verify=tmp_path / "team.zip", checkpoint=None, team=None, out=None)
    assert "guard     2 of 4" in capsys.readouterr().out
    from_archive = evaluated("archive", submission=tmp_path / "team.zip")
    assert "note: Guard: 2 of 4 pictures" in capsys.readouterr().out
    assert "(as its manifest says)" in (from_archive / "report.html").read_text()
    (folder,) = (tmp_path / "kept").glob("*/pictures")
    from_folder = evaluated("folder", restored=folder)
    for out in (from_archive, from_folder):
        assert sorted(subject_of(out)["guard"]["replaced"]) == list(ROUGH)
        assert rows_of(out)["302"]["guard"] == restoration.FALLBACK and rows_of(out)["301"]["guard"] == ""


@pytest.mark.slow
def test_what_guards_is_part_of_what_is_found_again(submitted, tmp_path, monkeypatch):
    monkeypatch.setattr("facesr.methods.folder.code_sha256", lambda: "c" * 64)
    kept = tmp_path / "kept"
    submitted()
    submitted(out=tmp_path / "again.zip")
    assert (tmp_path / "again.zip").read_bytes() == (tmp_path / "team.zip").read_bytes()
    assert len(list(kept.iterdir())) == 1
    submitted(out=tmp_path / "off.zip", guard="off")
    assert len(list(kept.iterdir())) == 2
    monkeypatch.setattr(restoration, "FALLBACK", snapshot(tmp_path / "other.safetensors", 0.0, "Nearest"))
    submitted(out=tmp_path / "other.zip")
    assert len(list(kept.iterdir())) == 3


def test_where_it_has_no_meaning_it_is_refused(evaluated, submitted, pictures, tmp_path):
    for keys in ({"restored": pictures.restored}, {"submission": "a.zip"}, {"study": "resolution", "low": None}):
        with pytest.raises(FaceSRError, match="guard=off needs method="):
            evaluated("out", guard="off", **keys)
    with pytest.raises(FaceSRError, match="guard=off has no meaning together with verify"):
        submitted(verify="a.zip", checkpoint=None, team=None, out=None, guard="off")
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_studies_tell_it(evaluated, pictures, method, capsys):
    out = evaluated("tradeoff", study="tradeoff", entries=f"[{method}]")
    printed = capsys.readouterr().out
    assert "note: guarded: Guard: 2 of 4 pictures" in printed
    entries = {entry["name"]: entry for entry in json.loads((out / "summary.json").read_text())["entries"]}
    assert sorted(entries["guarded"]["guard"]["replaced"]) == list(ROUGH) and "guard" not in entries["bicubic"]
    for key in ROUGH:
        write_png(pictures.high / f"{key}.png", np.random.default_rng(7).integers(0, 256, (112, 96, 3), np.uint8))
    out = evaluated("robustness", study="robustness", method=method, low=None, operators="[nearest]")
    assert "note: Guard: of 4 pictures a fallback restored so many: " in capsys.readouterr().out
    rows = list(csv.DictReader((out / "robustness.csv").read_text().splitlines()))
    assert rows[1]["operator"] == "nearest" and rows[1]["guard_replaced"] == "2"


def test_any_sizes_in_tiles(method, tmp_path):
    low = tmp_path / "any"
    low.mkdir()
    generator = np.random.default_rng(0)
    for key, size in (("a", (40, 53)), ("b", (7, 5)), ("c", (40, 53))):
        rough = generator.integers(0, 256, (*size, 3), np.uint8)
        write_png(low / f"{key}.png", np.full((*size, 3), 99, np.uint8) if key == "c" else rough)
    opened, pictures = open_method(method, CPU), LowPictures.open(low)
    first, second = (restore_folder(opened, pictures, RestoreOptions(CPU, n, False), tmp_path) for n in (1, 8))
    assert first.path != second.path and first.restoration.guard == second.restoration.guard
    assert first.restoration.guard is not None and sorted(first.restoration.guard.replaced) == ["a.png", "b.png"]
    assert first.restoration.files == second.restoration.files
