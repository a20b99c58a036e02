"""SRResNet against the layer list of its paper, written with plain functions."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from facesr.models.srresnet import SRResNet, row_by_row


def convolve(state: dict[str, Tensor], name: str, features: Tensor) -> Tensor:
    weight = state[f"{name}.weight"]
    return F.conv2d(features, weight, state[f"{name}.bias"], padding=weight.shape[-1] // 2)


def parametric_relu(features: Tensor, slope: Tensor) -> Tensor:
    return torch.where(features > 0, features, slope * features)


def shuffled(features: Tensor) -> Tensor:
    count, channels, height, width = features.shape
    split = features.reshape(count, channels // 4, 2, 2, height, width)
    return split.permute(0, 1, 4, 2, 5, 3).reshape(count, channels // 4, 2 * height, 2 * width)


def reference(state: dict[str, Tensor], low: Tensor, num_blocks: int) -> Tensor:
    """Figure 4 of arXiv 1609.04802 without batch normalisation."""
    shallow = parametric_relu(convolve(state, "head", low), state["head_activation.weight"])
    deep = shallow
    for i in range(num_blocks):
        branch = parametric_relu(convolve(state, f"blocks.{i}.first", deep), state[f"blocks.{i}.activation.weight"])
        deep = deep + convolve(state, f"blocks.{i}.second", branch)
    features = shallow + convolve(state, "after_blocks", deep)
    for i in range(2):
        features = shuffled(convolve(state, f"enlarge.{i}.0", features))
        features = parametric_relu(features, state[f"enlarge.{i}.2.weight"])
    return convolve(state, "tail", features)


def scrambled(network: torch.nn.Module) -> dict[str, Tensor]:
    """Gives every parameter, biases and slopes too, a value of its own."""
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return dict(network.state_dict())


def test_equals_the_published_layer_list() -> None:
    torch.manual_seed(0)
    network = SRResNet(num_channels=8, num_blocks=3).double()
    state = scrambled(network)
    low = torch.rand(2, 3, 5, 7, dtype=torch.float64)
    assert torch.allclose(network(low), reference(state, low, 3), atol=1e-12)


def test_has_the_published_size() -> None:
    # 1,549,462 with batch normalisation: 33 layers of 64 means and 64 scales that are not here.
    assert sum(parameter.numel() for parameter in SRResNet().parameters()) == 1_549_462 - 33 * 2 * 64


def test_moves_with_the_picture() -> None:
    torch.manual_seed(0)
    network = SRResNet(num_channels=8, num_blocks=1)
    low = torch.rand(1, 3, 40, 40)
    restored = network(low)
    moved = network(low.roll((1, -2), dims=(2, 3)))
    expected = restored.roll((4, -8), dims=(2, 3))
    # Away from the border by more than the receptive field: 4 + 2 + 1 + 1 + 1 + 1 low pixels, and what rolled in.
    inner = (..., slice(48, -48), slice(48, -48))
    assert torch.allclose(moved[inner], expected[inner], atol=1e-6)
    assert not torch.allclose(moved[inner], restored[inner], atol=1e-6)


def test_starts_without_a_checkerboard() -> None:
    torch.manual_seed(0)
    network = SRResNet(num_channels=16, num_blocks=2)
    features = network.enlarge(torch.randn(1, 16, 6, 6))
    assert torch.equal(features[..., 0::2, 0::2], features[..., 1::2, 1::2])


def test_starts_near_the_identity_of_its_blocks() -> None:
    torch.manual_seed(0)
    features = torch.randn(1, 64, 12, 12)
    with torch.no_grad():
        change = SRResNet().blocks(features) - features
    # Sixteen branches of variance 2 * 0.1^2 each.
    assert 0.3 < change.std() < 0.8


@pytest.mark.parametrize("side", [1, 3, 9])
def test_a_convolution_row_by_row_is_the_convolution(side: int) -> None:
    generator = torch.Generator().manual_seed(side)
    convolution = torch.nn.Conv2d(5, 3, side, padding=side // 2).double()
    features = torch.rand(2, 5, 7, 11, generator=generator, dtype=torch.float64)
    torch.testing.assert_close(row_by_row(features, convolution), convolution(features), atol=1e-12, rtol=0)


def test_without_gradients_the_pictures_are_the_same() -> None:
    network, low = SRResNet(num_channels=8, num_blocks=1), torch.rand(2, 3, 7, 6)
    with torch.no_grad():
        restored = network(low)
    assert not restored.requires_grad
    torch.testing.assert_close(restored, network(low).detach(), atol=1e-6, rtol=0)
