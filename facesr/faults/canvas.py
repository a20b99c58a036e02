"""Pictures of different sizes in one batch: each lies in the upper left corner of a canvas that fits them all.

What lies beside a picture means nothing. A canvas has one size whatever is in it, so that a picture's pixels do not
depend on its neighbours in the batch to the last bit.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

# Height and width of each picture.
Sizes = Sequence[tuple[int, int]]
Matrix = Callable[[int, int], NDArray[np.float64]]


def extended(canvas: Tensor, sizes: Sizes, height: int, width: int) -> Tensor:
    """Returns a canvas (N, C, height, width) on which each picture's last row and column go on to its edge."""
    num, channels, old_height, old_width = canvas.shape
    if all(size == (old_height, old_width) for size in sizes) and height >= old_height and width >= old_width:
        # Most batches: every picture fills its canvas.
        if (height, width) == (old_height, old_width):
            return canvas
        return functional.pad(canvas, (0, width - old_width, 0, height - old_height), mode="replicate")
    last = np.array(sizes) - 1
    rows = np.minimum(np.arange(height), last[:, :1])
    columns = np.minimum(np.arange(width), last[:, 1:])
    index = torch.from_numpy(rows[:, :, None] * old_width + columns[:, None, :]).to(canvas.device)
    index = index.view(num, 1, -1).expand(-1, channels, -1)
    return canvas.flatten(2).gather(2, index).view(num, channels, height, width)


def resized(
    canvas: Tensor,
    before: Sizes,
    after: Sizes,
    kinds: Sequence[Matrix],
    shape: tuple[int, int],
) -> Tensor:
    """Returns a canvas (N, C, *shape) with each picture resized, unclamped.

    Args:
        canvas: (N, C, H, W).
        before: height and width of each picture on it.
        after: what they become.
        kinds: for each picture the function that gives the matrix (size out, size in) of one axis.
        shape: height and width of the new canvas.
    """
    num, _, height, width = canvas.shape
    rows = np.zeros((num, shape[0], height), np.float32)
    columns = np.zeros((num, width, shape[1]), np.float32)
    for i, (old, new, matrix) in enumerate(zip(before, after, kinds, strict=True)):
        rows[i, : new[0], : old[0]] = matrix(old[0], new[0])
        columns[i, : old[1], : new[1]] = matrix(old[1], new[1]).T
    left, right = (torch.from_numpy(part).to(canvas)[:, None] for part in (rows, columns))
    return left @ canvas @ right


def blurred(canvas: Tensor, sizes: Sizes, kernels: Sequence[NDArray[np.float64] | None]) -> Tensor:
    """Returns a canvas (N, C, H, W) with each picture weighted by its own odd, square kernel; None leaves it alone.

    Beyond a picture its last pixels go on.
    """
    height, width = canvas.shape[-2:]
    whole, found = extended(canvas, sizes, height, width), canvas.clone()
    # Pictures whose kernels are equally large go together: most kernels are small, and the cost is their area.
    groups: dict[int, dict[int, NDArray[np.float64]]] = {}
    for i, kernel in enumerate(kernels):
        if kernel is not None:
            groups.setdefault(kernel.shape[0] // 2, {})[i] = kernel
    for radius, own in sorted(groups.items()):
        places = list(own)
        part = functional.pad(whole[places], (radius,) * 4, mode="replicate")
        num, channels = part.shape[:2]
        weight = torch.from_numpy(np.stack(list(own.values()))).to(canvas)
        weight = weight[:, None].expand(-1, channels, -1, -1).reshape(num * channels, 1, *weight.shape[-2:])
        flat = functional.conv2d(part.reshape(1, num * channels, *part.shape[-2:]), weight, groups=num * channels)
        found[places] = flat.view(num, channels, height, width)
    return found
