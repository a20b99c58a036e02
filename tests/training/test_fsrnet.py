"""Tiny runs of FSRNet on synthetic faces: its terms learn, resuming is exact, and what cannot be is one sentence."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from facesr.build import load_settings
from facesr.config import TrainSettings
from facesr.errors import EXIT_REQUEUE, ConfigError, DataError
from facesr.snapshots.snapshot import read_snapshot
from facesr.training import loop
from facesr.training.loop import train
from tests.training.conftest import asked_to_stop_at, final_state

TINY = (
    "experiment=asc19_fsrnet",
    "data=synthetic",
    "embedder=builtin",
    "device=cpu",
    "precision=fp32",
    "duration_kimg=0.032",
    "batch_size=4",
    "log_every_kimg=0.016",
    "validation_every_kimg=0.016",
    "state_every_kimg=0.008",
    "schedule.warmup_kimg=0",
    "data.train.num_faces=24",
    "data.validation.num_faces=4",
    "generator.num_channels=8",
    "generator.num_blocks=1",
    "generator.num_hourglasses=1",
)
Make = Callable[..., TrainSettings]


@pytest.fixture
def tiny(tmp_path: Path) -> Make:
    """Returns settings of a tiny run in the test's own folder, with any overrides."""

    def make(*overrides: str) -> TrainSettings:
        return load_settings("train", TrainSettings, [*TINY, f"runs_dir={tmp_path}/runs", *overrides])

    return make


@pytest.mark.slow
def test_all_three_terms_take_part_and_the_snapshot_restores(tiny: Make) -> None:
    settings = tiny("name=whole")
    assert train(settings) == 0
    folder = Path(settings.runs_dir) / "whole"
    stats = (folder / "stats.jsonl").read_text()
    assert all(f'"loss/{name}"' in stats for name in ("pixel", "coarse", "prior"))
    assert read_snapshot(folder / "snapshots" / "best.safetensors").run == "whole"


@pytest.mark.slow
def test_a_stopped_run_resumes_to_the_same_bits(tiny: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    moving = "data.augmentation.warp=0.5"
    assert train(tiny("name=whole", moving)) == 0
    with monkeypatch.context() as patch:
        patch.setattr(loop, "train_step", asked_to_stop_at(3))
        assert train(tiny("name=stopped", moving)) == EXIT_REQUEUE
    torch.manual_seed(999)  # a new process would not have the old one's generator
    assert train(tiny("name=stopped", moving)) == 0
    whole, stopped = final_state(tiny("name=whole")), final_state(tiny("name=stopped"))
    for part in ("generator", "average"):
        assert all(torch.equal(value, stopped[part][name]) for name, value in whole[part].items())


@pytest.mark.slow
def test_accumulated_parts_get_their_own_faces_landmarks(tiny: Make) -> None:
    states = []
    for name, steps in (("one", 1), ("two", 2)):
        settings = tiny(f"name={name}", f"accumulation_steps={steps}", "duration_kimg=0.004")
        assert train(settings) == 0
        states.append(final_state(settings)["generator"])
    for name, value in states[0].items():
        torch.testing.assert_close(value, states[1][name], rtol=1e-4, atol=1e-5)


def test_a_generator_without_heatmaps_is_refused_with_such_a_term(tiny: Make) -> None:
    settings = tiny("name=wrong")
    settings.generator = {"_target_": "facesr.models.sicnn.SICNN", "num_channels": 8, "growth": 4, "num_layers": 1}
    with pytest.raises(ConfigError, match=r"losses\.coarse needs coarse, which .*SICNN does not give") as caught:
        train(settings)
    assert "\n" not in str(caught.value)
    settings.losses.pop("coarse")
    with pytest.raises(ConfigError, match=r"losses\.prior needs heatmaps.* ~losses\.prior"):
        train(settings)


def test_a_set_without_landmarks_is_refused(tiny: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    from facesr.data.packed import reader as prepared

    plain = prepared._landmarks_of
    monkeypatch.setattr(prepared, "_landmarks_of", lambda texts: np.full_like(plain(texts), np.nan))
    with pytest.raises(DataError, match="no face of the training set has any") as caught:
        train(tiny("name=blind"))
    assert "\n" not in str(caught.value)
