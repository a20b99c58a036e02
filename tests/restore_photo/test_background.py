"""The background by a network: no seams, 16 bits, grey, any scale, and how far a network sees."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from skimage import data
from torch import Tensor, nn

from facesr.errors import ImageError
from facesr.methods.method import Method
from facesr.methods.open import open_method
from facesr.models.facesr import FaceSR
from facesr.models.interpolation import Bicubic
from facesr.restore_photo.background import Background, Pace, background_of, reach_of
from facesr.tiles import Tiles

CPU = torch.device("cpu")
DEEP = np.random.default_rng(0).integers(0, 65536, (70, 90, 3)).astype(np.uint16)


@pytest.fixture(scope="module")
def method() -> Method:
    """Returns a small network of random weights, its last layer's too, which would else add nothing."""
    torch.manual_seed(0)
    network = FaceSR(channels=32, num_groups=1, num_blocks=2, channels_up=32)
    nn.init.normal_(network.to_rgb.weight, std=0.02)
    return Method("small", network.eval().requires_grad_(False))


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_tiles_leave_no_seams(method: Method, scale: int) -> None:
    overlap = reach_of(method, CPU) + 1
    cut_up = Background(method, CPU, Tiles(2 * overlap + 24, overlap))
    assert len(cut_up.tiles.along(70)) > 2
    whole = replace(cut_up, tiles=Tiles(512))
    tiled, at_once = (one.enlarged(DEEP, scale, False).astype(int) for one in (cut_up, whole))
    assert tiled.shape == (70 * scale, 90 * scale, 3)
    # A level of 16 bits is 1.5e-5: sums in another order.
    assert np.abs(tiled - at_once).max() <= 1
    one_less = replace(cut_up, tiles=Tiles(2 * overlap + 16, overlap - 4))
    assert np.abs(one_less.enlarged(DEEP, scale, False).astype(int) - at_once).max() > 1


class Neighbours(nn.Module):
    """Adds to each pixel shares of those at some distances along its row; four times as large."""

    def __init__(self, shares: dict[int, float]) -> None:
        super().__init__()
        self.shares = shares

    def forward(self, low: Tensor) -> Tensor:
        moved = low.clone()
        for distance, share in self.shares.items():
            if distance > 0:
                moved[..., :-distance] += share * low[..., distance:]
            else:
                moved[..., -distance:] += share * low[..., :distance]
        return moved.repeat_interleave(4, 2).repeat_interleave(4, 3)


def test_how_far_away_anything_moves_the_answer_is_measured(method: Method) -> None:
    # Seven convolutions at the input's size, and three at twice that: one and a half pixels, which begin in the second.
    assert 6 <= reach_of(method, CPU) <= 9
    assert reach_of(Method("cubic", Bicubic()), CPU) == 2
    assert reach_of(Method("itself", Neighbours({})), CPU) == 0
    assert reach_of(Method("left", Neighbours({-5: 0.1, -60: 1e-6})), CPU) == 5
    assert reach_of(Method("right", Neighbours({7: 0.1, 60: 1e-6})), CPU) == 7
    assert reach_of(Method("far", Neighbours({60: 1e-3})), CPU) == 60
    assert background_of(method, CPU).tiles.overlap_px == reach_of(method, CPU) + 1


@pytest.mark.slow
def test_tiles_of_the_shipped_background_leave_no_seams_and_cost_little() -> None:
    general = open_method("pretrained:general", CPU)
    tiles = background_of(general, CPU).tiles
    small = Tiles(2 * tiles.overlap_px + 64, tiles.overlap_px)
    photo = np.ascontiguousarray(data.coffee()[150:270, 200:330])
    cut_up, whole = (Background(general, CPU, some).enlarged(photo, 4, False).astype(int) for some in (small, Tiles()))
    assert len(small.along(120)) == 2 and np.abs(cut_up - whole).max() <= 1
    # What tiles see for each pixel of 12 megapixels.
    seen = [sum(one.seen[1] - one.seen[0] for one in tiles.along(side)) / side for side in (3000, 4000)]
    assert seen[0] * seen[1] <= 1.15 and tiles.side_px**2 <= 150_000


def test_sixteen_bits_reach_the_network_and_come_back() -> None:
    cubic = background_of(Method("cubic", Bicubic()), CPU)
    smooth = np.linspace(20000, 20400, 24 * 20 * 3).reshape(24, 20, 3).astype(np.uint16)
    large = cubic.enlarged(smooth, 4, False)
    # 400 of 65535 levels are fewer than two of 8 bits.
    assert large.dtype == np.uint16 and len(np.unique(large)) > 300
    expected = np.asarray(
        Image.fromarray(smooth[:, :, 1].astype(np.float32)).resize((80, 96), Image.Resampling.BICUBIC)
    )
    assert np.abs(large[:, :, 1] - expected).max() <= 1


def test_a_smaller_scale_shrinks_with_antialiasing() -> None:
    class Checkers(nn.Module):
        """Every second pixel of the answer is white."""

        def forward(self, low: Tensor) -> Tensor:
            size = (4 * low.shape[2], 4 * low.shape[3])
            return (torch.arange(size[0])[:, None] + torch.arange(size[1])).remainder(2).float().expand(1, 3, *size)

    checkers = Background(Method("checkers", Checkers()), CPU, Tiles())
    half = checkers.enlarged(np.zeros((20, 20, 3), np.uint8), 2, False)
    # At the border the mirrored pixel is of the same colour.
    assert np.abs(half[2:-2, 2:-2].astype(int) - 128).max() <= 1


@pytest.mark.parametrize("depth", [np.uint8, np.uint16])
def test_grey_stays_grey(method: Method, depth: type[np.uint8] | type[np.uint16]) -> None:
    grey: NDArray[np.uint8] | NDArray[np.uint16] = np.repeat((DEEP[:, :, :1] >> 8).astype(depth), 3, 2)
    background = background_of(method, CPU)
    assert np.ptp(background.enlarged(grey, 4, True), axis=2).max() == 0
    assert np.ptp(background.enlarged(grey, 4, False), axis=2).max() > 0


@pytest.mark.parametrize("size", [(1, 1), (1, 30), (7, 3)])
def test_tiny_photographs_have_a_background(method: Method, size: tuple[int, int]) -> None:
    assert background_of(method, CPU).enlarged(np.full((*size, 3), 9, np.uint8), 4, False).shape == (
        4 * size[0],
        4 * size[1],
        3,
    )


def test_values_that_are_not_finite_are_refused() -> None:
    class Endless(nn.Module):
        def forward(self, low: Tensor) -> Tensor:
            answer: Tensor = Bicubic()(low)
            return answer / 0.0

    background = Background(Method("endless", Endless()), CPU, Tiles())
    with pytest.raises(ImageError, match="endless gives values that are not finite; choose another background"):
        background.enlarged(np.full((20, 20, 3), 9, np.uint8), 4, False)


def test_long_work_tells_its_pace() -> None:
    said: list[str] = []
    times = iter((0.0, 5.0, 20.0, 40.0, 60.0, 100.0))
    pace = Pace(said.append, lambda: next(times))
    for done in (500_000, 2_000_000, 4_000_000, 6_000_000, 10_000_000):
        pace(done, 10_000_000)
    assert said == [
        "background: 2.0 of 10.0 megapixels, 10 s a megapixel, 1 min 20 s left",
        "background: 6.0 of 10.0 megapixels, 10 s a megapixel, 40 s left",
    ]
