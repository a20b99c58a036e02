"""Restored detail that does not shimmer: crops of neighbouring frames, aligned by their motion and averaged."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
# So many frames on each side are averaged.
REACH = 6
# A neighbour that is off by so many grey levels after alignment counts 1/e.
RESIDUAL = 12.0
# Slow differences are light, which a neighbour may have differently; residuals are taken without them, and over a few
# pixels, of the 96x112.
_LIGHT_SIGMA, _RESIDUAL_SIGMA = 12.0, 2.0


@dataclass(frozen=True)
class Crop:
    """A face in one frame.

    Attributes:
        smooth: float32 (h, w, 3), the plain upscale of what the network was shown, in grey levels.
        restored: float32 (h, w, 3), what it made of it.
    """

    smooth: Floats
    restored: Floats


def steadied(own: Crop, others: Sequence[Crop]) -> Floats:
    """Returns `own` restored, float32 (h, w, 3), averaged with other frames' crops of the same size along their motion.

    What another frame holds moves to where it is in this one by dense optical flow between the plain upscales, and
    counts the less the more the two differ there: behind a hand, or where a mouth opens, this frame stays alone.

    Source: DIS flow of T. Kroeger et al., "Fast Optical Flow using Dense Inverse Search", ECCV 2016.
    """
    flow_of = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    flow_of.setFinestScale(0)
    height, width = own.smooth.shape[:2]
    across, down = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    total = own.restored.astype(np.float32)
    weights = np.ones((height, width, 1), np.float32)
    grey = _grey(own.smooth)
    for other in others:
        flow = flow_of.calc(grey, _grey(other.smooth), None)  # type: ignore[call-overload]
        x, y = across + flow[..., 0], down + flow[..., 1]
        smooth, restored = (
            cv2.remap(some, x, y, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT)
            for some in (other.smooth, other.restored)
        )
        difference = own.smooth - smooth
        light = cv2.GaussianBlur(difference, (0, 0), _LIGHT_SIGMA * width / 96)
        fine = np.abs(difference - light).mean(2)
        residual = cv2.GaussianBlur(fine, (0, 0), _RESIDUAL_SIGMA * width / 96)
        weight = np.exp(-((residual / RESIDUAL) ** 2))[..., None].astype(np.float32)
        # Its light is this frame's.
        total += weight * (restored + light)
        weights += weight
    return np.asarray(total / weights, np.float32)


def _grey(picture: Floats) -> NDArray[np.uint8]:
    return np.asarray(cv2.cvtColor(np.clip(picture + 0.5, 0, 255).astype(np.uint8), cv2.COLOR_RGB2GRAY), np.uint8)
