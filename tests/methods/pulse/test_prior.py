"""A search with a prior: the likeliest latents that fit, by closed form where the generator is linear."""

from dataclasses import replace

import pytest
import torch

from facesr.image import to_float
from facesr.methods.pulse.objective import Objective, squared_length
from facesr.methods.pulse.operator import operator_for
from facesr.methods.pulse.search import search
from facesr.resample import downscale_uint8
from tests.methods.pulse.conftest import random_faces

WEIGHT = 0.2


@pytest.fixture
def low() -> torch.Tensor:
    # Far from black and white, where pictures are clamped and the closed form does not hold.
    return 0.3 + 0.4 * to_float(downscale_uint8(random_faces(3, seed=5)))


@pytest.fixture
def settings(pulse_settings):
    rate = {"learning_rate": 0.1, "schedule": "linear1cycledrop", "num_trained_noises": 4, "batch_size": 16}
    return replace(pulse_settings, prior_weight=WEIGHT, geocross_weight=0, steps=400, eps=1e-4, **rate)


def test_the_term_is_half_the_squared_length_over_the_number_of_values() -> None:
    latents, maps = torch.tensor([[[3.0, 4.0]], [[0.0, 1.0]]]), torch.full((2, 1, 2, 2), 2.0)
    torch.testing.assert_close(squared_length([latents, maps]), torch.tensor([20.5, 8.5]))
    pictures = torch.full((2, 3, 4, 4), 0.5)
    loss, square = Objective(100, 0, 0, eps=1e-3, prior_weight=4.8)(pictures + 0.01, pictures, latents, [latents, maps])
    # A mean square below eps counts as it is: 100 * 0.0001, and 4.8 / 48 of the lengths.
    torch.testing.assert_close(loss, torch.tensor([0.01 + 2.05, 0.01 + 0.85]))
    torch.testing.assert_close(square, torch.full((2,), 1e-4))


def test_what_is_found_is_the_closed_form(eigenfaces, settings, low) -> None:
    operator = operator_for("auto", eigenfaces.size, (6, 7))
    sizes = [512, *(torch.Size(shape).numel() for shape in eigenfaces.noise_shapes)]

    def downscaled(numbers: torch.Tensor) -> torch.Tensor:
        latents, *maps = numbers.split(sizes, dim=1)
        noises = [part.view(-1, *shape) for part, shape in zip(maps, eigenfaces.noise_shapes, strict=True)]
        return operator.downscale(eigenfaces.synthesise(latents[:, None], noises)).flatten(1)

    base = downscaled(torch.zeros(1, sum(sizes)))
    effect = (downscaled(torch.eye(sum(sizes))) - base).double()
    wanted = (low.flatten(1) - base).double()
    # Ridge regression: errors of a variance of WEIGHT / 200 and standard normal latents.
    likeliest = wanted @ torch.linalg.solve(effect.T @ effect + WEIGHT / 200.0 * torch.eye(126).double(), effect.T)
    found = search(eigenfaces, operator, low, settings)
    for number, one in enumerate(found):
        fit = float((likeliest[number] @ effect - wanted[number]).square().mean())
        assert one.best_l2 == pytest.approx(fit, rel=0.03)
        assert one.best_step > 100 and one.num_steps == 400
        norm = float(likeliest[number, :512].norm())
        assert float(torch.from_numpy(one.latents).norm()) == pytest.approx(norm, rel=0.03)
        difference = torch.from_numpy(one.latents[0]) - likeliest[number, :512]
        assert float(difference.norm()) < 0.1 * norm


def test_the_likeliest_counts_and_not_the_best_fit(toy, settings) -> None:
    impossible = torch.zeros(1, 3, 4, 4)
    impossible[..., ::2, ::2] = 1.0
    history: list[tuple[float, float]] = []

    def watch(step, variables, lowest):
        length = float(squared_length([part.detach() for part in variables.searched]))
        history.append((100.0 * lowest + 40.0 / 48 * length, lowest))

    # A step that is much too large at the beginning fits best, and is hardly likely.
    strong = replace(settings, prior_weight=40.0, learning_rate=0.3, schedule="fixed", steps=60)
    (found,) = search(toy, operator_for("auto", toy.size, (4, 4)), impossible, strong, watch)
    losses, squares = zip(*history, strict=True)
    assert found.best_step == losses.index(min(losses)) != squares.index(min(squares))
    assert found.best_l2 == pytest.approx(squares[found.best_step])


def test_a_face_that_fits_goes_on_and_every_map_may_be_searched(toy, settings) -> None:
    operator = operator_for("auto", toy.size, (4, 4))
    latents = 0.5 * torch.randn(2, 4, 32, generator=torch.Generator().manual_seed(1))
    low = operator.downscale(toy.synthesise(toy.map(latents), []).clamp(0, 1))
    seen: list[list[torch.Tensor]] = []

    def watch(step, variables, lowest):
        seen.append([part.detach().clone() for part in (variables.latents, *variables.noises)])

    found = search(toy, operator, low, replace(settings, prior_weight=1e-4, steps=80), watch)
    assert [(one.converged, one.num_steps) for one in found] == [(True, 80), (True, 80)] and len(seen) == 80
    assert all(float(part.abs().max()) == 0 for part in seen[0][1:]) and len(seen[0]) == 4
    assert all(not torch.equal(before, after) for before, after in zip(seen[0], seen[-1], strict=True))
    some = replace(settings, num_trained_noises=1, steps=3)
    seen.clear()
    search(toy, operator, low, some, watch)
    assert [not torch.equal(before, after) for before, after in zip(seen[0], seen[-1], strict=True)] == [
        True, True, False, False,
    ]  # fmt: skip


def test_seeds_begin_elsewhere_near_the_mean(toy, settings) -> None:
    operator = operator_for("auto", toy.size, (4, 4))
    starts = []
    for seed in (0, 1):
        search(
            toy, operator, torch.full((1, 3, 4, 4), 0.5), replace(settings, seed=seed, steps=1),
            lambda step, variables, lowest: starts.append(variables.latents.detach().clone()),
        )  # fmt: skip
    assert not torch.equal(*starts)
    assert all(0.05 < float(start.square().mean().sqrt()) < 0.15 for start in starts)


def test_the_likeliest_of_several_seeds_is_kept(toy, settings) -> None:
    operator = operator_for("auto", toy.size, (4, 4))
    low = torch.rand(3, 3, 4, 4, generator=torch.Generator().manual_seed(2))
    # Few steps, so that seeds end apart: the most consistent is not the likeliest everywhere.
    few = replace(settings, prior_weight=40.0, learning_rate=0.3, schedule="fixed", steps=4, num_seeds=4)
    single = [search(toy, operator, low, replace(few, seed=seed, num_seeds=1)) for seed in range(4)]
    kept = search(toy, operator, low, few)
    likeliest = [min(range(4), key=lambda seed: single[seed][face].measure) for face in range(3)]
    fitting = [min(range(4), key=lambda seed: single[seed][face].best_l2) for face in range(3)]
    assert [one.seed for one in kept] == likeliest != fitting
