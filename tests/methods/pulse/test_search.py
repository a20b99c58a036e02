"""The search: faces do not feel each other, end on their own, and always have a result that belongs together."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from facesr.errors import ImageError
from facesr.image import to_float
from facesr.methods.pulse.operator import operator_for
from facesr.methods.pulse.search import search
from facesr.resample import downscale_uint8
from tests.methods.pulse.conftest import random_faces

EASY, HARD = 2e-3, 1e-12


@pytest.fixture
def operator(toy):
    return operator_for("auto", toy.size, (4, 4))


def square_of(found, low) -> float:
    """Returns the mean square between a result's own picture and its input, from the grey levels."""
    small = downscale_uint8(found.picture[None])[0] / 255.0
    return float(((small - low.permute(1, 2, 0).numpy()) ** 2).mean())


def test_a_face_alone_and_in_a_batch_of_8_gives_the_same(toy, operator, low, pulse_settings):
    together = search(toy, operator, low, pulse_settings)
    for number in (0, 3, 7):
        (alone,) = search(toy, operator, low[number : number + 1], pulse_settings)
        assert alone.best_l2 == pytest.approx(together[number].best_l2, rel=1e-3)
        assert (alone.num_steps, alone.best_step) == (together[number].num_steps, together[number].best_step)
        assert np.abs(alone.picture.astype(int) - together[number].picture).max() <= 1
    turned = search(toy, operator, low.flip(0), pulse_settings)
    for found, wanted in zip(turned[::-1], together, strict=True):
        assert np.abs(found.picture.astype(int) - wanted.picture).max() <= 1


def test_eigenfaces_alone_and_in_a_batch_of_8(eigenfaces, pulse_settings):
    low = to_float(downscale_uint8(random_faces(8, seed=5)))
    operator = operator_for("auto", eigenfaces.size, (6, 7))
    settings = replace(pulse_settings, eps=1e-4, steps=60)
    together = search(eigenfaces, operator, low, settings)
    for number in (0, 3, 7):
        (alone,) = search(eigenfaces, operator, low[number : number + 1], settings)
        assert alone.converged == together[number].converged and alone.num_steps == together[number].num_steps
        assert np.abs(alone.picture.astype(int) - together[number].picture).max() <= 1


def test_the_same_face_twice_in_a_batch_is_the_same_face(toy, operator, low, pulse_settings):
    first, second = search(toy, operator, low[:1].repeat(2, 1, 1, 1), pulse_settings)
    np.testing.assert_array_equal(first.picture, second.picture)


def test_success_is_each_faces_own_and_the_rest_goes_on(toy, operator, low, pulse_settings):
    # An input that no picture of this generator is like, between some that are.
    impossible = torch.zeros(1, 3, 4, 4)
    impossible[..., ::2, ::2] = 1.0
    batch = torch.cat([low[:2], impossible, low[2:4]])
    searched = []
    found = search(
        toy, operator, batch, pulse_settings, lambda step, variables, lowest: searched.append(len(variables.latents))
    )
    assert [one.converged for one in found] == [True, True, False, True, True]
    assert found[2].num_steps == 40 and max(one.num_steps for one in found if one.converged) < 40
    assert searched[0] == 5 and searched[-1] == 1 and searched == sorted(searched, reverse=True)
    for one in found:
        assert one.converged == (one.best_l2 <= pulse_settings.eps)
        if one.converged:
            assert one.best_step == one.num_steps - 1


def test_without_convergence_the_best_step_is_the_result_with_its_own_downscaling(toy, operator, low, pulse_settings):
    # Too large a rate at the end: the last step is not the best one.
    settings = replace(pulse_settings, eps=HARD, schedule="fixed", learning_rate=3.0, steps=25)
    history = []
    found = search(toy, operator, low[:1], settings, lambda step, variables, lowest: history.append(lowest))[0]
    assert found.best_l2 == pytest.approx(min(history)) and found.best_step == int(np.argmin(history)) < 24
    assert not found.converged and found.num_steps == 25
    assert square_of(found, low[0]) == pytest.approx(found.best_l2, abs=2e-5)
    np.testing.assert_allclose(downscale_uint8(found.picture[None])[0], found.downscaled, atol=1)
    np.testing.assert_array_equal(found.picture, found.restored)


def test_of_several_seeds_the_most_consistent_wins(toy, operator, low, pulse_settings):
    settings = replace(pulse_settings, eps=HARD, steps=8)
    single = [search(toy, operator, low[:2], replace(settings, seed=seed)) for seed in (3, 4, 5)]
    best = search(toy, operator, low[:2], replace(settings, seed=3, num_seeds=3))
    for number, found in enumerate(best):
        values = {seed: one[number].best_l2 for seed, one in zip((3, 4, 5), single, strict=True)}
        assert found.seed == min(values, key=values.__getitem__)
        assert found.best_l2 == pytest.approx(min(values.values()), rel=1e-3)


def test_seed_0_is_a_seed_like_any_other(toy, operator, low, pulse_settings):
    settings = replace(pulse_settings, eps=HARD, steps=3)
    first, again = (search(toy, operator, low[:1], replace(settings, seed=0))[0] for _ in range(2))
    other = search(toy, operator, low[:1], replace(settings, seed=1))[0]
    np.testing.assert_array_equal(first.picture, again.picture)
    assert not np.array_equal(first.picture, other.picture)


def test_tiled_latents_are_one_vector(toy, operator, low, pulse_settings):
    shapes = set()
    settings = replace(pulse_settings, tiled_latents=True)
    found = search(toy, operator, low[:2], settings, lambda step, variables, _: shapes.add(variables.latents.shape))
    assert {shape[1:] for shape in shapes} == {(1, 32)} and len(found) == 2


@pytest.mark.parametrize("optimizer", ["adam", "sgd", "sgdm", "adamax"])
@pytest.mark.parametrize("schedule", ["fixed", "linear1cycle", "linear1cycledrop"])
def test_every_optimiser_and_schedule_comes_closer(toy, operator, low, pulse_settings, optimizer, schedule):
    history = []
    settings = replace(pulse_settings, optimizer=optimizer, schedule=schedule, eps=HARD, steps=12, learning_rate=0.1)
    search(toy, operator, low[:2], settings, lambda step, variables, lowest: history.append(lowest))
    assert min(history) < history[0]


def test_half_precision_is_close(toy, operator, low, pulse_settings):
    found = search(toy, operator, low, replace(pulse_settings, precision="bfloat16", steps=100))
    assert all(np.isfinite(one.best_l2) for one in found)
    assert sum(one.converged for one in found) >= 6


def test_values_that_are_not_finite_are_one_sentence(toy, operator, low, pulse_settings):
    toy.basis = toy.basis * float("nan")
    with pytest.raises(ImageError, match=r"pulse\.precision=float32"):
        search(toy, operator, low[:1], pulse_settings)


def test_the_latents_are_those_of_the_best_step(toy, operator, low, pulse_settings):
    settings = replace(pulse_settings, eps=HARD, steps=12, learning_rate=300.0, schedule="fixed", optimizer="sgd")
    walked = []
    watch = lambda step, variables, lowest: walked.append(variables.latents.detach().clone().numpy())  # noqa: E731
    found = search(toy, operator, low[:2], settings, watch)
    assert {one.best_step for one in found} != {11}  # a rate so high that the last step is not the best
    for number, one in enumerate(found):
        np.testing.assert_array_equal(one.latents, walked[one.best_step][number])
