"""Kernels and downscalers, each against a plain reference."""

import math

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from facesr.degradation import MotionBlur, blur
from facesr.errors import ConfigError
from facesr.faults.kernels import DOWNSCALERS, gaussian_kernel, motion_kernel, shrink
from tests.faults.made import as_levels, pictures

ANY = np.random.default_rng(0)


@pytest.mark.parametrize(
    ("downscaler", "flag"),
    [("bicubic", cv2.INTER_CUBIC), ("bilinear", cv2.INTER_LINEAR), ("area", cv2.INTER_AREA)],
)
def test_downscalers_are_those_of_opencv(downscaler: str, flag: int) -> None:
    high = pictures()
    found = as_levels(shrink(high, downscaler, 14, 12))
    for picture, small in zip(as_levels(high), found, strict=True):
        np.testing.assert_allclose(small, cv2.resize(picture, (12, 14), interpolation=flag), atol=2e-3)


def test_area_is_the_mean_of_a_block() -> None:
    high = pictures()
    blocks = high.reshape(3, 3, 14, 4, 12, 4).mean((3, 5))
    torch.testing.assert_close(shrink(high, "area", 14, 12), blocks)


@pytest.mark.parametrize(
    ("downscaler", "filter_", "size"),
    [("lanczos", Image.Resampling.LANCZOS, size) for size in ((14, 12), (31, 40), (70, 60))]
    + [("nearest", Image.Resampling.NEAREST, (14, 12))],
)
def test_downscalers_are_those_of_pillow(downscaler: str, filter_: Image.Resampling, size: tuple[int, int]) -> None:
    high = pictures(1)
    # One channel at a time in float32: Pillow's 8-bit pictures are rounded and clipped between the two axes.
    for channel, found in zip(high[0].numpy(), shrink(high, downscaler, *size)[0].numpy(), strict=True):
        expected = np.array(Image.fromarray(channel).resize(size[::-1], filter_))
        np.testing.assert_allclose(found, expected, atol=2e-5)


@pytest.mark.parametrize("downscaler", DOWNSCALERS)
def test_every_downscaler_keeps_a_flat_picture_and_lets_gradients_through(downscaler: str) -> None:
    flat = torch.full((1, 3, 16, 24), 0.25, requires_grad=True)
    small = shrink(flat, downscaler, 4, 6)
    torch.testing.assert_close(small, torch.full((1, 3, 4, 6), 0.25))
    small.sum().backward()
    assert flat.grad is not None and bool(flat.grad.abs().sum() > 0)


def test_an_unknown_downscaler_is_named() -> None:
    with pytest.raises(ConfigError, match="cubist is unknown"):
        shrink(pictures(1), "cubist", 4, 4)


def test_a_turned_gaussian_has_its_two_widths() -> None:
    kernel = gaussian_kernel(4.0, 1.0, math.pi / 2)
    reach = np.arange(len(kernel)) - len(kernel) // 2
    assert kernel.sum() == pytest.approx(1.0)
    assert math.sqrt((kernel.sum(1) * reach**2).sum()) == pytest.approx(4.0, rel=0.03)
    assert math.sqrt((kernel.sum(0) * reach**2).sum()) == pytest.approx(1.0, rel=0.03)
    assert np.array_equal(gaussian_kernel(0.0, 0.0), [[1.0]])


def test_motion_sideways_is_a_running_mean_and_upright_is_that_turned() -> None:
    kernel = motion_kernel(5, 0.0)
    row = kernel[len(kernel) // 2]
    np.testing.assert_allclose(row[row > 0], 0.2)
    assert (row > 0).sum() == 5 and kernel.sum() == pytest.approx(1.0)
    np.testing.assert_allclose(motion_kernel(5, 90.0), kernel.T, atol=1e-9)
    np.testing.assert_allclose(motion_kernel(5, 45.0), motion_kernel(5, 225.0), atol=1e-9)
    picture = pictures(1)[0]
    torch.testing.assert_close(MotionBlur(1, 30.0)(picture, ANY), picture)


def test_motion_at_45_degrees_rises_to_the_right() -> None:
    kernel = motion_kernel(9, 45.0)
    middle = len(kernel) // 2
    assert kernel[middle - 2, middle + 2] > 0 and kernel[middle + 2, middle + 2] == 0


@pytest.mark.parametrize("kernel", [gaussian_kernel(3.0, 3.0), motion_kernel(9, 30.0)])
def test_blur_keeps_a_flat_picture_up_to_its_border(kernel: np.ndarray) -> None:
    flat = torch.full((3, 7, 6), 0.5)
    torch.testing.assert_close(blur(flat, kernel), flat)
