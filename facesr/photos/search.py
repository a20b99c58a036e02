"""Faces at any roll and of any size in a picture: the detector on a pyramid of four quarter turns.

MTCNN finds upright faces of 20 pixels and more. So small pictures are enlarged, large ones searched as a whole and in
tiles at full size, each in four quarter turns with a low threshold. A candidate counts where the detector, shown its
surroundings turned upright, finds a face there with the usual threshold; position, size and roll are those of this
second look.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from facesr.photos.crop import Framing, Placement, cut
from facesr.photos.detect import MIN_FACE, MIN_PROBABILITY, Detector, Face

# A first look may be unsure: faces between two quarter turns are seen 45 degrees off.
CANDIDATE_PROBABILITY = 0.7
# The longest side that is searched at once; larger pictures are searched as a whole, shrunk to it, and in tiles.
SIDE = 1280
TILE, TILE_OVERLAP = 1024, 192
# Pictures up to so many pixels are searched enlarged, too, for faces below the detector's smallest.
MAX_ENLARGED_PIXELS = 4_000_000
ENLARGEMENT = 2.0
# The second look: the candidate's surroundings, so many times its size, on a square of this side.
LOOK, LOOK_SIDE = 2.5, 160
# A small pattern looks like a face more easily than a large one: below this size the second look has to be surer.
SMALL, SMALL_PROBABILITY = 24.0, 0.97
# The second look may find a face that is smaller or larger by this factor, and off by this share of its size.
MAX_SIZE_RATIO, MAX_OFF_CENTRE = 1.8, 0.5
# Two faces whose centres are closer than this share of the smaller one's size are one.
SAME_FACE = 0.5


@dataclass(frozen=True)
class FoundFace:
    """A face in a picture, in pixels with centres at whole numbers.

    Attributes:
        centre: (2,) x, y of the middle of its box.
        width, height: of the box in the face's own upright frame.
        roll: degrees by which the picture has to be turned counter-clockwise for the face to stand upright; 0 for an
            upright one, 90 for one whose crown points right. In (-180, 180].
        landmarks: (5, 2) x, y of the face's right eye, left eye, nose tip, right and left mouth corner.
        probability: the detector's, of the upright look.
    """

    centre: NDArray[np.float64]
    width: float
    height: float
    roll: float
    landmarks: NDArray[np.float64]
    probability: float

    @property
    def size(self) -> float:
        """Square root of the box's area, in pixels."""
        return math.sqrt(self.width * self.height)

    @property
    def yaw(self) -> float:
        """Degrees by which the head is turned aside, about: 0 is frontal, 90 a profile; never negative.

        From how far the nose tip lies off the middle of the eyes along their line; a nose sticks out by about 0.6 of
        the distance between the eyes.
        """
        right, left, nose = self.landmarks[:3]
        across = left - right
        distance = float(np.hypot(*across))
        if distance == 0.0:
            return 90.0
        off = abs(float((nose - (right + left) / 2) @ across)) / distance**2
        # off = 0.6 * sin(yaw) / cos(yaw), for the eyes' distance shrinks by cos(yaw).
        return math.degrees(math.atan(off / 0.6))


def find_faces(picture: NDArray[np.uint8], detector: Detector, min_face: float = 10.0) -> list[FoundFace]:
    """Returns the faces of a picture, uint8 (H, W, 3) RGB, that are `min_face` pixels wide or more, largest first."""
    candidates: list[FoundFace] = []
    for window, offset, factor, smallest, largest in _views(picture, min_face):
        for turns in range(4):
            turned = np.ascontiguousarray(np.rot90(window, turns))
            for face in detector.find([turned], smallest, CANDIDATE_PROBABILITY)[0]:
                back = _turned_back(_points_of(face), turns, window.shape[1], window.shape[0])
                # Window -> picture, pixel centres at whole numbers.
                candidate = _found((back + 0.5) / factor - 0.5 + offset, face)
                if candidate.size * factor <= largest:
                    candidates.append(candidate)
    looked = [_looked_at(picture, candidate, detector) for candidate in _distinct(candidates)]
    sure = [face for face in looked if face is not None and face.width >= min_face and is_plausible(face)]
    return sorted(_without_inner(_distinct(sure)), key=lambda face: -face.size)


def is_plausible(face: FoundFace) -> bool:
    """Returns whether the landmarks lie as those of a face do: in its box, mouth below eyes, eyes apart."""
    own = (face.landmarks - face.centre) @ rotation(-face.roll).T / np.array([face.width, face.height])
    right, left, nose, mouth_right, mouth_left = own
    inside = bool((np.abs(own) <= 0.6).all())
    ordered = max(right[1], left[1]) < nose[1] + 0.05 and nose[1] < max(mouth_right[1], mouth_left[1])
    # The eyes of a profile nearly coincide; those of a frontal face are half a width apart.
    return inside and bool(ordered) and 0.03 < left[0] - right[0] < 0.8


