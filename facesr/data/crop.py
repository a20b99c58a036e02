"""Framings: which part of a picture becomes the crop, and how it gets there without aliasing.

Points are (x, y) in pixels, pixel centres at whole numbers.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from facesr.data.picture_files import Unusable

Points = NDArray[np.float64]


@dataclass(frozen=True)
class Framing:
    """How pictures are cropped.

    Attributes:
        crop: ``as-is``, ``ffhq``, ``detect`` or ``template``.
        width, height: of the crop, in pixels.
        margin: pixels stored around the crop on each side.
    """

    crop: str
    width: int
    height: int
    margin: int

    @property
    def stored_size(self) -> tuple[int, int]:
        """(width, height) of a stored picture, with its margin."""
        return self.width + 2 * self.margin, self.height + 2 * self.margin


def cut_as_is(picture: NDArray[np.uint8], framing: Framing) -> NDArray[np.uint8]:
    """Returns a picture that is a crop already, with a mirrored margin unless it brings its own.

    Raises:
        Unusable: the picture has another size.
    """
    height, width = picture.shape[:2]
    if (width, height) == framing.stored_size:
        return picture
    if (width, height) != (framing.width, framing.height):
        raise Unusable(f"is {width}x{height} where {framing.width}x{framing.height} is needed")
    edge = framing.margin
    return np.asarray(cv2.copyMakeBorder(picture, edge, edge, edge, edge, cv2.BORDER_REFLECT), np.uint8)
