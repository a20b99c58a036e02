"""A U-Net discriminator with spectral normalisation: one logit a pixel, for any size.

Source of the layer list: Wang et al., "Real-ESRGAN", arXiv 2107.10833, section 3.3 and figure 6 (64 channels, three
halvings, bilinear doublings, skip connections added, first and last layer without spectral normalisation):
4,376,897 parameters; after Schoenfeld et al., "A U-Net based discriminator", arXiv 2002.12655.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from facesr.models.initialization import he_normal_
from facesr.models.sizes import check_counts
from facesr.models.spectral import SpectralConv2d
from facesr.ranges import Channels

SLOPE = 0.2
NUM_LEVELS = 3


def pad_to_even(features: Tensor) -> Tensor:
    """Returns features whose height and width are even; an odd side repeats its last row or column."""
    height, width = features.shape[-2:]
    if height % 2 or width % 2:
        return F.pad(features, (0, width % 2, 0, height % 2), mode="replicate")
    return features


def double_to(features: Tensor, height: int, width: int) -> Tensor:
    """Returns features doubled bilinearly, without the row or column that `pad_to_even` added."""
    doubled = F.interpolate(features, scale_factor=2.0, mode="bilinear", align_corners=False)
    return doubled[..., :height, :width]


class UNetDiscriminator(nn.Module):
    """Three halvings, three doublings with skip connections, three convolutions at full size."""

    def __init__(self, num_channels: Channels = 64) -> None:
        super().__init__()
        check_counts(num_channels=num_channels)
        sizes = [num_channels * 2**level for level in range(NUM_LEVELS + 1)]
        self.first = nn.Conv2d(3, num_channels, 3, padding=1)
        self.down = nn.ModuleList(
            SpectralConv2d(sizes[level], sizes[level + 1], 4, stride=2, padding=1, bias=False)
            for level in range(NUM_LEVELS)
        )
        self.up = nn.ModuleList(
            SpectralConv2d(sizes[level + 1], sizes[level], 3, padding=1, bias=False)
            for level in reversed(range(NUM_LEVELS))
        )
        self.refine = nn.ModuleList(
            SpectralConv2d(num_channels, num_channels, 3, padding=1, bias=False) for _ in range(2)
        )
        self.last = nn.Conv2d(num_channels, 1, 3, padding=1)
        he_normal_(self.first)
        he_normal_(self.last, SLOPE)

    def forward(self, pictures: Tensor) -> Tensor:
        """Returns one logit a pixel, (N, 1, H, W), higher for real, for pictures (N, 3, H, W) in [0, 1]."""
        features = F.leaky_relu(self.first(2.0 * pictures - 1.0), SLOPE)
        skips: list[Tensor] = []
        for layer in self.down:
            skips.append(features)
            features = F.leaky_relu(layer(pad_to_even(features)), SLOPE)
        for layer in self.up:
            skip = skips.pop()
            features = F.leaky_relu(layer(double_to(features, skip.shape[-2], skip.shape[-1])), SLOPE) + skip
        for layer in self.refine:
            features = F.leaky_relu(layer(features), SLOPE)
        logits: Tensor = self.last(features)
        return logits
