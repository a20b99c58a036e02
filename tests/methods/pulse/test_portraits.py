"""Portraits of fixed seeds: each seed's own, in the space that a search walks in, and labelled."""

import pytest
import torch

from facesr.methods.pulse.portraits import drawn_latents, portrait_remark, portraits, searched_of
from facesr.methods.pulse.style_space import GaussianFit, StyleLatentSpace
from facesr.methods.record import SYNTHETIC
from facesr.models.mobile_style_generator import MobileStyleGenerator


@pytest.fixture
def style():
    torch.manual_seed(3)
    network = MobileStyleGenerator((8, 8, 8), latent_dim=16, num_mapping_layers=2)
    for number in range(len(network.noise_shapes)):
        getattr(network, f"noise_{number}").normal_()
    fit = GaussianFit(torch.randn(16), torch.rand(16) + 0.5)
    space = StyleLatentSpace("small", "b" * 64, network, fit, gain=2**0.5)
    space.noise_constants = network.noise_constants
    return space


def test_a_seeds_portrait_is_its_own_whatever_else_is_drawn(toy):
    together = drawn_latents(toy, [3, 4, 5])
    assert torch.equal(together[1:2], drawn_latents(toy, [4])) and not torch.equal(together[0], together[1])
    assert together.shape == (3, toy.num_latents, toy.latent_dim) and torch.equal(together[:, 0], together[:, 3])
    torch.testing.assert_close(portraits(toy, together)[1:2], portraits(toy, together[1:2]))


def test_what_the_mapping_network_gives_is_reached_exactly(style):
    latents = drawn_latents(style, [7])
    z = torch.randn(1, 16, generator=torch.Generator().manual_seed(7))
    wanted = style.network.map(z)
    torch.testing.assert_close(style.map(latents)[:, 0], wanted)
    torch.testing.assert_close(searched_of(style, style.map(latents)), latents)
    # The picture is the network's own of that w, with the maps that it was made for.
    noises = [one[None] for one in style.network.noise_constants]
    picture = (style.network(wanted[:, None].repeat(1, style.num_latents, 1), noises) + 1) / 2
    torch.testing.assert_close(portraits(style, latents), picture.clamp(0, 1))


def test_a_portrait_says_that_it_is_nobody():
    assert portrait_remark("small", 5).startswith(SYNTHETIC) and "seed 5" in portrait_remark("small", 5)
