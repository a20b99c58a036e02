"""Values of the pixel metrics against hand arithmetic and against scikit-image."""

import math

import numpy as np
import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from facesr.errors import ImageError
from facesr.image import to_float
from facesr.metrics.pixels import luma
from facesr.metrics.psnr import psnr_rgb, psnr_y
from facesr.metrics.rmse import rmse
from facesr.metrics.ssim import ssim


def flat(red: int, green: int, blue: int) -> torch.Tensor:
    return to_float(np.full((1, 20, 16, 3), (red, green, blue), np.uint8))


def test_luma_of_white_black_and_primaries():
    colours = torch.tensor([[0, 0, 0], [255, 255, 255], [255, 0, 0], [0, 255, 0], [0, 0, 255]], dtype=torch.float64)
    expected = [16.0, 235.0, 81.481, 144.553, 40.966]
    assert luma(colours[:, :, None, None]).flatten().tolist() == pytest.approx(expected)


def test_one_grey_level_apart():
    grey, lighter = flat(100, 100, 100), flat(101, 101, 101)
    assert rmse(grey, lighter) == pytest.approx(1.0)
    assert psnr_rgb(grey, lighter) == pytest.approx(20 * math.log10(255))
    # One grey level is 219/255 of a luma level.
    assert psnr_y(grey, lighter) == pytest.approx(20 * math.log10(255 * 255 / 219))


def test_one_channel_apart_counts_a_third_in_rgb_and_by_its_weight_in_luma():
    grey, redder = flat(100, 100, 100), flat(110, 100, 100)
    assert rmse(grey, redder) == pytest.approx(10 / math.sqrt(3))
    assert psnr_y(grey, redder) == pytest.approx(20 * math.log10(255 / (10 * 65.481 / 255)))


def test_black_against_white_is_the_worst():
    black, white = flat(0, 0, 0), flat(255, 255, 255)
    assert rmse(black, white) == pytest.approx(255.0)
    assert psnr_rgb(black, white) == pytest.approx(0.0, abs=1e-12)


def test_psnr_is_that_of_scikit_image(pairs):
    restored, high = pairs
    expected = [peak_signal_noise_ratio(h, r, data_range=255) for r, h in zip(restored, high, strict=True)]
    np.testing.assert_allclose(psnr_rgb(to_float(restored), to_float(high)), expected, rtol=1e-12)


def test_ssim_is_that_of_scikit_image_on_luma(pairs):
    restored, high = pairs
    coefficients = np.array([65.481, 128.553, 24.966]) / 255
    expected = [
        structural_similarity(
            h @ coefficients + 16,
            r @ coefficients + 16,
            data_range=255,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
        )
        for r, h in zip(restored, high, strict=True)
    ]
    np.testing.assert_allclose(ssim(to_float(restored), to_float(high)), expected, rtol=1e-10)


def test_ssim_needs_one_whole_window():
    assert ssim(torch.zeros(1, 3, 11, 11), torch.zeros(1, 3, 11, 11)) == pytest.approx(1.0)
    with pytest.raises(ImageError, match="11x11"):
        ssim(torch.zeros(1, 3, 10, 40), torch.zeros(1, 3, 10, 40))
