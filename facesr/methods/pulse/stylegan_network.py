"""StyleGAN's mapping and synthesis networks, with the parameter names of the files that PULSE published.

Source: Karras et al., "A style-based generator architecture for generative adversarial networks" (StyleGAN), arXiv
1812.04948, section 2 and appendix C; the names are those of the PyTorch port github.com/lernapparat/lernapparat, which
github.com/adamian98/pulse uses. Of the operations' details that the paper leaves open, the port's are kept: epsilon
1e-5 in the instance normalisation, doubling and convolution as one transposed convolution from 128 pixels on.
"""

import itertools
import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from facesr.models.style_layers import GAIN, SLOPE, Blur, EqualisedConv, EqualisedLinear, pixel_norm

NUM_MAPPING_LAYERS = 8
MAPPING_RATE = 0.01
BLUR_TAPS = (1.0, 2.0, 1.0)
# Results of at least this many pixels a side are doubled and convolved in one operation.
FUSED_FROM_PX = 128


class Mapping(nn.Module):
    """The mapping network: pixel norm of z, then eight linear layers with leaky ReLU.

    Source: StyleGAN, section 2 and figure 1b; learning rate multiplier 0.01, appendix C.
    """

    def __init__(self, latent_dim: int = 512, num_layers: int = NUM_MAPPING_LAYERS) -> None:
        super().__init__()
        self.latent_dim = latent_dim
        for number in range(num_layers):
            layer = EqualisedLinear(latent_dim, latent_dim, gain=GAIN, rate=MAPPING_RATE)
            self.add_module(f"dense{number}", layer)

    def forward(self, latents: Tensor) -> Tensor:
        """Returns w (N, D) for standard normal z (N, D)."""
        mapped = pixel_norm(latents)
        for layer in self.children():
            mapped = F.leaky_relu(layer(mapped), SLOPE)
        return mapped


class DoublingConv(nn.Module):
    """Nearest-neighbour doubling, 3x3 convolution and blur [1, 2, 1], then the bias.

    From 128 pixels on, doubling and convolution are one transposed convolution whose kernel is the 3x3 one with each
    tap spread over 2x2. That turns the kernel by 180 degrees against the other way, and published weights rely on it.

    Source: StyleGAN, section 2 and appendix C (bilinear sampling as doubling plus low-pass filter).
    """

    def __init__(self, num_in: int, num_out: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(num_out, num_in, 3, 3))
        self.bias = nn.Parameter(torch.zeros(num_out))
        self.intermediate = Blur(BLUR_TAPS, padding=1)
        self.factor = GAIN / math.sqrt(9 * num_in)

    def forward(self, features: Tensor) -> Tensor:
        """Returns (N, num_out, 2H, 2W) for (N, num_in, H, W)."""
        weight = self.weight * self.factor
        if 2 * min(features.shape[-2:]) >= FUSED_FROM_PX:
            # Sums of 2x2 neighbours of the kernel with a border of zeros: 3x3 becomes 4x4.
            spread = 4.0 * F.avg_pool2d(F.pad(weight, (1, 1, 1, 1)), 2, stride=1)
            doubled = F.conv_transpose2d(features, spread.transpose(0, 1), stride=2, padding=1)
        else:
            doubled = F.conv2d(F.interpolate(features, scale_factor=2.0, mode="nearest"), weight, padding=1)
        result: Tensor = self.intermediate(doubled) + self.bias[:, None, None]
        return result


class ChannelNoise(nn.Module):
    """Adds a map of noise, times a strength per channel. Source: StyleGAN, section 2 (per-channel scaling, B)."""

    def __init__(self, num_channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(num_channels))

    def forward(self, features: Tensor, noise: Tensor) -> Tensor:
        """Returns features (N, C, H, W) + strengths * noise (N, 1, H, W)."""
        return features + self.weight[:, None, None] * noise


class Style(nn.Module):
    """AdaIN: each channel brought to mean 0 and variance 1, then scaled and shifted by an affine map of w.

    Source: StyleGAN, equation 1; scales are stored as their difference to 1.
    """

    def __init__(self, num_channels: int, latent_dim: int) -> None:
        super().__init__()
        self.lin = EqualisedLinear(latent_dim, 2 * num_channels)

    def forward(self, features: Tensor, latent: Tensor) -> Tensor:
        """Returns (N, C, H, W) for features (N, C, H, W) and latents (N, D)."""
        style: Tensor = self.lin(latent)
        scale, shift = style[:, :, None, None].chunk(2, dim=1)
        return F.instance_norm(features) * (scale + 1.0) + shift


