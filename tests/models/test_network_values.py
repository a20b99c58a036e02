"""The project's own generator and StyleGAN2's discriminator against their layers written out once more."""

import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from facesr.models.blocks import ResidualBlock, convolution
from facesr.models.facesr import FaceSR, Hourglass
from facesr.models.style_discriminator import HalvingBlock, StyleDiscriminator, activated, deviation_map
from facesr.resample import upscale


def randomised(network: nn.Module, deviation: float = 0.1) -> None:
    """Gives the network other weights everywhere, the zeros of the start included."""
    random = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(deviation * torch.randn(parameter.shape, generator=random))


def features_of(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


def limited(features: Tensor, limit: float | None) -> Tensor:
    if limit is None:
        return features
    rms = features.square().mean(1, keepdim=True).sqrt()
    return torch.where(rms > limit, features * (limit / rms), features)


def conv(layer: nn.Module, features: Tensor, stride: int = 1) -> Tensor:
    weight = layer.weight
    assert isinstance(weight, Tensor) and isinstance(layer.bias, Tensor)
    return F.conv2d(features, weight, layer.bias, stride, padding=weight.shape[-1] // 2)


def silu(x: Tensor) -> Tensor:
    return x / (1.0 + torch.exp(-x))


def block(layer: nn.Module, features: Tensor, limit: float | None) -> Tensor:
    change = limited(conv(layer.second, silu(conv(layer.first, features))), limit)  # type: ignore[arg-type]
    return limited(features + change, limit)


def hourglass(layer: Hourglass, features: Tensor, limit: float | None) -> Tensor:
    half = limited(silu(conv(layer.down_half, features, stride=2)), limit)
    for inner in layer.half_in:
        half = block(inner, half, limit)
    quarter = limited(silu(conv(layer.down_quarter, half, stride=2)), limit)
    for inner in layer.quarter:
        quarter = block(inner, quarter, limit)
    half = limited(half + conv(layer.up_half, quarter).repeat_interleave(2, 2).repeat_interleave(2, 3), limit)
    for inner in layer.half_out:
        half = block(inner, half, limit)
    change = conv(layer.up_full, half).repeat_interleave(2, 2).repeat_interleave(2, 3)
    return limited(features + change, limit)


def close(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("limit", [None, 0.5])
def test_blocks_and_hourglasses(limit: float | None) -> None:
    features = features_of(2, 32, 8, 12)
    inner = ResidualBlock(32, limit)
    randomised(inner)
    close(inner(features), block(inner, features, limit))
    glass = Hourglass(64, 2, limit)
    randomised(glass, 0.05)
    assert [len(part) for part in (glass.half_in, glass.quarter, glass.half_out)] == [2, 2, 2]
    assert (glass.up_half.in_channels, glass.up_half.out_channels, glass.up_full.out_channels) == (128, 96, 64)
    features = features_of(2, 64, 8, 12)
    close(glass(features), hourglass(glass, features, limit))
    assert Hourglass(16, 1).down_half.out_channels == 16, "where half again as many are no 32"


@pytest.mark.parametrize("limit", [None, 0.5])
@pytest.mark.parametrize(("blocks", "out", "middle"), [(1, 32, True), (0, 0, True), (1, 0, False)])
def test_the_generator(limit: float | None, blocks: int, out: int, middle: bool) -> None:
    network = FaceSR(32, 2, 2, blocks, 32, out, limit, middle_block=middle)
    # Large enough that the clamp without a limit is reached.
    randomised(network, 0.2)
    low = torch.rand(2, 3, 7, 6, generator=torch.Generator().manual_seed(2))
    padded = F.pad(low, (0, 2, 0, 1), mode="replicate")
    features = change = conv(network.head, padded - 0.5)
    *groups, last = network.body
    size = 2 + bool(blocks)
    assert len(groups) == 2 * size
    clamped = False
    for number, layer in enumerate(groups, start=1):
        change = hourglass(layer, change, limit) if isinstance(layer, Hourglass) else block(layer, change, limit)
        if limit is None and number % size == 0:
            clamped |= bool(change.abs().max() > 8.0)
            change = change.clamp(-8.0, 8.0)
    features = features + conv(last, change)
    features = silu(F.pixel_shuffle(conv(network.up_first, features), 2))
    features = block(network.middle, features, limit) if network.middle is not None else limited(features, limit)
    if out:
        features = silu(F.pixel_shuffle(conv(network.up_second[0], features), 2))  # type: ignore[index]
        features = block(network.last, features, limit)
    detail = conv(network.to_rgb, features)
    detail = (detail if out else F.pixel_shuffle(detail, 2))[..., :28, :24]
    found = network(low)
    assert found.dtype == torch.float32 and clamped is (limit is None)
    torch.testing.assert_close(found, upscale(low) + detail, rtol=1e-3, atol=1e-4 * detail.abs().max().item())
    assert detail.abs().max() > 0.1


def test_first_weights_have_hes_variance_times_a_gain() -> None:
    torch.manual_seed(0)
    for gain in (1.0, 0.1, 0.0):
        layer = convolution(64, 96, gain)
        assert layer.weight.std().item() == pytest.approx(gain * math.sqrt(2.0 / (9 * 64)), rel=0.02)
        assert layer.bias is not None and not layer.bias.any()
    network = FaceSR(64, 1, 1)
    deviations = {
        name: layer.weight.std().item() for name, layer in network.named_modules() if hasattr(layer, "weight")
    }
    he = math.sqrt(2.0 / (9 * 64))
    assert deviations["body.0.first"] == pytest.approx(he, rel=0.03)
    assert deviations["body.0.second"] == pytest.approx(0.1 * he, rel=0.03)
    assert deviations["body.1"] == pytest.approx(0.5 * he, rel=0.03)
    assert deviations["up_first"] == pytest.approx(he, rel=0.03) and deviations["to_rgb"] == 0.0
    assert deviations["head"] == pytest.approx(math.sqrt(2.0 / 27), rel=0.1)


def equal(layer: nn.Module, features: Tensor, stride: int = 1, padding: int = 0) -> Tensor:
    """Returns a convolution whose stored weights are divided by the root of what they sum over."""
    weight, bias = layer.weight, layer.bias
    assert isinstance(weight, Tensor) and (bias is None or isinstance(bias, Tensor))
    return F.conv2d(features, weight / math.sqrt(weight[0].numel()), bias, stride, padding)


def active(x: Tensor) -> Tensor:
    return math.sqrt(2.0) * torch.where(x > 0, x, 0.2 * x)


def blurred(features: Tensor, padding: int) -> Tensor:
    line = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 8.0
    kernel = torch.outer(line, line).expand(features.shape[1], 1, 4, 4)
    return F.conv2d(features, kernel, padding=padding, groups=features.shape[1])


def halved(layer: HalvingBlock, features: Tensor) -> Tensor:
    first = active(equal(layer.first, features, padding=1))
    second = active(equal(layer.second, blurred(first, 2), stride=2))
    return (second + equal(layer.skip, blurred(features, 1)[..., ::2, ::2])) / math.sqrt(2.0)


def test_the_style_discriminator() -> None:
    torch.testing.assert_close(activated(torch.tensor([-1.0, 2.0])), torch.tensor([-0.2, 2.0]) * math.sqrt(2.0))
    one = HalvingBlock(3, 5)
    randomised(one, 1.0)
    features = features_of(2, 3, 8, 6)
    close(one(features), halved(one, features))

    network = StyleDiscriminator((6, 5, 4), last_height=2, last_width=3)
    randomised(network, 1.0)
    pictures = features_of(4, 3, 8, 12)
    features = active(equal(network.first, 2.0 * pictures - 1.0))
    for layer in network.blocks:
        assert isinstance(layer, HalvingBlock)
        features = halved(layer, features)
    assert features.shape == (4, 6, 2, 3)
    features = torch.cat([features, deviation_map(features)], dim=1)
    features = active(equal(network.last, features, padding=1)).flatten(1)
    hidden = active(features @ network.hidden.weight.t() / math.sqrt(6 * 2 * 3) + network.hidden.bias)
    logits = hidden @ network.logit.weight.t() / math.sqrt(6) + network.logit.bias
    close(network(pictures), logits)
