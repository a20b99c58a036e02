"""Framings as geometry: points arrive where they should, nothing aliases, exact where nothing is resampled."""

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from facesr.photos import crop
from facesr.photos.crop import BOX_CENTRE, BOX_SIZE, Framing, Points
from facesr.photos.decode import Unusable

# Mean landmarks of FFHQ, as shares of the side. Source: xinntao/facexlib, facexlib/utils/face_restoration_helper.py
# (its template for 512x512).
FFHQ_MEAN = (
    np.array(
        [
            [192.98138, 239.94708],
            [318.90277, 240.1936],
            [256.63416, 314.01935],
            [201.26117, 371.41043],
            [313.08905, 371.15118],
        ]
    )
    / 512
)


def dots(width: int, height: int, points: Points, sigma: float) -> NDArray[np.uint8]:
    """A black picture with a white blob at every point."""
    rows, columns = np.mgrid[:height, :width].astype(np.float64)
    light = sum(np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * sigma**2)) for x, y in points)
    return np.repeat((255 * np.clip(light, 0, 1)).round().astype(np.uint8)[..., None], 3, axis=2)


def centre_of_light(picture: NDArray[np.uint8], near: Points, reach: int = 6) -> Points:
    """The centre of gravity (x, y) around a point."""
    left, top = (max(0, int(value) - reach) for value in np.round(near))
    part = picture[top : top + 2 * reach + 1, left : left + 2 * reach + 1, 0].astype(np.float64)
    rows, columns = np.mgrid[: part.shape[0], : part.shape[1]]
    return np.array([(columns * part).sum(), (rows * part).sum()]) / part.sum() + (left, top)


def turned(points: Points, degrees: float, scale: float, centre: tuple[float, float]) -> Points:
    angle = np.deg2rad(degrees)
    rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return (points - points.mean(0)) @ (scale * rotation).T + centre


@pytest.mark.parametrize(("degrees", "scale"), [(0, 5.3), (21, 5.3), (-35, 3.1), (8, 1.0), (90, 2.0), (180, 0.9)])
@pytest.mark.parametrize("margin", [0, 8])
def test_landmarks_land_on_the_template_in_numbers_and_in_pixels(degrees: float, scale: float, margin: int) -> None:
    framing = Framing("template", margin=margin)
    landmarks = turned(crop.TEMPLATE, degrees, scale, (301.3, 287.6))
    placement = crop.place_template(landmarks, framing)
    assert crop.to_crop(landmarks, placement) == pytest.approx(crop.TEMPLATE, abs=1e-9)
    picture = crop.cut(dots(620, 600, landmarks, 2.5 * max(scale, 1.0)), placement, framing)
    assert picture.shape == (112 + 2 * margin, 96 + 2 * margin, 3)
    for point in crop.TEMPLATE + margin:
        assert centre_of_light(picture, point) == pytest.approx(point, abs=0.2)


def test_the_template_fit_is_the_least_squares_one() -> None:
    rng = np.random.default_rng(0)
    landmarks = turned(crop.TEMPLATE, 12, 2.0, (200, 210)) + rng.normal(0, 3, (5, 2))
    best = crop.place_template(landmarks, Framing("template"))

    def misfit(placement: NDArray[np.float64]) -> float:
        return float(((crop.to_crop(landmarks, placement) - crop.TEMPLATE) ** 2).sum())

    for _ in range(50):
        angle, size = rng.normal(0, 0.02), np.exp(rng.normal(0, 0.02))
        change = size * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        other = np.column_stack([best[:, :2] @ change, best[:, 2] + rng.normal(0, 1, 2)])
        assert misfit(other) > misfit(best)


def test_equal_landmarks_are_no_face() -> None:
    with pytest.raises(Unusable, match=r"^no face: "):
        crop.place_template(np.full((5, 2), 7.0), Framing("template"))


