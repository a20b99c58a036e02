"""RRDBNet, the generator of ESRGAN: residual-in-residual dense blocks, no normalisation.

Source: Wang et al., "ESRGAN: enhanced super-resolution generative adversarial networks", arXiv 1809.00219, section
3.1 and figure 4 (residual scaling 0.2, leaky ReLU 0.2, nearest-neighbour enlargement before convolutions). Published
size: 23 blocks of 64 channels, growth 32: 16,697,987 parameters.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from facesr.models.initialization import RESIDUAL_SCALE, he_normal_
from facesr.models.sizes import check_counts
from facesr.ranges import Blocks, Channels

SLOPE = 0.2
BRANCH_WEIGHT = 0.2
NUM_DENSE_LAYERS = 5
NUM_DENSE_BLOCKS = 3


class DenseBlock(nn.Module):
    """Five convolutions, each reading the input and all results before it; a fifth of the last one is added."""

    def __init__(self, num_channels: int, growth: int) -> None:
        super().__init__()
        outputs = [growth] * (NUM_DENSE_LAYERS - 1) + [num_channels]
        self.layers = nn.ModuleList(
            nn.Conv2d(num_channels + i * growth, size, 3, padding=1) for i, size in enumerate(outputs)
        )
        for layer in self.layers:
            assert isinstance(layer, nn.Conv2d)
            he_normal_(layer, SLOPE, RESIDUAL_SCALE)

    def forward(self, features: Tensor) -> Tensor:
        """Returns refined features of the same shape (N, C, h, w)."""
        known = features
        for layer in self.layers[:-1]:
            known = torch.cat([known, F.leaky_relu(layer(known), SLOPE)], dim=1)
        branch: Tensor = self.layers[-1](known)
        return features + BRANCH_WEIGHT * branch


class ResidualInResidual(nn.Module):
    """Three dense blocks in a row; a fifth of their result is added to the input."""

    def __init__(self, num_channels: int, growth: int) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*(DenseBlock(num_channels, growth) for _ in range(NUM_DENSE_BLOCKS)))

    def forward(self, features: Tensor) -> Tensor:
        """Returns refined features of the same shape (N, C, h, w)."""
        branch: Tensor = self.blocks(features)
        return features + BRANCH_WEIGHT * branch


class RRDBNet(nn.Module):
    """Residual-in-residual dense blocks at low resolution, then two nearest-neighbour doublings (4x)."""

    def __init__(self, num_channels: Channels = 64, num_blocks: Blocks = 23, growth: Channels = 32) -> None:
        super().__init__()
        check_counts(num_channels=num_channels, num_blocks=num_blocks, growth=growth)
        self.head = nn.Conv2d(3, num_channels, 3, padding=1)
        self.blocks = nn.Sequential(*(ResidualInResidual(num_channels, growth) for _ in range(num_blocks)))
        self.after_blocks = nn.Conv2d(num_channels, num_channels, 3, padding=1)
        self.enlarge = nn.ModuleList(nn.Conv2d(num_channels, num_channels, 3, padding=1) for _ in range(2))
        self.refine = nn.Conv2d(num_channels, num_channels, 3, padding=1)
        self.tail = nn.Conv2d(num_channels, 3, 3, padding=1)
        for layer in (self.enlarge[0], self.enlarge[1], self.refine):
            assert isinstance(layer, nn.Conv2d)
            he_normal_(layer, SLOPE)
        he_normal_(self.head, slope=1.0)
        he_normal_(self.after_blocks, slope=1.0, scale=RESIDUAL_SCALE)
        # No activation follows; a small start gives pictures near black instead of noise.
        he_normal_(self.tail, SLOPE, RESIDUAL_SCALE)

    def forward(self, low: Tensor) -> Tensor:
        """Returns the restored pictures (N, 3, 4h, 4w), unclamped, for `low` (N, 3, h, w) in [0, 1]."""
        shallow = self.head(low)
        features = shallow + self.after_blocks(self.blocks(shallow))
        for layer in self.enlarge:
            features = F.leaky_relu(layer(F.interpolate(features, scale_factor=2.0, mode="nearest")), SLOPE)
        restored: Tensor = self.tail(F.leaky_relu(self.refine(features), SLOPE))
        return restored
