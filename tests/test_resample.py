"""The official downscaling: exact on the 300 official pairs, and the documented rule on any size."""

import math
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from facesr import resample as module
from facesr.image import to_float, to_uint8
from facesr.png import list_png, stack_pictures
from facesr.resample import (
    cubic_kernel,
    downscale,
    downscale_to_grey_levels,
    downscale_uint8,
    resize,
    resize_matrix,
    upscale,
)

SIZES = [(1, 1), (4, 1), (1, 4), (3, 12), (16, 4), (5, 20), (20, 5), (7, 7), (112, 28), (96, 24), (13, 29), (31, 8)]


def imresize_row(row: list[float], size_out: int) -> list[float]:
    """MATLAB's imresize of one row, sample by sample with its 1-based indices, as its documentation states the rule."""
    size_in = len(row)
    scale = size_out / size_in
    width = 4.0 if scale >= 1 else 4.0 / scale
    result = []
    for out in range(1, size_out + 1):
        centre = out / scale + 0.5 * (1 - 1 / scale)
        left = math.floor(centre - width / 2)
        total = weighted = 0.0
        for index in range(left, left + math.ceil(width) + 2):
            distance = abs(centre - index) * min(scale, 1.0)
            if distance <= 1:
                weight = 1.5 * distance**3 - 2.5 * distance**2 + 1
            elif distance < 2:
                weight = -0.5 * distance**3 + 2.5 * distance**2 - 4 * distance + 2
            else:
                weight = 0.0
            # Symmetric border: ... 2 1 | 1 2 3 ... n | n n-1 ...
            position = (index - 1) % (2 * size_in)
            value = row[position] if position < size_in else row[2 * size_in - 1 - position]
            total += weight
            weighted += weight * value
        result.append(weighted / total)
    return result


def imresize(picture: NDArray[np.float64], height: int, width: int) -> NDArray[np.float64]:
    """Heights first, then widths."""
    columns = np.array([imresize_row(list(column), height) for column in picture.T]).T
    return np.array([imresize_row(list(row), width) for row in columns])


@pytest.mark.parametrize(("size_in", "size_out"), SIZES)
def test_follows_the_rule_on_any_size(size_in: int, size_out: int) -> None:
    rng = np.random.default_rng(size_in * 100 + size_out)
    picture = rng.random((size_in, size_in + 3))
    expected = imresize(picture, size_out, size_out + 2)
    resized = resize(torch.from_numpy(picture)[None], size_out, size_out + 2)[0]
    assert resized.shape == (size_out, size_out + 2)
    assert np.abs(resized.numpy() - expected).max() < 1e-12


@pytest.mark.parametrize(("size_in", "size_out"), SIZES)
def test_rows_of_the_matrix_sum_to_one(size_in: int, size_out: int) -> None:
    matrix = resize_matrix(size_in, size_out)
    assert matrix.shape == (size_out, size_in)
    assert np.abs(matrix.sum(axis=1) - 1).max() < 1e-12
    assert not matrix.flags.writeable


def test_kernel_interpolates() -> None:
    assert cubic_kernel(np.array([-2.0, -1.0, 0.0, 1.0, 2.0, 3.0])).tolist() == [0, 0, 1, 0, 0, 0]
    # Keys, 1981, equation 4, at a half: 9/16 and -1/16.
    assert cubic_kernel(np.array([0.5, -0.5, 1.5, -1.5])).tolist() == [0.5625, 0.5625, -0.0625, -0.0625]


