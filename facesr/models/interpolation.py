"""Generators without parameters: the baselines that every table begins with."""

import torch.nn.functional as F
from torch import Tensor, nn

from facesr.resample import upscale
from facesr.task import SCALE


class Bicubic(nn.Module):
    """Cubic interpolation (a = -0.5, symmetric border), the baseline of the competition."""

    def forward(self, low: Tensor) -> Tensor:
        """Returns `low` (N, 3, h, w) enlarged to (N, 3, 4h, 4w), unclamped: it overshoots [0, 1] at edges."""
        return upscale(low)


class Nearest(nn.Module):
    """Each pixel repeated 4 x 4 times, which shows what the network is given."""

    def forward(self, low: Tensor) -> Tensor:
        """Returns `low` (N, 3, h, w) enlarged to (N, 3, 4h, 4w), in the range of `low`."""
        return F.interpolate(low, scale_factor=float(SCALE), mode="nearest")
