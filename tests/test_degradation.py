"""Degradations: each operator against a plain reference, and draws that depend on seed and place alone."""

import dataclasses
import math
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch.nn import functional

from facesr.build import build, load_group
from facesr.degradation import (
    Chain,
    Degradation,
    GaussianBlur,
    GaussianNoise,
    Jpeg,
    MotionBlur,
    Official,
    PoissonNoise,
    SecondOrder,
    blur,
    generators_at,
)
from facesr.errors import ConfigError
from facesr.faults.kernels import DOWNSCALERS, gaussian_kernel, motion_kernel, shrink
from facesr.faults.passes import through
from facesr.image import round_to_grey_levels, to_float, to_uint8
from facesr.places import Place
from facesr.png import read_png
from facesr.resample import downscale_to_grey_levels, resize
from tests.faults.made import as_levels, pictures

RANDOM: Degradation = build(load_group("degradation", "random"), Place.DEGRADATION)
ANY = np.random.default_rng(0)


# Downscaling


def test_the_default_chain_is_the_official_downscaling() -> None:
    high = pictures()
    expected = downscale_to_grey_levels(high)
    assert torch.equal(Official()(high, 1, 0), expected)
    assert torch.equal(Chain()(high, 1, 0), expected)


@pytest.mark.shared
def test_the_official_one_gives_the_official_pairs(shared: Path) -> None:
    names = sorted(path.name for path in (shared / "asc19" / "val_HR").glob("*.png"))[:8]
    high, low = (
        np.stack([read_png(shared / "asc19" / folder / name) for name in names]) for folder in ("val_HR", "val_LR")
    )
    assert np.array_equal(to_uint8(Official()(to_float(high), 0, 0)), low)


# Blur


def test_a_gaussian_blur_is_that_of_opencv() -> None:
    picture = pictures(1)[0]
    expected = cv2.GaussianBlur(as_levels(picture[None])[0], (9, 9), 1.5, borderType=cv2.BORDER_REPLICATE)
    # OpenCV's kernel of 9 reaches to 2.67 sigma, ours of 11 to 3.33.
    np.testing.assert_allclose(as_levels(GaussianBlur(1.5)(picture, ANY)[None])[0], expected, atol=1.0)
    kernel = cv2.getGaussianKernel(11, 1.5)
    np.testing.assert_allclose(gaussian_kernel(1.5, 1.5), kernel @ kernel.T, atol=1e-9)


# Noise


def test_gaussian_noise_has_its_width_and_grey_noise_one_value_a_pixel() -> None:
    flat = torch.full((3, 128, 128), 0.5)
    noise = (GaussianNoise(10.0)(flat, generators_at(0, 0, 1)[0]) - flat) * 255
    assert float(noise.mean()) == pytest.approx(0.0, abs=0.2)
    assert float(noise.std()) == pytest.approx(10.0, rel=0.02)
    grey = GaussianNoise(10.0, grey=True)(flat, generators_at(0, 0, 1)[0])
    assert torch.equal(grey[0], grey[1]) and torch.equal(grey[0], grey[2]) and not torch.equal(noise[0], noise[1])


@pytest.mark.parametrize("value", [0.1, 0.4, 0.9])
def test_poisson_noise_varies_with_the_light(value: float) -> None:
    flat = torch.full((3, 128, 128), value)
    noisy = PoissonNoise(100.0)(flat, generators_at(0, 0, 1)[0])
    assert float(noisy.mean()) == pytest.approx(value, rel=0.01)
    # The variance of a Poisson count is its mean.
    assert float(noisy.var()) == pytest.approx(value / 100.0, rel=0.03)


def test_grey_poisson_noise_is_the_same_in_all_channels_and_black_has_none() -> None:
    picture = pictures(1)[0]
    added = PoissonNoise(50.0, grey=True)(picture, generators_at(0, 0, 1)[0]) - picture
    torch.testing.assert_close(added[0], added[2], atol=1e-6, rtol=0)
    assert torch.equal(PoissonNoise(50.0)(torch.zeros(3, 8, 8), ANY), torch.zeros(3, 8, 8))


