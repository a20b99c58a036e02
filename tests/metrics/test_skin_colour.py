"""Colour of the middle of a face: CIELAB by scikit-image and by hand, signs, and what does not count."""

import numpy as np
import pytest
import torch
from skimage.color import rgb2lab
from torch import Tensor

from facesr.metrics.skin_colour import ColourShift, LightnessShift, mean_lab
from facesr.protocols import MetricInputs


def plain(*colour: int, height: int = 112, width: int = 96) -> Tensor:
    return (torch.tensor(colour, dtype=torch.float32) / 255.0)[None, :, None, None].expand(1, 3, height, width).clone()


def lightness_of_grey(level: int) -> float:
    """CIE 1976 L* of a grey of sRGB, written out."""
    value = level / 255
    linear = value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4
    return 116 * linear ** (1 / 3) - 16 if linear > (6 / 29) ** 3 else linear * (29 / 3) ** 3


def test_lab_of_a_plain_picture_is_the_standards():
    for colour in ((128, 128, 128), (224, 172, 105), (89, 47, 42), (255, 0, 0)):
        expected = rgb2lab(np.array([[colour]], np.uint8))[0, 0]
        assert mean_lab(plain(*colour))[0] == pytest.approx(expected, abs=0.05)  # matrices are published rounded


def test_a_lighter_face_is_told_with_its_sign_and_a_tint_without_one():
    inputs = MetricInputs(plain(140, 140, 140), plain(128, 128, 128), None)
    expected = lightness_of_grey(140) - lightness_of_grey(128)
    assert LightnessShift()(inputs)[0] == pytest.approx(expected, abs=0.01) and expected > 4
    assert ColourShift()(inputs)[0] == pytest.approx(expected, abs=0.05)  # matrices are published rounded
    back = MetricInputs(inputs.high, inputs.restored, None)
    assert LightnessShift()(back)[0] == pytest.approx(-expected, abs=0.01)
    tinted = MetricInputs(plain(150, 120, 128), plain(128, 128, 128), None)
    lab = [rgb2lab(np.array([[colour]], np.uint8))[0, 0] for colour in ((150, 120, 128), (128, 128, 128))]
    assert ColourShift()(tinted)[0] == pytest.approx(np.linalg.norm(lab[0] - lab[1]), abs=0.02)


def test_eyes_mouth_hair_and_background_do_not_count():
    high = plain(200, 150, 120)
    restored = high.clone()
    # Eyes lie at about row 46 and the mouth at row 80 of 112, where the competition has them.
    restored[..., :47, :] = 0.0
    restored[..., 73:, :] = 1.0
    restored[..., :, :29] = 0.0
    restored[..., :, 67:] = 0.0
    found = MetricInputs(restored, high, None)
    assert LightnessShift()(found)[0] == 0.0 and ColourShift()(found)[0] == 0.0
    restored[..., 55:65, 40:56] = 1.0
    assert LightnessShift()(found)[0] > 5


def test_pictures_of_a_batch_are_measured_on_their_own():
    restored = torch.cat([plain(100, 100, 100), plain(120, 100, 80)])
    high = torch.cat([plain(100, 100, 100), plain(100, 100, 100)])
    first, second = ColourShift()(MetricInputs(restored, high, None))
    assert first == 0.0 and second > 5
