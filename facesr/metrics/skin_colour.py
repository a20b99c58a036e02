"""Colour in the middle of a face: does a restoration make skin lighter, darker or of another hue?

Mean colours are compared, not pixels, so that detail which is restored or missed does not count.
"""

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from facesr.image import to_uint8
from facesr.protocols import MetricInputs

# An ellipse below the eyes and above the mouth, in shares of width and height: where the competition's framing, and
# that of FFHQ shrunk to it, has nose and cheeks.
_CENTRE, _AXES = (0.5, 0.535), (0.19, 0.11)
_TO_XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
_WHITE = _TO_XYZ.sum(axis=1)
CONDITIONS = "CIELAB (D65), means over an ellipse on nose and cheeks, restored minus original"


def mean_lab(pictures: Tensor) -> NDArray[np.float64]:
    """Returns the mean CIELAB colour (D65) of the middle of each face, float64 (N, 3): L* 0 to 100, a*, b*.

    Args:
        pictures: (N, 3, H, W) in [0, 1], sRGB, a face each in the competition's framing.
    """
    inside = skin_ellipse(*pictures.shape[-2:])
    return np.stack([lab(picture[inside] / 255.0).mean(axis=0) for picture in to_uint8(pictures)])


def lab(colours: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns CIELAB for sRGB colours (..., 3) in [0, 1]; OpenCV's is from a table, off by up to a quarter.

    Source: IEC 61966-2-1 (sRGB), ISO/CIE 11664-4 (CIELAB), white point D65.
    """
    linear = np.where(colours <= 0.04045, colours / 12.92, ((colours + 0.055) / 1.055) ** 2.4)
    x, y, z = np.moveaxis(linear @ _TO_XYZ.T / _WHITE, -1, 0)
    x, y, z = (np.where(v > (6 / 29) ** 3, np.cbrt(v), v / (3 * (6 / 29) ** 2) + 4 / 29) for v in (x, y, z))
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)


def skin_ellipse(height: int, width: int) -> NDArray[np.bool_]:
    """Returns which pixels, (H, W), are nose and cheeks of a face in the competition's framing."""
    return ellipse(height, width, _CENTRE, _AXES)


def ellipse(height: int, width: int, centre: tuple[float, float], axes: tuple[float, float]) -> NDArray[np.bool_]:
    """Returns which pixels, (H, W), lie in an upright ellipse.

    Args:
        height: of the picture, in pixels.
        width: of the picture, in pixels.
        centre: x and y, in shares of width and height.
        axes: half axes along x and y, likewise.
    """
    rows, columns = np.mgrid[:height, :width] + 0.5
    across = (columns / width - centre[0]) / axes[0]
    down = (rows / height - centre[1]) / axes[1]
    return np.asarray(across**2 + down**2 <= 1.0)


class LightnessShift:
    """By how much the middle of the face became lighter: difference of the mean L*."""

    name = "lightness_shift"
    unit = "L*"
    higher_is_better = False
    version = 1
    conditions = CONDITIONS
    needs_low = False

    def __call__(self, inputs: MetricInputs) -> NDArray[np.float64]:
        """Returns differences per picture, float64 (N,); above 0 the restored face is lighter."""
        return np.asarray(mean_lab(inputs.restored)[:, 0] - mean_lab(inputs.high)[:, 0])


class ColourShift:
    """How far the mean colour of the middle of the face moved: CIE 1976 colour difference, 2.3 is just noticeable.

    Source: ISO/CIE 11664-4; the just noticeable difference is that of Mahy et al., "Evaluation of uniform color spaces
    developed after the adoption of CIELAB and CIELUV", Color Research and Application 19, 1994.
    """

    name = "colour_shift"
    unit = "dE*ab"
    higher_is_better = False
    version = 1
    conditions = CONDITIONS
    needs_low = False

    def __call__(self, inputs: MetricInputs) -> NDArray[np.float64]:
        """Returns distances per picture, float64 (N,), at least 0."""
        difference = mean_lab(inputs.restored) - mean_lab(inputs.high)
        return np.asarray(np.linalg.norm(difference, axis=1))
