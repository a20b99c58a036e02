"""The photograph enlarged by a network, behind the faces: tile by tile, so that memory beside the result stays bounded.

A tile looks at least as far beyond what it keeps as the network sees, so tiles leave no seams. The network's answer is
4 times as large as the photograph; for a smaller scale it is shrunk, antialiased, before it is rounded, once.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from facesr.errors import ImageError
from facesr.image import luma
from facesr.methods.method import Method
from facesr.methods.restore import restore_batch
from facesr.photos.colour import Pixels
from facesr.resample import resize
from facesr.task import SCALE
from facesr.tiles import ALIGNMENT_PX, Tiles

# What a tile keeps, in pixels of the photograph along one side, about.
CORE_PX = 320
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
        found: Pixels = np.empty((height * scale, width * scale, 3), pixels.dtype)
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
    """Returns a method as a background, with tiles that look as far as its network sees."""
    overlap = min(radius_of(method, device), MOST_OVERLAP_PX) + KERNEL_PX
    return Background(method, device, Tiles(CORE_PX + 2 * overlap + ALIGNMENT_PX - 1, overlap))


def radius_of(method: Method, device: torch.device) -> int:
    """Returns how far the network sees along an axis, in input pixels; what is beyond `MOST_OVERLAP_PX` is that + 8.

    A network of PyTorch is asked by its gradient, on a strip of noise; an ONNX file states its radius.
    """
    if method.receptive_radius_px is not None:
        return method.receptive_radius_px
    half = MOST_OVERLAP_PX + ALIGNMENT_PX
    # Asked for pixels of every phase against the coarsest step of an hourglass.
    noise = torch.rand((1, 3, LEAST_SIDE_PX, 2 * half + ALIGNMENT_PX), generator=torch.Generator().manual_seed(0))
    strip = noise.to(device).requires_grad_()
    with torch.enable_grad():
        asked: Tensor = method.generator(strip)[..., SCALE * half : SCALE * (half + ALIGNMENT_PX)]
        (gradient,) = torch.autograd.grad(asked.sum(), strip)
    seen: list[int] = gradient[0].abs().amax((0, 1)).nonzero().flatten().tolist() or [half]
    return max(half - seen[0], seen[-1] - (half + ALIGNMENT_PX - 1), 0)


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
