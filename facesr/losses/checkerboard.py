"""Checkerboard artifacts: what repeats in the restored picture with the pixels of the input, and is not in the truth.

A generator draws every pixel of the input as SCALE x SCALE pixels, each by other weights. Where a loss rewards texture,
the weights of one place may always draw darker than their neighbours: hair or skin shows a pattern of SCALE pixels.
"""

import torch
from torch import Tensor
from torch.nn import functional

from facesr.image import luma
from facesr.losses.term import LossInputs, LossTerm
from facesr.task import SCALE

# Cells of SCALE x SCALE pixels that a pattern is looked for in, by side, and how far such windows lie apart.
WINDOW_CELLS, STEP_CELLS = 6, 2
# Differences below a quarter of a grey level are no pattern; it keeps square roots away from 0.
_FLOOR = (0.25 / 255.0) ** 2


def _cells(pictures: Tensor) -> Tensor:
    """Returns detail finer than SCALE pixels by place in its cell, (N, SCALE^2, h, w), of pictures (N, 3, 4h, 4w)."""
    # The eye sees a pattern of light and dark, hardly one of hues.
    light = luma(pictures)
    # A mean over exactly one period around each pixel: both ends of SCALE + 1 taps count half.
    taps = pictures.new_ones(SCALE + 1)
    taps[0] = taps[-1] = 0.5
    taps = taps / SCALE
    wide = functional.pad(light, (SCALE // 2,) * 4, mode="reflect")
    smooth = functional.conv2d(functional.conv2d(wide, taps.view(1, 1, 1, -1)), taps.view(1, 1, -1, 1))
    return functional.pixel_unshuffle(light - smooth, SCALE)


def checkerboard(pictures: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the strength of the pattern in each window, and what it would be by chance, as mean squares.

    Args:
        pictures: float32 (N, 3, 4h, 4w) in [0, 1]; h and w at least 6 (24 pixels).

    Returns:
        The variance, over the SCALE^2 places in a cell, of the mean detail at that place in a window of 6x6 cells; and
        the mean square of the window's detail divided by its 36 cells, which is the expectation of the former where
        details do not know of cells. Both float32 (N, rows, columns), in squared units of the pictures.

    Raises:
        ValueError: the pictures are smaller than a window.
    """
    height, width = pictures.shape[-2:]
    least = WINDOW_CELLS * SCALE
    if min(height, width) < least:
        raise ValueError(f"pictures of {width}x{height} pixels have no pattern to look for; at least {least}x{least}")
    cells = _cells(pictures)
    mean = functional.avg_pool2d(cells, WINDOW_CELLS, STEP_CELLS)
    square = functional.avg_pool2d(cells.square(), WINDOW_CELLS, STEP_CELLS)
    return mean.var(1, correction=0), square.mean(1) / WINDOW_CELLS**2


class Checkerboard(LossTerm):
    """How much stronger a pattern the restored picture has than chance or the truth would give it.

    Pictures have to be at least 24 pixels high and wide. Edges along rows or columns look like a pattern in the truth,
    too, and are forgiven by that.
    """

    def forward(self, inputs: LossInputs) -> Tensor:
        """Returns the scalar mean over windows of max(pattern - max(chance, that of the truth), 0), as amplitudes."""
        strength, chance = checkerboard(inputs.restored)
        with torch.no_grad():
            allowed = torch.maximum(checkerboard(inputs.high)[0], chance)
        return ((strength + _FLOOR).sqrt() - (allowed + _FLOOR).sqrt()).clamp_min(0.0).mean()
