"""method=FILE.onnx: it restores as its snapshot does, and says where it comes from."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import facesr
from facesr.build import load_settings
from facesr.config import EvaluateSettings, SubmitSettings, TrainSettings
from facesr.data.export import export_synthetic
from facesr.embedders.builtin import SmallRecogniser
from facesr.errors import CheckpointError, ConfigError, FaceSRError, WeightsError
from facesr.evaluation import run as evaluate
from facesr.methods import bound
from facesr.methods.open import open_method
from facesr.methods.restore import restore_pictures
from facesr.png import read_png, write_png
from facesr.snapshots import interpolation, shipped, task_arithmetic
from facesr.submission import command as submit
from facesr.tiles import Tiles
from facesr.training.run import build_players
from facesr.weights import read_state_dict, sha256_of

CPU = torch.device("cpu")


def pictures(num: int, height: int = 28, width: int = 24) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (num, height, width, 3), np.uint8)


def levels_between(first: np.ndarray, second: np.ndarray) -> int:
    return int(np.abs(first.astype(int) - second.astype(int)).max())


def test_it_restores_as_the_snapshot(pair: tuple[Path, Path]) -> None:
    first, second = (open_method(str(path), CPU) for path in pair)
    for low in (pictures(20), pictures(2, 9, 5), pictures(1, 1, 3)):
        for self_ensemble in (False, True):
            answers = [
                restore_pictures(method, low, device=CPU, self_ensemble=self_ensemble, on_finding=lambda finding: None)
                for method in (first, second)
            ]
            assert levels_between(*answers) <= 1
    low = pictures(1, 60, 100)
    tiles = restore_pictures(second, low, device=CPU, tiles=Tiles(80, 32), on_finding=lambda finding: None)
    assert levels_between(tiles, restore_pictures(first, low, device=CPU, on_finding=lambda finding: None)) <= 1


def test_it_says_where_it_comes_from(pair: tuple[Path, Path]) -> None:
    first, second = (open_method(str(path), CPU) for path in pair)
    for name in ("name", "loss_judges", "config_sha256", "kimg", "bound_db"):
        assert getattr(first, name) == getattr(second, name), name
    # Of the very file: what it says of its snapshot is a claim.
    assert second.weights_sha256 == sha256_of(pair[1]) != first.weights_sha256
    assert second.path == pair[1] and set(second.packages) == {"onnxruntime"}
    assert second.guard is not None and second.guard.fallback is not None
    assert second.guard.fallback.name == "pretrained:asc19_psnr"
    assert open_method(str(pair[1]), CPU, guard=False).bound_db is None


def test_python_opens_it(pair: tuple[Path, Path]) -> None:
    method = facesr.open_method(pair[1], device="cpu")
    assert method.restore(np.full((28, 24, 3), 99, np.uint8)).shape == (112, 96, 3)
    assert method.name == "tester"


@pytest.mark.slow
def test_evaluating_it_gives_the_snapshots_scores(
    pair: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FACESR_CACHE", str(tmp_path / "cache"))
    torch.save(SmallRecogniser().state_dict(), tmp_path / "random.pt")
    export_synthetic(tmp_path / "faces", 2)
    subjects = []
    for number, path in enumerate(pair):
        keys = {
            "method": path, "high": tmp_path / "faces" / "high", "low": tmp_path / "faces" / "low", "device": "cpu",
            "embedder.weights": tmp_path / "random.pt", "num_resamples": 50, "restored_dir": tmp_path / "kept",
            "out": tmp_path / f"out{number}",
        }  # fmt: skip
        evaluate.run(load_settings("evaluate", EvaluateSettings, [f"{key}={value}" for key, value in keys.items()]))
        subjects.append(json.loads((tmp_path / f"out{number}" / "summary.json").read_text())["subject"])
    first, second = (Path(subject["pictures"]) for subject in subjects)
    assert first != second
    names = sorted(path.name for path in first.iterdir())
    assert len(names) == 2
    for name in names:
        assert levels_between(read_png(first / name), read_png(second / name)) <= 1
    assert subjects[0]["guard"]["bound_db"] == subjects[1]["guard"]["bound_db"] == 12.5
    record = json.loads((second.parent / "restoration.json").read_text())
    assert record["loss_judges"] == ["builtin"] and "onnxruntime" in record["packages"]
    assert record["weights_sha256"] == sha256_of(pair[1])


def test_it_is_packed_and_verified(pair: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "low").mkdir()
    for number, picture in enumerate(pictures(2)):
        write_png(tmp_path / "low" / f"{number}.png", picture)
    keys = {
        "checkpoint": pair[1], "low": tmp_path / "low", "team": "Team", "out": tmp_path / "team.zip", "device": "cpu",
        "restored_dir": tmp_path / "kept", "protocol": "asc19_preliminary", "protocol.num_pictures": 2,
    }  # fmt: skip
    submit.run(load_settings("submit", SubmitSettings, [f"{key}={value}" for key, value in keys.items()]))
    verify = {"verify": tmp_path / "team.zip", "low": tmp_path / "low", "protocol": "asc19_preliminary"}
    verify["protocol.num_pictures"] = 2  # type: ignore[assignment]
    submit.run(load_settings("submit", SubmitSettings, [f"{key}={value}" for key, value in verify.items()]))
    assert "is a valid submission" in capsys.readouterr().out


# What needs a snapshot


def test_snapshots_only(pair: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    snapshot, file = map(str, pair)
    out = str(tmp_path / "out.safetensors")
    commands = [
        (shipped.main, [file, "name"]),
        (interpolation.main, [file, snapshot, "--weight", "0.5", "--out", out]),
        (interpolation.main, [snapshot, file, "--weight", "0.5", "--out", out]),
        (task_arithmetic.main, [snapshot, "--before", file, "--after", snapshot, "--out", out]),
        (bound.main, [file, "--low", str(tmp_path), "--only-measure"]),
    ]
    for main, arguments in commands:
        assert main(arguments) == 2
        told = capsys.readouterr().err
        assert "small.onnx is an ONNX file, which only restores" in told and told.count("\n") == 1
    for one, other in ((snapshot, file), (file, snapshot), (file, file)):
        with pytest.raises(CheckpointError, match=r"small\.onnx is an ONNX file, which only restores"):
            open_method(one, CPU, other)
    settings = load_settings("train", TrainSettings, [f"start_from={file}", "device=cpu"])
    with pytest.raises(CheckpointError, match=r"small\.onnx is an ONNX file, which only restores"):
        build_players(settings, CPU)


def test_no_gradient_flows(pair: tuple[Path, Path]) -> None:
    with pytest.raises(WeightsError, match="is an ONNX file, which has no gradients here"):
        read_state_dict(pair[1])
    generator = open_method(str(pair[1]), CPU).generator
    with pytest.raises(RuntimeError, match="through which no gradient flows"):
        generator(torch.rand(1, 3, 8, 8, requires_grad=True))


def test_it_runs_on_the_cpu_alone(pair: tuple[Path, Path]) -> None:
    with pytest.raises(ConfigError, match="which runs on the CPU; give device=cpu"):
        open_method(str(pair[1]), torch.device("cuda"))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FaceSRError, match=r"nothing\.onnx is not a file"):
        open_method(str(tmp_path / "nothing.onnx"), CPU)
