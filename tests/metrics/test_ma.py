"""Ma's metric against pyiqa, feature by feature and on the same forest file.

pyiqa is no dependency: its answers on one picture are kept in tests/golden/ma.json, and where it is installed the
comparison runs anew:  uv run --with pyiqa pytest tests/metrics/test_ma.py
"""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import scipy.io
import torch
from scipy import fft, ndimage

from facesr.errors import ImageError, WeightsError
from facesr.metrics.perceptual.ma import NUM_FEATURES, Forest, ma, read_model
from facesr.metrics.perceptual.ma_features import frequency_features, singular_values, wavelet_features
from facesr.metrics.perceptual.scene_statistics import shape_by_ratio
from facesr.metrics.perceptual.steerable import steerable_bands

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "ma.json").read_text())
KINDS = {"frequency": frequency_features, "wavelet": wavelet_features, "singular": singular_values}
Texture = Callable[[int, int, int], np.ndarray]


def random_forest(rng: np.random.Generator, typical: np.ndarray, num_trees: int = 12, depth: int = 5) -> dict:
    """A forest as MATLAB's regression forest stores it, asking around the typical features."""
    num_nodes = 2**depth - 1
    left, right, feature = (np.zeros((num_nodes, num_trees), np.int32) for _ in range(3))
    threshold = np.zeros((num_nodes, num_trees))
    for node in range(num_nodes // 2):
        splits = rng.random(num_trees) < 0.85
        left[node, splits], right[node, splits] = 2 * node + 2, 2 * node + 3
        feature[node, splits] = rng.integers(1, len(typical) + 1, splits.sum())
        threshold[node, splits] = typical[feature[node, splits] - 1] * rng.uniform(0.9, 1.1, splits.sum())
    return {
        "lDau": left,
        "rDau": right,
        "nodestatus": np.zeros_like(left),
        "nrnodes": np.array([[num_nodes]]),
        "upper": threshold,
        "avnode": rng.uniform(0, 10, (num_nodes, num_trees)),
        "mbest": feature,
    }


def write_forests(path: Path) -> Path:
    """The same random model file wherever it is made."""
    rng = np.random.default_rng(0)
    cell = np.empty((1, 3), object)
    for i, kind in enumerate(KINDS):
        cell[0, i] = random_forest(rng, np.array(GOLDEN["features"][kind]))
    scipy.io.savemat(path, {"model": {"rf": cell, "linear": rng.normal(size=(4, 1))}})
    return path


@pytest.fixture(scope="module")
def model_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_forests(tmp_path_factory.mktemp("ma") / "model.mat")


@pytest.mark.parametrize("kind", KINDS)
def test_features_equal_those_of_pyiqa(texture: Texture, kind: str) -> None:
    found = KINDS[kind](torch.from_numpy(texture(144, 180, 7)))
    np.testing.assert_allclose(found.numpy(), GOLDEN["features"][kind], rtol=1e-5, atol=1e-9)


def test_score_equals_that_of_pyiqa_on_the_same_forests(texture: Texture, model_file: Path) -> None:
    pictures = torch.from_numpy(np.stack([texture(144, 180, seed) for seed in (7, 8)]))
    np.testing.assert_allclose(ma(pictures, read_model(model_file)), GOLDEN["scores"], rtol=1e-6)


@pytest.mark.filterwarnings("default")
def test_pyiqa_itself_agrees(texture: Texture, model_file: Path) -> None:
    theirs = pytest.importorskip("pyiqa.archs.nrqm_arch")
    network = theirs.NRQM(pretrained_model_path=str(model_file))
    for seed in range(7, 11):
        levels = torch.from_numpy(texture(144, 180, seed))[None]
        wanted = theirs.calculate_nrqm(levels[None], 0, False, "yiq", network.linear_param, network.rf_params_list)
        assert ma(levels, read_model(model_file))[0] == pytest.approx(float(wanted), rel=1e-6)


def test_forest_by_hand() -> None:
    # Tree 1: feature 2 <= 0.5 ? 3 : 7. Tree 2: a single leaf.
    forest = Forest(
        left=np.array([[2, 0], [0, 0], [0, 0]]),
        right=np.array([[3, 0], [0, 0], [0, 0]]),
        threshold=np.array([[0.5, 0.0], [0.0, 0.0], [0.0, 0.0]]),
        prediction=np.array([[0.0, 1.0], [3.0, 0.0], [7.0, 0.0]]),
        feature=np.array([[2, 0], [0, 0], [0, 0]]),
    )
    assert forest(np.array([9.0, 0.5])) == (3 + 1) / 2
    assert forest(np.array([9.0, 0.6])) == (7 + 1) / 2


def test_forest_that_goes_in_circles_ends() -> None:
    loop = np.array([[1], [1]])
    assert Forest(loop, loop, np.zeros((2, 1)), np.array([[4.0], [5.0]]), loop)(np.zeros(1)) == 4.0


def test_a_picture_scores_the_same_alone_and_in_a_batch(texture: Texture, model_file: Path) -> None:
    model = read_model(model_file)
    batch = torch.from_numpy(np.stack([texture(100, 131, seed) for seed in range(3)]))
    assert ma(batch, model).tolist() == [ma(picture[None], model)[0] for picture in batch]


def test_bands_hold_the_whole_energy_and_follow_orientation() -> None:
    waves = torch.sin(2 * np.pi * torch.arange(128, dtype=torch.float64) / 5.0).expand(128, 128)
    _, scales = steerable_bands(waves, 2, 6)
    upright = scales[0].square().mean(dim=(1, 2))
    _, turned = steerable_bands(waves.t(), 2, 6)
    assert upright.argmax() == 0 and turned[0].square().mean(dim=(1, 2)).argmax() == 3
    assert [tuple(bands.shape) for bands in scales] == [(6, 128, 128), (6, 64, 64)]
    with pytest.raises(ValueError, match="too small for 2 scales"):
        steerable_bands(waves[:12, :12], 2, 6)


def test_shape_of_known_distributions() -> None:
    # E x^2 / E|x|^2 is pi / 2 for a Gaussian (shape 2) and 2 for Laplace (shape 1).
    assert shape_by_ratio(torch.tensor([np.pi / 2, 2.0], dtype=torch.float64)).tolist() == pytest.approx([2.0, 1.0])


@pytest.mark.parametrize("size", [(35, 31), (31, 35), (34, 33)])
def test_blocks_beyond_the_border_are_completed_with_zeros(size: tuple[int, int]) -> None:
    height, width = size
    picture = np.random.default_rng(1).uniform(0, 255, size)
    large = np.zeros((50, 50))
    large[2 : 2 + height, 2 : 2 + width] = picture / 255.0
    found: list[float] = []
    for top in range(0, height, 3):
        for left in range(0, width, 3):
            waves = np.abs(fft.dctn(large[top : top + 7, left : left + 7], norm="ortho").reshape(-1)[1:])
            found.append(waves.std(ddof=1) / (waves.mean() + 1e-7))
    worst = sorted(found)[int(0.9 * len(found)) :]
    features = frequency_features(torch.from_numpy(picture)).numpy()
    np.testing.assert_allclose(features[[2, 3]], [np.mean(worst), np.mean(found)], rtol=1e-9)


def test_blur_moves_the_features_of_frequency(texture: Texture) -> None:
    picture = texture(150, 150, 3)
    sharp = frequency_features(torch.from_numpy(picture))
    soft = frequency_features(torch.from_numpy(ndimage.gaussian_filter(picture, 1.5)))
    # Blur leaves energy in few coefficients: their variation rises at full size.
    assert soft[3] > 1.1 * sharp[3]


def test_small_and_flat_pictures(model_file: Path) -> None:
    model = read_model(model_file)
    with pytest.raises(ImageError, match="at least 84x84 pixels, this is 96x60"):
        ma(torch.zeros(1, 60, 96), model)
    assert np.isnan(ma(torch.full((1, 100, 100), 9.0), model)).all()
    assert ma(torch.rand(1, 84, 84) * 255, model).shape == (1,)


def test_wrong_model_files_are_one_sentence(tmp_path: Path, model_file: Path) -> None:
    with pytest.raises(WeightsError, match=r"nothing\.mat cannot be read.*model\.mat is part of https"):
        read_model(tmp_path / "nothing.mat")
    (tmp_path / "text.mat").write_text("no model")
    with pytest.raises(WeightsError, match=r"text\.mat is no model of Ma's metric"):
        read_model(tmp_path / "text.mat")
    scipy.io.savemat(tmp_path / "other.mat", {"mu_prisparam": np.zeros(36)})
    with pytest.raises(WeightsError, match="is no model of Ma's metric"):
        read_model(tmp_path / "other.mat")
    found = scipy.io.loadmat(model_file)["model"]
    found["rf"][0, 0][0, 1]["mbest"][0, 0][0, 0] = 46  # one more than there are
    scipy.io.savemat(tmp_path / "feature.mat", {"model": found})
    with pytest.raises(WeightsError, match="asks for other than 45 features"):
        read_model(tmp_path / "feature.mat")
    assert sum(NUM_FEATURES) == 138


def test_bands_are_made_where_the_picture_is() -> None:
    # `meta` stands for an accelerator: a table that stayed on the CPU could not be multiplied there.
    high_pass, scales = steerable_bands(torch.zeros(64, 48, dtype=torch.float64, device="meta"), 2, 6)
    assert all(part.is_meta for part in (high_pass, *scales))
    assert [tuple(bands.shape) for bands in scales] == [(6, 64, 48), (6, 32, 24)]
