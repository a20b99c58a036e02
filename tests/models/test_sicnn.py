"""SICNN against the layer list of Tsinghua's entry, written with plain functions."""

import torch
import torch.nn.functional as F
from torch import Tensor

from facesr.models.sicnn import SICNN


def basic(state: dict[str, Tensor], name: str, features: Tensor) -> Tensor:
    """Convolution 3x3 and PReLU."""
    out = F.conv2d(features, state[f"{name}.0.weight"], state[f"{name}.0.bias"], padding=1)
    return torch.where(out > 0, out, state[f"{name}.1.weight"] * out)


def deconvolve(state: dict[str, Tensor], name: str, features: Tensor) -> Tensor:
    """Transposed convolution 2x2 of stride 2: each pixel becomes a 2x2 block on its own; PReLU."""
    blocks = torch.einsum("nihw,ioyx->nohywx", features, state[f"{name}.0.weight"])
    count, channels, height, _, width, _ = blocks.shape
    out = blocks.reshape(count, channels, 2 * height, 2 * width) + state[f"{name}.0.bias"][:, None, None]
    return torch.where(out > 0, out, state[f"{name}.1.weight"] * out)


def dense(state: dict[str, Tensor], name: str, features: Tensor, num_layers: int) -> Tensor:
    """The entry's dense block: the newest result stands first."""
    known = basic(state, f"{name}.first", features)
    for i in range(num_layers):
        known = torch.cat((basic(state, f"{name}.layers.{i}", known), known), 1)
    return known


def reference(state: dict[str, Tensor], grey_levels: Tensor, num_layers: int) -> Tensor:
    """The entry works on (x - 127.5) / 128 of grey levels and writes tanh * 128 + 127.5."""
    features = dense(state, "body.0", (grey_levels - 127.5) / 128, num_layers)
    features = dense(state, "body.2", deconvolve(state, "body.1", features), num_layers)
    features = dense(state, "body.4", deconvolve(state, "body.3", features), 2)
    drawn = torch.tanh(F.conv2d(features, state["tail.weight"], state["tail.bias"], padding=2))
    return drawn * 128 + 127.5


def scrambled(**sizes: int) -> SICNN:
    torch.manual_seed(0)
    network = SICNN(**sizes).double()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return network


def test_equals_the_entrys_layer_list() -> None:
    network = scrambled(num_channels=8, growth=4, num_layers=3)
    levels = torch.randint(0, 256, (2, 3, 5, 7)).double()
    expected = reference(dict(network.state_dict()), levels, 3)
    assert expected.std() > 1.0
    assert torch.allclose(network(levels / 255) * 255, expected, atol=1e-9)


def test_has_the_entrys_size() -> None:
    # Layer by layer from its source: (inputs, outputs) of each 3x3 convolution with one PReLU slope.
    growing = [(64 + 32 * i, 32) for i in range(6)]
    convolutions = [(3, 64), *growing, (256, 64), *growing, (256, 64), (64, 32), (96, 32)]
    count = sum(num_in * num_out * 9 + num_out + 1 for num_in, num_out in convolutions)
    count += 2 * (256 * 256 * 4 + 256 + 1)
    count += 128 * 3 * 25 + 3
    assert sum(parameter.numel() for parameter in SICNN().parameters()) == count == 1_375_446


def test_output_stays_in_the_range_of_pictures() -> None:
    network = scrambled(num_channels=8, growth=4, num_layers=2)
    with torch.no_grad():
        network.tail.weight.mul_(1000)
    restored = network(torch.rand(1, 3, 6, 6, dtype=torch.float64))
    assert -0.002 < restored.min() < 0.0
    assert 1.0 < restored.max() < 1.002


def test_moves_with_the_picture() -> None:
    network = scrambled(num_channels=8, growth=4, num_layers=2)
    low = torch.rand(1, 3, 40, 40, dtype=torch.float64)
    restored = network(low)
    moved = network(low.roll((1, -2), dims=(2, 3)))
    expected = restored.roll((4, -8), dims=(2, 3))
    inner = (..., slice(48, -48), slice(48, -48))
    assert torch.allclose(moved[inner], expected[inner], atol=1e-9)
    assert not torch.allclose(moved[inner], restored[inner], atol=1e-6)
