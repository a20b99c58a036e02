"""Several prepared datasets as one: which pictures come, how often, and what does not go together."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from facesr.build import build
from facesr.config import AugmentationSettings, DataSettings
from facesr.data.feed.loader import Feed
from facesr.data.feed.residency import on_device
from facesr.data.packed.dataset_format import Row, SetPlan, write_dataset
from facesr.data.packed.mixture import JoinedPictures, weights_of_shares
from facesr.data.packed.reader import prepared
from facesr.errors import ConfigError, DataError
from facesr.places import Place

LANDMARKS = "33 50 63 50 48 70 36 90 60 90"
STILL = AugmentationSettings(
    flip=0.0, warp=0.0, roll_degrees=0.0, scale=0.0, shift_px=0.0, brightness=0.0, contrast=0.0, saturation=0.0,
    greyscale=0.0, turn=0.0,
)  # fmt: skip


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., str]:
    """Writes a set whose pictures are flat, of the values asked for, and returns its folder."""

    def written(name: str, *values: int, side: int = 8, person: str = "", landmarks: str = "") -> str:
        images = np.broadcast_to(np.array(values, np.uint8)[:, None, None, None], (len(values), side, side, 3))
        sources = [f"{name}{value}" for value in values]
        plan = SetPlan(side, side, 0, sources, [person] * len(values), {"crop": "as-is"}, 1)
        (tmp_path / name).mkdir()
        write_dataset(tmp_path / name, plan, np.ascontiguousarray(images), [Row("", landmarks=landmarks)] * len(values))
        return str(tmp_path / name)

    return written


def test_pictures_of_all_sets_lie_behind_each_other() -> None:
    parts = [np.arange(n * 12, dtype=np.uint8).reshape(n, 2, 2, 3) + 100 * k for k, n in enumerate((3, 1, 4))]
    joined, oracle = JoinedPictures(parts), np.concatenate(parts)
    assert joined.shape == oracle.shape and joined.nbytes == oracle.nbytes and len(joined) == 8
    assert all(np.array_equal(joined[place], oracle[place]) for place in range(8))
    assert np.array_equal(joined[np.int64(3)], oracle[3])
    for first in range(9):
        for last in range(9):
            assert np.array_equal(joined[first:last], oracle[first:last])
    assert np.array_equal(on_device(joined, torch.device("cpu")), oracle)  # type: ignore[arg-type]
    for place in (8, -1):
        with pytest.raises(IndexError):
            joined[place]


def test_shares_decide_what_is_shown(write: Callable[..., str]) -> None:
    folders = [write("few", 1, 2), write("many", *range(10, 18))]
    faces = prepared(folders, shares=[0.75, 0.25])
    assert faces.sources[:3] == ("few1", "few2", "many10") and faces.weights is not None
    # Ten pictures an epoch: 7.5 of the two, 2.5 of the eight.
    assert faces.weights == pytest.approx([3.75] * 2 + [0.3125] * 8)
    shown = counted(faces, 4000)
    assert shown[:10].sum() == pytest.approx(3000, abs=20) and shown.sum() == 4000
    assert shown[1] == pytest.approx(1500, abs=20) and shown[10:18].min() > 90
    assert prepared(folders).weights is None
    even = counted(prepared(folders), 1000)
    assert even[[1, 2, *range(10, 18)]].tolist() == [100] * 10


def counted(faces: object, num_images: int) -> NDArray[np.int64]:
    """How often pictures of each value come in a feed."""
    settings = DataSettings({}, {}, "host", STILL)
    feed = Feed(faces, settings, seed=1, batch_size=10, rank=0, world_size=1, device=torch.device("cpu"))  # type: ignore[arg-type]
    batches = feed.batches(0)
    values = torch.cat([next(batches)[:, 0, 0, 0] for _ in range(num_images // 10)])
    return np.bincount((values * 255).round().int().numpy(), minlength=20)


def test_poses_keep_the_shares_of_faces_without_landmarks(write: Callable[..., str]) -> None:
    frontal, turned = LANDMARKS, LANDMARKS.replace("48 70", "60 70")
    folders = [write("a", 1, 2, landmarks=frontal), write("b", 3, landmarks=turned), write("c", *range(10, 17))]
    faces = prepared(folders, shares=[0.2, 0.2, 0.6])
    settings = DataSettings({}, {}, "host", STILL, pose_shares=[0.9, 0.0, 0.0, 0.1])
    feed = Feed(faces, settings, seed=1, batch_size=10, rank=0, world_size=1, device=torch.device("cpu"))
    drawn = np.bincount(feed.order.at(0, 10_000), minlength=10) / 10_000
    # 40 % have landmarks: nine tenths of that frontal, a tenth turned.
    assert drawn[:2].sum() == pytest.approx(0.36, abs=0.004) and drawn[2] == pytest.approx(0.04, abs=0.002)
    assert drawn[3:].sum() == pytest.approx(0.6, abs=0.004)


def test_persons_of_different_sets_are_different(write: Callable[..., str]) -> None:
    one, other, unknown = write("a", 1, 2, person="Ann"), write("b", 3, person="Ann"), write("c", 4)
    assert prepared([one, unknown, other]).identity.tolist() == [0, 0, -1, 1]


def test_a_limit_is_that_of_each_set(write: Callable[..., str]) -> None:
    assert prepared([write("a", 1, 2, 3), write("b", 4)], max_faces=2).sources == ("a1", "a2", "b4")


def test_a_configuration_names_one_folder_or_several(write: Callable[..., str]) -> None:
    node = {"_target_": "facesr.data.packed.reader.prepared", "max_faces": None, "shares": [0.5, 0.5]}
    folders = [write("a", 1), write("b", 2)]
    assert len(build({**node, "path": folders}, Place.DATA, key="data.train")) == 2
    assert len(build({**node, "path": folders[0], "shares": None}, Place.DATA, key="data.train")) == 1


@pytest.mark.parametrize("shares", [[0.5], [0.5, 0.6], [-0.5, 1.5], [0.2, 0.3, 0.5]])
def test_shares_that_do_not_fit_are_refused(write: Callable[..., str], shares: list[float]) -> None:
    with pytest.raises(ConfigError, match=r"data\.train\.shares=.* must be 2 numbers from 0 that add up to 1"):
        prepared([write("a", 1), write("b", 2)], shares=shares)


def test_shares_of_a_single_folder_are_refused_too(write: Callable[..., str]) -> None:
    with pytest.raises(ConfigError, match="must be 1 numbers"):
        prepared(write("a", 1), shares=[0.5, 0.5])


def test_sets_of_different_size_do_not_go_together(write: Callable[..., str]) -> None:
    with pytest.raises(DataError, match=r"b \(12x12, margin 0\) and .*a \(8x8, margin 0\) differ in size"):
        prepared([write("a", 1), write("b", 2, side=12)])
    with pytest.raises(ConfigError, match="names no folder"):
        prepared([])


def test_rounded_thirds_are_taken() -> None:
    weights = weights_of_shares([1, 1, 2], [0.333, 0.333, 0.333], "shares")
    assert weights == pytest.approx([4 / 3, 4 / 3, 2 / 3, 2 / 3])
