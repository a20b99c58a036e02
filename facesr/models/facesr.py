"""The project's own generator: residual blocks at the input's size, and hourglasses that see the whole face.

Nearly all work is done at 24x28, where a block costs a sixteenth of one at 96x112; the colours come from features at
twice the input's size by one sub-pixel convolution. Channel counts are multiples of 32, which is what matrix units
(AMX, tensor cores) want.

A group may also work at a half and a quarter of the input's size (an hourglass), where a few wide convolutions see the
whole face for a quarter more time, but two thirds of all weights. docs/log.md has the ablation: it is worth
nothing in runs of 10,000 images and little in runs of 60,000, so configs/generator/facesr.yaml leaves it out, and a
network that has been trained for long grows it later (`FaceSR.grown`; configs/experiment/asc19_pixel_grown.yaml); a
block at the output's size is not worth its time.

For inputs with blur, noise or JPEG there is a `Cleaner` in front, which can be trained while all else stays as it is.
"""

import math
from collections.abc import Mapping
from typing import Annotated

from torch import Tensor, nn
from torch.nn import functional

from facesr.models.blocks import Limit, ResidualBlock, activated, added, bounded, convolution, doubled, padded_to_fours
from facesr.models.cleaner import Cleaner
from facesr.ranges import Blocks, Channels, Range
from facesr.resample import upscale

# The clamp of snapshots that state no `rms_limit`. It hides features that run away and does not stop them: the shipped
# flagship had 2e10 behind it on one official face, whose restoration was lost (docs/log.md).
CLAMP = 8.0
_BODY, _CLEANER = "body.", "cleaner."


class Hourglass(nn.Module):
    """Residual blocks at a half and a quarter of the size, added to the input; sides must be multiples of 4."""

    def __init__(
        self, channels: int, num_blocks: int, rms_limit: float | None = None, hidden_rms_limit: float | None = None
    ) -> None:
        super().__init__()
        self.rms_limit = rms_limit
        half, quarter = 3 * channels // 2 // 32 * 32 or channels, 2 * channels

        def blocks(width: int) -> nn.Sequential:
            return nn.Sequential(*[ResidualBlock(width, rms_limit, hidden_rms_limit) for _ in range(num_blocks)])

        self.down_half = convolution(channels, half, stride=2)
        self.half_in = blocks(half)
        self.down_quarter = convolution(half, quarter, stride=2)
        self.quarter = blocks(quarter)
        self.up_half = nn.Conv2d(quarter, half, 1)
        self.half_out = blocks(half)
        self.up_full = nn.Conv2d(half, channels, 1)
        # The group starts as a plain residual group; the hourglass grows in.
        nn.init.zeros_(self.up_full.weight)
        assert self.up_full.bias is not None
        nn.init.zeros_(self.up_full.bias)

    def forward(self, features: Tensor) -> Tensor:
        """Returns (N, C, h, w) features plus what the smaller sizes add to them."""
        half = self.half_in(bounded(activated(self.down_half(features)), self.rms_limit))
        quarter = self.quarter(bounded(activated(self.down_quarter(half)), self.rms_limit))
        half = added(doubled(self.up_half(quarter)), half)
        change = self.up_full(self.half_out(bounded(half, self.rms_limit)))
        return bounded(added(doubled(change), features), self.rms_limit)