def test_a_box_comes_to_the_competitions_place_and_area() -> None:
    placement = crop.place_box([100, 200, 300, 440], Framing("detect"))
    corners = crop.to_crop(np.array([[100.0, 200.0], [300.0, 440.0]]), placement)
    assert corners.mean(0) == pytest.approx(BOX_CENTRE)
    width, height = corners[1] - corners[0]
    assert width * height == pytest.approx(BOX_SIZE[0] * BOX_SIZE[1])
    assert width / height == pytest.approx(200 / 240)


@pytest.mark.parametrize("side", [1024, 512, 128])
def test_ffhq_framing_puts_the_mean_face_where_the_competition_has_it(side: int) -> None:
    framing = Framing("ffhq")
    landmarks = crop.to_crop(FFHQ_MEAN * side - 0.5, crop.place_ffhq(side, side, framing))
    eyes, mouth = landmarks[:2], landmarks[3:].mean(0)
    # FACTS: eyes about 30 px apart. Medians of the competition's pictures by MTCNN: eyes at height 47.5, mouth at 77.7.
    assert eyes[1, 0] - eyes[0, 0] == pytest.approx(30, abs=1)
    assert eyes.mean(0) == pytest.approx([48, 47.5], abs=1)
    assert mouth == pytest.approx([48, 77.7], abs=1)


def test_ffhq_framing_undoes_ffhqs_own_alignment() -> None:
    # The square that FFHQ cuts around a face, by the formula of NVlabs/ffhq-dataset (download_ffhq.py), for a face in
    # the competition's framing that stands upright.
    face = np.array([[32.7, 47.5], [63.4, 47.5], [48.0, 63.8], [34.9, 77.7], [61.4, 77.7]])
    eyes, mouth = face[:2].mean(0), face[3:].mean(0)
    half = max(2.0 * np.hypot(*(face[1] - face[0])), 1.8 * np.hypot(*(mouth - eyes)))
    corner = eyes + 0.1 * (mouth - eyes) - half
    aligned = (face - corner) / (2 * half) * 1024 - 0.5
    assert crop.to_crop(aligned, crop.place_ffhq(1024, 1024, Framing("ffhq"))) == pytest.approx(face, abs=2.0)


def test_ffhq_framing_is_flush_with_the_lower_edge_and_fits_the_thumbnails() -> None:
    placement = crop.place_ffhq(128, 128, Framing("ffhq"))
    bottom = placement @ np.array([47.5, 111.5, 1.0])
    assert bottom == pytest.approx([63.5, 127.5])
    assert 1.0 < placement[0, 0] < 1.1  # thumbnails are shrunk a little, not enlarged
    with pytest.raises(Unusable, match="square"):
        crop.place_ffhq(178, 218, Framing("ffhq"))


@pytest.mark.parametrize("name", ["ffhq", "detect", "template"])
def test_a_crop_of_twice_the_size_shows_the_same_part(name: str) -> None:
    points = turned(crop.TEMPLATE, 0.0 if name != "template" else 20.0, 4.0, (300, 300))

    def corners(framing: Framing) -> NDArray[np.float64]:
        if name == "ffhq":
            placement = crop.place_ffhq(640, 640, framing)
        elif name == "detect":
            placement = crop.place_box([200, 180, 420, 450], framing)
        else:
            placement = crop.place_template(points, framing)
        ends = np.array([[-0.5, -0.5, 1], [framing.width - 0.5, framing.height - 0.5, 1]])
        return ends @ placement.T

    assert corners(Framing(name, 192, 224)) == pytest.approx(corners(Framing(name)), abs=0.6)


