"""Made pictures for degradations."""

import numpy as np
import torch
from torch import Tensor

from facesr.image import round_to_grey_levels


def pictures(num: int = 3, height: int = 56, width: int = 48, seed: int = 0) -> Tensor:
    """Returns smooth pictures with some detail, whole grey levels (N, 3, H, W)."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(num, 3, 9, 8, generator=generator)
    smooth = torch.nn.functional.interpolate(coarse, (height, width), mode="bicubic")
    return round_to_grey_levels(smooth + 0.05 * torch.randn(num, 3, height, width, generator=generator))


def as_levels(batch: Tensor) -> np.ndarray:
    return batch.permute(0, 2, 3, 1).numpy() * 255.0
