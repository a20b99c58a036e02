"""StyleGAN2's discriminator: its operations, and what a logit depends on."""

import numpy as np
import pytest
import torch

from facesr.errors import ConfigError
from facesr.losses.adversarial import r1_penalty
from facesr.models.style_discriminator import HalvingBlock, StyleDiscriminator, deviation_map


def small() -> StyleDiscriminator:
    torch.manual_seed(0)
    return StyleDiscriminator((6, 5, 4), last_height=7, last_width=6)


@pytest.mark.parametrize(("count", "size"), [(8, 4), (6, 3), (5, 1), (2, 2), (1, 1)])
def test_deviation_is_that_of_groups_over_the_batch(count: int, size: int) -> None:
    features = torch.randn(count, 3, 2, 4, dtype=torch.float64)
    result = deviation_map(features).numpy()
    assert result.shape == (count, 1, 2, 4)
    groups = count // size
    for number in range(count):
        members = features.numpy()[number % groups :: groups]
        expected = np.sqrt(members.var(axis=0) + 1e-8).mean()
        assert np.allclose(result[number], expected, atol=1e-6)


def test_equal_pictures_have_no_deviation() -> None:
    assert deviation_map(torch.randn(1, 3, 4, 4).expand(4, -1, -1, -1)).abs().max() < 1e-3


def test_a_halving_block_halves_and_sees_the_whole_border() -> None:
    block = HalvingBlock(3, 5)
    pictures = torch.randn(2, 3, 8, 6, requires_grad=True)
    result = block(pictures)
    assert result.shape == (2, 5, 4, 3)
    result.square().sum().backward()
    assert pictures.grad is not None and (pictures.grad.abs().sum((0, 1)) > 0).all()


def test_logits_and_gradients() -> None:
    network, pictures = small(), torch.rand(4, 3, 28, 24, requires_grad=True)
    logits = network(pictures)
    assert logits.shape == (4, 1)
    logits.sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())
    assert pictures.grad is not None and pictures.grad.isfinite().all()


def test_the_gradient_penalty_reaches_the_weights() -> None:
    network = small()
    r1_penalty(network, torch.rand(4, 3, 28, 24)).backward()
    gradient = network.blocks[0].first.weight.grad  # type: ignore[union-attr]
    assert gradient is not None and gradient.abs().sum() > 0  # type: ignore[operator,union-attr]


def test_a_logit_hangs_together_with_its_group_only_through_the_deviation() -> None:
    network, pictures = small().eval(), torch.rand(1, 3, 28, 24)
    alone = network(pictures)
    assert torch.allclose(network(pictures.expand(4, -1, -1, -1)), alone.expand(4, -1), atol=1e-5)


def test_counts_below_one_are_told_to_the_user() -> None:
    with pytest.raises(ConfigError, match="too small"):
        StyleDiscriminator((4, 0))
