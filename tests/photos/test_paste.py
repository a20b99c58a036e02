"""Pasting by hand: where a change lands, what it leaves alone, and that no order or half pixel moves it."""

import numpy as np
import pytest
from numpy.typing import NDArray

from facesr.photos.crop import BOX_CENTRE, Framing, Placement
from facesr.photos.paste import COLOUR_SIGMA, Patch, mask_of, matched, paste, pitch_of, scaled
from facesr.photos.search import rotation

CROP = Framing(width=96, height=112)


def at(x: float, y: float, pitch: float = 1.0, roll: float = 0.0, framing: Framing = CROP) -> Placement:
    """Returns the placement that brings the middle of the mask to (x, y)."""
    linear = pitch * rotation(roll)
    return np.column_stack([linear, np.array([x, y]) - linear @ framing.from_reference(np.array(BOX_CENTRE))])


def blob(x: float, y: float, sigma: float = 6.0, height: float = 60.0) -> NDArray[np.float32]:
    """Returns a change (112, 96, 3) with one Gaussian blob at (x, y) of the crop."""
    across, down = np.arange(96) - x, np.arange(112) - y
    spot = height * np.exp(-(across[None] ** 2 + down[:, None] ** 2) / (2 * sigma**2))
    return np.repeat(spot[:, :, None], 3, 2).astype(np.float32)


def centroid(change: NDArray[np.float64]) -> NDArray[np.float64]:
    down, across = np.indices(change.shape)
    return np.array([(across * change).sum(), (down * change).sum()]) / change.sum()


@pytest.mark.parametrize("roll", [0.0, 30.0, 90.0, 180.0, -135.0])
@pytest.mark.parametrize("pitch", [0.4, 0.75, 1.0, 1.1])
def test_a_change_lands_where_its_placement_says(pitch: float, roll: float) -> None:
    # Twenty bits of depth in uint16, so that rounding does not hide a shift.
    picture = np.full((160, 150, 3), 20000, np.uint16)
    placement = at(70.3, 81.6, pitch, roll)
    paste(picture, [Patch(blob(50.0, 60.0), placement, CROP)])
    expected = placement[:, :2] @ np.array([50.0, 60.0]) + placement[:, 2]
    found = centroid(picture[:, :, 1].astype(float) - 20000.0)
    assert np.abs(found - expected).max() < 0.05


def test_an_enlarged_photograph_keeps_its_pixel_centres() -> None:
    # The middle of pixel 3 of the photograph is the middle of pixels 12 to 15 of one four times as large.
    placement = np.array([[1.0, 0.0, 3.0], [0.0, 1.0, 5.0]])
    assert scaled(placement, 4)[:, 2].tolist() == [13.5, 21.5]
    assert pitch_of(scaled(placement, 4)) == pytest.approx(4.0)
    assert np.array_equal(scaled(placement, 1), placement)


def test_the_mask_is_whole_on_the_face_and_nothing_at_the_edge() -> None:
    mask = mask_of(CROP)
    assert mask[56, 48] == 1.0 and mask[56, 48 - 24 : 48 + 24].min() == 1.0
    assert max(mask[0].max(), mask[-1].max(), mask[:, 0].max(), mask[:, -1].max()) == 0.0
    # A smoothstep over a quarter of the radius: at most 1.5 times its mean slope, 1 over 10.5 pixels.
    assert np.abs(np.diff(mask[56])).max() <= 1.5 / 10.5 + 1e-3
    larger = mask_of(Framing(width=128, height=148))
    assert larger[:, 64].sum() == pytest.approx(mask[:, 48].sum() * 4 / 3, rel=0.02)


@pytest.mark.parametrize("depth", [np.uint8, np.uint16])
def test_only_the_ellipse_is_touched(depth: type[np.uint8] | type[np.uint16]) -> None:
    generator = np.random.default_rng(0)
    before = generator.integers(0, np.iinfo(depth).max, (200, 180, 3), dtype=depth)
    after = before.copy()
    paste(after, [Patch(np.full((112, 96, 3), 40.0, np.float32), at(90.0, 100.0), CROP)])
    down, across = np.indices(before.shape[:2])
    outside = ((across - 90.0) / 42.0) ** 2 + ((down - 100.0) / 50.0) ** 2 > 1.1
    assert np.array_equal(after[outside], before[outside])
    # 40 of 255 grey levels, or as much of 65,535, where nothing is clipped.
    step = 40 if depth is np.uint8 else 40 * 257
    top = np.iinfo(depth).max
    assert after[100, 90].tolist() == [min(int(value) + step, top) for value in before[100, 90]]


def test_nothing_is_changed_by_no_change_and_by_no_strength() -> None:
    before = np.random.default_rng(0).integers(0, 256, (120, 120, 3), dtype=np.uint8)
    after = before.copy()
    paste(after, [Patch(np.zeros((112, 96, 3), np.float32), at(60, 60), CROP)])
    paste(after, [Patch(blob(48, 56), at(60, 60), CROP)], 0.0)
    assert np.array_equal(after, before)
    paste(after, [Patch(blob(48, 56), at(60, 60), CROP)], 0.5)
    assert after[60, 60].tolist() == [min(int(value) + 30, 255) for value in before[60, 60]]


def test_the_order_of_overlapping_faces_moves_no_bit() -> None:
    patches = [
        Patch(np.full((112, 96, 3), 50.0, np.float32), at(60, 70), CROP),
        Patch(np.full((112, 96, 3), -50.0, np.float32), at(90, 80, 0.7), CROP),
        Patch(np.full((112, 96, 3), 20.0, np.float32), at(75, 110, 0.9, 25.0), CROP),
    ]
    before = np.full((180, 180, 3), 100, np.uint8)
    one, other = before.copy(), before.copy()
    paste(one, patches)
    paste(other, patches[::-1])
    assert np.array_equal(one, other)
    # Each middle is its own face's.
    assert [int(one[y, x, 0]) for x, y in ((60, 70), (90, 80), (75, 110))] == [150, 50, 120]


def test_grey_stays_grey() -> None:
    picture = np.repeat(np.random.default_rng(0).integers(0, 256, (120, 120, 1), dtype=np.uint8), 3, 2)
    change = blob(48, 56)
    change[:, :, 0] *= 1.5
    paste(picture, [Patch(change, at(60, 60), CROP)], is_grey=True)
    assert np.array_equal(picture[:, :, 0], picture[:, :, 1]) and np.array_equal(picture[:, :, 0], picture[:, :, 2])


def test_colour_and_light_stay_those_of_the_background() -> None:
    tint = np.full((112, 96, 3), [8.0, -3.0, 5.0], np.float32)
    assert np.abs(matched(tint, CROP)).max() < 1e-4
    # A fine pattern stays: one of four pixels loses exp(-2 pi^2 sigma^2 / 16) of its height, which is nothing.
    assert COLOUR_SIGMA == 12.0
    fine = np.tile(np.array([10.0, 0.0, -10.0, 0.0], np.float32), 24)[None, :, None].repeat(112, 0).repeat(3, 2)
    assert np.abs(matched(fine, CROP)[:, 40:56] - fine[:, 40:56]).max() < 0.05


def test_a_face_at_the_edge_is_cut_off_there() -> None:
    for x, y in ((0, 0), (119, 60), (-500, -500)):
        picture = np.full((120, 120, 3), 100, np.uint8)
        paste(picture, [Patch(blob(48, 56), at(x, y), CROP)])
        if 0 <= x < 120 and 0 <= y < 120:
            assert picture[y, x, 0] == 160
        else:
            assert picture.max() == 100
