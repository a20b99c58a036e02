"""Tiles: cores cover a picture once, nothing that is seen exceeds the side, every beginning is aligned."""

import itertools

import pytest

from facesr.errors import ConfigError
from facesr.tiles import ALIGNMENT_PX, Stretch, Tiles, pictures_at_once

SOME = [Tiles(), Tiles(16, 0), Tiles(32, 8), Tiles(33, 8), Tiles(40, 12), Tiles(57, 20), Tiles(100, 3)]
SIZES = [1, 2, 15, 16, 17, 31, 33, 37, 45, 53, 61, 97, 192, 193, 270, 511, 1021]


@pytest.mark.parametrize("tiles", SOME, ids=str)
@pytest.mark.parametrize("size", SIZES)
def test_cores_cover_the_picture_once_and_see_enough(tiles: Tiles, size: int) -> None:
    found = tiles.along(size)
    assert found[0].core[0] == 0 and found[-1].core[1] == size
    assert all(one.core[1] == other.core[0] for one, other in itertools.pairwise(found))
    for stretch in [*found, *(tiles.mirrored(stretch, size) for stretch in found)]:
        (start, stop), (first, last) = stretch.core, stretch.seen
        assert start < stop and first >= 0 and last <= size
        assert last - first <= tiles.side_px and first % ALIGNMENT_PX == 0
        assert first <= max(start - tiles.overlap_px, 0) and last >= min(stop + tiles.overlap_px, size)


@pytest.mark.parametrize("size", SIZES)
def test_a_picture_that_fits_is_one_tile(size: int) -> None:
    found = Tiles(192, 24).along(size)
    assert (len(found) == 1) == (size <= 192)
    if len(found) == 1:
        assert found == [Stretch((0, size), (0, size))] == [Tiles(192, 24).mirrored(found[0], size)]


def test_the_mirrored_core_is_the_mirror_of_the_core() -> None:
    tiles = Tiles(32, 8)
    for stretch in tiles.along(61):
        other = tiles.mirrored(stretch, 61)
        assert other.core == (61 - stretch.core[1], 61 - stretch.core[0])
        assert tiles.mirrored(other, 61) == stretch


def test_slices_of_a_tile() -> None:
    stretch = Stretch(core=(20, 30), seen=(16, 38))
    assert (stretch.read, stretch.kept(4), stretch.written(4)) == (slice(16, 38), slice(16, 56), slice(80, 120))


@pytest.mark.parametrize(
    ("side", "overlap", "words"),
    [
        (192, -1, "tile_overlap_px=-1"),
        (15, 0, "tile_px=15 .* give tile_px=16 or more"),
        (32, 12, "tile_px=32 .* tile_overlap_px=12; give tile_px=40 or more"),
        (0, 0, "tile_px=0"),
    ],
)
def test_tiles_without_a_core_are_refused(side: int, overlap: int, words: str) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        Tiles(side, overlap)
    assert "\n" not in str(caught.value)


def test_faces_are_batched_as_asked_and_large_pictures_by_their_pixels() -> None:
    assert [pictures_at_once(size, 28, 24) for size in (1, 7, 64)] == [1, 7, 64]
    assert pictures_at_once(64, 7, 6) == 64
    assert pictures_at_once(64, 56, 48) == 16
    assert pictures_at_once(64, 270, 180) == 1
    assert pictures_at_once(1, 2000, 2000) == 1
