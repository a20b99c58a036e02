"""Order, augmentation and sharing of the training faces."""

import itertools
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from facesr.config import AugmentationSettings, DataSettings
from facesr.data.feed.augment import augment, draw
from facesr.data.feed.loader import Feed
from facesr.data.feed.order import Order
from facesr.errors import ConfigError, DataError

PLAIN = AugmentationSettings(
    flip=0, warp=0, roll_degrees=0, scale=0, shift_px=0, brightness=0, contrast=0, saturation=0, greyscale=0, turn=0
)
FULL = AugmentationSettings(
    flip=0.5, warp=0.5, roll_degrees=10, scale=0.05, shift_px=3, brightness=0.03, contrast=0.1, saturation=0.1,
    greyscale=0.2, turn=0,
)  # fmt: skip
# Source: sums over draw(FULL, 64, seed=3, position=128) of the first version, in the order of its fields.
DRAWN_BEFORE = (33.0, 32.0, 0.05868674, 63.98765379, 5.14293017, 0.03984735, 63.50761479, 65.46106035, 14.0)


def some_faces(count: int = 10, margin: int = 0) -> SimpleNamespace:
    images = np.random.default_rng(0).integers(0, 256, (count, 16 + 2 * margin, 12 + 2 * margin, 3), np.uint8)

    class Faces(SimpleNamespace):
        def __len__(self) -> int:
            return count

    return Faces(images=images, margin=margin, identity=np.full(count, -1), weights=None)


def feed(settings: AugmentationSettings, rank: int = 0, world_size: int = 1, **changes: object) -> Feed:
    options: dict[str, object] = {"seed": 3, "batch_size": 4, "device": torch.device("cpu"), **changes}
    data = DataSettings(train={}, validation={}, residency="auto", augmentation=settings)
    return Feed(some_faces(), data, rank=rank, world_size=world_size, **options)  # type: ignore[arg-type]


def test_batches_are_a_function_of_seed_and_clock() -> None:
    whole = list(itertools.islice(feed(FULL).batches(0), 4))
    resumed = list(itertools.islice(feed(FULL).batches(8), 2))
    assert all(torch.equal(a, b) for a, b in zip(whole[2:], resumed, strict=True))
    assert not torch.equal(whole[0], next(feed(FULL, seed=4).batches(0)))


def test_ranks_share_one_global_batch() -> None:
    alone = next(feed(FULL).batches(4))
    parts = [next(feed(FULL, rank, 2).batches(4)) for rank in range(2)]
    assert torch.equal(alone, torch.cat(parts))


def test_residency_changes_nothing() -> None:
    resident = feed(FULL)
    resident.settings = replace(resident.settings, residency="device")
    on_device = Feed(
        resident.faces, resident.settings, seed=3, batch_size=4, rank=0, world_size=1, device=torch.device("cpu")
    )
    assert on_device.residency == "device"
    assert torch.equal(next(on_device.batches(0)), next(feed(FULL).batches(0)))


def test_plain_settings_give_the_pictures_themselves() -> None:
    one = feed(PLAIN)
    expected = one.faces.images[Order(10, seed=3).at(0, 4)]
    batch = next(one.batches(0))
    assert np.array_equal((batch * 255).round().byte().permute(0, 2, 3, 1).numpy(), expected)


def test_augmented_faces_are_whole_grey_levels() -> None:
    levels = next(feed(FULL).batches(0)) * 255
    assert (levels - levels.round()).abs().max() < 1e-3 and levels.min() >= 0 and levels.max() <= 255


def test_a_whole_shift_moves_pixels_unchanged_and_uses_the_margin() -> None:
    faces = some_faces(margin=3).images
    settings = replace(PLAIN, shift_px=3)
    draws = draw(settings, 10, seed=0, position=0)
    moved = augment(torch.from_numpy(faces).permute(0, 3, 1, 2).float() / 255, draws, margin=3)
    assert np.abs(draws.shift).max() > 1
    for face, picture, (dx, dy) in zip(faces, moved, draws.shift.astype(int), strict=True):
        expected = face[3 - dy : 19 - dy, 3 - dx : 15 - dx]
        assert np.array_equal((picture * 255).round().byte().permute(1, 2, 0).numpy(), expected)


