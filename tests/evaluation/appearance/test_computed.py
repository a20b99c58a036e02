"""Computed columns on hand-made pictures: values by hand, orders, and where they are not defined."""

import math

import cv2
import numpy as np
import pytest
from skimage.color import rgb2lab

from facesr.errors import ImageError
from facesr.evaluation.appearance.computed import COLUMNS, POSE, computed, detected_region, framed_region, ita, pose
from facesr.photos.detect import Face


def plain(*colour: int) -> np.ndarray:
    return np.full((112, 96, 3), colour, np.uint8)


def values(picture: np.ndarray) -> dict:
    return computed(picture, framed_region(*picture.shape[:2]))


@pytest.mark.parametrize(
    ("colour", "lightness", "chroma"),
    # L* of grey by hand: 119 -> linear 0.1845, L* = 116 * 0.1845^(1/3) - 16; red is a published value of sRGB.
    [((0, 0, 0), 0.0, 0.0), ((255, 255, 255), 100.0, 0.0), ((119, 119, 119), 50.03, 0.0), ((255, 0, 0), 53.24, 104.55)],
)
def test_brightness_and_saturation_of_plain_pictures(colour, lightness, chroma):
    found = values(plain(*colour))
    assert found["brightness"] == pytest.approx(lightness, abs=0.02)
    assert found["saturation"] == pytest.approx(chroma, abs=0.05)
    assert found["contrast"] == pytest.approx(0.0, abs=1e-9) and found["sharpness"] == pytest.approx(0.0, abs=1e-9)
    assert found["grey"] == ("no" if chroma else "yes")


def test_contrast_of_two_halves_is_half_their_distance():
    picture = plain(0, 0, 0)
    picture[:, 48:] = 255
    assert values(picture)["contrast"] == pytest.approx(50.0, abs=0.01)


def test_only_the_face_counts_for_brightness_and_only_nose_and_cheeks_for_the_angle():
    picture = plain(200, 150, 120)
    before = values(picture)
    picture[:10] = 0
    picture[:, :10] = 0
    after = values(picture)
    assert after["brightness"] == before["brightness"] and after["ita"] == before["ita"]
    picture[30:40] = 0  # the forehead is of the face, not of the cheeks
    assert values(picture)["brightness"] < before["brightness"] and values(picture)["ita"] == before["ita"]


@pytest.mark.parametrize(
    ("colour", "angle"),
    [((70.0, 12.0, 20.0), 45.0), ((50.0, 12.0, 20.0), 0.0), ((30.0, 5.0, 20.0), -45.0), ((60.0, 9.0, 17.3205), 30.0)],
)
def test_the_angle_by_hand(colour, angle):
    assert ita(np.array(colour)) == pytest.approx(angle, abs=1e-4)


def test_the_angle_is_not_defined_without_yellow():
    assert ita(np.array([60.0, 0.0, 0.0])) is None and ita(np.array([60.0, 0.0, -3.0])) is None
    assert values(plain(128, 128, 128))["ita"] is None
    # sRGB (224, 172, 105): CIELAB by scikit-image.
    colour = rgb2lab(np.uint8([[[224, 172, 105]]]))[0, 0]
    assert values(plain(224, 172, 105))["ita"] == pytest.approx(
        math.degrees(math.atan((colour[0] - 50) / colour[2])), abs=0.1
    )


def test_a_blurred_picture_is_less_sharp_and_the_value_of_a_checkerboard_is_known():
    noise = np.random.default_rng(0).integers(0, 256, (112, 96, 3), dtype=np.uint8)
    found = [values(cv2.GaussianBlur(noise, (0, 0), sigma) if sigma else noise)["sharpness"] for sigma in (0, 1, 2)]
    assert found[0] > 4 * found[1] > 16 * found[2] > 0
    rows, columns = np.indices((112, 96))
    board = np.repeat(((rows + columns) % 2 * 10)[..., None], 3, axis=-1).astype(np.uint8)
    # Each pixel differs by 10 from each of four neighbours: the Laplacian is +40 or -40, its variance about 1600.
    assert values(board)["sharpness"] == pytest.approx(1600.0, rel=1e-3)


def test_grey_up_to_what_jpeg_leaves():
    picture = np.random.default_rng(1).integers(0, 240, (112, 96, 1), dtype=np.uint8).repeat(3, axis=2)
    picture[..., 0] += 8
    assert values(picture)["grey"] == "yes"
    picture[..., 0] += 1
    assert values(picture)["grey"] == "no"


def a_face(nose: tuple[float, float], roll: float = 0.0) -> Face:
    points = np.array([(-15.0, 0.0), (15.0, 0.0), nose, (-10.0, 30.0), (10.0, 30.0)])
    angle = math.radians(roll)
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    return Face(np.array([15.0, 15.0, 81.0, 97.0]), points @ turn.T + (48.0, 45.0), 1.0)


@pytest.mark.parametrize("roll", [0.0, 20.0, -35.0])
def test_pose_by_hand(roll):
    assert pose(a_face((0.0, 18.0), roll)) == pytest.approx({"yaw": 0.0, "roll": roll}, abs=1e-9)
    # The nose is off by 0.4 eye distances, as far as it stands before the eyes: 45 degrees.
    assert pose(a_face((12.0, 18.0), roll)) == pytest.approx({"yaw": 45.0, "roll": roll})
    assert pose(a_face((-12.0, 18.0), roll)) == pytest.approx({"yaw": -45.0, "roll": roll})
    assert pose(None) == {"yaw": None, "roll": None}


def test_the_region_of_a_detected_face_is_that_of_the_framing_where_the_face_stands_there():
    framed, detected = framed_region(112, 96), detected_region(112, 96, a_face((0.0, 18.0)))
    for own, other in ((framed.face, detected.face), (framed.skin, detected.skin)):
        assert (own & other).sum() / (own | other).sum() > 0.93
    outside = Face(np.array([500.0, 500.0, 560.0, 560.0]), np.full((5, 2), 520.0), 1.0)
    assert detected_region(112, 96, outside) is None


def test_a_picture_may_be_too_small():
    with pytest.raises(ImageError, match="too small"):
        framed_region(15, 96)


def test_every_column_says_what_it_is_and_what_is_wrong_with_it():
    assert set(values(plain(9, 9, 9))) == {column.name for column in COLUMNS}
    for column in (*COLUMNS, *POSE):
        assert column.how and column.model and len(column.weakness) > 20, column.name