def test_a_picture_of_the_right_size_is_copied_exactly() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (112, 96, 3), np.uint8)
    assert np.array_equal(crop.cut(picture, crop.place_whole(96, 112, Framing()), Framing()), picture)
    wide = Framing(margin=20)
    with_margin = crop.cut(picture, crop.place_whole(96, 112, wide), wide)
    assert np.array_equal(with_margin, np.pad(picture, ((20, 20), (20, 20), (0, 0)), "symmetric"))
    brought = np.random.default_rng(1).integers(0, 256, (152, 136, 3), np.uint8)
    placement = crop.place_whole(136, 152, wide)
    assert np.array_equal(crop.cut(brought, placement, wide), brought)
    assert crop.to_crop(np.array([[20.0, 20.0]]), placement).tolist() == [[0.0, 0.0]]


def test_a_margin_wider_than_the_picture_is_mirrored_to_and_fro() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (8, 4, 3), np.uint8)
    framing = Framing("as-is", 4, 8, 11)
    wanted = np.pad(picture, ((11, 11), (11, 11), (0, 0)), "symmetric")
    assert np.array_equal(crop.cut(picture, crop.place_whole(4, 8, framing), framing), wanted)


def test_a_larger_picture_of_equal_proportions_is_shrunk_whole() -> None:
    left_half = np.zeros((448, 384, 3), np.uint8)
    left_half[:, :192] = 200
    small = crop.cut(left_half, crop.place_whole(384, 448, Framing()), Framing())
    assert small.shape == (112, 96, 3)
    assert small[:, :46].min() >= 199 and small[:, 50:].max() <= 1
    assert abs(int(small[50, 47, 0]) + int(small[50, 48, 0]) - 200) <= 1  # the edge is where it was, in the middle


@pytest.mark.parametrize(
    ("size", "kind"), [((95, 112), "too small"), ((40, 40), "too small"), ((178, 218), "other proportions")]
)
def test_a_picture_of_another_size_is_refused(size: tuple[int, int], kind: str) -> None:
    with pytest.raises(Unusable, match=f"^{kind}: {size[0]}x{size[1]} where 96x112 is needed"):
        crop.place_whole(*size, Framing())


@pytest.mark.parametrize("degrees", [0.0, 15.0])
def test_detail_finer_than_the_crop_becomes_grey_not_a_pattern(degrees: float) -> None:
    board = np.indices((1000, 1000)).sum(0) // 3 % 2 * 255  # squares of 3 px where the crop has one pixel per 8
    picture = np.repeat(board.astype(np.uint8)[..., None], 3, axis=2)
    landmarks = turned(crop.TEMPLATE, degrees, 8.0, (500, 500))
    framing = Framing("template")
    placement = crop.place_template(landmarks, framing)
    assert crop.cut(picture, placement, framing)[8:-8, 8:-8].std() < 5
    naive = cv2.warpAffine(picture, placement, (96, 112), flags=cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP)
    assert naive[8:-8, 8:-8].std() > 50  # the test would notice


def test_a_rotated_crop_keeps_detail_that_the_crop_can_hold() -> None:
    columns = np.arange(400)
    wave = np.repeat((127.5 + 100 * np.sin(2 * np.pi * columns / 12))[None], 400, axis=0)  # 6 crop pixels per wave
    picture = np.repeat(wave.round().astype(np.uint8)[..., None], 3, axis=2)
    framing = Framing("template")
    placement = crop.place_template(turned(crop.TEMPLATE, 30, 2.0, (200, 200)), framing)
    assert crop.cut(picture, placement, framing)[20:-20, 20:-20].std() > 0.93 * picture.std()


def test_faces_too_small_or_cut_by_the_border_are_refused() -> None:
    framing = Framing("detect")
    crop.check_placement(crop.place_box([100, 100, 160, 175], framing), 300, 300, framing)
    with pytest.raises(Unusable, match=r"^too small: the crop would be enlarged 1\.64 times"):
        crop.check_placement(crop.place_box([100, 100, 140, 150], framing), 300, 300, framing)
    with pytest.raises(Unusable, match=r"^at the border: \d\d% of the crop"):
        crop.check_placement(crop.place_box([-30, 100, 70, 220], framing), 300, 300, framing)
