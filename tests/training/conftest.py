"""A run small enough to train many times in a test."""

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from facesr.build import load_settings
from facesr.config import TrainSettings
from facesr.snapshots.snapshot import newest_state
from facesr.training import loop

TINY = (
    "device=cpu",
    "precision=fp32",
    "duration_kimg=0.032",
    "batch_size=4",
    "log_every_kimg=0.008",
    "validation_every_kimg=0.016",
    "state_every_kimg=0.008",
    "schedule.warmup_kimg=0",
    "data.train.num_faces=24",
    "data.validation.num_faces=4",
    "generator.channels=32",
    "generator.num_blocks=1",
    "generator.channels_up=32",
    "generator.num_hourglass_blocks=0",
    "discriminator.num_channels=4",
    "losses.adversarial.start_kimg=0.008",
    "losses.adversarial.r1_gamma=1.0",
    "losses.adversarial.r1_every=2",
)


def final_state(settings: TrainSettings) -> dict[str, Any]:
    """Returns the newest training state of a run."""
    found = newest_state(Path(settings.runs_dir) / settings.name / "state")
    assert found is not None
    return found[1]


def asked_to_stop_at(num_steps: int) -> Callable[..., Any]:
    """Returns the training step with a SIGTERM to this process after so many steps."""
    plain = loop.train_step

    def stopping(gan: Any, *args: Any) -> Any:
        figures = plain(gan, *args)
        if gan.num_steps == num_steps:
            os.kill(os.getpid(), signal.SIGTERM)
        return figures

    return stopping


@pytest.fixture
def tiny(tmp_path: Path) -> Callable[..., TrainSettings]:
    """Returns settings of a tiny GAN run in the test's own folder, with any overrides."""

    def make(*overrides: str) -> TrainSettings:
        return load_settings("train", TrainSettings, [*TINY, f"runs_dir={tmp_path}/runs", *overrides])

    return make


@pytest.fixture
def bare(tiny: Callable[..., TrainSettings]) -> Callable[..., TrainSettings]:
    """Returns the same without the loss of the judge, half of a step's time, for tests that ask nothing of it."""
    return lambda *overrides: tiny("~losses.identity", *overrides)
