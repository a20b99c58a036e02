"""Coloured light, neon colours and noise: faces as few training sets have them."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from facesr.config import AugmentationSettings
from facesr.data.feed.augment import augment, draw

PLAIN = AugmentationSettings(
    flip=0, warp=0, roll_degrees=0, scale=0, shift_px=0, brightness=0, contrast=0, saturation=0, greyscale=0, turn=0
)
HARD = replace(PLAIN, hard=0.25, hard_light=0.3, hard_saturation=3.0, hard_noise=0.08)


def faces(count: int, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).integers(64, 192, (count, 3, 12, 10)) / 255.0).float()


def test_other_faces_stay_as_they_are() -> None:
    low = faces(400)
    draws = draw(HARD, 400, seed=1, position=0)
    changed = (augment(low, draws, 0) != low).flatten(1).any(1).numpy()
    assert 70 <= changed.sum() <= 130  # a quarter of 400
    assert np.array_equal(changed, (draws.light != 1).any(1))
    noisy = draws.noise > 0
    assert 30 <= noisy.sum() <= 70 and not (noisy & ~changed).any()  # half of those
    assert draws.noise.max() <= 0.08


def test_draws_of_runs_that_know_no_hard_faces_are_the_same() -> None:
    usual = replace(PLAIN, flip=0.5, warp=0.3, roll_degrees=8, scale=0.1, shift_px=3, saturation=0.2, turn=0.3)
    before, after = (draw(settings, 64, 5, 640) for settings in (usual, replace(usual, hard_noise=0.1, hard=0.0)))
    for name in vars(before):
        assert np.array_equal(getattr(before, name), getattr(after, name)), name


def test_light_is_a_factor_on_each_channel_and_saturation_moves_away_from_grey() -> None:
    grey = torch.full((200, 3, 4, 4), 0.25)
    draws = draw(replace(HARD, hard=1.0, hard_noise=0.0), 200, seed=2, position=0)
    lit = augment(grey, draws, 0)
    # A grey face has no saturation to change: each channel is its light times a quarter, in whole grey levels.
    wanted = torch.from_numpy(draws.light)[:, :, None, None] * 0.25
    torch.testing.assert_close(lit, wanted.clamp(0, 1).expand_as(lit), atol=0.5 / 255 + 1e-6, rtol=0)
    assert 1.0 <= draws.saturation.min() < 1.1 and 2.7 < draws.saturation.max() <= 3.0
    assert np.log(draws.light).std() == pytest.approx(0.3, abs=0.05)


def test_noise_has_its_deviation_and_belongs_to_the_place_in_the_run() -> None:
    flat = torch.full((50, 3, 40, 40), 0.5)
    settings = replace(HARD, hard=1.0, hard_light=0.0, hard_saturation=1.0)
    draws = draw(settings, 50, seed=3, position=100)
    noisy = augment(flat, draws, 0)
    measured = (noisy - flat).std(dim=(1, 2, 3)).numpy()
    # Rounding to grey levels adds a variance of a twelfth of a level squared; a flat face itself is a level off.
    np.testing.assert_allclose(
        measured, np.sqrt(draws.noise**2 + (draws.noise > 0) / 12 / 255**2), rtol=0.05, atol=5e-4
    )
    assert torch.equal(noisy, augment(flat, draw(settings, 50, seed=3, position=100), 0))
    # Ranks take their share of one global batch.
    assert torch.equal(noisy[20:], augment(flat[20:], draws.part(20, 50), 0))
