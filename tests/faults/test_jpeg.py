"""JPEG without a file, against OpenCV's files."""

import cv2
import numpy as np
import pytest
import torch

from facesr.faults.jpeg import compress, tables
from facesr.image import to_float, to_uint8


def smooth(num: int, height: int, width: int) -> np.ndarray:
    """Returns pictures with edges and slopes, uint8 (num, height, width, 3)."""
    random = np.random.default_rng(3)
    coarse = random.integers(0, 256, (num, 6, 5, 3), np.uint8)
    return np.stack([cv2.resize(one, (width, height), interpolation=cv2.INTER_CUBIC) for one in coarse])


def through_a_file(pixels: np.ndarray, quality: int) -> np.ndarray:
    data = cv2.imencode(".jpg", pixels[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR))[:, :, ::-1]


@pytest.mark.parametrize("size", [(48, 32), (27, 23), (1, 1), (17, 40)])
@pytest.mark.parametrize("quality", [1, 30, 49, 50, 75, 95, 100])
def test_pictures_come_out_as_from_a_file(size: tuple[int, int], quality: int) -> None:
    pixels = smooth(4, *size)
    found = to_uint8(compress(to_float(pixels), [size] * 4, torch.full((4,), float(quality))))
    expected = np.stack([through_a_file(one, quality) for one in pixels])
    # The library's cosines are whole numbers, so that here and there a coefficient on a half goes the other way.
    difference = np.abs(found.astype(int) - expected)
    assert difference.mean() < 0.9 and (difference > 2).mean() < 0.15
    if quality >= 30:
        assert np.abs(pixels.astype(int) - expected).mean() > difference.mean()


def test_each_picture_has_its_size_and_quality_whatever_lies_beside_it() -> None:
    sizes, qualities = [(27, 23), (40, 30), (9, 12)], torch.tensor([20.0, 90.0, 60.0])
    canvas = torch.rand(3, 3, 40, 30, generator=torch.Generator().manual_seed(0))
    together = compress(canvas, sizes, qualities)
    for i, (height, width) in enumerate(sizes):
        alone = compress(canvas[i : i + 1, :, :height, :width], [(height, width)], qualities[i : i + 1])
        assert torch.equal(together[i : i + 1, :, :height, :width], alone)


def test_tables_follow_the_quality() -> None:
    luma, chroma = tables(torch.tensor([50.0, 10.0, 100.0]))
    assert luma[0, 0].tolist() == [16, 11, 10, 16, 24, 40, 51, 61] and chroma[0, 0, 4] == 99
    assert luma[1, 0, 0] == 80 and luma[1, 7, 7] == 255 and (luma[2] == 1).all()  # scales of 500 and 0 per cent
