"""Batches of pictures as float tensors, and the one rounding back to uint8.

Inside, a batch is RGB float32 in [0, 1], (N, 3, H, W). On disk and in arrays it is uint8, (H, W, 3), RGB
(`facesr.png`). The one rounding from float to uint8 is `to_uint8`.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from facesr.errors import ImageError
from facesr.task import LUMA

# RGB, uint8, (H, W, 3) or (N, H, W, 3).
Picture = NDArray[np.uint8]


def to_float(pictures: NDArray[np.uint8] | Tensor) -> Tensor:
    """Returns float32 (N, 3, H, W) in [0, 1] for uint8 pictures (N, H, W, 3)."""
    # A copy, because torch refuses read-only memory such as a memory-mapped set.
    tensor = torch.from_numpy(np.array(pictures)) if isinstance(pictures, np.ndarray) else pictures
    return tensor.permute(0, 3, 1, 2).to(torch.float32) / 255.0


def luma(batch: Tensor) -> Tensor:
    """Returns the luma of RGB pictures (..., 3, H, W), (..., 1, H, W), in float32 at least."""
    weights = torch.tensor(LUMA, device=batch.device, dtype=torch.promote_types(batch.dtype, torch.float32))
    return (batch * weights[:, None, None]).sum(-3, keepdim=True)


def round_to_grey_levels(batch: Tensor) -> Tensor:
    """Returns the batch clamped to [0, 1] and rounded (half up) to whole multiples of 1/255, as float32."""
    return (batch.float().clamp(0.0, 1.0) * 255.0 + 0.5).floor() / 255.0


def to_uint8(batch: Tensor) -> NDArray[np.uint8]:
    """Returns uint8 pictures (N, H, W, 3) for a float batch (N, 3, H, W), clamped to [0, 1], rounded half up.

    Raises:
        ImageError: a value is not finite; it would become a black pixel without a word.
    """
    if not bool(torch.isfinite(batch).all()):
        raise ImageError("a restored picture holds values that are not finite; use an earlier snapshot.")
    levels = (batch.detach().float().clamp(0.0, 1.0) * 255.0 + 0.5).floor().to(torch.uint8)
    return np.ascontiguousarray(levels.permute(0, 2, 3, 1).cpu().numpy())