class Epilogue(nn.Module):
    """What follows every convolution: noise, leaky ReLU, AdaIN. Source: StyleGAN, figure 1b and appendix C."""

    def __init__(self, num_channels: int, latent_dim: int) -> None:
        super().__init__()
        self.noise = ChannelNoise(num_channels)
        self.style_mod = Style(num_channels, latent_dim)

    def forward(self, features: Tensor, latent: Tensor, noise: Tensor) -> Tensor:
        """Returns (N, C, H, W) for features (N, C, H, W), latents (N, D) and noise (N, 1, H, W)."""
        result: Tensor = self.style_mod(F.leaky_relu(self.noise(features, noise), SLOPE), latent)
        return result


class FirstBlock(nn.Module):
    """The learned 4x4 constant with its bias, and one convolution. Source: StyleGAN, figure 1b."""

    def __init__(self, num_channels: int, latent_dim: int) -> None:
        super().__init__()
        self.const = nn.Parameter(torch.ones(1, num_channels, 4, 4))
        self.bias = nn.Parameter(torch.ones(num_channels))
        self.epi1 = Epilogue(num_channels, latent_dim)
        self.conv = EqualisedConv(num_channels, num_channels, 3, gain=GAIN)
        self.epi2 = Epilogue(num_channels, latent_dim)

    def forward(self, mapped: Tensor, noises: Sequence[Tensor]) -> Tensor:
        """Returns (N, C, 4, 4) for two latents w (N, 2, D) and two noise maps (N, 1, 4, 4)."""
        features = (self.const + self.bias[:, None, None]).expand(len(mapped), -1, -1, -1)
        features = self.epi1(features, mapped[:, 0], noises[0])
        result: Tensor = self.epi2(self.conv(features), mapped[:, 1], noises[1])
        return result


class Block(nn.Module):
    """A doubling convolution and a second one. Source: StyleGAN, figure 1b."""

    def __init__(self, num_in: int, num_out: int, latent_dim: int) -> None:
        super().__init__()
        self.conv0_up = DoublingConv(num_in, num_out)
        self.epi1 = Epilogue(num_out, latent_dim)
        self.conv1 = EqualisedConv(num_out, num_out, 3, gain=GAIN)
        self.epi2 = Epilogue(num_out, latent_dim)

    def forward(self, features: Tensor, mapped: Tensor, noises: Sequence[Tensor]) -> Tensor:
        """Returns (N, C', 2H, 2W) for (N, C, H, W), two latents w (N, 2, D) and two noise maps (N, 1, 2H, 2W)."""
        features = self.epi1(self.conv0_up(features), mapped[:, 0], noises[0])
        result: Tensor = self.epi2(self.conv1(features), mapped[:, 1], noises[1])
        return result


class Synthesis(nn.Module):
    """The synthesis network: blocks of two layers, and the picture from the last one.

    Attributes:
        num_latents: latents w of one picture, two for each resolution (18 at 1024 pixels).
        latent_dim: D of w.
        size: (width, height) of a picture.
        noise_shapes: (1, h, w) of the noise maps, one for each layer.
    """

    def __init__(self, channels: Sequence[int], latent_dim: int = 512) -> None:
        """Makes the network with first weights for 4x4, 8x8, ... pixels with so many channels each."""
        super().__init__()
        self.num_latents, self.latent_dim = 2 * len(channels), latent_dim
        self.size = (4 << len(channels) - 1, 4 << len(channels) - 1)
        self.noise_shapes = tuple((1, 4 << layer // 2, 4 << layer // 2) for layer in range(self.num_latents))
        blocks: dict[str, nn.Module] = {"4x4": FirstBlock(channels[0], latent_dim)}
        for level, (below, here) in enumerate(itertools.pairwise(channels), start=1):
            blocks[f"{4 << level}x{4 << level}"] = Block(below, here, latent_dim)
        self.blocks = nn.ModuleDict(blocks)
        self.torgb = EqualisedConv(channels[-1], 3, 1)

    def forward(self, mapped: Tensor, noises: Sequence[Tensor]) -> Tensor:
        """Returns pictures (N, 3, size, size) in about [-1, 1], not clamped.

        Args:
            mapped: w of each layer, (N, num_latents, D).
            noises: one map (N, 1, h, w) for each of `noise_shapes`.
        """
        first, *others = self.blocks.values()
        features = first(mapped[:, :2], noises[:2])
        for number, block in enumerate(others, start=1):
            layers = slice(2 * number, 2 * number + 2)
            features = block(features, mapped[:, layers], noises[layers])
        pictures: Tensor = self.torgb(features)
        return pictures
