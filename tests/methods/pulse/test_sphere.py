"""Spheres: lengths are kept at every step, by every optimiser, and survive the leaving of faces."""

from dataclasses import replace

import pytest
import torch

from facesr.methods.pulse.operator import operator_for
from facesr.methods.pulse.search import OPTIMIZERS, search
from facesr.methods.pulse.sphere import Variables, lengths


@pytest.mark.parametrize("name", sorted(OPTIMIZERS))
def test_every_vector_and_trained_map_keeps_its_own_length_at_each_step(name, pulse_settings, toy, low):
    first: dict[int, list[torch.Tensor]] = {}
    checked = []

    def watch(step, variables, lowest):
        radii = [lengths(variables.latents, 1), *(lengths(noise, 2) for noise in variables.noises)]
        first.setdefault(0, [part.detach().clone() for part in radii])
        for now, before in zip(radii, first[0], strict=True):
            torch.testing.assert_close(now, before, rtol=1e-5, atol=0)
        checked.append(step)

    settings = replace(pulse_settings, optimizer=name, learning_rate=0.3, steps=15, eps=1e-12)
    search(toy, operator_for("auto", toy.size, (4, 4)), low[:3], settings, watch)
    assert checked == list(range(15))
    radii = first[0]
    assert radii[0].shape == (3, 4, 1) and len(set(radii[0].flatten().tolist())) == 12
    # The last map is PULSE's zeroed one.
    assert float(radii[-1].max()) == 0.0 and float(radii[1].min()) > 0.0


def test_the_search_moves_what_is_trained_and_nothing_else(pulse_settings, toy, low):
    seen = []

    def watch(step, variables, lowest):
        seen.append([variables.latents.detach().clone(), *(noise.detach().clone() for noise in variables.noises)])

    settings = replace(pulse_settings, num_trained_noises=1, steps=4, eps=1e-12)
    search(toy, operator_for("auto", toy.size, (4, 4)), low[:2], settings, watch)
    moved = [not torch.equal(before, after) for before, after in zip(seen[0], seen[-1], strict=True)]
    assert moved == [True, True, False, False]


def test_faces_that_leave_take_their_moments_along() -> None:
    torch.manual_seed(0)
    start, target = torch.randn(3, 2, 5), torch.randn(3, 2, 5)
    rows = torch.tensor([0, 2])

    def run(leave_after: int | None) -> torch.Tensor:
        variables = Variables(start.clone(), [torch.randn(3, 1, 2, 2)], 0)
        optimizer = torch.optim.Adam(variables.searched, lr=0.1)
        goal = target
        for step in range(6):
            if step == leave_after:
                variables.keep_(rows, optimizer)
                goal = target[rows]
            optimizer.zero_grad()
            (variables.latents - goal).square().sum().backward()
            optimizer.step()
            variables.project_()
        return variables.latents.detach()

    torch.testing.assert_close(run(3), run(None)[rows], rtol=0, atol=0)


def test_a_vector_of_length_zero_stays() -> None:
    variables = Variables(torch.zeros(1, 1, 4), [], 0)
    variables.project_()
    assert torch.equal(variables.latents.detach(), torch.zeros(1, 1, 4))
