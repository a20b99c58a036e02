"""The U-Net discriminator against its layer list, and its logits' place on the picture."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from facesr.models.unet_discriminator import UNetDiscriminator, double_to, pad_to_even


def doubled_along_rows(features: Tensor) -> Tensor:
    """Bilinear doubling of the last axis: each new pixel is 3/4 of its pixel and 1/4 of the neighbour."""
    before = torch.cat([features[..., :1], features[..., :-1]], dim=-1)
    after = torch.cat([features[..., 1:], features[..., -1:]], dim=-1)
    pairs = torch.stack([0.75 * features + 0.25 * before, 0.75 * features + 0.25 * after], dim=-1)
    return pairs.flatten(-2)


def reference(state: dict[str, Tensor], pictures: Tensor) -> Tensor:
    """Figure 6 of arXiv 2107.10833 for sides that are multiples of 8."""

    def spectral(name: str) -> Tensor:
        weight = state[f"{name}.weight"]
        return weight / torch.linalg.svdvals(weight.flatten(1))[0]

    def leaky(features: Tensor) -> Tensor:
        return torch.where(features > 0, features, 0.2 * features)

    x0 = leaky(F.conv2d(2 * pictures - 1, state["first.weight"], state["first.bias"], padding=1))
    x1 = leaky(F.conv2d(x0, spectral("down.0"), stride=2, padding=1))
    x2 = leaky(F.conv2d(x1, spectral("down.1"), stride=2, padding=1))
    x = leaky(F.conv2d(x2, spectral("down.2"), stride=2, padding=1))
    for name, skip in (("up.0", x2), ("up.1", x1), ("up.2", x0)):
        doubled = doubled_along_rows(doubled_along_rows(x).mT).mT
        x = leaky(F.conv2d(doubled, spectral(name), padding=1)) + skip
    for name in ("refine.0", "refine.1"):
        x = leaky(F.conv2d(x, spectral(name), padding=1))
    return F.conv2d(x, state["last.weight"], state["last.bias"], padding=1)


def test_equals_the_published_layer_list(normalize_exactly: Callable[[nn.Module], nn.Module]) -> None:
    network = normalize_exactly(UNetDiscriminator(num_channels=4).double())
    pictures = torch.rand(2, 3, 24, 16, dtype=torch.float64)
    expected = reference(dict(network.state_dict()), pictures)
    assert torch.allclose(network(pictures), expected, atol=1e-12)


def test_has_the_published_size() -> None:
    # Real-ESRGAN's layer list: free first and last layer with bias, the others without.
    convolutions = [(64, 128, 16), (128, 256, 16), (256, 512, 16), (512, 256, 9), (256, 128, 9), (128, 64, 9)]
    convolutions += [(64, 64, 9), (64, 64, 9)]
    count = sum(a * b * taps for a, b, taps in convolutions) + (3 * 64 * 9 + 64) + (64 * 9 + 1)
    assert sum(parameter.numel() for parameter in UNetDiscriminator().parameters()) == count == 4_376_897


@pytest.mark.parametrize(("height", "width"), [(1, 1), (5, 3), (13, 27), (97, 113), (100, 116)])
def test_sizes_that_eight_does_not_divide(height: int, width: int) -> None:
    torch.manual_seed(0)
    network = UNetDiscriminator(num_channels=4)
    logits = network(torch.rand(1, 3, height, width))
    assert logits.shape == (1, 1, height, width)
    assert logits.isfinite().all()


def test_a_logit_belongs_to_its_pixel() -> None:
    # The gradient of one logit is centred on its pixel, on odd sizes too.
    torch.manual_seed(0)
    network = UNetDiscriminator(num_channels=8).eval()
    pictures = torch.rand(1, 3, 93, 71, requires_grad=True)
    network(pictures)[0, 0, 45, 30].backward()
    assert pictures.grad is not None
    share = pictures.grad.abs().sum(dim=(0, 1))
    share = share / share.sum()
    rows, columns = torch.arange(93.0), torch.arange(71.0)
    assert (share.sum(1) * rows).sum().item() == pytest.approx(45, abs=2)
    assert (share.sum(0) * columns).sum().item() == pytest.approx(30, abs=2)


def test_moves_with_the_picture() -> None:
    torch.manual_seed(0)
    network = UNetDiscriminator(num_channels=4).eval()
    pictures = torch.rand(1, 3, 160, 160)
    # The three halvings see the same grid again after 8 pixels.
    moved, expected = network(pictures.roll((8, -16), dims=(2, 3))), network(pictures).roll((8, -16), dims=(2, 3))
    inner = (..., slice(64, -64), slice(64, -64))
    assert torch.allclose(moved[inner], expected[inner], atol=1e-6)
    assert not torch.allclose(moved[inner], network(pictures)[inner], atol=1e-6)


def test_padding_and_doubling_undo_each_other() -> None:
    features = torch.arange(15.0).reshape(1, 1, 3, 5)
    padded = pad_to_even(features)
    assert padded.shape == (1, 1, 4, 6)
    assert torch.equal(padded[..., :3, :5], features)
    assert torch.equal(padded[..., 3, :5], features[..., 2, :])
    assert torch.equal(padded[..., :3, 5], features[..., 4])
    assert pad_to_even(padded) is padded
    assert double_to(torch.ones(1, 1, 2, 3), 3, 5).shape == (1, 1, 3, 5)
    assert torch.equal(double_to(torch.ones(1, 1, 2, 3), 3, 5), torch.ones(1, 1, 3, 5))


def test_gradient_penalty_of_odd_sizes() -> None:
    torch.manual_seed(0)
    network = UNetDiscriminator(num_channels=4)
    pictures = torch.rand(2, 3, 21, 17, requires_grad=True)
    (gradient,) = torch.autograd.grad(network(pictures).sum(), pictures, create_graph=True)
    gradient.square().sum(dim=(1, 2, 3)).mean().backward()
    weights = [parameter for name, parameter in network.named_parameters() if name.endswith("weight")]
    assert all(weight.grad is not None and weight.grad.abs().sum() > 0 for weight in weights)
