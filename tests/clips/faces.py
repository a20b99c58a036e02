"""Faces as they are found in frames."""

import numpy as np

from facesr.photos.search import FoundFace, rotation

POINTS = np.array([[-4.0, -3.0], [4.0, -3.0], [0.0, 1.5], [-3.0, 5.5], [3.0, 5.5]])


def face_at(x: float, y: float, width: float = 16.5, height: float = 20.5, roll: float = 0.0) -> FoundFace:
    """Returns a face by its centre and size in pixels and its roll in degrees, with landmarks about the centre."""
    centre = np.array([x, y])
    return FoundFace(centre, width, height, roll, POINTS @ rotation(roll).T + centre, 0.99)
