"""MobileStyleGAN's generator: modulated depthwise-separable convolutions, and doubling by an inverse wavelet transform.

A block brings features (N, C, H, W) to (N, C', 2H, 2W): the style scales them, the inverse Haar transform takes four
channels to one of twice the side, and two convolutions follow, each a 3x3 one per channel and a 1x1 one between
channels. The picture is made once, at the end, as wavelet coefficients of half its side.

Source: Belousov, "MobileStyleGAN: a lightweight convolutional neural network for high-fidelity image synthesis",
arXiv 2104.04767, sections 3.1 to 3.4. Demodulation does not depend on the style (section 3.4), so it is part of the
stored weights.
"""

import itertools
import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from facesr.models.sizes import check_counts
from facesr.models.style_generator import ConstantInput
from facesr.models.style_layers import GAIN, SLOPE, PixelNorm, at_least_float32
from facesr.ranges import Blocks, Channels

# Bands of a wavelet transform in two dimensions: the coarse one, and vertical, horizontal and diagonal detail.
_NUM_BANDS = 4


def inverse_haar(bands: Tensor) -> Tensor:
    """Returns (N, C, 2H, 2W), the inverse of the orthonormal Haar transform, for its bands (N, 4C, H, W).

    The first C channels are the coarse band; behind them, each channel's vertical, horizontal and diagonal detail.
    """
    channels = bands.shape[1] // _NUM_BANDS
    coarse, details = bands[:, :channels], bands[:, channels:]
    vertical, horizontal, diagonal = (details[:, number :: _NUM_BANDS - 1] for number in range(_NUM_BANDS - 1))
    upper, lower = coarse + vertical, coarse - vertical
    upper_step, lower_step = horizontal + diagonal, horizontal - diagonal
    corners = (upper + upper_step, upper - upper_step, lower + lower_step, lower - lower_step)
    return F.pixel_shuffle(0.5 * torch.stack(corners, 2).flatten(1, 2), 2)


class Scale(nn.Linear):
    """A factor for each channel, an affine map of a latent: (N, D) to (N, C, 1, 1)."""

    def forward(self, latent: Tensor) -> Tensor:
        """Returns factors (N, C, 1, 1) for latents (N, D)."""
        return super().forward(latent)[:, :, None, None]


