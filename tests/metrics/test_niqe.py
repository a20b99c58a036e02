"""NIQE against a plain transcription, MATLAB's published scores, and its own rules."""

import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage, special
from torch import Tensor

from facesr.errors import DataError, ImageError, WeightsError
from facesr.metrics.perceptual import scene_statistics
from facesr.metrics.perceptual.colour import matlab_grey, matlab_luma
from facesr.metrics.perceptual.niqe import NiqeModel, fit, main, niqe, read_grey, read_model, write_model
from facesr.metrics.perceptual.scene_statistics import block_features, fit_asymmetric
from facesr.resample import resize_matrix

# MATLAB's NIQE of three TID2013 pictures; source: github.com/chaofengc/IQA-PyTorch, ResultsCalibra.
GOLDEN = Path(__file__).parents[1] / "golden" / "metrics.json"
MATLAB = {"I03": 15.7536, "I04": 3.6549, "I06": 3.2355}


Texture = Callable[[int, int, int], np.ndarray]


@pytest.fixture(scope="module")
def model(texture: Texture) -> NiqeModel:
    pictures = [texture(480, 480, seed) for seed in range(3)]
    features = torch.cat([block_features(torch.from_numpy(picture)[None])[0][0] for picture in pictures]).numpy()
    return NiqeModel("textures", features.mean(0), np.cov(features, rowvar=False))


def plain_fit(values: np.ndarray) -> tuple[float, float, float]:
    """The authors' estimate, by trying every shape."""
    shapes = np.arange(0.2, 10.0005, 0.001)
    ratios = special.gamma(2 / shapes) ** 2 / (special.gamma(1 / shapes) * special.gamma(3 / shapes))
    left, right = np.sqrt(np.mean(values[values < 0] ** 2)), np.sqrt(np.mean(values[values > 0] ** 2))
    skew = left / right
    ratio = np.mean(np.abs(values)) ** 2 / np.mean(values**2)
    wanted = ratio * (skew**3 + 1) * (skew + 1) / (skew**2 + 1) ** 2
    shape = shapes[np.argmin((ratios - wanted) ** 2)]
    scale = np.sqrt(special.gamma(1 / shape) / special.gamma(3 / shape))
    return shape, left * scale, right * scale


