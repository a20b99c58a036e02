"""A small U-Net in front of a generator: it takes blur, noise and JPEG out of the input, at the input's own size.

A network that is asked to restore and to clean at once forgets some of what it knew about clean inputs. Cleaning is a
task of its own, at a sixteenth of the pixels, whose truth is known: the official downscaling of the original.

Source of the idea: Chan et al., "Investigating tradeoffs in real-world video super-resolution", CVPR 2022, section 3.1
(an image cleaning module, trained on the clean low-resolution picture). The network is ours.
"""

from torch import Tensor, nn

from facesr.models.blocks import Limit, ResidualBlock, activated, added, bounded, convolution, doubled, padded_to_fours
from facesr.ranges import Channels
from facesr.resample import upscale


class Cleaner(nn.Module):
    """Takes faults out of pictures: (N, 3, h, w) in [0, 1] to the same shape, unclamped; any h and w from 2 up.

    It begins as the identity.

    Args:
        channels: width of the features at the input's size, a multiple of 16; twice that at a half of it, and 10/3 of
            it, in whole multiples of 32, at a quarter.
        rms_limit: see `FaceSR`.
        hidden_rms_limit: see `FaceSR`.

    Raises:
        ValueError: the width is no multiple of 16.
    """

    def __init__(self, channels: int, rms_limit: float | None = None, hidden_rms_limit: float | None = None) -> None:
        super().__init__()
        if channels % 16:
            raise ValueError("a cleaner's channels must be a multiple of 16")
        self.rms_limit = rms_limit
        half, quarter = 2 * channels, 10 * channels // 3 // 32 * 32

        def block(width: int) -> ResidualBlock:
            return ResidualBlock(width, rms_limit, hidden_rms_limit)

        self.head = convolution(3, channels)
        self.full_in = block(channels)
        self.down_half = convolution(channels, half, stride=2)
        self.half_in = block(half)
        self.down_quarter = convolution(half, quarter, stride=2)
        self.quarter = nn.Sequential(block(quarter), block(quarter), block(quarter))
        self.up_half = nn.Conv2d(quarter, half, 1)
        self.half_out = block(half)
        self.up_full = nn.Conv2d(half, channels, 1)
        self.full_out = block(channels)
        self.to_rgb = convolution(channels, 3, gain=0.0)

    def forward(self, low: Tensor) -> Tensor:
        """Returns the cleaned pictures (N, 3, h, w)."""
        height, width = low.shape[-2:]
        full = self.full_in(activated(self.head(padded_to_fours(low) - 0.5)))
        half = self.half_in(bounded(activated(self.down_half(full)), self.rms_limit))
        quarter = self.quarter(bounded(activated(self.down_quarter(half)), self.rms_limit))
        half = self.half_out(bounded(added(doubled(self.up_half(quarter)), half), self.rms_limit))
        full = self.full_out(bounded(added(doubled(self.up_full(half)), full), self.rms_limit))
        change: Tensor = self.to_rgb(full)[..., :height, :width]
        return low + change.to(low.dtype)


class CleanedBicubic(nn.Module):
    """A cleaner and bicubic enlarging: (N, 3, h, w) in [0, 1] to (N, 3, 4h, 4w), unclamped.

    For training a cleaner by itself, many times as fast as in front of a network that restores.

    Args:
        channels: see `Cleaner`, a multiple of 16.
        rms_limit: see `FaceSR`.
        hidden_rms_limit: see `FaceSR`.

    Raises:
        ValueError: the width is no multiple of 16.
    """

    def __init__(
        self,
        channels: Channels = 48,
        rms_limit: Limit | None = None,
        hidden_rms_limit: Limit | None = None,
    ) -> None:
        super().__init__()
        self.cleaner = Cleaner(channels, rms_limit, hidden_rms_limit)

    def forward(self, low: Tensor) -> Tensor:
        """Returns the cleaned and enlarged pictures (N, 3, 4h, 4w), unclamped."""
        enlarged: Tensor = upscale(self.cleaner(low).float())
        return enlarged
