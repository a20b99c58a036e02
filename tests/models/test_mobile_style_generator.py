"""MobileStyleGAN's network against a plain computation in float64 written from the paper, one picture at a time."""

import math

import pytest
import torch
from torch import Tensor

from facesr.errors import ConfigError
from facesr.models.mobile_style_generator import MobileStyleGenerator, inverse_haar

CHANNELS, DIM = (8, 4, 5), 6


def network() -> MobileStyleGenerator:
    torch.manual_seed(3)
    made = MobileStyleGenerator(CHANNELS, latent_dim=DIM, num_mapping_layers=2).double().eval()
    draw = torch.Generator().manual_seed(4)
    state = {
        name: torch.randn(value.shape, generator=draw, dtype=torch.float64) for name, value in made.state_dict().items()
    }
    made.load_state_dict(state)
    return made


def drawn(made: MobileStyleGenerator, count: int) -> tuple[Tensor, list[Tensor]]:
    draw = torch.Generator().manual_seed(5)
    mapped = torch.randn(count, made.num_latents, DIM, generator=draw, dtype=torch.float64)
    return mapped, [torch.randn(count, *shape, generator=draw, dtype=torch.float64) for shape in made.noise_shapes]


def test_the_haar_transform_of_a_picture_is_inverted():
    draw = torch.Generator().manual_seed(1)
    picture = torch.randn(2, 3, 6, 8, generator=draw, dtype=torch.float64)
    a, b = picture[..., 0::2, 0::2], picture[..., 0::2, 1::2]
    c, d = picture[..., 1::2, 0::2], picture[..., 1::2, 1::2]
    # Orthonormal: sums and differences of the four neighbours, halved.
    coarse, vertical, horizontal, diagonal = a + b + c + d, a + b - c - d, a - b + c - d, a - b - c + d
    details = torch.stack([vertical, horizontal, diagonal], 2).flatten(1, 2)
    bands = torch.cat([coarse, details], 1) / 2.0
    assert torch.allclose(inverse_haar(bands), picture, atol=1e-12)
    assert float(bands.square().sum()) == pytest.approx(float(picture.square().sum()))


def plain(made: MobileStyleGenerator, mapped: Tensor, noises: list[Tensor]) -> Tensor:
    """Returns one picture (3, side, side), with sums over taps and channels written out."""
    state = made.state_dict()
    latents = iter(mapped)

    def scaled(features: Tensor, scale: str, factor: float) -> Tensor:
        style = state[f"{scale}.weight"] @ next(latents) + state[f"{scale}.bias"]
        return features * (factor * style)[:, None, None]

    def doubled(bands: Tensor) -> Tensor:
        count = len(bands) // 4
        out = torch.zeros(count, 2 * bands.shape[1], 2 * bands.shape[2], dtype=bands.dtype)
        for channel in range(count):
            parts = [bands[channel], *bands[count + 3 * channel : count + 3 * channel + 3]]
            for row in range(2):
                for column in range(2):
                    signs = (1, (-1) ** row, (-1) ** column, (-1) ** (row + column))
                    mixed = sum(sign * part for sign, part in zip(signs, parts, strict=True)) / 2
                    out[channel, row::2, column::2] = mixed
        return out

    def taps(features: Tensor, kernel: Tensor) -> Tensor:
        """Correlation of one channel (H, W) with a 3x3 kernel, zeros around."""
        height, width = features.shape
        padded = torch.zeros(height + 2, width + 2, dtype=features.dtype)
        padded[1:-1, 1:-1] = features
        return sum(kernel[y, x] * padded[y : y + height, x : x + width] for y in range(3) for x in range(3))

    def layer(name: str, features: Tensor, noise: Tensor) -> Tensor:
        features = scaled(features, f"{name}.scale", 1 / math.sqrt(9 * len(features)))
        weight = state[f"{name}.mixing.weight"]
        if name == "first":
            mixed = [sum(taps(one, kernel) for one, kernel in zip(features, row, strict=True)) for row in weight]
        else:
            depthwise = state[f"{name}.depthwise.weight"]
            features = torch.stack([taps(one, kernel[0]) for one, kernel in zip(features, depthwise, strict=True)])
            mixed = [(row[:, 0, 0][:, None, None] * features).sum(0) for row in weight]
        total = torch.stack(mixed) + state[f"{name}.mixing.bias"][:, None, None] + state[f"{name}.strength"] * noise
        return torch.where(total > 0, total, 0.2 * total)

    features = layer("first", state["input.input"][0], noises[0])
    for block in range(len(CHANNELS) - 1):
        features = doubled(scaled(features, f"blocks.{block}.scale", 1.0))
        features = layer(f"blocks.{block}.first", features, noises[2 * block + 1])
        features = layer(f"blocks.{block}.second", features, noises[2 * block + 2])
    features = scaled(features, "picture_scale", 1 / math.sqrt(CHANNELS[-1]))
    picture = torch.einsum("oc,chw->ohw", state["picture.weight"][:, :, 0, 0], features)
    return doubled(picture + state["picture.bias"][:, None, None])


def test_a_batch_equals_the_plain_computation_of_each_picture():
    made = network()
    mapped, noises = drawn(made, 2)
    found = made(mapped, noises)
    assert made.size == (32, 32) and found.shape == (2, 3, 32, 32) and made.num_latents == 8
    assert made.noise_shapes == ((1, 4, 4), (1, 8, 8), (1, 8, 8), (1, 16, 16), (1, 16, 16))
    for row in range(2):
        expected = plain(made, mapped[row], [noise[row, 0] for noise in noises])
        assert torch.allclose(found[row], expected, rtol=1e-9, atol=1e-9)


def test_the_mapping_is_pixel_norm_and_layers_with_gain():
    made = network()
    latent = torch.linspace(-1, 2, DIM, dtype=torch.float64)[None]
    expected = latent / (latent.square().mean() + 1e-8).sqrt()
    state = made.state_dict()
    for number in range(2):
        expected = expected @ state[f"mapping.{number}.weight"].T + state[f"mapping.{number}.bias"]
        expected = 2**0.5 * torch.where(expected > 0, expected, 0.2 * expected)
    assert torch.allclose(made.map(latent), expected, rtol=1e-12)
    assert torch.allclose(made.map(3.0 * latent), expected, rtol=1e-6)


def test_every_latent_and_every_noise_map_has_a_gradient():
    made = network()
    mapped, noises = drawn(made, 1)
    assert torch.autograd.gradcheck(
        lambda latents: made(latents, noises)[:, :, ::9, ::9], mapped.requires_grad_(), atol=1e-4
    )
    noises = [noise.requires_grad_() for noise in noises]
    made(mapped, noises).square().mean().backward()
    assert all(noise.grad is not None and float(noise.grad.abs().min()) > 0 for noise in noises)
    assert mapped.grad is not None and bool((mapped.grad.abs().sum(-1) > 0).all())


def test_channels_that_no_wavelet_can_double_are_refused():
    with pytest.raises((ConfigError, ValueError), match="multiples of 4"):
        MobileStyleGenerator((6, 4))