def plain_features(picture: np.ndarray) -> np.ndarray:
    """The features of every block, one after the other."""
    place = np.arange(-3, 4)
    window = np.exp(-(place[:, None] ** 2 + place[None] ** 2) / (2 * (7 / 6) ** 2))
    window /= window.sum()
    found: list[list[np.ndarray]] = []
    for size in (96, 48):
        mean = ndimage.correlate(picture, window, mode="nearest")
        deviation = np.sqrt(np.abs(ndimage.correlate(picture * picture, window, mode="nearest") - mean * mean))
        normalised = (picture - mean) / (deviation + 1)
        rows: list[np.ndarray] = []
        for top in range(0, picture.shape[0], size):
            for start in range(0, picture.shape[1], size):
                block = normalised[top : top + size, start : start + size]
                shape, left, right = plain_fit(block.ravel())
                values = [shape, (left + right) / 2]
                for shift in ((0, 1), (1, 0), (1, 1), (1, -1)):
                    shape, left, right = plain_fit((block * np.roll(block, shift, axis=(0, 1))).ravel())
                    mean_value = (right - left) * special.gamma(2 / shape) / special.gamma(1 / shape)
                    values += [shape, mean_value, left, right]
                rows.append(np.array(values))
        found.append(rows)
        height, width = picture.shape
        picture = resize_matrix(height, height // 2) @ picture @ resize_matrix(width, width // 2).T
    return np.concatenate([np.array(rows) for rows in found], axis=1)


def test_features_equal_a_plain_transcription(texture: Texture) -> None:
    picture = texture(192, 288, seed=1)
    features, _ = block_features(torch.from_numpy(picture)[None])
    np.testing.assert_allclose(features[0].numpy(), plain_features(picture), rtol=1e-7, atol=1e-9)


def test_a_pixel_that_equals_its_surroundings_counts_for_neither_side(texture: Texture) -> None:
    picture = texture(192, 288, seed=1)
    picture[20:60, 20:150] = 77.0
    picture[100:160, 30:200] = 3.0 + np.arange(170)  # an even slope equals its mean as well
    for size in (96, 48):
        levels = torch.from_numpy(picture[:: 96 // size, :: 96 // size].copy())
        normalised, deviation = scene_statistics._normalised(levels, 0, len(levels))
        step = 96 // size
        assert (normalised[20 // step + 3 : 60 // step - 3, 20 // step + 3 : 150 // step - 3] == 0.0).all()
        assert (normalised[100 // step + 3 : 160 // step - 3, 30 // step + 3 : 200 // step - 3] == 0.0).all()
        assert (normalised != 0.0).double().mean() > 0.6 and (deviation >= 0.0).all()


def test_what_is_left_of_whole_blocks_does_not_count(texture: Texture, model: NiqeModel) -> None:
    picture = torch.from_numpy(texture(250, 300, seed=2))[None]
    assert niqe(picture, model) == niqe(picture[:, :192, :288], model)


def test_fit_finds_the_shape_of_known_distributions() -> None:
    rng = np.random.default_rng(0)
    values = torch.from_numpy(np.stack([rng.normal(size=200_000), rng.laplace(size=200_000)]))
    shape, left, right = fit_asymmetric(values)
    assert shape.tolist() == pytest.approx([2.0, 1.0], abs=0.03)
    # A Gaussian of deviation 1 has the scale sqrt(2); Laplace's scale is 1.
    assert left.tolist() == pytest.approx([2**0.5, 1.0], rel=0.02)
    assert right.tolist() == pytest.approx([2**0.5, 1.0], rel=0.02)


@pytest.mark.parametrize("strip_blocks", [1, 3, 7, 1000])
def test_memory_bound_moves_no_value(texture: Texture, model: NiqeModel, strip_blocks: int) -> None:
    picture = torch.from_numpy(texture(400, 300, seed=3))[None]
    assert niqe(picture, model, strip_blocks) == niqe(picture, model)


def test_a_picture_scores_the_same_alone_and_in_a_batch(texture: Texture, model: NiqeModel) -> None:
    batch = torch.from_numpy(np.stack([texture(200, 200, seed) for seed in range(4)]))
    assert niqe(batch, model).tolist() == [niqe(batch[i : i + 1], model)[0] for i in range(4)]


def test_blur_and_noise_are_worse(texture: Texture, model: NiqeModel) -> None:
    picture = texture(384, 384, seed=9)
    blurred = np.floor(ndimage.gaussian_filter(picture, 2) + 0.5)
    noisy = np.clip(picture + np.random.default_rng(0).normal(0, 25, picture.shape), 0, 255).round()
    good, soft, rough = niqe(torch.from_numpy(np.stack([picture, blurred, noisy])), model)
    assert good < 0.7 * soft and good < 0.7 * rough


def test_flat_picture_is_nan_and_flat_blocks_are_left_out(texture: Texture, model: NiqeModel) -> None:
    assert np.isnan(niqe(torch.full((1, 192, 192), 100.0), model)).all()
    picture = texture(288, 288, seed=4)
    picture[:96, :96] = 100.0
    assert np.isfinite(niqe(torch.from_numpy(picture)[None], model)).all()


@pytest.mark.parametrize(("height", "width", "count"), [(112, 96, 1), (104, 88, 0), (95, 400, 0)])
def test_fewer_than_two_blocks_are_refused_with_the_reason(
    model: NiqeModel, height: int, width: int, count: int
) -> None:
    with pytest.raises(ImageError, match=f"at least two whole blocks of 96x96, and {width}x{height} .* hold {count}"):
        niqe(torch.zeros(1, height, width), model)


def test_greys_are_rounded_as_matlab_rounds() -> None:
    levels = torch.tensor([[255.0, 255.0, 255.0], [0.0, 0.0, 0.0], [255.0, 0.0, 0.0], [10.0, 200.0, 30.0]])
    pictures = levels[:, :, None, None]
    assert matlab_grey(pictures).flatten().tolist() == [255, 0, 76, 124]
    assert matlab_luma(pictures).flatten().tolist() == [235, 16, 81, 122]


def test_model_file_comes_back(model: NiqeModel, tmp_path: Path) -> None:
    write_model(model, tmp_path / "model.npz")
    back = read_model(tmp_path / "model.npz")
    assert back.name == "textures" and len(back.sha256) == 64
    np.testing.assert_array_equal(back.mean, model.mean)
    np.testing.assert_array_equal(back.covariance, model.covariance)


def test_wrong_model_files_are_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"nothing\.mat cannot be read"):
        read_model(tmp_path / "nothing.mat")
    for name in ("text.mat", "text.npz"):
        (tmp_path / name).write_text("no model")
        with pytest.raises(WeightsError, match=f"{name} is no NIQE model; give the authors'"):
            read_model(tmp_path / name)
    np.savez(tmp_path / "small.npz", name=np.array("x"), mean=np.zeros(18), covariance=np.zeros((18, 18)))
    with pytest.raises(WeightsError, match="describes 18 features where NIQE has 36"):
        read_model(tmp_path / "small.npz")
    np.savez(tmp_path / "nan.npz", name=np.array("x"), mean=np.full(36, np.nan), covariance=np.zeros((36, 36)))
    with pytest.raises(WeightsError, match="not finite"):
        read_model(tmp_path / "nan.npz")
    np.savez(tmp_path / "pickled.npz", name=np.array("x"), mean=np.array([{}]), covariance=np.zeros((36, 36)))
    with pytest.raises(WeightsError, match="is no NIQE model"):
        read_model(tmp_path / "pickled.npz")


def saved(texture: Texture, folder: Path, seeds: range, size: int = 480) -> Path:
    folder.mkdir()
    for seed in seeds:
        grey = texture(size, size, seed).astype(np.uint8)
        Image.fromarray(np.stack([grey, np.roll(grey, 1, 0), grey], axis=2)).save(folder / f"{seed}.png")
    return folder


def test_command_fits_and_scores(texture: Texture, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good = saved(texture, tmp_path / "good", range(4))
    assert main(["fit", str(good), "--out", str(tmp_path / "textures.npz")]) == 0
    assert main(["score", str(good), "--model", str(tmp_path / "textures.npz")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith("model textures of 4 pictures")
    assert lines[-1].endswith("mean of 4; model textures, uint8 rgb2gray")
    values = [float(line.split()[0]) for line in lines[1:]]
    assert values[-1] == pytest.approx(np.mean(values[:-1]), abs=1e-4) and max(values) < 6


def test_fit_uses_sharp_blocks_only(texture: Texture, tmp_path: Path) -> None:
    files = sorted(saved(texture, tmp_path / "good", range(4)).iterdir())
    whole = fit(files, "a")
    for file in files:
        picture = np.array(Image.open(file))
        Image.fromarray(np.pad(picture, ((0, 480), (0, 0), (0, 0)), constant_values=90)).save(file)
    # The flat half has few blocks that touch the sharp one's border and none that pass.
    np.testing.assert_allclose(fit(files, "b").mean, whole.mean, rtol=0.05, atol=0.02)


def test_bad_pictures_are_one_sentence(texture: Texture, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    grey = texture(192, 192, 0).astype(np.uint8)
    bad = {
        "alpha.png": (Image.fromarray(np.dstack([grey] * 4)), "of mode RGBA; save it as 8-bit RGB"),
        "deep.png": (Image.fromarray(grey.astype(np.uint16) * 256), "of mode I;16; save it as 8-bit RGB"),
        "tiny.png": (Image.fromarray(grey[:96, :96]), "needs at least two whole blocks"),
        "flat.png": (Image.fromarray(np.full((192, 192), 7, np.uint8)), "is flat almost everywhere"),
    }
    write_model(NiqeModel("x", np.zeros(36), np.eye(36)), tmp_path / "x.npz")
    for name, (picture, sentence) in bad.items():
        folder = tmp_path / name.removesuffix(".png")
        folder.mkdir()
        picture.save(folder / name)
        assert main(["score", str(folder), "--model", str(tmp_path / "x.npz")]) == 2
        printed = capsys.readouterr()
        assert printed.err.count("\n") == 1 and name in printed.err and sentence in printed.err, printed.err
    (tmp_path / "flat" / "flat.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    assert main(["score", str(tmp_path / "flat"), "--model", str(tmp_path / "x.npz")]) == 2
    assert "flat.png cannot be decoded" in capsys.readouterr().err
    assert main(["score", str(tmp_path / "no"), "--model", str(tmp_path / "x.npz")]) == 2
    assert "is not a folder" in capsys.readouterr().err
    with pytest.raises(DataError, match=r"1 pictures gave \d sharp blocks"):
        fit([next(saved(texture, tmp_path / "one", range(1), size=192).iterdir())], "x")
    assert main(["fit", str(tmp_path / "tiny"), "--out", str(tmp_path / "y.npz")]) == 2
    assert not (tmp_path / "y.npz").exists()


@pytest.mark.shared
def test_agrees_with_matlab(shared: Path) -> None:
    model = read_model(shared / "niqe" / "modelparameters.mat")
    golden = json.loads(GOLDEN.read_text(encoding="utf-8"))["niqe_calibration"]["values"]
    assert golden.keys() == MATLAB.keys()
    for name, wanted in MATLAB.items():
        (value,) = niqe(read_grey(shared / "iqa_calibration" / f"{name}.bmp", "grey"), model)
        assert value == pytest.approx(wanted, rel=0.001), name
        assert value == pytest.approx(golden[name], rel=1e-9), name


@pytest.mark.shared
def test_how_much_each_rule_moves_the_score(shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each departure from the rules is larger than the disagreement with MATLAB, which so speaks for the rules."""
    model = read_model(shared / "niqe" / "modelparameters.mat")
    path = shared / "iqa_calibration" / "I06.bmp"
    levels = torch.from_numpy(np.array(Image.open(path))).permute(2, 0, 1)[None].double()
    ours = niqe(matlab_grey(levels), model)[0]

    def opencv_half(batch: Tensor, height: int, width: int) -> Tensor:
        small = [cv2.resize(one.numpy(), (width, height), interpolation=cv2.INTER_CUBIC) for one in batch]
        return torch.from_numpy(np.stack(small))

    moved = {
        "luma": niqe(matlab_luma(levels), model)[0],
        "unrounded": niqe((levels * torch.tensor([0.2989, 0.587, 0.114])[:, None, None]).sum(1), model)[0],
        "shaved": niqe(matlab_grey(levels)[:, 4:-4, 4:-4], model)[0],
    }
    with monkeypatch.context() as patch:
        patch.setattr(scene_statistics, "resize", opencv_half)
        moved["opencv"] = niqe(matlab_grey(levels), model)[0]
    change = {name: abs(value / ours - 1.0) for name, value in moved.items()}
    assert abs(ours / MATLAB["I06"] - 1.0) < 5e-4
    # Measured: luma 1.5 %, unrounded grey 1.3 %, a border of 4 cut off 27 %, half size without antialiasing 118 %.
    assert 0.01 < change["luma"] < 0.02 and 0.01 < change["unrounded"] < 0.02
    assert 0.2 < change["shaved"] < 0.3 and change["opencv"] > 1.0


@pytest.mark.parametrize(
    ("command", "told"),
    [
        ([], ["score the pictures of a folder", "estimate a pristine model"]),
        (["score"], ["modelparameters.mat, or a file of fit", "blocks in memory at once", "how RGB becomes grey"]),
        (["fit"], ["the .npz file to write", "of the model; default: the file's", "how RGB becomes grey"]),
    ],
)
def test_help_tells_what_each_option_is(
    command: list[str], told: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    with pytest.raises(SystemExit):
        main([*command, "--help"])
    shown = [line.strip() for line in capsys.readouterr().out.splitlines()]
    assert all(any(line.endswith(sentence) for line in shown) for sentence in told)
