"""First weights: their variance, and the enlargement that a pixel shuffle starts from."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from facesr.models.initialization import he_normal_, icnr_


@pytest.mark.parametrize("slope", [0.0, 0.25, 1.0])
def test_a_deep_stack_neither_dies_nor_explodes(slope: float) -> None:
    torch.manual_seed(0)
    features = torch.randn(4096, 256, 1, 1)
    for _ in range(10):
        layer = nn.Conv2d(256, 256, 1)
        he_normal_(layer, slope)
        # What He's rule keeps is the variance before the activation.
        features = layer(F.leaky_relu(features, slope) if slope < 1 else features)
    assert 0.5 < features.square().mean() < 2.0


def test_fan_in_of_each_kind_of_layer() -> None:
    torch.manual_seed(0)
    layers: list[tuple[nn.Conv2d | nn.ConvTranspose2d, float]] = [
        (nn.Conv2d(32, 64, 3), 32 * 9),
        (nn.Conv2d(32, 64, 3, groups=4), 32 * 9 / 4),
        (nn.Conv2d(32, 64, (1, 5)), 32 * 5),
        (nn.Conv2d(32, 64, (5, 1)), 32 * 5),
        # Without overlap each output pixel is made of one tap; with kernel 4 and stride 2 of four.
        (nn.ConvTranspose2d(64, 64, 2, stride=2), 64),
        (nn.ConvTranspose2d(64, 64, 4, stride=2), 64 * 4),
    ]
    for layer, fan_in in layers:
        he_normal_(layer, slope=0.2, scale=0.5)
        expected = 0.5 * math.sqrt(2 / (1.04 * fan_in))
        assert layer.weight.std().item() == pytest.approx(expected, rel=0.05)
        assert layer.weight.mean().item() == pytest.approx(0.0, abs=0.05 * expected)
        assert layer.bias is not None
        assert not layer.bias.any()


@pytest.mark.parametrize("factor", [2, 4])
def test_pixel_shuffle_starts_as_nearest_enlargement(factor: int) -> None:
    torch.manual_seed(0)
    layer = nn.Conv2d(5, 3 * factor**2, 3, padding=1)
    icnr_(layer, factor)
    features = torch.randn(2, 5, 6, 7)
    small = layer(features)
    enlarged = F.pixel_shuffle(small, factor)
    blocks = enlarged[:, :, ::factor, ::factor]
    assert blocks.std() > 0.1
    assert torch.equal(enlarged, blocks.repeat_interleave(factor, 2).repeat_interleave(factor, 3))
    # The three channels differ from each other.
    assert not torch.allclose(blocks[:, 0], blocks[:, 1], atol=0.1)


def test_pixel_shuffle_needs_whole_groups() -> None:
    with pytest.raises(ValueError, match="10 output channels cannot be shuffled by 2"):
        icnr_(nn.Conv2d(3, 10, 3), 2)