def _views(
    picture: NDArray[np.uint8], min_face: float
) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.float64], float, float, float]]:
    """Yields what is searched: window, its place in the picture, its scale, and its smallest and largest face."""
    height, width = picture.shape[:2]
    origin = np.zeros(2)
    factor = min(1.0, SIDE / max(height, width))
    yield _scaled(picture, factor), origin, factor, max(MIN_FACE, min_face * factor), math.inf
    if factor < 1.0:
        largest = 2.0 * MIN_FACE / factor  # what the whole picture shows well enough
        for tile, offset in _tiles(picture, TILE, TILE_OVERLAP):
            yield tile, offset, 1.0, max(MIN_FACE, min_face), largest
    if min_face < MIN_FACE and height * width <= MAX_ENLARGED_PIXELS:
        for tile, offset in _tiles(picture, int(TILE / ENLARGEMENT), TILE_OVERLAP // 2):
            yield _scaled(tile, ENLARGEMENT), offset, ENLARGEMENT, max(MIN_FACE, min_face * ENLARGEMENT), 3 * MIN_FACE


def _tiles(
    picture: NDArray[np.uint8], side: int, overlap: int
) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.float64]]]:
    def starts(length: int) -> list[int]:
        if length <= side:
            return [0]
        number = math.ceil((length - overlap) / (side - overlap))
        return [round(place) for place in np.linspace(0, length - side, number)]

    for top in starts(picture.shape[0]):
        for left in starts(picture.shape[1]):
            yield picture[top : top + side, left : left + side], np.array([left, top], np.float64)


def _scaled(picture: NDArray[np.uint8], factor: float) -> NDArray[np.uint8]:
    if factor == 1.0:
        return picture
    size = (max(1, round(picture.shape[1] * factor)), max(1, round(picture.shape[0] * factor)))
    way = cv2.INTER_AREA if factor < 1.0 else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(picture, size, interpolation=way), np.uint8)


def _points_of(face: Face) -> NDArray[np.float64]:
    """Returns the landmarks and the corners of the box, (9, 2)."""
    left, top, right, bottom = face.box
    corners = np.array([[left, top], [right, top], [right, bottom], [left, bottom]])
    return np.concatenate([face.landmarks, corners])


def _turned_back(points: NDArray[np.float64], turns: int, width: int, height: int) -> NDArray[np.float64]:
    """Returns points of ``np.rot90(window, turns)`` in the window of width x height pixels."""
    x, y = points[:, 0], points[:, 1]
    back = {0: (x, y), 1: (width - 1 - y, x), 2: (width - 1 - x, height - 1 - y), 3: (y, height - 1 - x)}[turns]
    return np.stack(back, 1)


def _found(points: NDArray[np.float64], face: Face) -> FoundFace:
    """Returns the face whose landmarks and box corners lie at `points` (9, 2) of the picture."""
    landmarks, corners = points[:5], points[5:]
    # The first edge of the box runs along the face's own x.
    across, down = corners[1] - corners[0], corners[3] - corners[0]
    down_from_eyes = landmarks[3:].mean(0) - landmarks[:2].mean(0)
    # Upright is where eyes lie level and the mouth below; both say so, the mouth also for a profile.
    axis = (landmarks[1] - landmarks[0]) + (landmarks[4] - landmarks[3])
    axis = axis + np.array([down_from_eyes[1], -down_from_eyes[0]])
    roll = math.degrees(math.atan2(axis[1], axis[0]))
    return FoundFace(
        corners.mean(0), float(np.hypot(*across)), float(np.hypot(*down)), roll, landmarks, face.probability
    )


def rotation(degrees: float) -> NDArray[np.float64]:
    """Returns the matrix that turns (x, y), y downwards, by degrees clockwise as seen."""
    angle = math.radians(degrees)
    return np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])


def followed(picture: NDArray[np.uint8], face: FoundFace, detector: Detector) -> FoundFace | None:
    """Returns where a face that was found in a similar picture, the frame before, is in this one; None where it is not.

    Only its surroundings are looked at, and a small one need not be as sure as when it is found first.
    """
    found = _looked_at(picture, face, detector, small_probability=MIN_PROBABILITY)
    return found if found is not None and is_plausible(found) else None


def _looked_at(
    picture: NDArray[np.uint8],
    candidate: FoundFace,
    detector: Detector,
    small_probability: float = SMALL_PROBABILITY,
) -> FoundFace | None:
    """Returns the face that the detector finds at a candidate's place when it stands upright, None where none is."""
    pitch = LOOK * candidate.size / LOOK_SIDE
    linear = rotation(candidate.roll) * pitch
    centre = np.full(2, (LOOK_SIDE - 1) / 2)
    placement: Placement = np.column_stack([linear, candidate.centre - linear @ centre])
    upright = cut(picture, placement, Framing(width=LOOK_SIDE, height=LOOK_SIDE))
    expected = LOOK_SIDE / LOOK
    best: FoundFace | None = None
    for face in detector.find([upright], MIN_FACE)[0]:
        points = _points_of(face)
        ratio = math.sqrt(np.ptp(points[5:, 0]) * np.ptp(points[5:, 1])) / expected
        off = np.hypot(*(points[5:].mean(0) - centre)) / expected
        if off > MAX_OFF_CENTRE or not 1 / MAX_SIZE_RATIO < ratio < MAX_SIZE_RATIO:
            continue
        found = _found(points @ placement[:, :2].T + placement[:, 2], face)
        if found.size < SMALL and found.probability < small_probability:
            continue
        if best is None or found.probability > best.probability:
            best = found
    return best


def _distinct(faces: Sequence[FoundFace]) -> list[FoundFace]:
    """Returns the faces without repetitions; of two at one place the more probable one stays."""
    kept: list[FoundFace] = []
    for face in sorted(faces, key=lambda face: -face.probability):
        if all(np.hypot(*(face.centre - other.centre)) > SAME_FACE * min(face.size, other.size) for other in kept):
            kept.append(face)
    return kept


def _without_inner(faces: Sequence[FoundFace]) -> list[FoundFace]:
    """Returns the faces but those inside another one that are less than half as large: reflections in an eye."""
    return [
        face
        for face in faces
        if not any(
            face.size < 0.5 * other.size and np.hypot(*(face.centre - other.centre)) < 0.5 * other.size
            for other in faces
        )
    ]
