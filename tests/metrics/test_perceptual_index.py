"""The challenge's grey picture, RMSE, index, regions and points against plain transcriptions of their definitions."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from facesr.build import load_group
from facesr.config import EvaluationProtocol
from facesr.errors import ImageError
from facesr.image import to_float
from facesr.metrics.perceptual import perceptual_index as module
from facesr.metrics.perceptual.ma import MaModel
from facesr.metrics.perceptual.niqe import PUBLISHED, NiqeModel, read_model
from facesr.metrics.perceptual.perceptual_index import (
    Ma,
    Niqe,
    PerceptualIndex,
    RmseY,
    competition_score,
    perceptual_index,
    region_of,
    shaved_luma,
)
from facesr.protocols import Metric, MetricInputs

BORDER = load_group("protocol", "asc19_preliminary")["perceptual"]["border_px"]


def plain_luma(picture: np.ndarray, border: int) -> np.ndarray:
    """MATLAB's uint8 rgb2ycbcr, first channel, pixel by pixel in Python's own arithmetic."""
    height, width = picture.shape[:2]
    rows = range(border, height - border)
    columns = range(border, width - border)
    weights = (65.481, 128.553, 24.966)
    return np.array(
        [
            [
                int(16 + sum(w * int(v) for w, v in zip(weights, picture[y, x], strict=True)) / 255 + 0.5)
                for x in columns
            ]
            for y in rows
        ]
    )


@pytest.fixture(scope="module")
def random_pictures() -> np.ndarray:
    return np.random.default_rng(3).integers(0, 256, (3, 20, 26, 3), dtype=np.uint8)


def test_the_protocol_cuts_off_four_pixels():
    assert BORDER == 4


@pytest.mark.parametrize("border", [0, 4])
def test_the_grey_picture_is_the_rounded_luma_inside_the_border(random_pictures, border):
    found = shaved_luma(to_float(random_pictures), border)
    assert found.shape == (3, 20 - 2 * border, 26 - 2 * border)
    for picture, grey in zip(random_pictures, found.numpy(), strict=True):
        np.testing.assert_array_equal(grey, plain_luma(picture, border))


def test_the_border_must_leave_something(random_pictures):
    assert shaved_luma(to_float(random_pictures), 9).shape == (3, 2, 8)
    with pytest.raises(ImageError, match="nothing inside a border of 10"):
        shaved_luma(to_float(random_pictures), 10)


def test_rmse_is_that_of_rounded_luma(random_pictures):
    other = random_pictures[::-1].copy()
    inputs = MetricInputs(to_float(random_pictures), to_float(other))
    squares = [
        float(((plain_luma(a, BORDER) - plain_luma(b, BORDER)) ** 2).mean())
        for a, b in zip(random_pictures, other, strict=True)
    ]
    found = RmseY(BORDER)(inputs)
    np.testing.assert_allclose(found, np.sqrt(squares), rtol=1e-12)
    assert squares[1] == 0.0 == found[1]  # the middle one is compared with itself


def test_pixels_of_the_border_do_not_count(random_pictures):
    changed = random_pictures.copy()
    changed[:, :BORDER] = changed[:, -BORDER:] = 0
    changed[:, :, :BORDER] = changed[:, :, -BORDER:] = 0
    assert (RmseY(BORDER)(MetricInputs(to_float(changed), to_float(random_pictures))) == 0).all()
    assert (RmseY(BORDER - 1)(MetricInputs(to_float(changed), to_float(random_pictures))) > 0).all()


def test_the_index_of_means_is_the_mean_of_indices():
    niqe, ma = np.array([3.0, 5.5, 8.0]), np.array([9.0, 6.0, 2.0])
    found = perceptual_index(niqe, ma)
    np.testing.assert_allclose(found, [2.0, 4.75, 8.0])
    assert found.mean() == pytest.approx((niqe.mean() + 10 - ma.mean()) / 2)


@pytest.mark.parametrize(("rmse", "region"), [(0.0, 1), (11.5, 1), (11.51, 2), (12.5, 2), (16.0, 3), (16.1, None)])
def test_regions_by_their_upper_limits(rmse, region):
    assert region_of(rmse, [11.5, 12.5, 16.0]) == region


def test_points_of_the_competition():
    window = [8.0, 18.0]
    assert competition_score(2.0, 2.0, 12.0, 20.0, window) == 20.0
    assert competition_score(4.0, 2.0, 12.0, 20.0, window) == pytest.approx(20.0 / 16.0)
    assert [competition_score(2.0, 2.0, rmse, 20.0, window) for rmse in (8.0, 18.0, 7.9, 30.0)] == [0.0] * 4


def test_another_pristine_model_gives_scores_another_name():
    own = NiqeModel("mine", np.zeros(36), np.eye(36))
    published = NiqeModel(PUBLISHED, np.zeros(36), np.eye(36))
    ma = Ma(MaModel((None, None, None), np.zeros(4), "ab" * 32), BORDER)  # type: ignore[arg-type]
    assert Niqe(published, BORDER).name == "niqe"
    assert Niqe(own, BORDER).name == "niqe/mine"
    assert PerceptualIndex(Niqe(published, BORDER), ma).name == "perceptual_index"
    assert PerceptualIndex(Niqe(own, BORDER), ma).name == "perceptual_index/mine"
    assert PerceptualIndex(Niqe(own, BORDER), ma).parts == ("niqe/mine", "ma")


def test_every_metric_states_its_conditions(random_pictures):
    model = NiqeModel("mine", np.zeros(36), np.eye(36), "cd" * 32)
    for metric in (RmseY(BORDER), Niqe(model, BORDER)):
        assert isinstance(metric, Metric)
        assert "rgb2ycbcr" in metric.conditions and "4 px" in metric.conditions
    assert "mine cdcdcdcdcdcd" in Niqe(model, BORDER).conditions


def test_the_final_has_no_rules_of_the_index():
    final = EvaluationProtocol(**load_group("protocol", "asc19_final"))
    assert final.perceptual is None and final.pictures_dir == ""


@pytest.mark.shared
def test_niqe_of_the_calibration_pictures_on_the_challenges_grey_picture(shared):
    # Source of the values: this implementation, whose whole-picture scores agree with MATLAB's (test_niqe.py). They
    # show what colour and border alone are worth: MATLAB's own for the whole grey pictures are 15.75, 3.655 and 3.236.
    metric = Niqe(read_model(shared / "niqe" / "modelparameters.mat"), BORDER)
    found = []
    for name in ("I03", "I04", "I06"):
        picture = np.array(Image.open(Path(shared) / "iqa_calibration" / f"{name}.bmp").convert("RGB"))[None]
        found.append(float(metric(MetricInputs(to_float(picture), to_float(picture)))[0]))
    assert found == pytest.approx([15.2990, 4.6762, 4.1194], rel=2e-3)


def test_values_do_not_depend_on_the_batch(texture):
    pictures = np.stack([np.repeat(texture(210, 208, seed)[..., None], 3, 2) for seed in range(3)]).astype(np.uint8)
    random = np.random.default_rng(0)
    model = NiqeModel("m", random.normal(size=36), np.eye(36))
    for metric in (Niqe(model, BORDER), RmseY(BORDER)):
        whole = metric(MetricInputs(to_float(pictures), torch.zeros(3, 3, 210, 208)))
        single = [metric(MetricInputs(to_float(p[None]), torch.zeros(1, 3, 210, 208)))[0] for p in pictures]
        np.testing.assert_allclose(whole, single, rtol=0, atol=1e-9)


def test_metrics_look_inside_their_border_with_their_model(random_pictures, monkeypatch):
    asked = []
    for name in ("niqe", "ma", "rmse_y"):
        monkeypatch.setattr(module, name, lambda *given, name=name: asked.append((name, *given)))
    monkeypatch.setattr(module, "shaved_luma", lambda *given: given)
    niqe_model, ma_model = (SimpleNamespace(name=name, sha256=12 * name[0] + "9") for name in ("mine", "ma"))
    restored, high = to_float(random_pictures), to_float(random_pictures[::-1])
    metrics = [Niqe(niqe_model, 3, 7), Ma(ma_model, 5), RmseY(2), Niqe(niqe_model, 1)]
    for metric in metrics:
        metric(MetricInputs(restored, high))
    assert asked == [
        ("niqe", (restored, 3), niqe_model, 7), ("ma", (restored, 5), ma_model), ("rmse_y", restored, high, 2),
        ("niqe", (restored, 1), niqe_model, 64),
    ]  # fmt: skip
    assert [metric.name for metric in metrics] == ["niqe/mine", "ma", "rmse_y", "niqe/mine"]
    assert metrics[0].conditions.endswith(", 3 px cut off each side, pristine model mine mmmmmmmmmmmm")
    assert metrics[1].conditions.endswith(", 5 px cut off each side, model mmmmmmmmmmmm")
    assert metrics[2].conditions.endswith(", 2 px cut off each side, root of the mean square per picture")
    index = PerceptualIndex(metrics[0], metrics[1])
    assert (index.name, index.parts, index.version) == ("perceptual_index/mine", ("niqe/mine", "ma"), 2)
    assert index.conditions == "(10 - ma + niqe/mine) / 2"


def test_ma_sees_the_shaved_luma_and_its_model(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[torch.Tensor, object]] = []

    def noted(pictures: torch.Tensor, model: object) -> np.ndarray:
        seen.append((pictures, model))
        return np.array([3.0, 4.0])

    monkeypatch.setattr(module, "ma", noted)
    model = SimpleNamespace(sha256="0123456789abcdef")
    metric = module.Ma(model, 4)  # type: ignore[arg-type]
    assert metric.conditions.endswith("model 0123456789ab")
    restored = torch.randint(0, 256, (2, 3, 20, 24), generator=torch.Generator().manual_seed(0)) / 255.0
    assert metric(MetricInputs(restored, restored)).tolist() == [3.0, 4.0]
    ((pictures, given),) = seen
    assert given is model
    assert torch.equal(pictures, module.shaved_luma(restored, 4)) and pictures.shape[-2:] == (12, 16)
