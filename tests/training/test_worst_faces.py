"""What validation says of the worst pictures, which a mean hides."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from facesr.config import TrainSettings
from facesr.resample import upscale
from facesr.training import outcome
from facesr.training.loop import train
from facesr.training.outcome import lost_faces, worst_faces
from facesr.training.validation import Scores

Make = Callable[..., TrainSettings]


def scores(psnr: list[float], largest: list[float] | None = None) -> Scores:
    per_face = {"psnr_rgb": np.array(psnr), "consistency": np.array(psnr) + 20.0}
    return Scores(per_face, 0.0, np.array(largest or []))


def test_the_lowest_and_the_feature_that_stands_out() -> None:
    found = worst_faces(scores([28.0, 23.5, 30.0], [2.0, 50.0, 2.5]))
    assert found == {
        "psnr_rgb_lowest": 23.5, "consistency_lowest": 43.5, "largest_feature": 50.0, "largest_feature_ratio": 20.0,
    }  # fmt: skip
    assert worst_faces(scores([28.0])).keys() == {"psnr_rgb_lowest", "consistency_lowest"}


def test_pictures_below_bicubic_are_counted_and_the_worst_is_named() -> None:
    names = ["301", "302", "303"]
    said = lost_faces(names, scores([28.0, 23.5, 25.0]), scores([27.0, 24.5, 25.25]))
    assert "2 of 3 pictures" in said and "'302' with 23.50 dB, 1.00 dB below it" in said
    assert lost_faces(names, scores([28.0, 25.0, 25.25]), scores([27.0, 24.5, 25.25])) == ""


def test_a_run_writes_the_tags_and_says_which_picture_is_lost(
    bare: Make, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = outcome.restore_batch

    def one_destroyed(network: torch.nn.Module, low: Tensor) -> Tensor:
        restored = plain(network, low)
        return torch.cat([upscale(low[:1]) * 0.5, restored[1:]])

    monkeypatch.setattr(outcome, "restore_batch", one_destroyed)
    settings = bare("duration_kimg=0.004")
    train(settings)
    assert "worse than bicubic by PSNR: " in capsys.readouterr().out
    stats = (Path(settings.runs_dir) / settings.name / "stats.jsonl").read_text()
    lines = [json.loads(line) for line in stats.splitlines()]
    validated = [line for line in lines if "validation/consistency" in line]
    assert validated
    for line in validated:
        assert line["validation/consistency_lowest"] < line["validation/consistency"]
        assert line["validation/largest_feature_ratio"] >= 1.0
        assert line["validation/largest_feature"] > 0.0
