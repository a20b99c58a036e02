"""StyleGAN v1: every operation against plain float64 loops."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from facesr.methods.pulse.stylegan_network import DoublingConv, Epilogue, Mapping, Style, Synthesis

Array = NDArray[np.float64]
RNG = np.random.default_rng(5)
DIM = 6


def values(*shape: int) -> Tensor:
    return torch.from_numpy(RNG.standard_normal(shape))


def randomised(layer: nn.Module) -> nn.Module:
    with torch.no_grad():
        for parameter in layer.double().parameters():
            parameter.copy_(values(*parameter.shape))
    return layer


def plain(value: Tensor) -> Array:
    return value.detach().numpy()


def correlate(pictures: Array, weight: Array) -> Array:
    """Returns what a convolution layer computes with zeros around the picture, pixel by pixel."""
    size = weight.shape[-1]
    around = (size // 2, size // 2)
    padded = np.pad(pictures, ((0, 0), (0, 0), around, around))
    result = np.zeros((len(pictures), len(weight), *pictures.shape[2:]))
    for y in range(pictures.shape[2]):
        for x in range(pictures.shape[3]):
            window = padded[:, None, :, y : y + size, x : x + size]
            result[:, :, y, x] = (window * weight[None]).sum((2, 3, 4))
    return result


def blurred(pictures: Array) -> Array:
    """Returns every channel filtered by [1, 2, 1] / 4 along both axes, zeros outside."""
    padded = np.pad(pictures, ((0, 0), (0, 0), (1, 1), (1, 1)))
    rows = (padded[:, :, :-2] + 2 * padded[:, :, 1:-1] + padded[:, :, 2:]) / 4
    return (rows[..., :-2] + 2 * rows[..., 1:-1] + rows[..., 2:]) / 4


def doubling(layer: DoublingConv, features: Array) -> Array:
    """Returns the doubling convolution below 128 pixels: repeat pixels, convolve, blur, add the bias."""
    weight = plain(layer.weight) * np.sqrt(2.0 / (9 * features.shape[1]))
    repeated = features.repeat(2, axis=2).repeat(2, axis=3)
    return blurred(correlate(repeated, weight)) + plain(layer.bias)[:, None, None]


def fused_doubling(layer: DoublingConv, features: Array) -> Array:
    """Returns the doubling convolution from 128 pixels on: every pixel adds its 4x4 kernel to the result."""
    small = plain(layer.weight) * np.sqrt(2.0 / (9 * features.shape[1]))
    kernel = np.zeros((*small.shape[:2], 4, 4))
    for down in range(2):
        for right in range(2):
            kernel[:, :, down : down + 3, right : right + 3] += small
    height, width = features.shape[2:]
    result = np.zeros((len(features), len(small), 2 * height + 2, 2 * width + 2))
    for y in range(height):
        for x in range(width):
            part = (features[:, None, :, y, x, None, None] * kernel[None]).sum(2)
            result[:, :, 2 * y : 2 * y + 4, 2 * x : 2 * x + 4] += part
    return blurred(result[:, :, 1:-1, 1:-1]) + plain(layer.bias)[:, None, None]


def adain(layer: Style, features: Array, latent: Array) -> Array:
    """Returns equation 1 of StyleGAN, channel by channel; stored scales are differences to 1."""
    style = latent @ plain(layer.lin.weight).T / np.sqrt(latent.shape[1]) + plain(layer.lin.bias)
    result, channels = np.empty_like(features), features.shape[1]
    for n in range(len(features)):
        for c in range(channels):
            x = features[n, c]
            normal = (x - x.mean()) / np.sqrt(((x - x.mean()) ** 2).mean() + 1e-5)
            result[n, c] = normal * (style[n, c] + 1.0) + style[n, channels + c]
    return result


def epilogue(layer: Epilogue, features: Array, latent: Array, noise: Array) -> Array:
    noisy = features + plain(layer.noise.weight)[:, None, None] * noise
    return adain(layer.style_mod, np.where(noisy > 0, noisy, 0.2 * noisy), latent)


def test_style_is_adain() -> None:
    layer = Style(3, DIM)
    randomised(layer)
    features, latent = values(2, 3, 4, 5), values(2, DIM)
    assert np.allclose(plain(layer(features, latent)), adain(layer, plain(features), plain(latent)), atol=1e-12)


def test_epilogue_is_noise_activation_style() -> None:
    layer = Epilogue(3, DIM)
    randomised(layer)
    features, latent, noise = values(2, 3, 4, 4), values(2, DIM), values(2, 1, 4, 4)
    expected = epilogue(layer, plain(features), plain(latent), plain(noise))
    assert np.allclose(plain(layer(features, latent, noise)), expected, atol=1e-12)


@pytest.mark.parametrize(("height", "width"), [(4, 4), (3, 5)])
def test_doubling_below_128_pixels(height: int, width: int) -> None:
    layer = DoublingConv(3, 2)
    randomised(layer)
    features = values(2, 3, height, width)
    assert np.allclose(plain(layer(features)), doubling(layer, plain(features)), atol=1e-12)


def test_doubling_from_128_pixels_on_is_one_transposed_convolution() -> None:
    layer = DoublingConv(2, 2)
    randomised(layer)
    features = values(1, 2, 64, 65)
    result = plain(layer(features))
    assert result.shape == (1, 2, 128, 130)
    assert np.allclose(result, fused_doubling(layer, plain(features)), atol=1e-12)
    # The two ways differ: published weights need the one that they were trained with.
    assert not np.allclose(result[0, 0, 1:9, 1:9], doubling(layer, plain(features[..., :9, :9]))[0, 0, 1:9, 1:9])


def test_mapping_network() -> None:
    network = Mapping(DIM)
    randomised(network)
    latents = values(3, DIM)
    mapped = plain(latents) / np.sqrt((plain(latents) ** 2).mean(1, keepdims=True) + 1e-8)
    for layer in network.children():
        mapped = mapped @ (plain(layer.weight) * np.sqrt(2.0 / DIM) * 0.01).T + plain(layer.bias) * 0.01
        mapped = np.where(mapped > 0, mapped, 0.2 * mapped)
    assert np.allclose(plain(network(latents)), mapped, atol=1e-14)


def test_synthesis_network() -> None:
    network = Synthesis((3, 2), DIM)
    randomised(network)
    mapped, noises = values(2, 4, DIM), [values(2, *shape) for shape in network.noise_shapes]
    w, z = plain(mapped), [plain(noise) for noise in noises]
    first, second = network.blocks["4x4"], network.blocks["8x8"]

    def convolved(layer: nn.Module, features: Array, gain: float) -> Array:
        weight = plain(layer.weight)
        factor = gain / np.sqrt(weight[0].size)
        return correlate(features, weight * factor) + plain(layer.bias)[:, None, None]

    features = np.repeat(plain(first.const) + plain(first.bias)[:, None, None], 2, axis=0)
    features = epilogue(first.epi1, features, w[:, 0], z[0])
    features = epilogue(first.epi2, convolved(first.conv, features, np.sqrt(2.0)), w[:, 1], z[1])
    features = epilogue(second.epi1, doubling(second.conv0_up, features), w[:, 2], z[2])
    features = epilogue(second.epi2, convolved(second.conv1, features, np.sqrt(2.0)), w[:, 3], z[3])
    expected = convolved(network.torgb, features, 1.0)
    assert np.allclose(plain(network(mapped, noises)), expected, atol=1e-10)


# At 4x4, 8x8, ..., 1024x1024: Progressive growing of GANs, appendix A.
FFHQ_CHANNELS = (512, 512, 512, 512, 256, 128, 64, 32, 16)


def test_ffhq_has_18_latents_and_noise_maps() -> None:
    with torch.device("meta"):
        synthesis, mapping = Synthesis(FFHQ_CHANNELS), Mapping()
    assert synthesis.num_latents == 18 and synthesis.size == (1024, 1024)
    assert synthesis.noise_shapes == tuple((1, 2 ** (i // 2 + 2), 2 ** (i // 2 + 2)) for i in range(18))
    # StyleGAN, section 2: "26.2M trainable parameters".
    count = sum(parameter.numel() for network in (synthesis, mapping) for parameter in network.parameters())
    assert f"{count / 1e6:.1f}" == "26.2"


# Files
