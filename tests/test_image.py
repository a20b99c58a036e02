"""Batches of floats: every grey level survives, rounding happens once, what is not finite becomes no pixel."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from facesr.errors import ImageError
from facesr.image import luma, round_to_grey_levels, to_float, to_uint8


def random_picture(height: int = 7, width: int = 5, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3)).astype(np.uint8)


def test_every_grey_level_survives_the_way_through_floats() -> None:
    levels = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1).repeat(3, 3)
    batch = to_float(levels)
    assert batch.shape == (1, 3, 16, 16)
    assert batch.dtype == torch.float32
    assert (batch.min().item(), batch.max().item()) == (0.0, 1.0)
    assert np.array_equal(to_uint8(batch), levels)
    assert to_uint8(batch).dtype == np.uint8
    assert torch.equal(round_to_grey_levels(batch), batch)


def test_axes_and_channels_keep_their_places() -> None:
    pictures = np.stack([random_picture(seed=seed) for seed in range(2)])
    batch = to_float(pictures)
    assert batch.shape == (2, 3, 7, 5)
    assert batch[1, 2, 6, 4].item() == pytest.approx(pictures[1, 6, 4, 2] / 255)
    assert torch.equal(to_float(torch.from_numpy(pictures)), batch)
    assert np.array_equal(to_uint8(batch), pictures)


def test_read_only_pictures_are_taken_and_not_shared() -> None:
    pictures = random_picture()[None]
    expected = to_float(pictures.copy())
    pictures.setflags(write=False)
    batch = to_float(pictures)
    batch.zero_()
    assert torch.equal(to_float(pictures), expected)


def test_rounds_half_up_and_clamps() -> None:
    # 0.5 and 2.5 grey levels: rounding half to even would give 0 and 2.
    values = torch.tensor([-3.0, -0.001, 0.5 / 255, 2.5 / 255, 2.49 / 255, 254.6 / 255, 1.001, 7.0])
    batch = values.double().reshape(1, 1, 1, 8).expand(1, 3, 1, 8)
    expected = [0, 0, 1, 3, 2, 255, 255, 255]
    assert to_uint8(batch)[0, 0, :, 0].tolist() == expected
    rounded = round_to_grey_levels(batch)
    assert rounded.dtype == torch.float32
    assert (rounded[0, 0, 0] * 255).round().tolist() == expected
    assert to_uint8(rounded)[0, 0, :, 0].tolist() == expected


def test_half_precision_is_widened_before_it_is_rounded() -> None:
    levels = torch.arange(256.0).reshape(1, 1, 16, 16).expand(1, 3, 16, 16)
    batch = (levels / 255).half()
    # float16 has a spacing of 2^-11 below 1, an eighth of a grey level.
    assert np.array_equal(to_uint8(batch)[0, :, :, 0], levels[0, 0].numpy().astype(np.uint8))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_values_that_are_not_finite_never_become_black(value: float) -> None:
    batch = torch.full((1, 3, 2, 2), 0.5)
    batch[0, 1, 0, 1] = value
    with pytest.raises(ImageError, match="not finite; use an earlier snapshot"):
        to_uint8(batch)


def test_result_is_detached_and_contiguous() -> None:
    batch = torch.rand(2, 3, 4, 5, requires_grad=True)
    result = to_uint8(batch)
    assert result.flags.c_contiguous
    assert result.flags.writeable


@pytest.mark.parametrize(
    ("given", "taken"),
    [(torch.float16, torch.float32), (torch.float32, torch.float32), (torch.float64, torch.float64)],
)
def test_luma_weighs_the_channels_as_rec_601_in_float32_at_least(given: torch.dtype, taken: torch.dtype) -> None:
    batch = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [1.0, 0.5, 0.25]], dtype=given)
    grey = luma(batch[:, :, None, None].expand(4, 3, 2, 5))
    assert grey.shape == (4, 1, 2, 5)
    assert grey.dtype == taken
    expected = [0.299, 0.587, 0.114, 0.299 + 0.587 / 2 + 0.114 / 4]
    assert grey[:, 0, 1, 4].tolist() == pytest.approx(expected, abs=1e-6)


def test_luma_is_computed_where_the_pictures_are() -> None:
    # `meta` stands for an accelerator: weights that stayed on the CPU could not be multiplied there.
    found = luma(torch.zeros(2, 3, 4, 5, device="meta"))
    assert found.is_meta and found.shape == (2, 1, 4, 5)
