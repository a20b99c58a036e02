"""Faces in pictures: MTCNN of facenet-pytorch, with the weights of its wheel, in batches.

Source: K. Zhang et al., "Joint Face Detection and Alignment Using Multitask Cascaded Convolutional Networks",
IEEE SPL 2016.
"""

import functools
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from facesr.facenet_package import facenet_module

# The longest side that is searched; larger pictures are shrunk first.
MAX_SIDE = 1280
# The detector finds no smaller faces reliably.
MIN_FACE = 20.0
MIN_PROBABILITY = 0.9
# Pixels of a batch, so that memory stays bounded whatever the size of the pictures.
BATCH_PIXELS = 4_000_000


@dataclass(frozen=True)
class Face:
    """A detected face, in pixels of its picture.

    Attributes:
        box: (4,) left, top, right, bottom.
        landmarks: (5, 2) x, y of the eye on the picture's left, the one on its right, nose tip, mouth corners.
        probability: the detector's, in [0, 1].
    """

    box: NDArray[np.float64]
    landmarks: NDArray[np.float64]
    probability: float


class Detector:
    """MTCNN on one device."""

    def __init__(self, device: str = "cpu") -> None:
        self._device = torch.device(device)
        self._net = facenet_module("mtcnn").MTCNN(keep_all=True, device=self._device).eval()

    def find(
        self,
        pictures: Sequence[NDArray[np.uint8]],
        min_face: float = MIN_FACE,
        min_probability: float = MIN_PROBABILITY,
    ) -> list[list[Face]]:
        """Returns the faces of every picture, uint8 (H, W, 3) RGB of any sizes, that are `min_face` pixels or larger.

        Pictures of equal size are searched in one batch. Positions are rounded to 0.01 pixel, so that the last bits of
        a sum, which depend on the number of threads, do not show.
        """
        groups: dict[tuple[int, int], list[int]] = defaultdict(list)
        for position, picture in enumerate(pictures):
            groups[picture.shape[:2]].append(position)
        found: list[list[Face]] = [[] for _ in pictures]
        for (height, width), positions in groups.items():
            shrink = min(1.0, MAX_SIDE / max(height, width))
            smallest = max(MIN_FACE, min_face * shrink)
            if min(height, width) * shrink < smallest:
                continue
            step = max(1, int(BATCH_PIXELS / (height * width * shrink**2)))
            for first in range(0, len(positions), step):
                chosen = positions[first : first + step]
                batch = np.stack([_shrunk(pictures[position], shrink) for position in chosen])
                scale = np.array([width / batch.shape[2], height / batch.shape[1]])
                for position, faces in zip(chosen, self._search(batch, smallest, scale, min_probability), strict=True):
                    found[position] = faces
        return found

    def _search(
        self, batch: NDArray[np.uint8], min_face: float, scale: NDArray[np.float64], min_probability: float
    ) -> list[list[Face]]:
        self._net.min_face_size = min_face
        try:
            boxes, probabilities, landmarks = self._net.detect(batch, landmarks=True)
        except RuntimeError:
            if len(batch) == 1:  # the package fails where a candidate lies wholly outside the picture
                return [[]]
            return [self._search(picture[None], min_face, scale, min_probability)[0] for picture in batch]
        found: list[list[Face]] = []
        for own_boxes, own_probabilities, own_landmarks in zip(boxes, probabilities, landmarks, strict=True):
            faces: list[Face] = []
            if own_boxes is not None:
                for box, probability, points in zip(own_boxes, own_probabilities, own_landmarks, strict=True):
                    if probability >= min_probability:
                        corners = (np.asarray(box, np.float64).reshape(2, 2) * scale).round(2)
                        spots = (np.asarray(points, np.float64) * scale).round(2)
                        faces.append(Face(corners.ravel(), spots, float(probability)))
            found.append(faces)
        return found


def _shrunk(picture: NDArray[np.uint8], factor: float) -> NDArray[np.uint8]:
    if factor == 1.0:
        return picture
    size = (round(picture.shape[1] * factor), round(picture.shape[0] * factor))
    return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8)


def main_face(faces: Sequence[Face], width: int, height: int) -> Face | None:
    """Returns the face a picture of width x height pixels is of, or None where there is no face.

    It is the largest one, where a face at the centre counts in full and one in a corner not at all.
    """

    def weight(face: Face) -> float:
        box = face.box
        size = float(np.sqrt(max(box[2] - box[0], 0.0) * max(box[3] - box[1], 0.0)))
        off_centre = np.hypot(box[0] + box[2] - width, box[1] + box[3] - height) / np.hypot(width, height)
        return size * max(0.0, 1.0 - float(off_centre))

    return max(faces, key=weight, default=None)


@functools.lru_cache(maxsize=1)
def detector(device: str) -> Detector:
    """Returns this process's detector on a device, loaded once."""
    return Detector(device)
