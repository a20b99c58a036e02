"""FSRNet: what it tells beside the picture, what each loss reaches, and that the prior guides the fine picture."""

import pytest
import torch

from facesr.models.fsrnet import FSRNet, Hourglass
from facesr.resample import upscale


@pytest.fixture
def network() -> FSRNet:
    torch.manual_seed(0)
    return FSRNet(num_channels=8, num_blocks=1, num_hourglasses=2)


def test_extras_belong_to_the_picture_that_is_given(network: FSRNet) -> None:
    low = torch.rand(2, 3, 7, 5)
    restored, extras = network(low, with_extras=True)
    assert torch.equal(restored, network(low))
    assert tuple(extras) == FSRNet.extras
    assert extras["coarse"].shape == (2, 3, 28, 20)
    assert extras["heatmaps"].shape == (2, 5, 14, 10)


def test_starts_near_the_bicubic_picture(network: FSRNet) -> None:
    low = torch.rand(2, 3, 28, 24)
    restored, extras = network(low, with_extras=True)
    for picture in (restored, extras["coarse"]):
        assert 0 < (picture - upscale(low)).abs().mean() < 0.15


def test_each_network_is_shown_and_adds_what_the_paper_says(network: FSRNet, monkeypatch: pytest.MonkeyPatch) -> None:
    low = torch.rand(2, 3, 7, 5)
    seen: dict[str, torch.Tensor] = {}

    def part(name: str, answer: torch.Tensor) -> None:
        monkeypatch.setattr(getattr(network, name), "forward", lambda shown: seen.__setitem__(name, shown) or answer)

    heatmaps, features = torch.rand(2, 5, 14, 10), torch.rand(2, 8, 14, 10)
    part("coarse", torch.full((2, 3, 28, 20), 0.125))
    part("prior", heatmaps)
    part("encoder", features)
    part("decoder", torch.full((2, 3, 28, 20), 0.25))
    restored, extras = network(low, with_extras=True)
    coarse = upscale(low) + 0.125
    assert torch.equal(seen["coarse"], upscale(low) - 0.5)
    assert torch.equal(seen["prior"], coarse - 0.5) and torch.equal(seen["encoder"], coarse - 0.5)
    assert torch.equal(seen["decoder"], torch.cat([features, heatmaps], dim=1))
    assert torch.equal(extras["coarse"], coarse) and torch.equal(extras["heatmaps"], heatmaps)
    assert torch.equal(restored, coarse + 0.25)


def test_the_coarse_picture_is_drawn_before_everything_else(network: FSRNet) -> None:
    _, extras = network(torch.rand(1, 3, 8, 8), with_extras=True)
    extras["coarse"].square().mean().backward()
    for name, parameter in network.named_parameters():
        assert (parameter.grad is not None) == name.startswith("coarse."), name


def test_heatmaps_teach_the_prior_and_the_coarse_network(network: FSRNet) -> None:
    _, extras = network(torch.rand(1, 3, 8, 8), with_extras=True)
    extras["heatmaps"].square().mean().backward()
    for name, parameter in network.named_parameters():
        assert (parameter.grad is not None) == name.startswith(("coarse.", "prior.")), name


def test_the_prior_guides_the_fine_picture(network: FSRNet) -> None:
    low = torch.rand(1, 3, 8, 8)
    before, extras = network(low, with_extras=True)
    with torch.no_grad():
        network.prior.tail.bias.add_(1.0)
    after, others = network(low, with_extras=True)
    assert torch.equal(others["coarse"], extras["coarse"])
    assert not torch.allclose(after, before)


def test_has_the_published_widths() -> None:
    # Counted by hand; a residual block is two 3x3 convolutions.
    c = 64
    conv = 9 * c * c + c
    block = 2 * conv
    coarse = (27 * c + c) + 3 * block + (27 * c + 3)
    hourglass = (3 * 3 + 1) * block  # keep, enter and leave at each of three sizes, one in the middle
    prior = (147 * c + c) + 3 * block + 2 * (hourglass + c * c + c) + (5 * c + 5)
    encoder = (27 * c + c) + 12 * block + conv
    decoder = (9 * (c + 5) * c + c) + (16 * c * c + c) + 3 * block + (27 * c + 3)
    assert sum(parameter.numel() for parameter in FSRNet().parameters()) == coarse + prior + encoder + decoder


@pytest.mark.parametrize(("width", "height"), [(1, 1), (5, 3), (48, 56), (13, 64)])
def test_hourglasses_take_any_size(width: int, height: int) -> None:
    features = torch.rand(1, 4, height, width)
    assert Hourglass(4, 3)(features).shape == features.shape


def test_hourglasses_see_the_whole_face() -> None:
    torch.manual_seed(0)
    hourglass = Hourglass(4, 3)
    features = torch.rand(1, 4, 56, 48, requires_grad=True)
    hourglass(features)[0, :, 28, 24].sum().backward()
    assert features.grad is not None
    # Max pooling passes the largest of each block of 8x8 on, so ask block by block.
    reached = torch.nn.functional.max_pool2d(features.grad.abs().sum(1), 8)
    assert (reached > 0).all()
