"""The bound of a snapshot: what held-out pictures give, and that stating it moves nothing else."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open

from facesr.methods.bound import MIN_PICTURES, Measured, main
from facesr.models.sicnn import SICNN
from facesr.png import write_png
from facesr.snapshots.snapshot import Snapshot, read_snapshot, write_snapshot
from facesr.weights import sha256_of, to_eight_bits

BICUBIC = {"_target_": "facesr.models.interpolation.Bicubic"}
NODE = {"_target_": "facesr.models.sicnn.SICNN", "num_channels": 8, "growth": 4, "num_layers": 2}


@pytest.fixture
def faces(tmp_path: Path) -> Path:
    """Originals from smooth to rough, and one of them noise."""
    folder = tmp_path / "high"
    folder.mkdir()
    generator = np.random.default_rng(0)
    for i in range(MIN_PICTURES):
        roughness = 100.0 if i == 7 else 10.0 + 0.1 * i
        picture = 128 + roughness * generator.standard_normal((16, 24, 3))
        write_png(folder / f"{i}.png", picture.clip(0, 255).astype(np.uint8))
    return folder


def write(path: Path) -> Path:
    write_snapshot(path, Snapshot({}, BICUBIC, "run", 1.0, "c" * 64, (), {"psnr_rgb": 30.0}, ""))
    return path


def test_the_rule_is_a_robust_one() -> None:
    values = np.array([50.0] * 5 + [49.0] * 10 + [51.0] * 10)
    # Half of the distances from the median 50 are at most 1.
    assert Measured(values).bound_db == np.floor(10 * (50 - 5 * 1.4826)) / 10 == 42.5
    broken = Measured(np.concatenate([values, [0.0, 10.0]]))
    assert broken.bound_db == pytest.approx(42.5, abs=5.0) and broken.values.min() < broken.bound_db
    assert Measured(np.array([1.0, 30.0, 60.0])).bound_db == 0.0
    assert Measured(np.full(9, 50.0)).bound_db == 47.0


def test_it_is_measured_and_stated(tmp_path: Path, faces: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path / "a.safetensors")
    assert main([str(path), "--high", str(faces)]) == 0
    told = capsys.readouterr().out
    bound = read_snapshot(path).consistency_bound_db
    assert bound is not None and f"bound {bound:g} dB, stated in {path}, sha256 {sha256_of(path)}" in told
    assert re.search(rf"plain: median .*; 1 of {MIN_PICTURES} below {bound:g} dB\nself-ensemble: ", told)
    assert (tmp_path / "a.safetensors.sha256").read_text().startswith(sha256_of(path))


def test_only_the_bound_moves(tmp_path: Path, faces: Path) -> None:
    path, out = tmp_path / "a.safetensors", tmp_path / "out" / "b.safetensors"
    torch.manual_seed(0)
    packed = to_eight_bits(SICNN(8, growth=4, num_layers=2).state_dict())
    write_snapshot(path, Snapshot(packed, NODE, "run", 1.5, "c" * 64, ("builtin",), {"psnr_rgb": 30.0}, ""))
    before = path.read_bytes()
    assert main([str(path), "--high", str(faces), "--only-measure"]) == 0
    assert path.read_bytes() == before and len(list(tmp_path.glob("*.safetensors"))) == 1
    assert main([str(path), "--high", str(faces), "--out", str(out)]) == 0
    assert path.read_bytes() == before
    with safe_open(str(path), "pt") as first, safe_open(str(out), "pt") as second:
        about = [json.loads(file.metadata()["facesr"]) for file in (first, second)]
        assert about[1].pop("consistency_bound_db") == read_snapshot(out).consistency_bound_db
        assert about[0] == about[1] and sorted(first.keys()) == sorted(second.keys())
        for name in first.keys():  # noqa: SIM118 - safe_open is no dict
            one, other = first.get_tensor(name), second.get_tensor(name)
            assert one.dtype == other.dtype and torch.equal(one, other)


def test_low_pictures_as_they_are(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    low = tmp_path / "low"
    low.mkdir()
    for i in range(MIN_PICTURES):
        height = 5 if i % 2 else 7  # any sizes
        write_png(low / f"{i}.png", np.random.default_rng(i).integers(0, 256, (height, 6, 3), np.uint8))
    assert main([str(write(tmp_path / "a.safetensors")), "--low", str(low), "--only-measure"]) == 0
    assert f"of {MIN_PICTURES} below" in capsys.readouterr().out


def test_what_is_refused_is_one_sentence(tmp_path: Path, faces: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(write(tmp_path / "a.safetensors"))
    before = Path(path).read_bytes()
    few, odd, broken = (tmp_path / name for name in ("few", "odd", "broken"))
    for folder, size in ((few, 8), (odd, 9)):
        folder.mkdir()
        write_png(folder / "1.png", np.zeros((size, 8, 3), np.uint8))
    broken.mkdir()
    (broken / "1.png").write_bytes(b"no picture")
    for arguments, words in (
        ([path, "--high", str(few)], f"few holds 1 pictures; give at least {MIN_PICTURES}"),
        ([path, "--high", str(odd)], "8x9, which is no multiple of 4"),
        ([path, "--high", str(broken)], "1.png cannot be used"),
        ([path, "--low", str(tmp_path / "absent")], "absent is not a folder"),
        (["pretrained:none", "--high", str(faces)], "pretrained:none does not come with this package"),
        (["runs/absent", "--high", str(faces)], "runs/absent is neither"),
    ):
        assert main(arguments) == 2
        error = capsys.readouterr().err
        assert words in error and error.count("\n") == 1 and Path(path).read_bytes() == before