class Scripted:
    """A generator that gives prepared draws in turn, and keeps what it was asked for."""

    def __init__(self, *draws: float) -> None:
        self.draws, self.asked = list(draws), np.zeros(0)

    def random(self) -> float:
        return self.draws.pop(0)

    def uniform(self, low: float, high: float = 1.0) -> float:  # numpy's default
        return low + self.draws.pop(0) * (high - low)

    def choice(self, names: list[str]) -> str:
        return names[int(self.draws.pop(0) * len(names))]

    def poisson(self, means: np.ndarray) -> np.ndarray:
        self.asked = means
        return means + 10.0

    def standard_normal(self, shape: tuple[int, ...], dtype: type) -> np.ndarray:
        return np.linspace(-2.0, 2.0, math.prod(shape), dtype=dtype).reshape(shape)


def test_light_is_counted_between_black_and_white() -> None:
    picture = torch.linspace(-1.0, 2.0, 3 * 4 * 5).reshape(3, 4, 5)
    for grey in (False, True):
        scripted = Scripted()
        noisy = PoissonNoise(100.0, grey)(picture, scripted)  # type: ignore[arg-type]
        counted = np.clip(picture.double().numpy(), 0.0, 1.0) * 100.0
        if grey:
            counted = np.tensordot([0.299, 0.587, 0.114], counted, 1)[None]
        np.testing.assert_allclose(scripted.asked, counted, atol=1e-9)
        # Ten photons of a hundred too many, and what lies outside stays outside.
        torch.testing.assert_close(noisy, picture + 0.1)


# JPEG


