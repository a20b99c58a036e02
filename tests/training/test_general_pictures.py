"""Training without a judge: general pictures, ranked by PSNR of luma, and a GAN from their snapshot."""

import json
from pathlib import Path

import numpy as np
import pytest

from facesr.build import load_settings
from facesr.config import TrainSettings
from facesr.data.prepare.patches import Cutting, cut_folder
from facesr.errors import ConfigError
from facesr.png import write_png
from facesr.snapshots.snapshot import read_snapshot
from facesr.training.loop import train
from facesr.training.outcome import final_table
from facesr.training.validation import Scores

TINY = (
    "device=cpu",
    "precision=fp32",
    "duration_kimg=0.016",
    "batch_size=4",
    "log_every_kimg=0.008",
    "validation_every_kimg=0.008",
    "schedule.warmup_kimg=0",
    "generator.channels=32",
    "generator.num_groups=1",
    "generator.num_blocks=1",
    "generator.channels_up=32",
)
DRAWN = (
    "data.train.num_pictures=8",
    "data.train.patch_px=16",
    "data.train.margin_px=4",
    "data.augmentation.shift_px=4",
    "data.validation.num_pictures=2",
    "data.validation.patch_px=24",
)


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FACESR_CACHE", str(tmp_path / "cache"))


def settings_of(tmp_path: Path, experiment: str, *overrides: str) -> TrainSettings:
    fixed = [f"experiment={experiment}", f"runs_dir={tmp_path}/runs", *TINY]
    return load_settings("train", TrainSettings, [*fixed, *overrides])


def test_a_run_on_general_pictures_keeps_the_best_by_psnr(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train(settings_of(tmp_path, "asc19_preliminary", *DRAWN)) == 0
    folder = tmp_path / "runs" / "asc19_preliminary"
    printed = capsys.readouterr().out
    assert "8 pictures, 2 validation pictures" in printed
    table = printed[printed.index("PSNR Y") :]
    assert "bicubic" in table and "IS" not in table and "ms/picture" in table
    lines = [json.loads(line) for line in (folder / "stats.jsonl").read_text().splitlines()]
    validated = [line for line in lines if "validation/psnr_y" in line]
    assert len(validated) == 2 and not any("is/" in key for line in validated for key in line)
    best = read_snapshot(folder / "snapshots" / "best.safetensors")
    assert best.loss_judges == () and best.scores["psnr_y"] == max(line["validation/psnr_y"] for line in validated)


def test_the_gan_starts_from_it_and_keeps_its_last_snapshot(tmp_path: Path) -> None:
    assert train(settings_of(tmp_path, "asc19_preliminary", *DRAWN)) == 0
    every = ("validation_every_kimg=${duration_kimg}", "discriminator.num_channels=8")
    assert train(settings_of(tmp_path, "asc19_preliminary_gan", *DRAWN, *every)) == 0
    folder = tmp_path / "runs" / "asc19_preliminary_gan" / "snapshots"
    best = read_snapshot(folder / "best.safetensors")
    assert best.kimg == 0.016 and best.loss_judges == ()
    assert best.generator == read_snapshot(tmp_path / "runs/asc19_preliminary/snapshots/best.safetensors").generator


def test_patches_of_ones_own_pictures(tmp_path: Path) -> None:
    for name, count in (("train", 8), ("held_out", 2)):
        (tmp_path / name).mkdir()
        for number in range(count):
            noise = np.random.default_rng(number).integers(0, 256, (28, 30, 3), np.uint8)
            write_png(tmp_path / name / f"{number}.png", noise)
        cut_folder(tmp_path / name, tmp_path / "sets" / name, Cutting(16, 4, 16))
    paths = (f"data.train.path={tmp_path}/sets/train", f"data.validation.path={tmp_path}/sets/held_out")
    assert train(settings_of(tmp_path, "asc19_preliminary", "data=patches", "name=mine", *paths)) == 0


def test_a_judge_can_be_shown_beside_without_ranking(tmp_path: Path) -> None:
    assert train(settings_of(tmp_path, "asc19_preliminary", "judges=[builtin]", "duration_kimg=0.008", *DRAWN)) == 0
    best = read_snapshot(tmp_path / "runs" / "asc19_preliminary" / "snapshots" / "best.safetensors")
    assert {"is/builtin", "psnr_y"} <= best.scores.keys()


def test_none_among_the_judges_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="judges names none, which is no judge"):
        train(settings_of(tmp_path, "asc19_preliminary", "judges=[none]", *DRAWN))


def test_the_table_has_the_columns_of_the_ranking() -> None:
    scores = Scores({"is/x": np.array([0.5]), "psnr_rgb": np.array([24.0]), "psnr_y": np.array([25.5]),
                     "ssim": np.array([0.7])}, 0.01)  # fmt: skip
    faces = final_table("is/x", [("bicubic", scores)])
    assert faces.splitlines() == [
        "             IS      PSNR    SSIM   ms/face   (IS by x)",
        "bicubic  0.5000  24.00 dB  0.7000     10.00",
    ]
    general = final_table("psnr_y", [("bicubic", scores)])
    assert general.splitlines() == [
        "           PSNR Y      PSNR    SSIM  ms/picture",
        "bicubic  25.50 dB  24.00 dB  0.7000       10.00",
    ]
