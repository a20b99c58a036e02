"""Layers of style-based generators against plain float64 loops over the published operations."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from facesr.models.style_layers import (
    BLUR_TAPS,
    GAIN,
    BiasedActivation,
    Blur,
    EqualisedConv,
    EqualisedLinear,
    MappingLayer,
    ModulatedConv,
    Noise,
    SmoothDoubling,
    StyledConv,
    ToRgb,
    pixel_norm,
)

Array = NDArray[np.float64]
RNG = np.random.default_rng(4)


def values(*shape: int) -> Tensor:
    return torch.from_numpy(RNG.standard_normal(shape))


def randomised(layer: nn.Module) -> nn.Module:
    """Returns the layer in float64 with random values in every parameter, zeros and ones of the start included."""
    layer = layer.double()
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(values(*parameter.shape))
    return layer


def plain(value: Tensor) -> Array:
    return value.detach().numpy()


def correlate(pictures: Array, weight: Array, padding: int, stride: int = 1) -> Array:
    """Returns what a convolution layer computes, pixel by pixel, for (N, C, H, W) and (O, C, K, K)."""
    padded = np.pad(pictures, ((0, 0), (0, 0), (padding, padding), (padding, padding)))
    size = weight.shape[-1]
    rows, columns = ((side - size) // stride + 1 for side in padded.shape[2:])
    result = np.zeros((len(pictures), len(weight), rows, columns))
    for y in range(rows):
        for x in range(columns):
            window = padded[:, None, :, y * stride : y * stride + size, x * stride : x * stride + size]
            result[:, :, y, x] = (window * weight[None]).sum((2, 3, 4))
    return result


def spread(pictures: Array, weight: Array, stride: int = 2) -> Array:
    """Returns the full transposed convolution: every pixel (N, C, H, W) adds its kernel (O, C, K, K) to the result."""
    count, _, rows, columns = pictures.shape
    size = weight.shape[-1]
    result = np.zeros((count, len(weight), (rows - 1) * stride + size, (columns - 1) * stride + size))
    for y in range(rows):
        for x in range(columns):
            part = (pictures[:, None, :, y, x, None, None] * weight[None]).sum(2)
            result[:, :, y * stride : y * stride + size, x * stride : x * stride + size] += part
    return result


def per_channel(pictures: Array, kernel: Array, padding: int) -> Array:
    """Returns every channel correlated with one kernel (K, K)."""
    flat = pictures.reshape(-1, 1, *pictures.shape[2:])
    result = correlate(flat, kernel[None, None], padding)
    return result.reshape(*pictures.shape[:2], *result.shape[2:])


def leaky(x: Array) -> Array:
    return np.sqrt(2.0) * np.where(x > 0, x, 0.2 * x)


def modulated(layer: ModulatedConv, features: Array, latent: Array, demodulate: bool, double: bool) -> Array:
    """Returns equations 1 and 3 of StyleGAN2 with weights of its own for every picture, as they are written."""
    modulation, bias = plain(layer.modulation.weight), plain(layer.modulation.bias)
    raw = plain(layer.weight)[0]
    results = []
    for picture, w in zip(features, latent, strict=True):
        style = modulation @ w / np.sqrt(len(w)) + bias
        weight = raw / np.sqrt(raw[0].size) * style[None, :, None, None]
        if demodulate:
            weight = weight / np.sqrt((weight**2).sum((1, 2, 3), keepdims=True) + 1e-8)
        if double:
            line = np.array(BLUR_TAPS) / 8.0
            results.append(per_channel(spread(picture[None], weight), 4.0 * np.outer(line, line), padding=1))
        else:
            results.append(correlate(picture[None], weight, padding=weight.shape[-1] // 2))
    return np.concatenate(results)


def test_pixel_norm() -> None:
    latents = values(3, 7)
    expected = plain(latents) / np.sqrt((plain(latents) ** 2).mean(1, keepdims=True) + 1e-8)
    assert np.allclose(plain(pixel_norm(latents)), expected, atol=1e-12)
    assert pixel_norm(torch.zeros(1, 4)).isfinite().all()


@pytest.mark.parametrize(("gain", "rate"), [(1.0, 1.0), (GAIN, 0.01)])
def test_equalised_linear(gain: float, rate: float) -> None:
    layer = randomised(EqualisedLinear(5, 3, gain=gain, rate=rate))
    features = values(4, 5)
    expected = plain(features) @ (plain(layer.weight) * gain * rate / np.sqrt(5)).T + plain(layer.bias) * rate
    assert np.allclose(plain(layer(features)), expected, atol=1e-12)


def test_stored_weights_begin_with_unit_variance_over_the_rate() -> None:
    torch.manual_seed(0)
    layer = EqualisedLinear(200, 200, rate=0.01, bias=1.0)
    assert abs(float(layer.weight.detach().std()) - 100.0) < 2.0
    # Whatever the rate, the layer in use has He's variance and the wanted bias.
    outputs = layer(torch.randn(500, 200)).detach()
    assert abs(float(outputs.std()) - 1.0) < 0.05 and abs(float(outputs.mean()) - 1.0) < 0.1


def test_mapping_layer() -> None:
    layer = randomised(MappingLayer(5, 3, rate=0.01))
    features = values(4, 5)
    expected = leaky(plain(features) @ plain(layer.weight).T * 0.01 / np.sqrt(5) + plain(layer.bias) * 0.01)
    assert np.allclose(plain(layer(features)), expected, atol=1e-12)


@pytest.mark.parametrize(("size", "stride"), [(1, 1), (3, 1), (3, 2), (1, 2)])
def test_equalised_convolution(size: int, stride: int) -> None:
    layer = randomised(EqualisedConv(3, 4, size, gain=1.5, stride=stride))
    features = values(2, 3, 6, 4)
    expected = correlate(plain(features), plain(layer.weight) * 1.5 / np.sqrt(3 * size * size), size // 2, stride)
    assert np.allclose(plain(layer(features)), expected + plain(layer.bias)[:, None, None], atol=1e-12)


@pytest.mark.parametrize(
    ("taps", "padding", "stride", "gain"), [((1, 2, 1), 1, 1, 1.0), (BLUR_TAPS, 1, 1, 4.0), (BLUR_TAPS, 1, 2, 1.0)]
)
def test_blur_keeps_the_sum_and_fades_at_the_border(
    taps: tuple[float, ...], padding: int, stride: int, gain: float
) -> None:
    features = values(2, 3, 6, 4)
    line = np.array(taps) / sum(taps)
    expected = per_channel(plain(features), gain * np.outer(line, line), padding)[:, :, ::stride, ::stride]
    assert np.allclose(plain(Blur(taps, padding, stride, gain).double()(features)), expected, atol=1e-12)


def test_blur_of_a_constant_by_hand() -> None:
    blurred = Blur((1.0, 2.0, 1.0), padding=1)(torch.ones(1, 1, 3, 3))
    expected = torch.tensor([[9.0, 12.0, 9.0], [12.0, 16.0, 12.0], [9.0, 12.0, 9.0]]) / 16.0
    assert torch.allclose(blurred[0, 0], expected)


def test_doubling_puts_zeros_between_pixels_and_filters() -> None:
    pictures = values(2, 3, 3, 5)
    line = np.array(BLUR_TAPS) / 4.0
    apart = np.zeros((2, 3, 6, 10))
    apart[:, :, ::2, ::2] = plain(pictures)
    # Two zeros before and one after: the filter of four taps then returns exactly twice the size.
    padded = np.pad(apart, ((0, 0), (0, 0), (2, 1), (2, 1)))
    expected = per_channel(padded, np.outer(line, line), padding=0)
    assert np.allclose(plain(SmoothDoubling().double()(pictures)), expected, atol=1e-12)
    flat = SmoothDoubling()(torch.ones(1, 1, 4, 4))
    assert torch.allclose(flat[0, 0, 1:-1, 1:-1], torch.ones(6, 6)), "inside, a flat picture stays flat"


@pytest.mark.parametrize("demodulate", [True, False])
@pytest.mark.parametrize(("size", "double"), [(1, False), (3, False), (3, True)])
def test_modulated_convolution(demodulate: bool, size: int, double: bool) -> None:
    layer = ModulatedConv(3, 4, size, 6, demodulate=demodulate, double=double)
    randomised(layer)
    features, latent = values(2, 3, 4, 3), values(2, 6)
    result = layer(features, latent)
    assert result.shape == ((2, 4, 8, 6) if double else (2, 4, 4, 3))
    expected = modulated(layer, plain(features), plain(latent), demodulate, double)
    assert np.allclose(plain(result), expected, atol=1e-12)


def test_demodulation_undoes_the_scale_of_the_style() -> None:
    layer = ModulatedConv(8, 8, 3, 4)
    features, latent = torch.randn(1, 8, 9, 9), torch.randn(1, 4)
    result = layer(features, latent)
    with torch.no_grad():
        layer.modulation.weight.mul_(50.0)
        layer.modulation.bias.mul_(50.0)
    assert torch.allclose(layer(features, latent), result, atol=1e-4)


def test_noise_is_one_map_for_all_channels() -> None:
    layer = Noise().double()
    features, noise = values(2, 3, 4, 5), values(2, 1, 4, 5)
    assert torch.equal(layer(features, noise), features), "the strength begins at 0"
    nn.init.constant_(layer.weight, 0.3)
    assert np.allclose(plain(layer(features, noise)), plain(features) + 0.3 * plain(noise), atol=1e-12)


def test_biased_activation() -> None:
    layer = BiasedActivation(3)
    randomised(layer)
    features = values(2, 3, 2, 2)
    expected = leaky(plain(features) + plain(layer.bias)[:, None, None])
    assert np.allclose(plain(layer(features)), expected, atol=1e-12)


def test_styled_convolution_is_convolution_noise_bias_activation() -> None:
    layer = StyledConv(3, 4, 6, double=True)
    randomised(layer)
    features, latent, noise = values(2, 3, 3, 4), values(2, 6), values(2, 1, 6, 8)
    convolved = modulated(layer.conv, plain(features), plain(latent), demodulate=True, double=True)
    noisy = convolved + plain(layer.noise.weight) * plain(noise)
    expected = leaky(noisy + plain(layer.activate.bias)[:, None, None])
    assert np.allclose(plain(layer(features, latent, noise)), expected, atol=1e-12)


def test_to_rgb_adds_the_doubled_picture_below() -> None:
    layer = ToRgb(4, 6)
    randomised(layer)
    features, latent, skip = values(2, 4, 4, 6), values(2, 6), values(2, 3, 2, 3)
    drawn = modulated(layer.conv, plain(features), plain(latent), demodulate=False, double=False)
    assert layer.upsample is not None
    expected = drawn + plain(layer.bias) + plain(layer.upsample(skip))
    assert np.allclose(plain(layer(features, latent, skip)), expected, atol=1e-12)
    first = ToRgb(4, 6, first=True).double()
    assert first(features, latent, None).shape == (2, 3, 4, 6)


def test_gradients_of_the_modulated_convolution_are_those_of_differences() -> None:
    layer = ModulatedConv(2, 2, 3, 3, double=True)
    randomised(layer)
    features, latent = values(1, 2, 3, 3).requires_grad_(), values(1, 3).requires_grad_()
    assert torch.autograd.gradcheck(layer, (features, latent))


def test_a_style_of_nothing_gives_nothing() -> None:
    layer = ModulatedConv(2, 3, 3, 4)
    nn.init.zeros_(layer.modulation.weight)
    nn.init.zeros_(layer.modulation.bias)
    assert torch.equal(layer(torch.ones(1, 2, 4, 4), torch.ones(1, 4)), torch.zeros(1, 3, 4, 4))
