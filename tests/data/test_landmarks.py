"""Landmarks of prepared datasets, and where augmentation takes them: a dot drawn at each one is found there again."""

import csv
import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from facesr.config import AugmentationSettings, DataSettings
from facesr.data.feed.augment import MIRRORED_LANDMARKS, augment, draw, move_landmarks
from facesr.data.feed.loader import Feed
from facesr.data.feed.order import Order
from facesr.data.packed.reader import PackedDataset, prepared
from facesr.data.synthetic.face.render import draw as draw_face
from facesr.data.synthetic.face.render import draw_identity, draw_picture, synthetic_cache
from facesr.errors import DataError
from facesr.photos.trained import ASC19

PLAIN = AugmentationSettings(
    flip=0, warp=0, roll_degrees=0, scale=0, shift_px=0, brightness=0, contrast=0, saturation=0, greyscale=0, turn=0
)
MARGIN = 8
LANDMARKS = np.array([[18, 30], [45, 28], [33, 41], [21, 54], [43, 52]], np.float32)


def dotted(landmarks: NDArray[np.float32], height: int, width: int) -> torch.Tensor:
    """Returns pictures (N, 1, height, width) of the margin's size, one landmark each, a soft white dot on black."""
    y, x = np.mgrid[:height, :width].astype(np.float32) - MARGIN
    distance = (x - landmarks[:, 0, None, None]) ** 2 + (y - landmarks[:, 1, None, None]) ** 2
    return torch.from_numpy(np.exp(-distance / (2 * 1.5**2)).astype(np.float32))[:, None]


def centres_of(pictures: torch.Tensor) -> NDArray[np.float64]:
    """Returns the centre of mass (N, 2: x, y) of pictures (N, 3, H, W)."""
    mass = pictures[:, 0].double()
    y = torch.arange(mass.shape[1], dtype=torch.float64)[:, None]
    x = torch.arange(mass.shape[2], dtype=torch.float64)
    total = mass.sum((1, 2))
    return torch.stack([(mass * x).sum((1, 2)) / total, (mass * y).sum((1, 2)) / total], 1).numpy()


@pytest.mark.parametrize(
    ("changes", "width", "tolerance_px"),
    [
        ({}, 64, 0.02),
        ({"flip": 1.0}, 64, 0.02),
        ({"shift_px": 5}, 64, 0.02),
        ({"flip": 0.5, "shift_px": 5}, 64, 0.02),
        ({"warp": 1.0, "roll_degrees": 8, "scale": 0.06}, 64, 0.1),
        ({"warp": 0.5, "roll_degrees": 8, "scale": 0.06, "shift_px": 4, "flip": 0.5}, 64, 0.1),
        ({"turn": 0.75, "shift_px": 4, "flip": 0.5}, 80, 0.02),
    ],
)
def test_a_dot_is_found_where_its_landmark_went(changes: dict[str, float], width: int, tolerance_px: float) -> None:
    height, num_faces = 80, 24
    draws = draw(replace(PLAIN, **changes), num_faces, seed=2, position=64)
    moved = move_landmarks(np.repeat(LANDMARKS[None], num_faces, 0), draws, height, width)
    # Each landmark of the changed picture is the dot of the one that it was before the mirror.
    for number, before in enumerate(LANDMARKS):
        dots = dotted(np.repeat(before[None], num_faces, 0), height + 2 * MARGIN, width + 2 * MARGIN)
        found = centres_of(augment(dots.expand(-1, 3, -1, -1), draws, MARGIN))
        now = np.where(draws.flip, MIRRORED_LANDMARKS[number], number)
        expected = moved[np.arange(num_faces), now]
        assert np.abs(found - expected).max() < tolerance_px


def test_left_stays_left_in_a_mirrored_picture_and_unknown_stays_unknown() -> None:
    draws = draw(replace(PLAIN, flip=1.0), 2, seed=0, position=0)
    both = np.stack([LANDMARKS, np.full((5, 2), np.nan, np.float32)])
    moved = move_landmarks(both, draws, 80, 64)
    assert moved.dtype == np.float32 and np.isnan(moved[1]).all()
    assert moved[0, 0, 0] < moved[0, 1, 0] and moved[0, 3, 0] < moved[0, 4, 0]
    np.testing.assert_array_equal(moved[0, 0], [63 - 45, 28])


