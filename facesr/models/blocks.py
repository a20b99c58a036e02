"""What the project's own networks are made of: convolutions, features within a limit, residual blocks."""

import math
from typing import Annotated

import torch
from torch import Tensor, nn
from torch.nn import functional

from facesr.ranges import Range

# Of the root mean square of a pixel's features.
Limit = Annotated[float, Range(0, 1e6, above=True)]


def convolution(channels_in: int, channels_out: int, gain: float = 1.0, stride: int = 1) -> nn.Conv2d:
    """Returns a 3x3 convolution with He-normal weights times `gain`, and zero bias.

    Source: He et al., "Delving deep into rectifiers", ICCV 2015, equation 10.
    """
    layer = nn.Conv2d(channels_in, channels_out, 3, stride=stride, padding=1)
    nn.init.normal_(layer.weight, std=gain * math.sqrt(2.0 / (9 * channels_in)))
    assert layer.bias is not None
    nn.init.zeros_(layer.bias)
    return layer


def activated(features: Tensor) -> Tensor:
    """Returns SiLU of features that nobody else reads: in their own memory where no gradient needs them."""
    return functional.silu(features, inplace=not torch.is_grad_enabled())


def added(change: Tensor, features: Tensor) -> Tensor:
    """Returns `features + change`, in the memory of `change`, which nobody else reads, where no gradient needs it."""
    return features + change if torch.is_grad_enabled() else change.add_(features)


def bounded(features: Tensor, rms_limit: float | None) -> Tensor:
    """Returns features (N, C, h, w) whose root mean square over the channels is at most `rms_limit` at every pixel.

    A pixel within the limit stays as it is; one beyond it is scaled down as a whole. Its direction, which is what the
    next layer reads, is kept; a clamp of single channels turns it. None is no limit. Nobody else may read the features:
    where no gradient needs them the answer lies in their memory.
    """
    if rms_limit is None:
        return features
    # In float32: the square of a large half-precision feature would be infinite, and its pixel black. Not by
    # `vector_norm`, which takes nearly three times as long over the channels of (N, C, h, w) on a CPU.
    square = features.float().square().mean(1, keepdim=True)
    # The reciprocal of exactly 1 within the limit, so that such a pixel keeps its bits.
    scale: Tensor = (square / rms_limit**2).clamp_min(1.0).sqrt().reciprocal()
    scale = scale.to(features.dtype)
    return features * scale if torch.is_grad_enabled() else features.mul_(scale)


def doubled(features: Tensor) -> Tensor:
    """Returns features (N, C, h, w) at twice the size, each four times."""
    return functional.interpolate(features, scale_factor=2, mode="nearest")


def padded_to_fours(low: Tensor) -> Tensor:
    """Returns pictures (N, C, h, w) whose sides can be halved twice: continued by their last pixels to the right and
    below.
    """
    height, width = low.shape[-2:]
    return functional.pad(low, (0, -width % 4, 0, -height % 4), mode="replicate")


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions with an activation between, added to the input; (N, C, h, w) to the same shape.

    No normalisation, after Lim et al. (EDSR, CVPRW 2017): it would take away each picture's own contrast. Instead the
    hidden features, the change and the sum are `bounded`. The second convolution starts small, so that a deep stack
    begins near the identity.
    """

    def __init__(self, channels: int, rms_limit: float | None = None, hidden_rms_limit: float | None = None) -> None:
        super().__init__()
        self.rms_limit = rms_limit
        self.hidden_rms_limit = hidden_rms_limit
        self.first = convolution(channels, channels)
        self.second = convolution(channels, channels, gain=0.1)

    def forward(self, features: Tensor) -> Tensor:
        """Returns the features plus the block's change to them."""
        # Bounded here as well, every convolution of the block has an input within a limit, and so a bounded answer.
        hidden = bounded(activated(self.first(features)), self.hidden_rms_limit)
        change = bounded(self.second(hidden), self.rms_limit)
        return bounded(added(change, features), self.rms_limit)