@pytest.mark.parametrize("quality", [10, 50, 95])
def test_jpeg_is_that_of_opencv(quality: int) -> None:
    picture = pictures(1)
    levels = to_uint8(picture)[0]
    data = cv2.imencode(".jpg", levels[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    expected = cv2.imdecode(data, cv2.IMREAD_COLOR)[:, :, ::-1]
    assert np.array_equal(to_uint8(Jpeg(quality)(picture[0], ANY)[None])[0], expected)


def test_lower_quality_is_further_from_the_picture() -> None:
    picture = pictures(1)[0]
    errors = [float((Jpeg(quality)(picture, ANY) - picture).abs().mean()) for quality in (95, 70, 40, 10)]
    assert errors == sorted(errors) and errors[0] > 0


# Whole ways

WAYS = {
    "blur": Chain(before=(GaussianBlur(2.0),)),
    "motion": Chain(before=(MotionBlur(7),)),
    "noise": Chain(after=(GaussianNoise(5.0),)),
    "poisson": Chain(after=(PoissonNoise(100.0),)),
    "all": Chain((GaussianBlur(1.0), GaussianNoise(3.0)), "area", (PoissonNoise(200.0), Jpeg(60))),
    "random": RANDOM,
}


@pytest.mark.parametrize("way", [*WAYS.values(), *(Chain(downscaler=name) for name in DOWNSCALERS)])
def test_low_pictures_are_whole_grey_levels_of_the_right_size(way: Degradation) -> None:
    low = way(pictures(2), 3, 5)
    assert low.shape == (2, 3, 14, 12) and low.dtype == torch.float32
    assert torch.equal(low, round_to_grey_levels(low)) and float(low.std()) > 0.05


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_draws_depend_on_seed_and_place_alone(way: Degradation) -> None:
    high = pictures(6)
    whole = way(high, 7, 40)
    assert torch.equal(whole, way(high, 7, 40))
    # Two ranks with three pictures each, and a batch cut in parts, give the very same.
    assert torch.equal(whole, torch.cat([way(high[:3], 7, 40), way(high[3:], 7, 43)]))
    assert torch.equal(whole[4:5], way(high[4:5], 7, 44))
    if way is not WAYS["blur"]:
        same = high[:1].expand(6, -1, -1, -1)
        assert not torch.equal(way(high, 8, 40), whole) and not torch.equal(way(high, 7, 41), whole)
        drawn = way(same, 7, 40)
        assert all(not torch.equal(drawn[0], drawn[i]) for i in range(1, 6)), "each picture draws for itself"


def second_order(**changes: object) -> SecondOrder:
    settings: dict[str, object] = {
        "strength": 0.5, "blur_sigma": [0.0, 4.0], "motion_share": 0.5, "motion_px": [1, 17], "resize": [1.0, 0.5],
        "downscalers": ["area", "bilinear"], "noise_sigma": [0.0, 40.0], "poisson_share": 0.5,
        "poisson_photons": [1000.0, 100.0], "grey_share": 0.5, "jpeg_quality": [95, 15],
    }  # fmt: skip
    return SecondOrder(**{**settings, **changes})  # type: ignore[arg-type]


def test_a_pass_blurs_resizes_adds_noise_and_compresses_in_that_order() -> None:
    picture = pictures(1)
    # A draw that equals a share is outside it. Widths 0 + 0.5 * 0.75 * 4 and 0 + 0.5 * 0.25 * 4, turned a quarter of
    # 180 degrees; the second downscaler; noise, not grey, of 0.5 * 0.4 * 40 grey levels; quality 95 - 0.5 * 0.5 * 80.
    drawn = Scripted(0.0, 0.5, 0.75, 0.25, 0.25, 0.5, 0.0, 0.5, 0.5, 0.4, 0.0, 0.5)
    step = second_order()._pass(drawn, 28, 24)  # type: ignore[arg-type]
    assert not drawn.draws and step.size == (28, 24) and step.quality == 75
    found = through(picture, [(56, 48)], [step], [drawn], (28, 24))  # type: ignore[list-item]
    blurred = blur(picture[0], gaussian_kernel(1.5, 0.5, math.pi / 4))
    small = shrink(blurred[None], "bilinear", 28, 24)[0].clamp(0.0, 1.0)
    noise = torch.linspace(-2.0, 2.0, 3 * 28 * 24).reshape(3, 28, 24)
    expected = Jpeg(75)((small + noise * 8.0 / 255.0).clamp(0.0, 1.0), ANY)
    assert (found[0] - expected).abs().mean() * 255 < 0.5
    # Motion over 1 + 0.5 * 0.5 * 16 pixels, a quarter of 180 degrees; the first downscaler; grey noise of
    # 1000 - 0.5 * 0.2 * 900 photons; quality 95 - 0.5 * 1 * 80.
    drawn = Scripted(0.0, 0.49, 0.5, 0.25, 0.0, 0.0, 0.49, 0.49, 0.2, 0.0, 1.0)
    step = second_order()._pass(drawn, 14, 12)  # type: ignore[arg-type]
    assert not drawn.draws and step.quality == 55 and step.photons == 910.0 and step.grey
    found = through(picture, [(56, 48)], [dataclasses.replace(step, quality=0)], [drawn], (14, 12))  # type: ignore[list-item]
    small = shrink(blur(picture[0], motion_kernel(5, 45.0))[None], "area", 14, 12)[0].clamp(0.0, 1.0)
    light = (small * torch.tensor([0.299, 0.587, 0.114])[:, None, None]).sum(0)
    expected = small + torch.linspace(-2.0, 2.0, 14 * 12).reshape(14, 12) * (light / 910.0).sqrt()
    torch.testing.assert_close(found[0], expected.clamp(0.0, 1.0), atol=1e-5, rtol=0)


def test_shares_of_nothing_leave_a_picture_to_its_downscalings() -> None:
    high = pictures(3)
    none = {"blur_share": 0.0, "noise_share": 0.0, "jpeg_share": 0.0, "downscalers": ["official"]}
    low = second_order(**none, resize=[1.0, 1.0])(high, 0, 0)
    # One pass at full size changes nothing and the next is the competition's, but for ties of its rounding in float32.
    assert (low - Official()(high, 0, 0)).abs().max() <= 1.001 / 255
    assert torch.equal(second_order(official_share=1.0)(high, 0, 0), Official()(high, 0, 0))
    mixed = second_order(official_share=0.5)(pictures(40), 0, 0)
    same = (mixed == Official()(pictures(40), 0, 0)).flatten(1).all(1).sum()
    assert 10 <= same <= 30


def test_small_pictures_are_enlarged_to_the_grid_and_large_ones_pass_through() -> None:
    high = pictures(3)
    plain = {"blur_share": 0.0, "noise_share": 0.0, "jpeg_share": 0.0, "downscalers": ["area"], "strength": 1.0}
    small = second_order(**plain, resize=[1.0, 1.0], small_share=1.0, small=[0.5, 0.5])(high, 0, 0)
    expected = resize(functional.avg_pool2d(high, 8), 14, 12)
    assert (small - round_to_grey_levels(expected)).abs().max() <= 1.001 / 255
    grown = second_order(**plain | {"downscalers": ["nearest"]}, enlarge_share=1.0, enlarge=[2.0, 2.0])(high, 0, 0)
    assert torch.equal(grown, round_to_grey_levels(shrink(shrink(high, "nearest", 112, 96), "nearest", 14, 12)))


def test_pictures_may_be_saved_as_jpeg_once_more() -> None:
    high = pictures(3)
    plain = {"blur_share": 0.0, "noise_share": 0.0, "jpeg_share": 0.0, "resize": [1.0, 1.0], "jpeg_quality": [50, 50]}
    once = second_order(**plain)(high, 0, 0)
    again = second_order(**plain, resaved_share=1.0)(high, 0, 0)
    expected = torch.stack([Jpeg(50)(picture, ANY) for picture in once])
    assert (again - expected).abs().mean() * 255 < 0.6 and (again - once).abs().mean() * 255 > 3


def test_a_blurred_picture_has_less_detail_and_stronger_is_less_alike() -> None:
    high = pictures(4, 112, 96)
    official = Official()(high, 0, 0)
    distances = [
        float(
            (build(load_group("degradation", "random", [f"strength={s}"]), Place.DEGRADATION)(high, 0, 0) - official)
            .abs()
            .mean()
        )
        for s in (0.25, 0.5, 1.0)
    ]
    assert distances == sorted(distances)


@pytest.mark.gpu
def test_a_gpu_gives_the_same_pictures() -> None:
    high = pictures()
    for way in WAYS.values():
        assert (way(high.cuda(), 1, 2).cpu() - way(high, 1, 2)).abs().max() <= 2.001 / 255


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("strength=0", "degradation.strength=0 is out of range; give a number above 0 and up to 1"),
        ("strength=2", "and up to 1"),
        ("jpeg_quality=[98,0]", "from 1 to 100"),
        ("resize=[1,0.1]", "from 0.25 to 1"),
        ("blur_sigma=[1]", "two numbers"),
        ("grey_share=1.5", "from 0 to 1"),
        ("downscalers=[cubist]", "cubist"),
        ("downscalers=[]", "no name"),
        ("small=[1,0]", "from 0.1 to 1"),
        ("enlarge=[1]", "two numbers"),
        ("jpeg_share=2", "from 0 to 1"),
        ("small=[1,0]", "from 0.1 to 1"),
        ("enlarge=[1]", "two numbers"),
        ("jpeg_share=2", "from 0 to 1"),
        ("small=[1,0]", "from 0.1 to 1"),
        ("enlarge=[1]", "two numbers"),
        ("jpeg_share=2", "from 0 to 1"),
        ("small=[1,0]", "from 0.1 to 1"),
        ("enlarge=[1]", "two numbers"),
        ("jpeg_share=2", "from 0 to 1"),
    ],
)
def test_bad_ranges_are_one_sentence(override: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        build(load_group("degradation", "random", [override]), Place.DEGRADATION)
    assert "\n" not in str(caught.value) and str(caught.value).endswith(".")


def test_the_source_is_named() -> None:
    assert "Real-ESRGAN" in (SecondOrder.__doc__ or "")
