"""JPEG for a batch of pictures on its device: what a stay in a file does to them, without a file.

The same arithmetic as a baseline codec with colours at half the resolution (4:2:0): only the lossless part, the entropy
coding, is left out. `tests/faults/test_jpeg.py` compares with OpenCV's files.

Source: ITU-T T.81 (JPEG), annexes A.3 and K.1. How tables follow from the quality, how colours are averaged, and how a
triangle filter enlarges them again, is as in the library of the Independent JPEG Group (libjpeg.txt and its behaviour).
"""

import functools
import math

import numpy as np
import torch
from torch import Tensor

from facesr.faults.canvas import Sizes, extended
from facesr.task import LUMA

BLOCK = 8
_MCU = 2 * BLOCK  # luma pixels that share a block of each colour
# ITU-T T.81, tables K.1 and K.2.
_LUMA = (
    16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55, 14, 13, 16, 24, 40, 57, 69, 56, 14, 17, 22, 29, 51,
    87, 80, 62, 18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92, 49, 64, 78, 87, 103, 121, 120, 101,
    72, 92, 95, 98, 112, 100, 103, 99,
)  # fmt: skip
_CHROMA = (
    17, 18, 24, 47, 99, 99, 99, 99, 18, 21, 26, 66, 99, 99, 99, 99, 24, 26, 56, 99, 99, 99, 99, 99, 47, 66, 99, 99, 99,
    99, 99, 99,
) + (99,) * 32  # fmt: skip
_TO_COLOURS = (LUMA, (-0.168735892, -0.331264108, 0.5), (0.5, -0.418687589, -0.081312411))
_FROM_COLOURS = ((1.0, 0.0, 1.402), (1.0, -0.344136286, -0.714136286), (1.0, 1.772, 0.0))


def tables(qualities: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the quantisation tables of luma and colours, each (N, 8, 8), for whole qualities (N,) from 1 to 100."""
    scale = torch.where(qualities < 50, (5000 / qualities).floor(), 200 - 2 * qualities)[:, None, None]
    luma, chroma = (
        torch.tensor(values, device=qualities.device, dtype=qualities.dtype).view(BLOCK, BLOCK)
        for values in (_LUMA, _CHROMA)
    )
    return tuple(((base * scale + 50) / 100).floor().clamp(1, 255) for base in (luma, chroma))  # type: ignore[return-value]


def compress(canvas: Tensor, sizes: Sizes, qualities: Tensor) -> Tensor:
    """Returns the pictures as they come out of JPEG files, whole multiples of 1/255 in [0, 1].

    Args:
        canvas: float32 (N, 3, H, W), RGB, about [0, 1]; rounded to 8 bits first, as for a file.
        sizes: of the pictures that lie in the upper left corner of the canvas; what is beside them means nothing,
            before and after.
        qualities: (N,), whole numbers from 1 to 100.

    Not differentiable: it rounds.
    """
    height, width = canvas.shape[-2:]
    levels = (canvas.clamp(0.0, 1.0) * 255.0 + 0.5).floor()
    # Whole groups of blocks; beyond a picture its last pixels go on, as in a file.
    planes = extended(levels, sizes, -(-height // _MCU) * _MCU, -(-width // _MCU) * _MCU)
    luma, blue, red = torch.einsum("cd,ndhw->cnhw", planes.new_tensor(_TO_COLOURS), planes).unbind()
    halves = [(-(-rows // 2), -(-columns // 2)) for rows, columns in sizes]
    # At the right edge the library repeats pixels before it averages colours, at the lower edge it repeats averages.
    rows_only = [(rows, planes.shape[-1] // 2) for rows, _ in halves]
    table_luma, table_chroma = tables(qualities.to(planes))
    luma = _quantised(luma.round() - 128.0, table_luma)
    colours = []
    for colour in (blue, red):
        half = _repeated(_halved(colour.round()), rows_only)
        half = _repeated(_quantised(half, table_chroma), halves)
        colours.append(_doubled(half + 128.0) - 128.0)
    stacked = torch.stack([luma + 128.0, *colours])
    found = torch.einsum("cd,dnhw->nchw", stacked.new_tensor(_FROM_COLOURS), stacked)
    return found[..., :height, :width].round().clamp(0.0, 255.0) / 255.0


@functools.cache
def _cosines() -> tuple[tuple[float, ...], ...]:
    """Returns the rows of the orthonormal 8x8 discrete cosine transform."""
    i, k = np.arange(BLOCK), np.arange(BLOCK)[:, None]
    matrix = np.cos((2 * i + 1) * k * math.pi / (2 * BLOCK)) * math.sqrt(2 / BLOCK)
    matrix[0] /= math.sqrt(2)
    return tuple(tuple(float(value) for value in row) for row in matrix)


def _quantised(plane: Tensor, table: Tensor) -> Tensor:
    """Returns a plane (N, H, W) of whole levels about 0 as its quantised blocks give it back, from -128 to 127."""
    num, height, width = plane.shape
    cosines = plane.new_tensor(_cosines())
    blocks = plane.view(num, height // BLOCK, BLOCK, width // BLOCK, BLOCK).transpose(2, 3)
    steps = table[:, None, None]
    ratios = (cosines @ blocks @ cosines.t()) / steps
    # Half away from zero, as the library rounds. Flat blocks lie on a half often, which float32 may miss by a little.
    whole = ratios.sign() * (ratios.abs() + 0.5001).floor()
    back = cosines.t() @ (whole * steps) @ cosines
    return back.transpose(2, 3).reshape(num, height, width).round().clamp(-128.0, 127.0)


def _repeated(plane: Tensor, sizes: Sizes) -> Tensor:
    return extended(plane[:, None], sizes, plane.shape[-2], plane.shape[-1])[:, 0]


def _halved(plane: Tensor) -> Tensor:
    """Returns the means of 2x2 pixels, rounded up and down in turn, about 0."""
    num, height, width = plane.shape
    sums = plane.view(num, height // 2, 2, width // 2, 2).sum((2, 4))
    bias = 1.0 + torch.arange(width // 2, device=plane.device) % 2
    return ((sums + bias) / 4.0).floor()


def _doubled(plane: Tensor) -> Tensor:
    """Returns a plane (N, H, W) twice as large, each pixel from its two neighbours on each axis by 3 to 1."""
    above = torch.cat([plane[:, :1], plane[:, :-1]], 1)
    below = torch.cat([plane[:, 1:], plane[:, -1:]], 1)
    rows = torch.stack([3 * plane + above, 3 * plane + below], 2).flatten(1, 2)
    left = torch.cat([rows[:, :, :1], rows[:, :, :-1]], 2)
    right = torch.cat([rows[:, :, 1:], rows[:, :, -1:]], 2)
    return torch.stack([((3 * rows + left + 8) / 16).floor(), ((3 * rows + right + 7) / 16).floor()], 3).flatten(2, 3)
