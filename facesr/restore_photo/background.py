"""The photograph enlarged by a network, behind the faces: tile by tile, so that memory beside the result stays bounded.

A tile looks as far beyond what it keeps as anything moves the network's answer, so tiles leave no seams. That answer is
4 times as large as the photograph; for a smaller scale it is shrunk, antialiased, before it is rounded, once.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from facesr.errors import ImageError
from facesr.image import luma
from facesr.methods.method import Method
from facesr.methods.restore import restore_batch
from facesr.photos.colour import Pixels, with_room
from facesr.resample import resize
from facesr.task import SCALE
from facesr.tiles import ALIGNMENT_PX, Tiles

# What a tile keeps, in pixels of the photograph along one side, about.
CORE_PX = 352
# What moves the network's answer by no more than this, of a range of 1, need not be seen: half a level of 16 bits.
UNSEEN = 0.5 / 65535
# A tile looks no farther than this. Networks whose hourglasses see farther give what lies there hardly any weight.
MOST_OVERLAP_PX = 96
# The kernel that shrinks the network's answer reaches so many pixels of the photograph, at most.
KERNEL_PX = 1
# Networks with strides need a few pixels; smaller photographs are continued to this side.
LEAST_SIDE_PX = 8

OnProgress = Callable[[int, int], None]


@dataclass(frozen=True)
class Background:
    """A 4x network that restores what is no face.

    Attributes:
        method: the network.
        device: where it runs.
        tiles: how photographs are cut up for it.
    """

    method: Method
    device: torch.device
    tiles: Tiles

    def enlarged(self, pixels: Pixels, scale: int, is_grey: bool, on_progress: OnProgress | None = None) -> Pixels:
        """Returns a photograph, uint8 or uint16 (H, W, 3), `scale` times as large (2 to 4), in as many bits.

        Args:
            is_grey: all channels become the luma of the network's answer.
            on_progress: called after each tile with the pixels of the photograph that are done, and all of them.

        Raises:
            ImageError: the network's answer holds values that are not finite.
        """
        height, width = pixels.shape[:2]
        found = with_room(height * scale, width * scale, pixels)
        done = 0
        for rows in self.tiles.along(height):
            for columns in self.tiles.along(width):
                answer = self._answer(pixels[rows.read, columns.read], scale, is_grey)
                core = answer[rows.kept(scale), columns.kept(scale)]
                found[rows.written(scale), columns.written(scale)] = core
                done += (rows.core[1] - rows.core[0]) * (columns.core[1] - columns.core[0])
                if on_progress is not None:
                    on_progress(done, height * width)
        return found

    def _answer(self, part: Pixels, scale: int, is_grey: bool) -> Pixels:
        height, width = part.shape[:2]
        top = float(np.iinfo(part.dtype).max)
        missing = [(0, max(0, LEAST_SIDE_PX - side)) for side in (height, width)]
        whole = np.pad(part, (*missing, (0, 0)), "edge")
        low = torch.from_numpy(whole.astype(np.float32)).permute(2, 0, 1)[None].to(self.device) / top
        large = restore_batch(self.method.generator, low).float()
        if scale != SCALE:
            large = resize(large, whole.shape[0] * scale, whole.shape[1] * scale)
        if is_grey:
            large = luma(large).expand(-1, 3, -1, -1)
        if not bool(torch.isfinite(large).all()):
            raise ImageError(f"{self.method.name} gives values that are not finite; choose another background.")
        levels = (large[0].clamp(0.0, 1.0) * top + 0.5).floor().permute(1, 2, 0)
        kept = levels[: height * scale, : width * scale].cpu().numpy()
        return kept.astype(np.uint8) if part.dtype == np.uint8 else kept.astype(np.uint16)


def background_of(method: Method, device: torch.device) -> Background:
    """Returns a method as a background, with tiles that look as far as what lies there moves the network's answer."""
    overlap = min(reach_of(method, device), MOST_OVERLAP_PX) + KERNEL_PX
    return Background(method, device, Tiles(CORE_PX + 2 * overlap + ALIGNMENT_PX - 1, overlap))


def reach_of(method: Method, device: torch.device) -> int:
    """Returns how far away a tile's end still moves the answer by more than `UNSEEN`, in pixels of the photograph.

    Measured on a strip of noise, whose answer is compared with those of the strip without its left and right part. It
    is at most the network's receptive radius, whose outermost pixels hardly count; `MOST_OVERLAP_PX` + 8 is the most
    that is looked for.
    """
    half = MOST_OVERLAP_PX + ALIGNMENT_PX
    noise = torch.rand((1, 3, 2 * ALIGNMENT_PX, 2 * half), generator=torch.Generator().manual_seed(0))
    low = noise.to(device)
    whole = restore_batch(method.generator, low)
    reach = 0
    # Tiles begin at multiples of ALIGNMENT_PX, and end anywhere.
    for cut in (slice(half, None), *(slice(None, half + end) for end in (0, 1, 3, 6))):
        part = restore_batch(method.generator, low[..., cut])
        column = slice(SCALE * (cut.start or 0), None if cut.stop is None else SCALE * cut.stop)
        moved = (part - whole[..., column]).abs().amax((0, 1, 2)).view(-1, SCALE).amax(1) > UNSEEN
        columns: list[int] = moved.nonzero().flatten().tolist()
        if columns:
            reach = max(reach, columns[-1] + 1 if cut.start else len(moved) - columns[0])
    return reach


class Pace:
    """Tells how far long work is and how long it will take, in lines; work that is soon done is not told of."""

    FIRST_SECONDS, EVERY_SECONDS = 10.0, 30.0

    def __init__(self, say: Callable[[str], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._say, self._clock = say, clock
        self._start = clock()
        self._next = self._start + self.FIRST_SECONDS

    def __call__(self, done: int, total: int) -> None:
        """Tells that `done` of `total` pixels are done, if it is time to."""
        now = self._clock()
        if now < self._next or done >= total:
            return
        self._next = now + self.EVERY_SECONDS
        spent = now - self._start
        pace = spent / done
        self._say(
            f"background: {done / 1e6:.1f} of {total / 1e6:.1f} megapixels, {1e6 * pace:.0f} s a megapixel, "
            f"{_spoken(pace * (total - done))} left"
        )


def _spoken(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"
