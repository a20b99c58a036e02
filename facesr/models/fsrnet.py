"""FSRNet: a coarse picture is drawn first, landmarks are found on it, and both guide what draws the fine one.

Source: Chen et al., "FSRNet: end-to-end learning face super-resolution with facial priors", CVPR 2018, arXiv
1711.10703, section 3: a coarse network of 3 residual blocks; a fine encoder of 12 at half the output's size; a network
of 3 residual blocks and 2 stacked hourglasses at that size, which estimates the prior; a decoder that reads features
and prior, doubles them and draws with 3 residual blocks. All layers have 64 channels. The paper enlarges 8x and gives
the network the bicubic picture of the output's size; so does this one at the harness's 4x, so a face of 96x112 costs
what it would there. Changes:

- The prior is heatmaps of the 5 landmarks that prepared datasets hold. The paper has many more of them and parsing maps
  (skin, hair, lips and so on), for which our faces have no labels.
- No batch normalisation, as in `facesr.models.srresnet` and for its reasons. To train without it the coarse network
  draws the difference to the bicubic picture, and the decoder that to the coarse one; the paper's draw whole pictures.
- The hourglasses halve three times instead of four: their smallest map then is 6x7 of a face.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from facesr.models.initialization import RESIDUAL_SCALE, he_normal_
from facesr.models.sizes import check_counts
from facesr.ranges import Blocks, Channels
from facesr.resample import upscale

NUM_LANDMARKS = 5
# Residual blocks of the coarse network, before the hourglasses, and of the decoder (as published).
NUM_OUTER_BLOCKS = 3
NUM_HALVINGS = 3


def convolution(num_in: int, num_out: int, size: int = 3, stride: int = 1) -> nn.Sequential:
    """Returns a convolution with ReLU; with stride 2 it halves even sides."""
    conv = nn.Conv2d(num_in, num_out, size, stride, padding=size // 2)
    he_normal_(conv)
    return nn.Sequential(conv, nn.ReLU(inplace=True))


class ResidualBlock(nn.Module):
    """Convolution, ReLU, convolution, added to the input."""

    def __init__(self, num_channels: int) -> None:
        super().__init__()
        self.first = convolution(num_channels, num_channels)
        self.second = nn.Conv2d(num_channels, num_channels, 3, padding=1)
        he_normal_(self.second, slope=1.0, scale=RESIDUAL_SCALE)

    def forward(self, features: Tensor) -> Tensor:
        """Returns refined features of the same shape (N, C, h, w)."""
        branch: Tensor = self.second(self.first(features))
        return features + branch


def residual_blocks(num_channels: int, num_blocks: int) -> nn.Sequential:
    """Returns residual blocks in a row."""
    return nn.Sequential(*(ResidualBlock(num_channels) for _ in range(num_blocks)))


def drawing(num_channels: int) -> nn.Conv2d:
    """Returns the convolution to colours; it starts small, so that the first pictures are near the bicubic one."""
    conv = nn.Conv2d(num_channels, 3, 3, padding=1)
    he_normal_(conv, scale=RESIDUAL_SCALE)
    return conv


class Hourglass(nn.Module):
    """Halves, works at the smaller size (again as an hourglass), doubles, and adds what a block kept at full size.

    Source: Newell et al., "Stacked hourglass networks for human pose estimation", arXiv 1603.06937, figure 3.
    """

    def __init__(self, num_channels: int, num_halvings: int) -> None:
        super().__init__()
        self.skip = ResidualBlock(num_channels)
        self.enter = ResidualBlock(num_channels)
        self.inner = Hourglass(num_channels, num_halvings - 1) if num_halvings > 1 else ResidualBlock(num_channels)
        self.leave = ResidualBlock(num_channels)

    def forward(self, features: Tensor) -> Tensor:
        """Returns features of the same shape (N, C, h, w)."""
        # Sides of any length: an odd one is rounded up, and the way back goes to the size that came in.
        halved = functional.max_pool2d(features, 2, ceil_mode=True)
        found = self.leave(self.inner(self.enter(halved)))
        enlarged = functional.interpolate(found, size=features.shape[-2:], mode="nearest")
        kept: Tensor = self.skip(features)
        return kept + enlarged


class PriorEstimation(nn.Module):
    """Pictures (N, 3, H, W) to heatmaps of the landmarks (N, 5, H/2, W/2); H and W must be even."""

    def __init__(self, num_channels: int, num_hourglasses: int) -> None:
        super().__init__()
        self.head = convolution(3, num_channels, size=7, stride=2)
        self.blocks = residual_blocks(num_channels, NUM_OUTER_BLOCKS)
        self.hourglasses = nn.ModuleList()
        for _ in range(num_hourglasses):
            merge = nn.Conv2d(num_channels, num_channels, 1)
            # What an hourglass finds is several times as large as what it is given; a small start keeps a stack calm.
            he_normal_(merge, scale=RESIDUAL_SCALE)
            self.hourglasses.append(nn.Sequential(Hourglass(num_channels, NUM_HALVINGS), merge))
        self.tail = nn.Conv2d(num_channels, NUM_LANDMARKS, 1)
        # Heatmaps are 0 nearly everywhere, so a small start is near the truth.
        he_normal_(self.tail, scale=RESIDUAL_SCALE)

    def forward(self, pictures: Tensor) -> Tensor:
        """Returns one map per landmark, about 1 where the network sees it and 0 elsewhere, unclamped."""
        features = self.blocks(self.head(pictures))
        for hourglass in self.hourglasses:
            features = features + hourglass(features)
        heatmaps: Tensor = self.tail(features)
        return heatmaps


class FSRNet(nn.Module):
    """Restores faces 4x and can tell the coarse picture and the landmarks' heatmaps on the way.

    Args:
        num_channels: width of all layers.
        num_blocks: residual blocks of the fine encoder.
        num_hourglasses: stacked hourglasses of the prior estimation.
    """

    # What `forward` gives beside the picture, by name; loss terms ask for it (`LossTerm.needs`).
    extras = ("coarse", "heatmaps")

    def __init__(self, num_channels: Channels = 64, num_blocks: Blocks = 12, num_hourglasses: Blocks = 2) -> None:
        super().__init__()
        check_counts(num_channels=num_channels, num_blocks=num_blocks, num_hourglasses=num_hourglasses)
        self.coarse = nn.Sequential(
            convolution(3, num_channels), residual_blocks(num_channels, NUM_OUTER_BLOCKS), drawing(num_channels)
        )
        self.prior = PriorEstimation(num_channels, num_hourglasses)
        last = nn.Conv2d(num_channels, num_channels, 3, padding=1)
        he_normal_(last)
        self.encoder = nn.Sequential(
            convolution(3, num_channels, stride=2), residual_blocks(num_channels, num_blocks), last
        )
        doubling = nn.ConvTranspose2d(num_channels, num_channels, 4, stride=2, padding=1)
        he_normal_(doubling)
        self.decoder = nn.Sequential(
            convolution(num_channels + NUM_LANDMARKS, num_channels),
            doubling,
            nn.ReLU(inplace=True),
            residual_blocks(num_channels, NUM_OUTER_BLOCKS),
            drawing(num_channels),
        )

    def forward(self, low: Tensor, with_extras: bool = False) -> Tensor | tuple[Tensor, dict[str, Tensor]]:
        """Returns the restored pictures (N, 3, 4h, 4w), unclamped, for `low` (N, 3, h, w) in [0, 1].

        With `with_extras` a pair: the pictures, and by name ``coarse`` (N, 3, 4h, 4w), unclamped, and ``heatmaps``
        (N, 5, 2h, 2w): left eye, right eye, nose tip, left and right mouth corner as seen in the picture.
        """
        enlarged = upscale(low)
        coarse = enlarged + self.coarse(enlarged - 0.5)
        seen = coarse - 0.5
        heatmaps = self.prior(seen)
        restored = coarse + self.decoder(torch.cat([self.encoder(seen), heatmaps], dim=1))
        return (restored, {"coarse": coarse, "heatmaps": heatmaps}) if with_extras else restored
