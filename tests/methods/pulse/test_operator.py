"""Downscaling operators: the harness's own at the competition's sizes, a plain reference for squares, refusals."""

import cv2
import numpy as np
import pytest
import torch

from facesr.errors import ConfigError, ImageError
from facesr.methods.pulse.operator import Square, operator_for
from facesr.photos.crop import Framing, cut, place_ffhq
from facesr.resample import downscale, downscale_to_grey_levels


def picture(height: int, width: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(2, 3, height, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_the_competitions_operator_is_that_of_the_harness() -> None:
    operator, high = operator_for("auto", (96, 112), (24, 28)), picture(112, 96)
    assert operator.name == "competition 96x112 -> 24x28" and operator.frame(high) is high
    assert torch.equal(operator.downscale(high), downscale(high))
    levels = (high * 255).round() / 255
    rounded = (operator.downscale(levels) * 255 + 0.5).floor().clamp(0, 255) / 255
    torch.testing.assert_close(rounded.float(), downscale_to_grey_levels(levels))


@pytest.mark.parametrize("side", [128, 256, 512])
def test_a_square_face_is_cut_like_ffhq_is(side: int) -> None:
    operator = operator_for("auto", (side, side), (24, 28))
    smooth = cv2.GaussianBlur(np.random.default_rng(0).normal(0.5, 3.0, (side, side, 3)), (0, 0), side / 24)
    source = (smooth.clip(0, 1) * 255).round().astype(np.uint8)
    wanted = cut(source, place_ffhq(side, side, Framing("ffhq")), Framing("ffhq"))
    found = operator.frame(torch.from_numpy(source / 255.0).permute(2, 0, 1)[None])[0].permute(1, 2, 0) * 255
    assert found.shape == wanted.shape == (112, 96, 3)
    inner = (slice(4, -4), slice(4, -4))
    assert np.abs(found.numpy()[inner] - wanted[inner]).max() < 3.0
    assert operator.downscale(torch.rand(1, 3, side, side)).shape == (1, 3, 28, 24)


def plain_shrink(line: np.ndarray, low_side: int) -> np.ndarray:
    """Returns one axis shrunk by loops: Keys' cubic of 4 * factor taps, border reflected at the outermost sample."""
    factor = len(line) // low_side

    def kernel(x: float) -> float:
        x = abs(x)
        if x <= 1:
            return 1.5 * x**3 - 2.5 * x**2 + 1
        return -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2 if x < 2 else 0.0

    found = []
    for place in range(low_side):
        centre = place * factor + (factor - 1) / 2
        total = weight_sum = 0.0
        for tap in range(int(np.floor(centre - 2 * factor)), int(np.ceil(centre + 2 * factor)) + 1):
            weight = kernel((tap - centre) / factor)
            inside = tap
            while not 0 <= inside < len(line):
                inside = -inside if inside < 0 else 2 * (len(line) - 1) - inside
            total += weight * line[inside]
            weight_sum += weight
        found.append(total / weight_sum)
    return np.array(found)


@pytest.mark.parametrize(("side", "low_side"), [(64, 16), (32, 16), (64, 4), (16, 4), (8, 4)])
def test_squares_are_shrunk_as_the_plain_loops_do(side: int, low_side: int) -> None:
    high = picture(side, side)
    rows = np.apply_along_axis(plain_shrink, 2, high.numpy(), low_side)
    wanted = np.apply_along_axis(plain_shrink, 3, rows, low_side)
    operator = operator_for("square", (side, side), (low_side, low_side))
    np.testing.assert_allclose(operator.downscale(high).numpy(), wanted, rtol=0, atol=1e-12)
    assert operator.frame(high).shape == (2, 3, 4 * low_side, 4 * low_side)


def test_flat_pictures_stay_flat_and_slopes_reach_every_pixel() -> None:
    operator = operator_for("auto", (1024, 1024), (16, 16))
    assert isinstance(operator, Square) and operator.name == "square 1024 -> 16"
    flat = torch.full((1, 3, 1024, 1024), 0.25, requires_grad=True)
    small = operator.downscale(flat)
    torch.testing.assert_close(small, torch.full((1, 3, 16, 16), 0.25))
    small.sum().backward()
    assert float(flat.grad.abs().min()) > 0.0


@pytest.mark.parametrize(
    ("kind", "size", "low_size", "words"),
    [
        ("auto", (96, 112), (16, 16), "24x28"),
        ("auto", (96, 112), (28, 24), "24x28"),
        ("auto", (1024, 1024), (16, 20), "a square of 1024 divided by a power of two"),
        ("auto", (1024, 1024), (48, 48), "another power of two"),
        ("auto", (1024, 1024), (1024, 1024), "another power of two"),
        ("auto", (96, 96), (32, 32), "another power of two"),
        ("competition", (1024, 1024), (16, 16), "256x256 or 24x28"),
        ("square", (1024, 1024), (24, 28), r": give inputs of a square of 1024 divided by a power of two, or another"),
        ("square", (96, 112), (24, 28), r"pulse\.operator=square needs a generator of squares"),
    ],
)
def test_a_wrong_size_is_one_sentence(kind, size, low_size, words) -> None:
    with pytest.raises(ImageError, match=words) as caught:
        operator_for(kind, size, low_size)
    assert "\n" not in str(caught.value) and str(caught.value).endswith(".")


def test_an_unknown_operator_is_one_sentence() -> None:
    with pytest.raises(ConfigError, match=r"pulse\.operator=box"):
        operator_for("box", (64, 64), (16, 16))
