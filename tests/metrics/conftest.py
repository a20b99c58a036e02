"""Pictures and judges for the metrics' tests."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy import ndimage

from facesr.image import to_float
from facesr.protocols import MetricInputs
from facesr.resample import downscale_uint8


@pytest.fixture(scope="session")
def pairs() -> tuple[np.ndarray, np.ndarray]:
    """Smooth random originals and noisy copies, uint8 (5, 112, 96, 3) each."""
    random = np.random.default_rng(7)
    coarse = torch.from_numpy(random.uniform(0, 255, (5, 3, 9, 8)))
    smooth = torch.nn.functional.interpolate(coarse, size=(112, 96), mode="bicubic").permute(0, 2, 3, 1).numpy()
    noisy = smooth + random.normal(0, 12, smooth.shape)
    return noisy.clip(0, 255).round().astype(np.uint8), smooth.clip(0, 255).round().astype(np.uint8)


@pytest.fixture
def inputs(pairs: tuple[np.ndarray, np.ndarray]) -> MetricInputs:
    restored, high = pairs
    return MetricInputs(to_float(restored), to_float(high), to_float(downscale_uint8(high)))


@pytest.fixture(scope="session")
def texture() -> Callable[[int, int, int], np.ndarray]:
    """A function of (height, width, seed): smooth noise of several scales with edges, grey levels as float64 (H, W)."""

    def draw(height: int, width: int, seed: int) -> np.ndarray:
        rng = np.random.default_rng(seed)
        layers = [ndimage.gaussian_filter(rng.normal(size=(height, width)), sigma) * sigma for sigma in (0.7, 2, 6)]
        picture = 128.0 + 30.0 * sum(layers) + 40.0 * (layers[2] > 0)
        return np.clip(np.floor(picture + 0.5), 0, 255)

    return draw
