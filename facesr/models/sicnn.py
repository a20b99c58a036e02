"""SICNN, the hallucination network of Tsinghua's entry to the final of 2019: dense blocks, transposed convolutions.

Source: Zhang et al., "Super-identity convolutional neural network for face hallucination", arXiv 1811.02328, and the
entry made after it, github thu-scc/ASC19-FaceSR-SICNN, sicnn_pytorch/model.py at 1b754669 (class CNNHNet). The
paper enlarges 8x with three transposed convolutions; the entry enlarges 4x and uses two: its third dense block and
third transposed convolution are built but never run, so they are not here. What runs has 1,375,446 parameters.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from facesr.models.initialization import RESIDUAL_SCALE, he_normal_
from facesr.models.sizes import check_counts
from facesr.ranges import Blocks, Channels

# First value of a PReLU's slope: torch's default, and that of He et al., arXiv 1502.01852, section 2.1.
SLOPE = 0.25
# The entry's picture scaling, (x - 127.5) / 128 on grey levels, as the face recognisers of its time.
GREY_RANGE = 255.0 / 128.0


def convolution(num_in: int, num_out: int) -> nn.Sequential:
    """Returns a 3x3 convolution with PReLU."""
    conv = nn.Conv2d(num_in, num_out, 3, padding=1)
    he_normal_(conv, SLOPE)
    return nn.Sequential(conv, nn.PReLU())


class SeparateBlocks(nn.ConvTranspose2d):
    """Transposed convolution 2x2 of stride 2. Its blocks do not overlap, but may show as a grid."""

    def __init__(self, num_in: int, num_out: int) -> None:
        super().__init__(num_in, num_out, 2, stride=2)

    def forward(self, features: Tensor, output_size: list[int] | None = None) -> Tensor:
        """Returns features twice as large, (N, num_out, 2h, 2w), for (N, num_in, h, w); `output_size` is not read."""
        # Without overlap it is a 1x1 convolution and a pixel shuffle. On a CPU torch takes three times as long for the
        # gradients of the transposed form (benchmarks/doubling.py).
        kernel = self.weight.flatten(1).t()[:, :, None, None]
        assert self.bias is not None
        return F.pixel_shuffle(F.conv2d(features, kernel, self.bias.repeat_interleave(4)), 2)


def doubling(num_channels: int) -> nn.Sequential:
    """Returns a transposed convolution that doubles height and width, with PReLU."""
    conv = SeparateBlocks(num_channels, num_channels)
    he_normal_(conv, SLOPE)
    return nn.Sequential(conv, nn.PReLU())


class DenseBlock(nn.Module):
    """One convolution to `num_channels`, then layers of `growth` channels that each read all results before them."""

    def __init__(self, num_in: int, num_channels: int, growth: int, num_layers: int) -> None:
        super().__init__()
        self.first = convolution(num_in, num_channels)
        self.layers = nn.ModuleList(convolution(num_channels + i * growth, growth) for i in range(num_layers))
        self.num_out = num_channels + num_layers * growth

    def forward(self, features: Tensor) -> Tensor:
        """Returns all results side by side, newest first, (N, num_out, h, w)."""
        known: Tensor = self.first(features)
        for layer in self.layers:
            known = torch.cat([layer(known), known], dim=1)
        return known


class SICNN(nn.Module):
    """Dense block, doubling, dense block, doubling (4x), and a short dense block that draws the picture."""

    def __init__(self, num_channels: Channels = 64, growth: Channels = 32, num_layers: Blocks = 6) -> None:
        super().__init__()
        check_counts(num_channels=num_channels, growth=growth, num_layers=num_layers)
        coarse = DenseBlock(3, num_channels, growth, num_layers)
        middle = DenseBlock(coarse.num_out, num_channels, growth, num_layers)
        fine = DenseBlock(middle.num_out, num_channels, growth, 2)
        self.body = nn.Sequential(coarse, doubling(coarse.num_out), middle, doubling(middle.num_out), fine)
        self.tail = nn.Conv2d(fine.num_out, 3, 5, padding=2)
        # A small start keeps tanh away from its flat ends.
        he_normal_(self.tail, SLOPE, RESIDUAL_SCALE)

    def forward(self, low: Tensor) -> Tensor:
        """Returns the restored pictures (N, 3, 4h, 4w), within (-0.002, 1.002), for `low` (N, 3, h, w) in [0, 1]."""
        centred = (low - 0.5) * GREY_RANGE
        return torch.tanh(self.tail(self.body(centred))) / GREY_RANGE + 0.5