def test_a_roll_turns_the_face_about_its_centre() -> None:
    picture = torch.zeros(1, 3, 33, 33)
    picture[..., 16, 26:29] = 1.0  # to the right of the centre
    draws = draw(replace(PLAIN, warp=1.0), 1, seed=0, position=0)
    quarter = replace(draws, roll=np.full(1, np.pi / 2, np.float32), scale=np.ones(1, np.float32))
    turned = augment(picture, quarter, margin=0)[0, 0]
    row, column = divmod(int(turned.argmax()), 33)
    assert abs(column - 16) <= 1 and abs(abs(row - 16) - 11) <= 1


def test_greyscale_share_and_flips() -> None:
    draws = draw(replace(FULL, flip=0.5, greyscale=0.09), 4000, seed=0, position=0)
    assert abs(draws.grey.mean() - 0.09) < 0.02 and abs(draws.flip.mean() - 0.5) < 0.03
    grey = augment(torch.rand(4000, 3, 4, 4), replace(draws, warp=np.zeros(4000, bool)), margin=0)[draws.grey]
    assert (grey[:, 0] - grey[:, 1]).abs().max() < 1.5 / 255


def test_turns_change_no_other_draw() -> None:
    plain, turning = (draw(replace(FULL, turn=share), 500, seed=1, position=8) for share in (0.0, 0.75))
    assert not plain.quarters.any() and all(np.mean(turning.quarters == number) > 0.2 for number in range(4))
    for name in vars(plain).keys() - {"quarters"}:
        assert np.array_equal(getattr(plain, name), getattr(turning, name)), name


def test_draws_are_those_of_earlier_versions() -> None:
    # A run that was begun before turns were known goes on as it would have: sums of the first version's draws.
    draws = draw(FULL, 64, seed=3, position=128)
    found = [float(np.sum(value, dtype=np.float64)) for name, value in vars(draws).items() if name != "quarters"]
    np.testing.assert_allclose(found[: len(DRAWN_BEFORE)], DRAWN_BEFORE, rtol=1e-5)


def test_a_quarter_turn_moves_pixels_unchanged_and_takes_the_margin_along() -> None:
    faces = np.random.default_rng(0).integers(0, 256, (200, 10, 10, 3), np.uint8)
    draws = draw(replace(PLAIN, turn=0.75), 200, seed=0, position=0)
    turned = augment(torch.from_numpy(faces).permute(0, 3, 1, 2).float() / 255, draws, margin=1)
    assert set(draws.quarters) == {0, 1, 2, 3}
    for face, picture, number in zip(faces, turned, draws.quarters, strict=True):
        expected = np.rot90(face, number)[1:9, 1:9]
        assert np.array_equal((picture * 255).round().byte().permute(1, 2, 0).numpy(), expected)


def test_turning_faces_that_are_not_square_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"turn=0\.5 turns square pictures only.* 12x16 ones") as caught:
        feed(replace(PLAIN, turn=0.5))
    assert "\n" not in str(caught.value)


def test_too_few_faces_or_uneven_ranks_are_refused() -> None:
    with pytest.raises(DataError, match="10 faces, fewer than batch_size=11"):
        feed(PLAIN, batch_size=11)
    with pytest.raises(ConfigError, match="does not divide by 3 ranks"):
        feed(PLAIN, world_size=3)


EVERYTHING = replace(FULL, warp=1, hard=1.0, hard_light=0.3, hard_saturation=3.0, hard_noise=0.08)


def test_augmentation_makes_nothing_on_another_device_than_the_faces(monkeypatch: pytest.MonkeyPatch) -> None:
    # Tensors without values, which know their device: a machine without a GPU sees where one would be refused.
    with FakeTensorMode(allow_non_fake_inputs=True) as without_values:
        monkeypatch.setattr(torch, "from_numpy", lambda array: without_values.from_tensor(torch.as_tensor(array)))
        faces = torch.empty(8, 3, 16, 12, device="cuda")
        changed = augment(faces, draw(EVERYTHING, 8, seed=1, position=0), margin=0)
    assert changed.device.type == "cuda" and changed.shape == faces.shape


@pytest.mark.gpu
@pytest.mark.parametrize("settings", [PLAIN, replace(EVERYTHING, warp=0.5)])
def test_the_gpu_sees_the_same_faces(settings: AugmentationSettings) -> None:
    # A GPU multiplies by the reciprocal of 255 where a CPU divides, and its sines differ by a rounding.
    there = (next(feed(settings, device=torch.device("cuda")).batches(0)).cpu() * 255).round()
    difference = (there - (next(feed(settings).batches(0)) * 255).round()).abs()
    assert difference.max() <= (1 if settings.warp else 0) and difference.mean() < 0.01
