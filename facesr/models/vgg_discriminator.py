"""The discriminator of SRGAN with spectral instead of batch normalisation, one logit a picture, for any size.

Source: Ledig et al., arXiv 1609.04802, figure 4: eight 3x3 convolutions, 64 to 512 channels, every second one of
stride 2, leaky ReLU 0.2, two dense layers. Two changes:

- Batch normalisation would tie a picture's logit to the rest of its batch, forbid gradient penalties (Gulrajani et al.,
  arXiv 1704.00028, section 4) and differ between ranks. Group normalisation would hide the contrast by which
  a restored picture is recognised. Spectral normalisation (Miyato et al., arXiv 1802.05957) does none of this. As
  in Real-ESRGAN (Wang et al., arXiv 2107.10833) the first and the last layer stay free: the logits find their scale.
- The features are averaged over the picture before the dense layers, where the paper flattens 6x6 of them: any size
  works, and the 18.9 million parameters of that dense layer, which overfit a small set of faces, are half a million.
"""

import itertools
from typing import Annotated

from torch import Tensor, nn

from facesr.models.initialization import he_normal_
from facesr.models.sizes import check_counts
from facesr.models.spectral import SpectralConv2d
from facesr.ranges import Channels, Range

SLOPE = 0.2


class VGGDiscriminator(nn.Module):
    """Strided convolutions, global average, two dense layers."""

    def __init__(self, num_channels: Channels = 64, num_hidden: Annotated[int, Range(1, 65_536)] = 1024) -> None:
        super().__init__()
        check_counts(num_channels=num_channels, num_hidden=num_hidden)
        first = nn.Conv2d(3, num_channels, 3, padding=1)
        he_normal_(first)
        layers: list[nn.Module] = [first, nn.LeakyReLU(SLOPE)]
        sizes = [num_channels * factor for factor in (1, 1, 2, 2, 4, 4, 8, 8)]
        for position, (num_in, num_out) in enumerate(itertools.pairwise(sizes)):
            stride = 2 if position % 2 == 0 else 1
            layers += [SpectralConv2d(num_in, num_out, 3, stride, padding=1), nn.LeakyReLU(SLOPE)]
        self.features = nn.Sequential(*layers)
        # 1x1 convolutions on one pixel are the dense layers.
        last = nn.Conv2d(num_hidden, 1, 1)
        he_normal_(last, SLOPE)
        self.judge = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), SpectralConv2d(sizes[-1], num_hidden, 1), nn.LeakyReLU(SLOPE), last
        )

    def forward(self, pictures: Tensor) -> Tensor:
        """Returns one logit a picture, (N, 1), higher for real, for pictures (N, 3, H, W) in [0, 1]."""
        logits: Tensor = self.judge(self.features(2.0 * pictures - 1.0))
        return logits.flatten(1)
