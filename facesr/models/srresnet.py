"""SRResNet, the generator of SRGAN, without batch normalisation.

Source: Ledig et al., "Photo-realistic single image super-resolution using a generative adversarial network",
arXiv 1609.04802, figure 4. Published size: 16 blocks of 64 channels, 1,549,462 parameters with batch normalisation;
its 33 layers hold 4,224 of them. They are left out as the field later found: Lim et al., "EDSR", arXiv 1707.02921,
section 3.1 (better PSNR, 40 % less memory), and Wang et al., "ESRGAN", arXiv 1809.00219, section 3.1 (artefacts
when the statistics of training and test pictures differ). Without them a face's result does not depend on the
other faces of its batch, nor on how many ranks share it.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from facesr.models.initialization import RESIDUAL_SCALE, he_normal_, icnr_
from facesr.models.sizes import check_counts
from facesr.ranges import Blocks, Channels

# First value of a PReLU's slope: torch's default, and that of He et al., arXiv 1502.01852, section 2.1.
SLOPE = 0.25


class ResidualBlock(nn.Module):
    """Convolution, PReLU, convolution, added to the input."""

    def __init__(self, num_channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(num_channels, num_channels, 3, padding=1)
        self.activation = nn.PReLU()
        self.second = nn.Conv2d(num_channels, num_channels, 3, padding=1)
        he_normal_(self.first)
        he_normal_(self.second, SLOPE, RESIDUAL_SCALE)

    def forward(self, features: Tensor) -> Tensor:
        """Returns refined features of the same shape (N, C, h, w)."""
        branch: Tensor = self.second(self.activation(self.first(features)))
        return features + branch


class Enlargement(nn.Sequential):
    """Doubles height and width: convolution to four times the channels, pixel shuffle, PReLU."""

    def __init__(self, num_channels: int) -> None:
        conv = nn.Conv2d(num_channels, 4 * num_channels, 3, padding=1)
        icnr_(conv, 2)
        super().__init__(conv, nn.PixelShuffle(2), nn.PReLU())


class SRResNet(nn.Module):
    """Residual blocks at low resolution, then two pixel shuffles (4x)."""

    def __init__(self, num_channels: Channels = 64, num_blocks: Blocks = 16) -> None:
        super().__init__()
        check_counts(num_channels=num_channels, num_blocks=num_blocks)
        self.head = nn.Conv2d(3, num_channels, 9, padding=4)
        self.head_activation = nn.PReLU()
        self.blocks = nn.Sequential(*(ResidualBlock(num_channels) for _ in range(num_blocks)))
        self.after_blocks = nn.Conv2d(num_channels, num_channels, 3, padding=1)
        self.enlarge = nn.Sequential(Enlargement(num_channels), Enlargement(num_channels))
        self.tail = nn.Conv2d(num_channels, 3, 9, padding=4)
        he_normal_(self.head)
        he_normal_(self.after_blocks, scale=RESIDUAL_SCALE)
        # No activation follows; a small start gives pictures near black instead of noise.
        he_normal_(self.tail, scale=RESIDUAL_SCALE)

    def forward(self, low: Tensor) -> Tensor:
        """Returns the restored pictures (N, 3, 4h, 4w), unclamped, for `low` (N, 3, h, w) in [0, 1]."""
        shallow = self.head_activation(self.head(low))
        deep = shallow + self.after_blocks(self.blocks(shallow))
        large = self.enlarge(deep)
        # A program that traces the network sees the plain convolution.
        if isinstance(large, Tensor) and large.device.type == "cpu" and not torch.is_grad_enabled():
            return row_by_row(large, self.tail)
        restored: Tensor = self.tail(large)
        return restored


def row_by_row(features: Tensor, convolution: nn.Conv2d) -> Tensor:
    """Returns what a square convolution of odd side, with padding to the same size, gives (N, C, H, W).

    The same products, but each row of the kernel has output channels of its own, which are shifted and added
    afterwards: a CPU computes several output channels at once, and three leave most of a vector register empty
    (docs/performance.md).
    """
    weight, radius = convolution.weight, convolution.kernel_size[0] // 2
    num_out, num_in, rows, columns = weight.shape
    flat = weight.permute(2, 0, 1, 3).reshape(rows * num_out, num_in, 1, columns)
    parts = functional.conv2d(functional.pad(features, (0, 0, radius, radius)), flat, padding=(0, radius))
    height = features.shape[-2]
    bias = convolution.bias
    assert bias is not None
    restored = bias[:, None, None] + parts[:, :num_out, :height]
    for row in range(1, rows):
        restored += parts[:, row * num_out : (row + 1) * num_out, row : row + height]
    return restored
