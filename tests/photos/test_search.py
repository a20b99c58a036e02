"""Faces at any roll: on NASA's portrait of Eileen Collins (public domain, scikit-image), and by hand."""

import math

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from skimage import data

from facesr.data.synthetic.dead_leaves import render_pictures
from facesr.photos.detect import Detector, detector
from facesr.photos.search import FoundFace, find_faces, is_plausible, rotation


@pytest.fixture(scope="module")
def mtcnn() -> Detector:
    return detector("cpu")


def face(roll: float = 0.0, off: float = 0.0, width: float = 60.0, at: tuple[float, float] = (100, 100)) -> FoundFace:
    """Returns a made face; `off` moves its nose tip sideways, as a turned head does, in distances between the eyes."""
    points = np.array([[-15.0, -12.0], [15.0, -12.0], [30.0 * off, 5.0], [-12.0, 20.0], [12.0, 20.0]]) * width / 60
    return FoundFace(np.array(at, float), width, 1.25 * width, roll, points @ rotation(roll).T + np.array(at), 0.99)


def turned(picture: NDArray[np.uint8], degrees: float) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """Returns the picture turned clockwise about its middle on grey, and the matrix that moves its points."""
    middle = (picture.shape[1] - 1) / 2, (picture.shape[0] - 1) / 2
    matrix = cv2.getRotationMatrix2D(middle, -degrees, 0.7)
    size = (picture.shape[1], picture.shape[0])
    found = cv2.warpAffine(picture, matrix, size, flags=cv2.INTER_CUBIC, borderValue=(128, 128, 128))
    return np.asarray(found, np.uint8), np.asarray(matrix, np.float64)


def check_roll(mtcnn: Detector, degrees: float) -> None:
    # The middle of the face's box is at (224, 118) and 88 pixels wide.
    small = cv2.resize(data.astronaut(), (256, 256), interpolation=cv2.INTER_AREA)
    picture, matrix = turned(np.asarray(small, np.uint8), degrees)
    (found,) = find_faces(picture, mtcnn, 20.0)
    expected = matrix @ np.array([112.0, 59.0, 1.0])
    assert np.hypot(*(found.centre - expected)) < 3.0
    assert (found.roll - degrees - 2.5 + 180.0) % 360.0 - 180.0 == pytest.approx(0.0, abs=6.0)
    assert found.width == pytest.approx(44 * 0.7, rel=0.15)
    assert found.yaw < 15.0


@pytest.mark.parametrize("degrees", [0.0, 225.0])
def test_a_face_is_found_upright_and_rolled(mtcnn: Detector, degrees: float) -> None:
    check_roll(mtcnn, degrees)


@pytest.mark.slow
@pytest.mark.parametrize("degrees", [30.0, 45.0, 60.0, 90.0, 135.0, 180.0, 270.0, 315.0])
def test_a_face_is_found_at_any_roll(mtcnn: Detector, degrees: float) -> None:
    check_roll(mtcnn, degrees)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    ["coffee", "rocket", "chelsea", "brick", "grass", "gravel", "coins", "text", "page", "moon", "clock", "horse"],
)
def test_no_face_is_found_where_none_is(mtcnn: Detector, name: str) -> None:
    picture = getattr(data, name)()
    if picture.dtype == bool:
        picture = 255 * picture.astype(np.uint8)
    if picture.ndim == 2:
        picture = np.repeat(picture[:, :, None], 3, 2)
    assert find_faces(np.ascontiguousarray(picture[:, :, :3]), mtcnn, 10.0) == []


def test_no_face_is_found_in_drawn_shapes(mtcnn: Detector) -> None:
    (picture,) = render_pictures(1, 96, 96, 7, first=0)
    assert find_faces(picture, mtcnn, 10.0) == []


def test_a_small_face_is_found_in_an_enlarged_picture(mtcnn: Detector) -> None:
    # 12 pixels wide, where the detector's own limit is 20.
    small = cv2.resize(data.astronaut(), (70, 70), interpolation=cv2.INTER_AREA)
    assert len(find_faces(np.asarray(small, np.uint8), mtcnn, 10.0)) == 1
    assert find_faces(np.asarray(small, np.uint8), mtcnn, 20.0) == []


def test_a_picture_of_one_pixel_holds_no_face(mtcnn: Detector) -> None:
    assert find_faces(np.zeros((1, 1, 3), np.uint8), mtcnn) == []


@pytest.mark.parametrize("roll", [0.0, 77.0, -160.0])
def test_yaw_and_plausibility_know_no_roll(roll: float) -> None:
    assert face(roll).yaw == pytest.approx(0.0, abs=1e-6)
    # A nose 0.6 distances between the eyes aside: tan(yaw) is 1.
    assert face(roll, 0.6).yaw == pytest.approx(45.0)
    assert is_plausible(face(roll))
    upside_down = face(roll)
    mouth_above = FoundFace(upside_down.centre, 60.0, 75.0, roll, upside_down.landmarks[[3, 4, 2, 0, 1]], 0.99)
    assert not is_plausible(mouth_above)


def test_rotation_is_clockwise_as_seen() -> None:
    # What points right points down after a quarter turn: y goes down.
    assert rotation(90.0) @ np.array([1.0, 0.0]) == pytest.approx([0.0, 1.0])
    assert face(width=40.0).size == pytest.approx(math.sqrt(40.0 * 50.0))