def some_faces(count: int = 10) -> SimpleNamespace:
    shape = (count, 16 + 2 * MARGIN, 12 + 2 * MARGIN, 3)

    class Faces(SimpleNamespace):
        def __len__(self) -> int:
            return count

    random = np.random.default_rng(0)
    landmarks = random.uniform(0, 12, (count, 5, 2)).astype(np.float32)
    images = random.integers(0, 256, shape, np.uint8)
    return Faces(images=images, margin=MARGIN, identity=np.full(count, -1), landmarks=landmarks, weights=None)


def feed(settings: AugmentationSettings, rank: int = 0, world_size: int = 1) -> Feed:
    data = DataSettings(train={}, validation={}, residency="auto", augmentation=settings)
    options = {"seed": 3, "batch_size": 4, "rank": rank, "world_size": world_size, "device": torch.device("cpu")}
    return Feed(some_faces(), data, **options)  # type: ignore[arg-type]


def test_the_feed_gives_the_landmarks_of_its_batch() -> None:
    plain = feed(PLAIN)
    expected = plain.faces.landmarks[Order(10, seed=3).at(8, 4)]
    assert np.allclose(plain.landmarks(8).numpy(), expected, atol=1e-5)
    moving = replace(PLAIN, flip=0.5, warp=0.5, roll_degrees=8, shift_px=3)
    alone = feed(moving).landmarks(8)
    assert alone.shape == (4, 5, 2) and alone.dtype == torch.float32
    assert not torch.allclose(alone, plain.landmarks(8))
    assert torch.equal(alone, torch.cat([feed(moving, rank, 2).landmarks(8) for rank in range(2)]))


def test_asking_for_landmarks_changes_no_picture() -> None:
    moving = replace(PLAIN, flip=0.5, warp=0.5, roll_degrees=8, shift_px=3, contrast=0.1)
    asked, silent = feed(moving), feed(moving)
    stream, other = asked.batches(0), silent.batches(0)
    for clock in (0, 4, 8):
        assert torch.equal(next(stream), next(other))
        asked.landmarks(clock)


def test_built_in_faces_know_their_landmarks(tmp_path: Path) -> None:
    faces = PackedDataset.open(synthetic_cache(5, 1, 4, 0, tmp_path))
    assert faces.framing == ASC19
    assert faces.landmarks.shape == (5, 5, 2) and np.isfinite(faces.landmarks).all()
    expected = draw_face(draw_identity(1, 1), draw_picture(1, 1, 0))[1]
    np.testing.assert_allclose(faces.landmarks[4], expected, atol=0.006)
    # Eyes above the mouth, left ones to the left.
    assert (faces.landmarks[:, 0, 0] < faces.landmarks[:, 1, 0]).all()
    assert (faces.landmarks[:, :2, 1].max(1) < faces.landmarks[:, 3:, 1].min(1)).all()


def write_set(folder: Path, columns: list[str], rows: list[list[str]]) -> None:
    folder.mkdir()
    np.save(folder / "images.npy", np.zeros((len(rows), 8, 8, 3), np.uint8))
    with (folder / "index.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([columns, *rows])
    facts = {"format": 1, "width": 8, "height": 8, "count": len(rows), "margin": 0}
    (folder / "set.json").write_text(json.dumps(facts), encoding="utf-8")


def test_landmarks_are_unknown_where_a_set_has_none(tmp_path: Path) -> None:
    columns = ["source", "identity", "landmarks"]
    write_set(tmp_path / "some", columns, [["a.png", "", "0 1 2 3 4 5 6 7 8 9"], ["b.png", "", ""]])
    found = prepared(str(tmp_path / "some"))
    np.testing.assert_array_equal(found.landmarks[0], np.arange(10).reshape(5, 2))
    assert np.isnan(found.landmarks[1]).all()
    assert len(prepared(str(tmp_path / "some"), max_faces=1).landmarks) == 1
    write_set(tmp_path / "old", columns[:2], [["a.png", ""]])
    assert np.isnan(prepared(str(tmp_path / "old")).landmarks).all()


@pytest.mark.parametrize("text", ["1 2 3", "1 2 3 4 5 6 7 8 9 x"])
def test_malformed_landmarks_are_one_sentence(tmp_path: Path, text: str) -> None:
    write_set(tmp_path / "bad", ["source", "identity", "landmarks"], [["a.png", "", text]])
    with pytest.raises(DataError, match="damaged prepared dataset") as caught:
        prepared(str(tmp_path / "bad"))
    assert "\n" not in str(caught.value)
