"""From a generator's picture to the low-resolution input: the downscalings that a search may have to undo.

    competition   picture -> the competition's framing -> official x1/4, that of facesr.resample
    square        picture -> antialiased cubic by a power of two, reflected border, that of PULSE

Both are linear and differentiable, and neither rounds: a search needs the slope. What is restored is the framed
picture, four times as large as the input in the harness's own terms, whatever the generator's size is.
"""

import functools
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from facesr.errors import ConfigError, ImageError
from facesr.photos.crop import FFHQ_SIDE, REFERENCE_HEIGHT, REFERENCE_WIDTH
from facesr.resample import cubic_kernel, downscale, resize
from facesr.task import SCALE

OPERATORS = ("auto", "competition", "square")
_LOW_REFERENCE = (REFERENCE_WIDTH // SCALE, REFERENCE_HEIGHT // SCALE)


class Operator(Protocol):
    """A downscaling that belongs to one size of picture and one size of input."""

    @property
    def name(self) -> str:
        """Its identity."""
        ...

    @property
    def low_size(self) -> tuple[int, int]:
        """(width, height) of the input."""
        ...

    def downscale(self, picture: Tensor) -> Tensor:
        """Returns (N, 3, h, w) for the generator's pictures (N, 3, H, W), unrounded, in their range."""
        ...

    def frame(self, picture: Tensor) -> Tensor:
        """Returns the restored pictures, (N, 3, 4h, 4w), for the generator's (N, 3, H, W), unrounded."""
        ...


@dataclass(frozen=True)
class Competition:
    """The competition's framing of a picture, and its downscaling x1/4.

    Attributes:
        size: (width, height) of the generator's pictures.
        low_size: (width, height) of the input.
    """

    size: tuple[int, int]
    low_size: tuple[int, int]

    @property
    def name(self) -> str:
        """Its identity."""
        return f"competition {_text(self.size)} -> {_text(self.low_size)}"

    def frame(self, picture: Tensor) -> Tensor:
        """Returns pictures at four times the input's size; FFHQ's square framing becomes the competition's.

        A square of FFHQ's framing is shrunk to 120 pixels, of which the middle 96 columns and the lower 112 rows
        are the competition's picture (facesr.photos.crop says why).
        """
        if self.size == self.high_size:
            return picture
        side = int(FFHQ_SIDE)
        left = (side - REFERENCE_WIDTH) // 2
        whole = resize(picture, side, side)
        return whole[..., side - REFERENCE_HEIGHT :, left : left + REFERENCE_WIDTH]

    def downscale(self, picture: Tensor) -> Tensor:
        """Returns the official low-resolution pictures, unrounded."""
        return downscale(self.frame(picture))

    @property
    def high_size(self) -> tuple[int, int]:
        """(width, height) of a restored picture."""
        return self.low_size[0] * SCALE, self.low_size[1] * SCALE


@dataclass(frozen=True)
class Square:
    """Antialiased cubic shrinking of square pictures by a power of two.

    Attributes:
        side: pixels of the generator's pictures.
        low_side: pixels of the input.
    """

    side: int
    low_side: int

    @property
    def name(self) -> str:
        """Its identity."""
        return f"square {self.side} -> {self.low_side}"

    @property
    def low_size(self) -> tuple[int, int]:
        """(width, height) of the input."""
        return self.low_side, self.low_side

    def downscale(self, picture: Tensor) -> Tensor:
        """Returns the shrunk pictures, unrounded."""
        return _shrink(picture, self.low_side)

    def frame(self, picture: Tensor) -> Tensor:
        """Returns pictures at four times the input's size; the generator's own where it is not larger."""
        side = SCALE * self.low_side
        return _shrink(picture, side) if self.side > side else resize(picture, side, side)


def operator_for(kind: str, size: tuple[int, int], low_size: tuple[int, int]) -> Operator:
    """Returns the operator from a generator's pictures to an input.

    Args:
        kind: ``competition``, ``square``, or ``auto``: the competition's where it fits.
        size: (width, height) of the generator's pictures.
        low_size: (width, height) of the input.

    Raises:
        ConfigError: the kind is unknown.
        ImageError: no operator, or not this one, leads from one size to the other.
    """
    if kind not in OPERATORS:
        raise ConfigError(f"pulse.operator={kind} is unknown; choose one of {', '.join(OPERATORS)}.")
    given = f"an input of {_text(low_size)} and a generator of {_text(size)}"
    is_quarter = size == (SCALE * low_size[0], SCALE * low_size[1])
    is_ffhq = size[0] == size[1] and low_size == _LOW_REFERENCE
    if kind != "square":
        if is_quarter or is_ffhq:
            return Competition(size, low_size)
        if kind == "competition":
            needed = f"{size[0] // SCALE}x{size[1] // SCALE}" + (" or 24x28" if size[0] == size[1] else "")
            raise ImageError(f"{given}: pulse.operator=competition needs an input of {needed}.")
    if kind == "square" and size[0] != size[1]:
        raise ImageError(f"{given}: pulse.operator=square needs a generator of squares; give another generator=.")
    if low_size[0] != low_size[1] or size[0] != size[1]:
        raise ImageError(f"{given}: give inputs of {_accepted(kind, size)}, or another generator=.")
    factor, rest = divmod(size[0], low_size[0])
    if rest or factor < 2 or factor & (factor - 1):
        raise ImageError(f"{given}: the side has to be divided by 2, 4, 8 or another power of two.")
    return Square(size[0], low_size[0])


def _accepted(kind: str, size: tuple[int, int]) -> str:
    """Returns the input sizes that a generator can be searched for with ``auto`` or ``square``, in words."""
    if size[0] == size[1]:
        square = f"a square of {size[0]} divided by a power of two"
        return square if kind == "square" else f"24x28, or {square}"
    return f"{size[0] // SCALE}x{size[1] // SCALE}"


def _text(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"


@functools.lru_cache(maxsize=32)
def shrink_matrix(side: int, low_side: int) -> NDArray[np.float64]:
    """Returns the (low_side, side) matrix that shrinks one axis by a whole factor; each row sums to 1.

    The kernel is Keys' cubic (a = -0.5) stretched to 4 * factor taps; beyond the border the picture is mirrored at
    its outermost pixel, which is not repeated, unlike in facesr.resample.

    Source: the downscaling that adamian98/pulse publishes (bicubic.py: length 4 * factor, reflected border).
    """
    factor = side // low_side
    taps = np.arange(4 * factor)
    weights = cubic_kernel((taps - (4 * factor - 1) / 2.0) / factor)
    weights = weights / weights.sum()
    positions = np.arange(low_side)[:, None] * factor + taps - 3 * factor // 2
    period = 2 * (side - 1)
    folded = np.mod(positions, period)
    folded = np.where(folded < side, folded, period - folded)
    matrix = np.zeros((low_side, side))
    np.add.at(matrix, (np.arange(low_side)[:, None], folded), np.broadcast_to(weights, folded.shape))
    matrix.setflags(write=False)
    return matrix


@functools.lru_cache(maxsize=32)
def _shrink_tensor(side: int, low_side: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    # First needed under no_grad or inference_mode perhaps; a search has to differentiate through it later.
    with torch.inference_mode(False):
        return torch.from_numpy(shrink_matrix(side, low_side).copy()).to(device=device, dtype=dtype)


def _shrink(picture: Tensor, low_side: int) -> Tensor:
    matrix = _shrink_tensor(picture.shape[-1], low_side, picture.dtype, picture.device)
    with torch.autocast(picture.device.type, enabled=False):
        return torch.matmul(torch.matmul(matrix, picture), matrix.t())
