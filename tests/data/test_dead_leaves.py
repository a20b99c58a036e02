"""Drawn general pictures: a function of their numbers, alike at every scale, and cached."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from facesr.build import build
from facesr.data.packed.reader import PackedDataset, dead_leaves_pairs
from facesr.data.synthetic import dead_leaves
from facesr.data.synthetic.dead_leaves import dead_leaves_cache, draw, render_pictures
from facesr.data.synthetic.leaf import World, outline, surface
from facesr.errors import ConfigError, DataError
from facesr.image import to_float
from facesr.photos.trained import TrainedFraming
from facesr.places import Place
from facesr.resample import downscale_uint8, upscale

SEED = 7


def test_a_picture_is_a_function_of_seed_number_and_size() -> None:
    pictures = render_pictures(4, 40, 24, SEED, first=3)
    assert pictures.shape == (4, 24, 40, 3) and pictures.dtype == np.uint8
    assert np.array_equal(pictures[2], draw(5, 40, 24, SEED))
    different = [draw(5, 40, 24, SEED + 1), draw(6, 40, 24, SEED), draw(5, 48, 24, SEED)[:, :40]]
    assert not any(np.array_equal(pictures[2], other) for other in different)


@pytest.mark.parametrize("numbers", [(-1, 16, 16, 0, 0), (1, 7, 16, 0, 0), (1, 16, 16, -1, 0), (1, 16, 16, 0, -1)])
def test_numbers_out_of_range_are_refused(numbers: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="at least"):
        render_pictures(*numbers)


@pytest.fixture(scope="module")
def some() -> np.ndarray:
    return render_pictures(30, 128, 128, SEED)


def test_pictures_have_smooth_areas_edges_and_detail(some: np.ndarray) -> None:
    luma = some.astype(float).mean(-1)
    steps = np.abs(np.diff(luma, axis=2))
    assert 0.2 < np.mean(steps < 1.0) < 0.9  # smooth areas
    assert 0.02 < np.mean(steps > 16.0) < 0.25  # edges
    assert 60 < some.mean() < 150 and luma.std((1, 2)).mean() > 20
    # As hard to restore as photographs, whose bicubic error is 8 to 25 grey levels.
    up = (upscale(to_float(downscale_uint8(some))).clamp(0, 1) * 255).permute(0, 2, 3, 1).numpy()
    errors = np.sqrt(((up - some) ** 2).mean((1, 2, 3)))
    assert 8 < np.median(errors) < 20
    assert errors.min() < 8 and errors.max() > 18


def test_the_spectrum_falls_as_that_of_photographs(some: np.ndarray) -> None:
    luma = some.astype(float).mean(-1)
    window = np.hanning(128)[:, None] * np.hanning(128)[None, :]
    power = (np.abs(np.fft.fft2((luma - luma.mean((1, 2), keepdims=True)) * window)) ** 2).mean(0)
    frequency = np.hypot(np.fft.fftfreq(128)[:, None], np.fft.fftfreq(128)[None, :])
    band = (frequency > 3 / 128) & (frequency < 0.3)
    slope = np.polyfit(np.log(frequency[band]), np.log(power[band]), 1)[0]
    assert -3.2 < slope < -1.6  # photographs: about -2 (Field, JOSA A 4, 1987)


def test_pictures_are_neither_all_grey_nor_of_one_colour(some: np.ndarray) -> None:
    saturation = some.max(-1).astype(float) - some.min(-1)
    assert 15 < saturation.mean() < 80
    warmth = some[..., 0].astype(float).mean((1, 2)) - some[..., 2].mean((1, 2))
    assert warmth.min() < -10 and warmth.max() > 10


def test_a_leaf_covers_about_what_a_disc_does() -> None:
    rng = np.random.default_rng(0)
    areas = []
    for _ in range(400):
        x, y = outline(rng, 20.0).T
        areas.append(0.5 * abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))))
    assert 0.6 < np.mean(areas) / (np.pi * 20.0**2) < 1.3


@pytest.mark.parametrize("height, width", [(3, 90), (60, 60)])
def test_surfaces_are_finite_and_of_the_size_asked_for(height: int, width: int) -> None:
    rng = np.random.default_rng(0)
    noise = rng.standard_normal((2, 64, 96)).astype(np.float32)
    world = World(rng, np.full((3, 3), 90, np.float32), 10.0, noise)
    for _ in range(60):
        found = surface(world, world.colour(), height, width)
        assert found.shape == (height, width, 3) and found.dtype == np.float32 and np.isfinite(found).all()


def test_cache_is_a_prepared_set_and_is_reused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = dead_leaves_cache(6, 16, 4, SEED, 2, tmp_path / "cache")
    found = PackedDataset.open(folder)
    expected = render_pictures(6, 24, 24, SEED, first=2)
    assert found.framing == TrainedFraming("pieces", 16, 16)
    assert np.array_equal(found.images, expected) and found.margin == 4 and set(found.identity) == {-1}
    assert found.sources[0] == f"dead_leaves/{SEED}/2"
    facts = json.loads((folder / "set.json").read_text())
    assert (facts["width"], facts["height"], facts["version"]) == (16, 16, dead_leaves.RENDERER_VERSION)
    digest = hashlib.sha256(expected[0].tobytes()).hexdigest()
    assert digest in (folder / "index.csv").read_text().splitlines()[1]
    monkeypatch.setattr(dead_leaves, "render_pictures", None)  # a second call must not draw
    assert dead_leaves_cache(6, 16, 4, SEED, 2, tmp_path / "cache") == folder
    assert [path.name for path in (tmp_path / "cache").iterdir()] == [folder.name]


def test_other_sets_have_other_folders(tmp_path: Path) -> None:
    asked = [(1, 8, 0, 0, 0), (2, 8, 0, 0, 0), (1, 12, 0, 0, 0), (1, 8, 1, 0, 0), (1, 8, 0, 1, 0), (1, 8, 0, 0, 1)]
    assert len({dead_leaves_cache(*numbers, tmp_path) for numbers in asked}) == len(asked)


def test_worker_processes_draw_the_same_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dead_leaves, "_CHUNK", 2)
    folder = dead_leaves_cache(5, 8, 0, SEED, 0, tmp_path, num_workers=2)
    assert np.array_equal(np.load(folder / "images.npy"), render_pictures(5, 8, 8, SEED))


def test_a_cache_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DataError, match="FACESR_CACHE"):
        dead_leaves_cache(1, 8, 0, 0, 0, tmp_path / "file")


def test_pairs_leave_no_margin_and_bad_numbers_are_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FACESR_CACHE", str(tmp_path))
    pairs = dead_leaves_pairs(3, 16, SEED, 50)
    assert pairs.high.shape == (3, 16, 16, 3) and pairs.low.shape == (3, 4, 4, 3)
    assert np.array_equal(pairs.high, render_pictures(3, 16, 16, SEED, first=50))
    node = {"_target_": "facesr.data.packed.reader.dead_leaves", "num_pictures": 0, "patch_px": 16, "margin_px": 0}
    with pytest.raises(ConfigError, match=r"data\.num_pictures=0 is out of range") as caught:
        build(node, Place.DATA, seed=0)
    assert "\n" not in str(caught.value)
