"""StyleGAN2's residual discriminator for pictures of any size that halves often enough: one logit a picture.

Source: Karras et al., StyleGAN2, arXiv 1912.04958, section 3.1 and figure 7c (residual blocks, outputs over sqrt(2)),
appendix B; equalised learning rate and the standard deviation over the batch after Karras et al., "Progressive growing
of GANs", arXiv 1710.10196, sections 3 and 4.1.
"""

import itertools
import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from facesr.models.sizes import check_counts
from facesr.models.style_layers import BLUR_TAPS, EPSILON, GAIN, SLOPE, Blur, EqualisedConv, EqualisedLinear
from facesr.ranges import Channels

MAX_GROUP = 4


def deviation_map(features: Tensor) -> Tensor:
    """Returns a map (N, 1, H, W) of how much pictures differ: one value for each group of up to four.

    The discriminator sees by it when the generator draws the same face again and again.

    Source: "Progressive growing of GANs", section 3; groups of 4 as in StyleGAN2, appendix B. Groups are neighbours
    i, i + N/4, ... of the batch; where 4 does not divide N they are smaller.
    """
    count, _, height, width = features.shape
    size = next(size for size in range(min(MAX_GROUP, count), 0, -1) if count % size == 0)
    grouped = features.float().reshape(size, count // size, -1)
    deviation = (grouped.var(0, unbiased=False) + EPSILON).sqrt().mean(1)
    return deviation.repeat(size)[:, None, None, None].expand(-1, -1, height, width).to(features.dtype)


def activated(features: Tensor) -> Tensor:
    """Returns sqrt(2) * lrelu_0.2 of the features."""
    return GAIN * F.leaky_relu(features, SLOPE)


class HalvingBlock(nn.Module):
    """Two convolutions, the second at half the size, and a linear way around them. Source: StyleGAN2, figure 7c."""

    def __init__(self, num_in: int, num_out: int) -> None:
        super().__init__()
        self.first = EqualisedConv(num_in, num_in, 3)
        # The filter reaches as far as the convolution that follows needs; that one pads nothing.
        self.blur = Blur(BLUR_TAPS, padding=2)
        self.second = EqualisedConv(num_in, num_out, 3, stride=2, padding=0)
        self.skip_blur = Blur(BLUR_TAPS, padding=1, stride=2)
        self.skip = EqualisedConv(num_in, num_out, 1, bias=False)

    def forward(self, features: Tensor) -> Tensor:
        """Returns (N, num_out, H / 2, W / 2) for (N, num_in, H, W)."""
        halved = activated(self.second(self.blur(activated(self.first(features)))))
        skipped: Tensor = self.skip(self.skip_blur(features))
        return (halved + skipped) / math.sqrt(2.0)


class StyleDiscriminator(nn.Module):
    """Halvings down to the generator's constant, then one logit."""

    def __init__(self, channels: Sequence[Channels], last_height: Channels = 4, last_width: Channels = 4) -> None:
        """Makes a discriminator with first weights.

        Args:
            channels: features at each resolution, the smallest one's first, as in the generator.
            last_height: rows of the smallest resolution; pictures are 2^(len(channels) - 1) times as high.
            last_width: columns of the smallest resolution.
        """
        super().__init__()
        check_counts(channels=min(channels, default=0), last_height=last_height, last_width=last_width)
        sizes = list(reversed(channels))
        self.first = EqualisedConv(3, sizes[0], 1)
        self.blocks = nn.ModuleList(HalvingBlock(*pair) for pair in itertools.pairwise(sizes))
        self.last = EqualisedConv(sizes[-1] + 1, sizes[-1], 3)
        self.hidden = EqualisedLinear(sizes[-1] * last_height * last_width, sizes[-1])
        self.logit = EqualisedLinear(sizes[-1], 1)

    def forward(self, pictures: Tensor) -> Tensor:
        """Returns logits (N, 1), higher for real, for pictures (N, 3, H, W) in [0, 1]."""
        features = activated(self.first(2.0 * pictures - 1.0))
        for block in self.blocks:
            features = block(features)
        features = activated(self.last(torch.cat([features, deviation_map(features)], dim=1)))
        logits: Tensor = self.logit(activated(self.hidden(features.flatten(1))))
        return logits