class ModulatedLayer(nn.Module):
    """Convolution of scaled channels, noise, bias, leaky ReLU; separable where it is not the first one."""

    strength: Tensor

    def __init__(self, num_in: int, num_out: int, latent_dim: int, *, separable: bool = True) -> None:
        super().__init__()
        self.scale = Scale(latent_dim, num_in)
        self.depthwise = nn.Conv2d(num_in, num_in, 3, padding=1, groups=num_in, bias=False) if separable else None
        side = 1 if separable else 3
        self.mixing = nn.Conv2d(num_in, num_out, side, padding=side // 2)
        # He's constant of a full 3x3 convolution, also where it is separable.
        self.factor = 1.0 / math.sqrt(9 * num_in)
        self.register_buffer("strength", torch.zeros(()))

    def forward(self, features: Tensor, factors: Tensor, noise: Tensor) -> Tensor:
        """Returns (N, num_out, H, W) for (N, num_in, H, W), factors (N, num_in, 1, 1) and noise (N, 1, H, W)."""
        if self.depthwise is None:
            mixed = self.mixing(features * factors.to(features.dtype)) + (self.strength * noise).to(features.dtype)
            activated: Tensor = F.leaky_relu(mixed, SLOPE)
            return activated
        # A factor per channel passes through the convolution of that channel, into the small matrix behind it: each
        # picture has its own, and no map of features is multiplied.
        weight, bias = self.mixing.weight.flatten(1) * factors.flatten(2).transpose(1, 2), self.mixing.bias
        assert bias is not None
        maps = torch.baddbmm((self.strength * noise).flatten(2), weight, self.depthwise(features).flatten(2))
        return F.leaky_relu((maps + bias[:, None]).reshape(*maps.shape[:2], *features.shape[2:]), SLOPE)


class DoublingBlock(nn.Module):
    """Inverse wavelet transform and two layers: three latents, two noise maps."""

    def __init__(self, num_in: int, num_out: int, latent_dim: int) -> None:
        super().__init__()
        self.scale = Scale(latent_dim, num_in)
        self.first = ModulatedLayer(num_in // _NUM_BANDS, num_out, latent_dim)
        self.second = ModulatedLayer(num_out, num_out, latent_dim)

    def forward(self, features: Tensor, mapped: Tensor, noises: Sequence[Tensor]) -> Tensor:
        """Returns (N, num_out, 2H, 2W) for (N, num_in, H, W), latents (N, 3, D), two noise maps (N, 1, 2H, 2W)."""
        doubled = inverse_haar(features * self.scale(mapped[:, 0]).to(features.dtype))
        first, second = self.first, self.second
        features = first(doubled, first.factor * first.scale(mapped[:, 1]), noises[0])
        result: Tensor = second(features, second.factor * second.scale(mapped[:, 2]), noises[1])
        return result


class MobileStyleGenerator(nn.Module):
    """Mapping network and synthesis network.

    Attributes:
        num_latents: latents w of one picture: one, three for each doubling block, and one for the last layer.
        latent_dim: D of z and w.
        size: (width, height) of a picture.
        noise_shapes: (1, h, w) of the noise maps: one for the constant's size, then two for each doubling block.
        noise_constants: float32 (1, h, w) of each map, what the published network always takes.
    """

    def __init__(
        self, channels: Sequence[Channels], latent_dim: Channels = 512, num_mapping_layers: Blocks = 8
    ) -> None:
        """Makes a generator with first weights.

        Args:
            channels: features at 4x4, 8x8, ..., half the picture's side; but for the last, multiples of 4.
            latent_dim: D of z and w.
            num_mapping_layers: of the mapping network.

        Raises:
            ValueError: a count is not above 0, or channels before a doubling are no multiple of 4.
        """
        super().__init__()
        check_counts(channels=min(channels, default=0), latent_dim=latent_dim, num_mapping_layers=num_mapping_layers)
        if any(count % _NUM_BANDS for count in channels[:-1]):
            raise ValueError(f"channels={list(channels)}: all but the last have to be multiples of {_NUM_BANDS}")
        side = 4 << len(channels)
        self.num_latents, self.latent_dim, self.size = 3 * len(channels) - 1, latent_dim, (side, side)
        levels = [(number + 1) // 2 for number in range(2 * len(channels) - 1)]
        self.noise_shapes = tuple((1, 4 << level, 4 << level) for level in levels)
        mapping = [nn.Linear(latent_dim, latent_dim) for _ in range(num_mapping_layers)]
        self.mapping = nn.ModuleList(mapping)
        self.normalise = PixelNorm()
        self.input = ConstantInput(channels[0], 4, 4)
        self.first = ModulatedLayer(channels[0], channels[0], latent_dim, separable=False)
        blocks = [DoublingBlock(below, here, latent_dim) for below, here in itertools.pairwise(channels)]
        self.blocks = nn.ModuleList(blocks)
        self.picture_scale = Scale(latent_dim, channels[-1])
        self.picture = nn.Conv2d(channels[-1], 3 * _NUM_BANDS, 1)
        self.picture_factor = 1.0 / math.sqrt(channels[-1])
        for number, shape in enumerate(self.noise_shapes):
            self.register_buffer(f"noise_{number}", torch.zeros(shape))

    @property
    def noise_constants(self) -> tuple[Tensor, ...]:
        """The noise maps of the published network, (1, h, w), of standard deviation 1 where they are not zero."""
        return tuple(getattr(self, f"noise_{number}") for number in range(len(self.noise_shapes)))

    def map(self, latents: Tensor) -> Tensor:
        """Returns w (N, D) for standard normal z (N, D); only the direction of z counts."""
        mapped: Tensor = self.normalise(latents)
        for layer in self.mapping:
            mapped = GAIN * F.leaky_relu(layer(mapped), SLOPE)
        return mapped

    def forward(self, mapped: Tensor, noises: Sequence[Tensor]) -> Tensor:
        """Returns pictures (N, 3, side, side) in about [-1, 1], not clamped.

        Args:
            mapped: w of each layer, (N, num_latents, D).
            noises: one map (N, 1, h, w) for each of `noise_shapes`.
        """
        features = self.input(len(mapped))
        features = self.first(features, self.first.factor * self.first.scale(mapped[:, 0]), noises[0])
        for number, block in enumerate(self.blocks):
            latents = mapped[:, 3 * number + 1 : 3 * number + 4]
            features = block(features, latents, noises[2 * number + 1 : 2 * number + 3])
        factors = self.picture_factor * self.picture_scale(mapped[:, -1])
        # In float32 under autocast from here on: eight bits would show as bands.
        return inverse_haar(at_least_float32(self.picture(features * factors.to(features.dtype))))