class FaceSR(nn.Module):
    """Restores faces 4x: (N, 3, h, w) in [0, 1] to (N, 3, 4h, 4w), unclamped; any h and w from 2 up.

    Args:
        channels: width of the features at the input's size, a multiple of 32.
        num_groups: groups of residual blocks, each with an hourglass behind them where there are any.
        num_blocks: residual blocks of a group.
        num_hourglass_blocks: residual blocks at each step of an hourglass; 0 leaves the hourglass out.
        channels_up: width of the features at twice the input's size.
        channels_out: width of the features at the output's size; 0 makes the colours from the features at
            twice the input's size by one sub-pixel convolution, which halves the cost of a step.
        rms_limit: largest root mean square of a pixel's features behind every block and at every step of an hourglass,
            above 0; trained networks have 0.3 in the median pixel of a face. None is the network of snapshots that do
            not state it: no limit, and features clamped to +-8 behind each group.
        hidden_rms_limit: the same between the two convolutions of every block; faces reach 0.7. None is no limit.
        cleaner_channels: width of the `Cleaner` in front at the input's size, a multiple of 16; 0 leaves it out.
        train_cleaner_alone: whether the weights behind the cleaner stay as they are.
        middle_block: whether there is a residual block at twice the input's size. On a CPU it takes more time than
            its share of the multiply-accumulates.

    Raises:
        ValueError: a width is no multiple of 32 (of the cleaner: 16), a limit is not above 0 and finite, or the cleaner
            alone is to be trained where there is none.
    """

    def __init__(
        self,
        channels: Channels = 96,
        num_groups: Blocks = 3,
        num_blocks: Blocks = 4,
        num_hourglass_blocks: Annotated[int, Range(0, 64)] = 0,
        channels_up: Channels = 64,
        channels_out: Annotated[int, Range(0, 4_096)] = 0,
        rms_limit: Limit | None = None,
        hidden_rms_limit: Limit | None = None,
        cleaner_channels: Annotated[int, Range(0, 4_096)] = 0,
        train_cleaner_alone: bool = False,
        middle_block: bool = True,
    ) -> None:
        super().__init__()
        for name, limit in (("rms_limit", rms_limit), ("hidden_rms_limit", hidden_rms_limit)):
            if limit is not None and not 0.0 < limit < math.inf:
                raise ValueError(f"{name} must be above 0 and finite, or null for none; it is {limit}")
        limits = (rms_limit, hidden_rms_limit)
        self.rms_limit = rms_limit
        if channels % 32 or channels_up % 32 or channels_out % 32:
            raise ValueError("channels, channels_up and channels_out must be multiples of 32")
        self.head = convolution(3, channels)
        groups: list[nn.Module] = []
        for _ in range(num_groups):
            groups += [ResidualBlock(channels, *limits) for _ in range(num_blocks)]
            if num_hourglass_blocks:
                groups.append(Hourglass(channels, num_hourglass_blocks, *limits))
        self._group = len(groups) // num_groups  # layers of a group
        self.body = nn.Sequential(*groups, convolution(channels, channels, gain=0.5))
        self.up_first = convolution(channels, 4 * channels_up)
        self.middle = ResidualBlock(channels_up, *limits) if middle_block else None
        self.last: nn.Module = nn.Identity()
        self.up_second: nn.Module = nn.Identity()
        if channels_out:
            self.up_second = nn.Sequential(convolution(channels_up, 4 * channels_out), nn.PixelShuffle(2), nn.SiLU())
            self.last = ResidualBlock(channels_out, *limits)
        # The first output is the bicubic picture: training starts from the baseline, not from noise.
        self.to_rgb = convolution(channels_out or channels_up, 3 if channels_out else 12, gain=0.0)
        self.shuffle = nn.Identity() if channels_out else nn.PixelShuffle(2)
        if train_cleaner_alone:
            if not cleaner_channels:
                raise ValueError("train_cleaner_alone needs a cleaner; give cleaner_channels=48")
            self.requires_grad_(False)
        self.cleaner: nn.Module = Cleaner(cleaner_channels, *limits) if cleaner_channels else nn.Identity()

    def grown(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Returns the weights of a network without hourglasses or cleaner as this one's, which then restores alike.

        Hourglasses and cleaner are this network's own, which change nothing as long as they are as they were made.
        Weights that know them, and all weights where this network has neither, are returned as they are.
        """
        weights = self._with_hourglasses(state)
        if not any(name.startswith(_CLEANER) for name in state):
            weights |= {name: value for name, value in self.state_dict().items() if name.startswith(_CLEANER)}
        return weights

    def _with_hourglasses(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        hourglasses = [number for number, layer in enumerate(self.body) if isinstance(layer, Hourglass)]
        if not hourglasses or any(".up_full." in name for name in state if name.startswith(_BODY)):
            return dict(state)
        others = [number for number in range(len(self.body)) if number not in hourglasses]
        own = tuple(f"{_BODY}{number}." for number in hourglasses)
        weights = {name: value for name, value in self.state_dict().items() if name.startswith(own)}
        for name, value in state.items():
            number, _, layer = name.removeprefix(_BODY).partition(".")
            if name.startswith(_BODY) and number.isdecimal() and int(number) < len(others):
                name = f"{_BODY}{others[int(number)]}.{layer}"
            weights[name] = value
        return weights

    def forward(self, low: Tensor) -> Tensor:
        """Returns the restored faces (N, 3, 4h, 4w), unclamped."""
        low = self.cleaner(low)
        height, width = low.shape[-2:]
        features = self.head(padded_to_fours(low) - 0.5)  # an hourglass halves twice
        change = features
        for number, layer in enumerate(self.body):
            change = layer(change)
            if self.rms_limit is None and (number + 1) % self._group == 0:
                change = change.clamp(-CLAMP, CLAMP)
        features = added(change, features)
        features = activated(functional.pixel_shuffle(self.up_first(features), 2))
        # Without the block the features are bounded all the same, as what the next convolution reads.
        features = self.middle(features) if self.middle is not None else bounded(features, self.rms_limit)
        features = self.last(self.up_second(features))
        detail = self.shuffle(self.to_rgb(features))[..., : 4 * height, : 4 * width]
        restored: Tensor = upscale(low.float()) + detail.float()
        return restored