def test_border_is_symmetric() -> None:
    picture = torch.rand(1, 3, 16, 20, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    tiled = torch.cat([picture.flip(-1), picture, picture.flip(-1)], dim=-1)
    tiled = torch.cat([tiled.flip(-2), tiled, tiled.flip(-2)], dim=-2)
    assert torch.allclose(downscale(tiled)[..., 4:8, 5:10], downscale(picture), atol=1e-12)
    assert torch.allclose(upscale(tiled)[..., 64:128, 80:160], upscale(picture), atol=1e-12)


def test_mirrored_and_turned_pictures_give_mirrored_and_turned_results() -> None:
    picture = torch.rand(2, 3, 24, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for change in (lambda x: x.flip(-1), lambda x: x.flip(-2), lambda x: x.mT):
        assert torch.allclose(downscale(change(picture)), change(downscale(picture)), atol=1e-12)
        assert torch.allclose(upscale(change(picture)), change(upscale(picture)), atol=1e-12)


def test_downscale_leaves_out_what_the_low_picture_cannot_hold() -> None:
    stripes = torch.tensor([0.0, 1.0] * 16).expand(1, 3, 32, 32)
    # Without antialiasing the finest stripes would turn into a plain black or white picture.
    assert (downscale(stripes) - 0.5).abs().max() < 0.1


def test_gradient_is_the_transposed_resizing() -> None:
    high = torch.rand(1, 1, 8, 12, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(downscale, (high,))
    assert torch.autograd.gradcheck(upscale, (high,))
    downscale(high).sum().backward()
    rows, columns = (torch.from_numpy(resize_matrix(size, size // 4).copy()).sum(0) for size in (8, 12))
    assert high.grad is not None
    assert torch.allclose(high.grad[0, 0], torch.outer(rows, columns), atol=1e-12)


@pytest.mark.parametrize("resample", [downscale, upscale])
def test_validation_before_training_does_not_spoil_the_gradient(resample: Callable[[Tensor], Tensor]) -> None:
    # The cached matrix must not be an inference tensor; this size occurs in no other test.
    with torch.inference_mode():
        resample(torch.rand(1, 3, 36, 44))
    high = torch.rand(1, 3, 36, 44, requires_grad=True)
    resample(high).square().sum().backward()
    assert high.grad is not None
    assert high.grad.abs().sum() > 0


def test_autocast_does_not_coarsen() -> None:
    high = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    with torch.autocast("cpu", torch.bfloat16):
        inside = downscale(high)
    assert inside.dtype == torch.float32
    assert torch.equal(inside, downscale(high))


@pytest.mark.slow
def test_compiles_as_one_graph() -> None:
    high = torch.rand(1, 3, 16, 16, requires_grad=True)
    compiled = torch.compile(lambda batch: downscale(batch).square().mean(), backend="aot_eager", fullgraph=True)
    (gradient,) = torch.autograd.grad(compiled(high), high)
    (expected,) = torch.autograd.grad(downscale(high).square().mean(), high)
    assert torch.allclose(gradient, expected)


@pytest.mark.slow
def test_compiles_for_sizes_that_vary() -> None:
    compiled = torch.compile(lambda batch: resize(batch, batch.shape[-2] // 2, 8), backend="eager", dynamic=True)
    for height in (16, 20, 24):
        high = torch.rand(1, 3, height, 16, generator=torch.Generator().manual_seed(0))
        assert torch.equal(compiled(high), resize(high, height // 2, 8))


def test_sides_must_be_multiples_of_four() -> None:
    with pytest.raises(ValueError, match="18x16 is not a multiple of 4"):
        downscale(torch.zeros(1, 3, 16, 18))


def test_whole_numbers_are_refused() -> None:
    with pytest.raises(TypeError, match=r"not torch\.uint8"):
        resize(torch.zeros(1, 3, 8, 8, dtype=torch.uint8), 2, 2)


def test_rounding_is_half_up_and_clamped() -> None:
    rng = np.random.default_rng(0)
    # Black and white blocks overshoot, so that clamping is needed.
    pictures = (rng.random((4, 4, 5, 3)) < 0.5).repeat(12, 1).repeat(12, 2).astype(np.uint8) * 255
    low = downscale_uint8(pictures)
    for picture, result in zip(pictures, low, strict=True):
        for channel in range(3):
            exact = imresize(picture[..., channel].astype(np.float64), 12, 15)
            assert exact.min() < -1 or exact.max() > 256
            # A value within float64's error of a half may round either way; there are none here.
            assert np.abs(exact % 1 - 0.5).min() > 1e-9
            assert np.array_equal(result[..., channel], np.clip(np.floor(exact + 0.5), 0, 255).astype(np.uint8))


def test_an_exact_half_rounds_up() -> None:
    # Shrinking by 4 has weights that are whole multiples of 2^-12, so some rows of grey levels fall exactly on a half.
    rows = np.random.default_rng(0).integers(0, 256, (50_000, 16))
    values = rows @ resize_matrix(16, 4)[1]
    halves = rows[values % 1 == 0.5]
    assert len(halves) > 5
    pictures = np.broadcast_to(halves[:, None, :, None], (len(halves), 16, 16, 3)).astype(np.uint8)
    expected = np.floor(halves @ resize_matrix(16, 4)[1]) + 1
    assert np.array_equal(downscale_uint8(pictures)[:, 1, 1, 0], expected)


def test_float_and_uint8_paths_agree() -> None:
    rng = np.random.default_rng(1)
    pictures = rng.integers(0, 256, (6, 32, 24, 3)).astype(np.uint8)
    low = downscale_to_grey_levels(to_float(pictures))
    assert low.dtype == torch.float32
    assert np.array_equal(to_uint8(low), downscale_uint8(pictures))
    assert torch.equal((low * 255).round() / 255, low)


def test_read_only_pictures_are_taken() -> None:
    pictures = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3)).astype(np.uint8)
    expected = downscale_uint8(pictures)
    pictures.setflags(write=False)
    assert np.array_equal(downscale_uint8(pictures), expected)


@pytest.fixture(scope="module")
def pairs(shared: Path) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """The 300 official pairs: high (300, 112, 96, 3) and low (300, 28, 24, 3)."""
    high, low = (stack_pictures(list_png(shared / "asc19" / name).values()) for name in ("val_HR", "val_LR"))
    assert low.size == 604_800
    return high, low


@pytest.mark.shared
def test_no_value_of_the_official_pairs_differs(pairs: tuple[NDArray[np.uint8], NDArray[np.uint8]]) -> None:
    high, low = pairs
    assert np.count_nonzero(downscale_uint8(high) != low) == 0
    assert np.count_nonzero(to_uint8(downscale_to_grey_levels(to_float(high))) != low) == 0


@pytest.mark.shared
def test_float32_differs_by_one_level_in_few_values(pairs: tuple[NDArray[np.uint8], NDArray[np.uint8]]) -> None:
    high, low = pairs
    result = to_uint8(downscale_to_grey_levels(to_float(high), torch.float32))
    difference = np.abs(result.astype(int) - low)
    # 9 of 604,800 on an x86 CPU; the bound leaves room for another order of summation.
    assert np.count_nonzero(difference) <= 20
    assert difference.max() <= 1


@pytest.mark.gpu
@pytest.mark.shared
def test_the_official_pairs_on_a_gpu(pairs: tuple[NDArray[np.uint8], NDArray[np.uint8]]) -> None:
    high, low = pairs
    batch = to_float(high).cuda()
    assert np.count_nonzero(to_uint8(downscale_to_grey_levels(batch)) != low) == 0
    assert np.count_nonzero(to_uint8(downscale_to_grey_levels(batch, torch.float32)) != low) <= 20


def test_grey_levels_end_at_black_and_white_where_the_cubic_kernel_overshoots() -> None:
    high = torch.zeros(1, 3, 32, 32)
    high[..., 8:24] = 1.0
    assert downscale(high).max() > 1.01 and downscale(high).min() < -0.01
    low = downscale_to_grey_levels(high)
    assert (float(low.min()), float(low.max())) == (0.0, 1.0)


def test_kernel_by_hand() -> None:
    # Keys' cubics at quarters: 1.5 x^3 - 2.5 x^2 + 1 up to 1, and -0.5 x^3 + 2.5 x^2 - 4 x + 2 from there to 2.
    x = np.array([0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0, 2.5])
    expected = [1.0, 0.8671875, 0.5625, 0.2265625, 0.0, -0.0703125, -0.0625, -0.0234375, 0.0, 0.0]
    assert cubic_kernel(x).tolist() == expected and cubic_kernel(-x).tolist() == expected


def test_matrices_by_hand_and_not_to_be_changed() -> None:
    # Twice as large: every sample lies a quarter from one and three quarters from the next of four.
    near, next_, far, last = 0.8671875, 0.2265625, -0.0703125, -0.0234375
    matrix = resize_matrix(6, 12)
    assert matrix[5].tolist() == pytest.approx([0.0, far, near, next_, last, 0.0])
    assert matrix[6].tolist() == pytest.approx([0.0, last, next_, near, far, 0.0])
    # At the border sample -1 is sample 0 and sample -2 is sample 1.
    assert matrix[0].tolist() == pytest.approx([near + next_, far + last, 0.0, 0.0, 0.0, 0.0])
    # Half as large: the kernel is stretched to twice its width and halved in height.
    halves = [0.5 * value for value in (last, far, next_, near, near, next_, far, last)]
    assert resize_matrix(16, 8)[4].tolist() == pytest.approx([0.0] * 5 + halves + [0.0] * 3)
    assert np.array_equal(resize_matrix(7, 7), np.eye(7))
    with pytest.raises(ValueError, match="read-only"):
        matrix[0, 0] = 1.0


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_matrices_are_asked_for_the_batchs_dtype_and_device(
    dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[object] = []
    plain = module._matrix
    monkeypatch.setattr(module, "_matrix", lambda *given: asked.append(given) or plain(*given))
    result = resize(torch.zeros(2, 3, 8, 12, dtype=dtype), 5, 7)
    assert result.shape == (2, 3, 5, 7) and result.dtype == dtype
    assert asked == [(8, 5, dtype, torch.device("cpu")), (12, 7, dtype, torch.device("cpu"))]
    assert upscale(torch.zeros(1, 3, 2, 5)).shape == (1, 3, 8, 20)
    assert downscale(torch.zeros(1, 3, 8, 20)).shape == (1, 3, 2, 5)


def test_either_cache_is_asked_for_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []

    def cache(*given: object) -> str:
        asked.append(given)
        return "matrix"

    monkeypatch.setattr(module, "_cached_matrix", cache)
    monkeypatch.setattr(module, "_untraced_matrix", lambda: lambda *given: cache("untraced", *given))
    given = (4, 8, torch.float32, torch.device("meta"))
    monkeypatch.setitem(sys.modules, "torch._dynamo", sys)
    assert module._matrix(*given) == "matrix"
    monkeypatch.delitem(sys.modules, "torch._dynamo")
    assert module._matrix(*given) == "matrix"
    assert asked == [("untraced", *given), given]
