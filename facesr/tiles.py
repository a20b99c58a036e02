"""Large pictures in tiles: which part of a picture a network sees at once, and which part of its answer is kept.

A tile keeps its core, and the cores cover the picture once; it sees `overlap_px` more on each side, except where the
picture ends: there it ends too, so a border is restored as it is in the whole picture. What a tile sees begins at a
multiple of ALIGNMENT_PX, because networks that halve their input (models/facesr.py does so twice) group other pixels
when it begins elsewhere. All lengths are low-resolution pixels, all ranges half open.
"""

import itertools
import math
from dataclasses import dataclass

from facesr.errors import ConfigError

# facesr's hourglasses need multiples of 4; 8 leaves room for a network that halves three times.
ALIGNMENT_PX = 8
# A batch size counts the competition's faces of 24x28; larger pictures count as so many of them as they have pixels.
FACE_PX = 24 * 28


def pictures_at_once(batch_size: int, height: int, width: int) -> int:
    """Returns how many low-resolution pictures of one size are restored together, 1 to `batch_size`.

    They hold at most as many pixels as `batch_size` faces of 24x28, unless a single picture holds more. So faces are
    batched as they are asked for, and several large pictures never take more memory than a batch of faces.
    """
    return max(1, min(batch_size, batch_size * FACE_PX // (height * width)))


@dataclass(frozen=True)
class Stretch:
    """A tile along one axis: the range of pixels that it keeps, and the wider one that it sees."""

    core: tuple[int, int]
    seen: tuple[int, int]

    @property
    def read(self) -> slice:
        """What is cut out of the low-resolution picture."""
        return slice(*self.seen)

    def kept(self, scale: int) -> slice:
        """Where the core lies in the tile's answer, `scale` times as long."""
        return slice((self.core[0] - self.seen[0]) * scale, (self.core[1] - self.seen[0]) * scale)

    def written(self, scale: int) -> slice:
        """Where the core lies in the restored picture, `scale` times as long."""
        return slice(self.core[0] * scale, self.core[1] * scale)


@dataclass(frozen=True)
class Tiles:
    """The largest picture that is restored at once, and how far tiles of larger ones look beyond what they keep.

    Attributes:
        side_px: longest side of what a network sees at once; pictures up to it are restored whole.
        overlap_px: what a tile sees beyond its core. From the network's receptive radius on, the tiles' answer is the
            whole picture's but for rounding; below it, the difference grows towards the cores' edges.

    Raises:
        ConfigError: the overlap is negative, or leaves too little of the side for a core.
    """

    side_px: int = 320
    overlap_px: int = 24

    def __post_init__(self) -> None:
        if self.overlap_px < 0:
            raise ConfigError(f"tile_overlap_px={self.overlap_px} has to be at least 0.")
        least = 2 * self.overlap_px + 2 * ALIGNMENT_PX
        if self.side_px < least:
            raise ConfigError(
                f"tile_px={self.side_px} is too small for tile_overlap_px={self.overlap_px}; "
                f"give tile_px={least} or more, or a smaller overlap."
            )

    def along(self, size_px: int) -> list[Stretch]:
        """Returns the tiles along one axis of a picture, in order; they see about equally much, so few shapes occur."""
        if size_px <= self.side_px:
            return [Stretch((0, size_px), (0, size_px))]
        # A tile of the mirrored picture begins up to ALIGNMENT_PX - 1 before its overlap.
        longest_core = _aligned(self.side_px - 2 * self.overlap_px - (ALIGNMENT_PX - 1))
        # At the picture's ends a tile keeps what is overlap elsewhere.
        inside = size_px - 2 * self.overlap_px
        count = math.ceil(inside / longest_core)
        # Alignment may move two edges to one place where cores are short.
        inner = {self.overlap_px + _aligned(inside * number // count) for number in range(1, count)}
        edges = sorted({0, *inner, size_px})
        return [self._stretch(start, stop, size_px) for start, stop in itertools.pairwise(edges)]

    def mirrored(self, stretch: Stretch, size_px: int) -> Stretch:
        """Returns the tile of the mirrored picture that keeps the mirrored core."""
        return self._stretch(size_px - stretch.core[1], size_px - stretch.core[0], size_px)

    def _stretch(self, start: int, stop: int, size_px: int) -> Stretch:
        first = _aligned(max(start - self.overlap_px, 0))
        return Stretch((start, stop), (first, min(stop + self.overlap_px, size_px)))


def _aligned(length_px: int) -> int:
    return length_px // ALIGNMENT_PX * ALIGNMENT_PX
