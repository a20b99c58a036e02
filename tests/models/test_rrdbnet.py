"""RRDBNet against the layer list of its paper, written with plain functions."""

import torch
import torch.nn.functional as F
from torch import Tensor

from facesr.models.rrdbnet import RRDBNet


def convolve(state: dict[str, Tensor], name: str, features: Tensor) -> Tensor:
    return F.conv2d(features, state[f"{name}.weight"], state[f"{name}.bias"], padding=1)


def leaky(features: Tensor) -> Tensor:
    return torch.where(features > 0, features, 0.2 * features)


def dense_block(state: dict[str, Tensor], name: str, x: Tensor) -> Tensor:
    """The five convolutions of arXiv 1809.00219, figure 4, named one by one."""
    x1 = leaky(convolve(state, f"{name}.layers.0", x))
    x2 = leaky(convolve(state, f"{name}.layers.1", torch.cat((x, x1), 1)))
    x3 = leaky(convolve(state, f"{name}.layers.2", torch.cat((x, x1, x2), 1)))
    x4 = leaky(convolve(state, f"{name}.layers.3", torch.cat((x, x1, x2, x3), 1)))
    return x + 0.2 * convolve(state, f"{name}.layers.4", torch.cat((x, x1, x2, x3, x4), 1))


def reference(state: dict[str, Tensor], low: Tensor, num_blocks: int) -> Tensor:
    shallow = convolve(state, "head", low)
    deep = shallow
    for i in range(num_blocks):
        inner = deep
        for j in range(3):
            inner = dense_block(state, f"blocks.{i}.blocks.{j}", inner)
        deep = deep + 0.2 * inner
    features = shallow + convolve(state, "after_blocks", deep)
    for i in range(2):
        doubled = features.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
        features = leaky(convolve(state, f"enlarge.{i}", doubled))
    return convolve(state, "tail", leaky(convolve(state, "refine", features)))


def test_equals_the_published_layer_list() -> None:
    torch.manual_seed(0)
    network = RRDBNet(num_channels=8, num_blocks=2, growth=4).double()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    low = torch.rand(2, 3, 5, 7, dtype=torch.float64)
    assert torch.allclose(network(low), reference(dict(network.state_dict()), low, 2), atol=1e-12)


def test_has_the_published_size() -> None:
    # The count of ESRGAN's released weights (23 blocks, 64 channels, growth 32).
    assert sum(parameter.numel() for parameter in RRDBNet().parameters()) == 16_697_987


def test_moves_with_the_picture() -> None:
    torch.manual_seed(0)
    network = RRDBNet(num_channels=8, num_blocks=1, growth=4)
    low = torch.rand(1, 3, 56, 56)
    restored = network(low)
    moved = network(low.roll((1, -2), dims=(2, 3)))
    expected = restored.roll((4, -8), dims=(2, 3))
    # Receptive field: 1 + 15 + 1 low pixels, then 1/2 + 3/4, and what rolled in.
    inner = (..., slice(88, -88), slice(88, -88))
    assert torch.allclose(moved[inner], expected[inner], atol=1e-6)
    assert not torch.allclose(moved[inner], restored[inner], atol=1e-6)


def test_a_deep_stack_starts_near_the_identity() -> None:
    torch.manual_seed(0)
    network = RRDBNet(num_channels=32, num_blocks=23, growth=16)
    features = torch.randn(1, 32, 8, 8)
    with torch.no_grad():
        deep = network.blocks(features)
    # Each block returns x + 0.2 (x + small): the stack scales by 1.2^23 and adds little of its own.
    direction = F.cosine_similarity(deep.flatten(), features.flatten(), dim=0)
    assert 0.99 < direction < 1.0
