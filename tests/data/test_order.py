"""Which faces come when, and how often each pose."""

import itertools
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from facesr.config import AugmentationSettings, DataSettings
from facesr.data.feed.loader import Feed
from facesr.data.feed.order import Order, pose_weights, yaw_of
from facesr.errors import ConfigError, DataError

SHARES = [0.4, 0.2, 0.2, 0.2]


def faces_turned(*noses: float) -> NDArray[np.float32]:
    """Landmarks (N, 5, 2) of faces with the eyes 30 apart and the nose that far from their middle, in eye distances."""
    points = np.zeros((len(noses), 5, 2), np.float32)
    points[:, 0], points[:, 1] = (33, 50), (63, 50)
    points[:, 2] = [(48 + 30 * nose, 70) for nose in noses]
    return points


def rolled(points: NDArray[np.float32], degrees: float) -> NDArray[np.float32]:
    angle = np.radians(degrees)
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    return (points @ turn).astype(np.float32)


def test_an_epoch_shows_every_face_once() -> None:
    order = Order(10, seed=1)
    assert sorted(order.at(0, 10)) == list(range(10))
    assert sorted(order.at(10, 10)) == list(range(10))
    assert list(order.at(0, 10)) != list(order.at(10, 10))
    assert list(order.at(7, 6)) == list(order.at(0, 20))[7:13]
    assert list(order.at(0, 10)) != list(Order(10, seed=2).at(0, 10))


def test_the_order_hangs_on_the_clock_alone() -> None:
    used, fresh = Order(10, seed=1), Order(10, seed=1)
    used.at(0, 55)
    assert list(used.at(25, 10)) == list(fresh.at(25, 10))


def test_yaw_is_the_same_for_a_rolled_head_and_for_left_and_right() -> None:
    landmarks = faces_turned(0.0, 0.3, -0.3)
    np.testing.assert_allclose(yaw_of(landmarks), [0.0, 0.3, 0.3], atol=1e-6)
    np.testing.assert_allclose(yaw_of(rolled(landmarks, 25)), [0.0, 0.3, 0.3], atol=1e-5)
    assert np.isnan(yaw_of(np.full((1, 5, 2), np.nan, np.float32))).all()


def test_each_band_of_yaw_gets_its_share() -> None:
    landmarks = faces_turned(*[0.0] * 70, *[0.15] * 20, *[0.3] * 6, *[0.5] * 4)
    order = Order(100, seed=5, weights=pose_weights(landmarks, SHARES))
    for epoch in range(3):
        yaw = yaw_of(landmarks)[order.at(100 * epoch, 100)]
        counts = np.histogram(yaw, [0, 0.1, 0.2, 0.35, 9])[0]
        np.testing.assert_allclose(counts, [40, 20, 20, 20], atol=1)
    assert len(set(order.at(0, 1000))) == 100, "over some epochs every face is shown"
    profiles = np.bincount(order.at(0, 100), minlength=100)[96:]
    assert profiles.min() >= 5 and profiles.max() <= 5, "4 faces share 20 places evenly"


def test_faces_without_landmarks_keep_their_share() -> None:
    landmarks = faces_turned(*[0.0] * 7, 0.15, 0.3, 0.5)
    landmarks = np.concatenate([landmarks, np.full((10, 5, 2), np.nan, np.float32)])
    weights = pose_weights(landmarks, SHARES)
    assert weights.sum() == pytest.approx(20)
    np.testing.assert_array_equal(weights[10:], 1.0)
    np.testing.assert_allclose(weights[:7], 4 / 7)


@pytest.mark.parametrize("shares", [[0.5, 0.5], [0.5, 0.5, 0.5, -0.5], [0.1, 0.1, 0.1, 0.1]])
def test_shares_that_cannot_be(shares: list[float]) -> None:
    with pytest.raises(ConfigError, match=r"data\.pose_shares=.*4 numbers from 0 that add up to 1"):
        pose_weights(faces_turned(0.0, 0.15, 0.3, 0.5), shares)


def test_a_band_without_faces_and_a_set_without_landmarks() -> None:
    with pytest.raises(DataError, match="band 4 of yaw, and the training set has none"):
        pose_weights(faces_turned(0.0, 0.15, 0.3), SHARES)
    assert pose_weights(faces_turned(0.0, 0.15, 0.3), [0.5, 0.3, 0.2, 0.0]).sum() == pytest.approx(3)
    with pytest.raises(DataError, match="needs landmarks"):
        pose_weights(np.full((4, 5, 2), np.nan, np.float32), SHARES)


def test_a_feed_shows_the_poses_that_are_asked_for() -> None:
    """Ranks take parts of one batch, and landmarks belong to the faces that are shown."""

    class Faces(SimpleNamespace):
        def __len__(self) -> int:
            return 8

    images = np.arange(8, dtype=np.uint8)[:, None, None, None] + np.zeros((8, 16, 12, 3), np.uint8)
    faces = Faces(images=images, margin=0, landmarks=faces_turned(*[0.0] * 5, 0.15, 0.3, 0.5), weights=None)
    plain = AugmentationSettings(
        flip=0, warp=0, roll_degrees=0, scale=0, shift_px=0, brightness=0, contrast=0, saturation=0, greyscale=0, turn=0
    )
    data = DataSettings(train={}, validation={}, residency="auto", augmentation=plain, pose_shares=[0, 0, 0.5, 0.5])

    def shown(rank: int, world_size: int) -> list[int]:
        feed = Feed(faces, data, seed=0, batch_size=4, rank=rank, world_size=world_size, device=torch.device("cpu"))  # type: ignore[arg-type]
        batches = list(itertools.islice(feed.batches(0), 2))
        moved = feed.landmarks(0)
        np.testing.assert_allclose(yaw_of(moved.numpy()) > 0.4, (batches[0][:, 0, 0, 0] * 255).round().numpy() == 7)
        return [round(float(face[0, 0, 0]) * 255) for batch in batches for face in batch]

    alone = shown(0, 1)
    assert sorted(alone) == [6, 6, 6, 6, 7, 7, 7, 7]
    parts = [shown(rank, 2) for rank in range(2)]
    assert alone == parts[0][:2] + parts[1][:2] + parts[0][2:] + parts[1][2:]
