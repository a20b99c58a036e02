"""StyleGAN2's generator (config F: modulated convolutions, output skips) for any constant and channel list.

With a constant of 4x4 it is the published one; with 7 rows by 6 columns and four doublings it makes the competition's
pictures of 96x112. Parameter names are those of the PyTorch ports' ``g_ema`` files.

Source: Karras et al., StyleGAN2, arXiv 1912.04958, figure 7b and appendix B (config F: channels
min(2^15 / resolution, 512), eight mapping layers, learning rate multiplier 0.01).
"""

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from facesr.models.sizes import check_counts
from facesr.models.style_layers import MappingLayer, PixelNorm, StyledConv, ToRgb
from facesr.ranges import Blocks, Channels

MAPPING_RATE = 0.01


def config_f_channels(resolution: int, multiplier: int = 2) -> tuple[int, ...]:
    """Returns config F's channels at 4x4, 8x8, ..., resolution x resolution.

    Source: StyleGAN2, appendix B; `multiplier` 2 is the published network, 1 the half as wide one of config E.
    """
    sizes = [4 << level for level in range(resolution.bit_length() - 2)]
    return tuple(512 if size <= 32 else min(512, multiplier * 16384 // size) for size in sizes)


class ConstantInput(nn.Module):
    """The learned constant that every picture begins from. Source: StyleGAN, arXiv 1812.04948, section 2."""

    def __init__(self, num_channels: int, height: int, width: int) -> None:
        super().__init__()
        self.input = nn.Parameter(torch.randn(1, num_channels, height, width))

    def forward(self, count: int) -> Tensor:
        """Returns the constant for `count` pictures, (count, C, height, width)."""
        return self.input.expand(count, -1, -1, -1)


class StyleGenerator(nn.Module):
    """Mapping network and synthesis network.

    Attributes:
        num_latents: latents w of one picture, two for each resolution.
        latent_dim: D of z and w.
        size: (width, height) of a picture.
        noise_shapes: (1, h, w) of the noise maps: one at the first resolution, then two for each.
    """

    def __init__(
        self,
        channels: Sequence[Channels],
        constant_height: Channels = 4,
        constant_width: Channels = 4,
        latent_dim: Channels = 512,
        num_mapping_layers: Blocks = 8,
    ) -> None:
        """Makes a generator with first weights; each resolution after the first doubles height and width.

        Args:
            channels: features at each resolution, the constant's first.
            constant_height: rows of the constant.
            constant_width: columns of the constant.
            latent_dim: D of z and w.
            num_mapping_layers: of the mapping network.
        """
        super().__init__()
        check_counts(
            channels=min(channels, default=0),
            constant_height=constant_height,
            constant_width=constant_width,
            latent_dim=latent_dim,
            num_mapping_layers=num_mapping_layers,
        )
        num_doublings = len(channels) - 1
        self.num_latents, self.latent_dim = 2 * len(channels), latent_dim
        self.size = (constant_width << num_doublings, constant_height << num_doublings)
        levels = [(level + 1) // 2 for level in range(2 * num_doublings + 1)]
        self.noise_shapes = tuple((1, constant_height << level, constant_width << level) for level in levels)

        mapping = [MappingLayer(latent_dim, latent_dim, rate=MAPPING_RATE) for _ in range(num_mapping_layers)]
        self.style = nn.Sequential(PixelNorm(), *mapping)
        self.input = ConstantInput(channels[0], constant_height, constant_width)
        self.conv1 = StyledConv(channels[0], channels[0], latent_dim)
        self.to_rgb1 = ToRgb(channels[0], latent_dim, first=True)
        self.convs, self.to_rgbs = nn.ModuleList(), nn.ModuleList()
        for below, here in itertools.pairwise(channels):
            self.convs.append(StyledConv(below, here, latent_dim, double=True))
            self.convs.append(StyledConv(here, here, latent_dim))
            self.to_rgbs.append(ToRgb(here, latent_dim))

    def map(self, latents: Tensor) -> Tensor:
        """Returns w (N, D) for standard normal z (N, D); only the direction of z counts."""
        mapped: Tensor = self.style(latents)
        return mapped

    def forward(self, mapped: Tensor, noises: Sequence[Tensor]) -> Tensor:
        """Returns pictures (N, 3, height, width) in about [-1, 1], not clamped.

        Args:
            mapped: w of each layer, (N, num_latents, D). A to-RGB layer shares the next convolution's.
            noises: one map (N, 1, h, w) for each of `noise_shapes`.
        """
        features = self.conv1(self.input(len(mapped)), mapped[:, 0], noises[0])
        picture: Tensor = self.to_rgb1(features, mapped[:, 1], None)
        for level, to_rgb in enumerate(self.to_rgbs):
            first = 2 * level + 1
            features = self.convs[first - 1](features, mapped[:, first], noises[first])
            features = self.convs[first](features, mapped[:, first + 1], noises[first + 1])
            picture = to_rgb(features, mapped[:, first + 2], picture)
        return picture

    def draw_noises(self, count: int, generator: torch.Generator | None = None) -> list[Tensor]:
        """Returns standard normal noise maps for `count` pictures, on the network's device."""
        device = self.input.input.device
        return [torch.randn(count, *shape, generator=generator, device=device) for shape in self.noise_shapes]
