"""protocol=asc19_preliminary: what is scored, what is missing and why, and pictures that cannot be scored."""

import csv
import json

import numpy as np
import pytest
import torch

from facesr.build import load_settings
from facesr.config import EvaluateSettings
from facesr.errors import ConfigError, ImageError, WeightsError
from facesr.evaluation.flow import Options, evaluate, write_evaluation
from facesr.evaluation.perceptual import figures_of, open_perceptual
from facesr.evaluation.report.tables import console_table
from facesr.evaluation.request import checked
from facesr.evaluation.result import Subject
from facesr.metrics.perceptual.niqe import NiqeModel, write_model
from facesr.metrics.perceptual.perceptual_index import RmseY
from facesr.png import write_png
from facesr.resample import downscale_uint8

IDS = ("1", "2", "3")
WIDTH, HEIGHT = 208, 212
OPTIONS = Options(torch.device("cpu"), batch_size=2, num_resamples=50, num_examples=1, seed=0)


@pytest.fixture(autouse=True)
def _no_weights(monkeypatch, tmp_path):
    monkeypatch.delenv("FACESR_WEIGHTS", raising=False)
    monkeypatch.setenv("FACESR_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="session")
def pictures(tmp_path_factory):
    """Three originals, their low-resolution pictures, and restored ones with noise that grows from 1 to 3."""
    root = tmp_path_factory.mktemp("pictures")
    for folder in ("restored", "high", "low"):
        (root / folder).mkdir()
    for number, key in enumerate(IDS, start=1):
        random = np.random.default_rng(number)
        coarse = torch.from_numpy(random.uniform(0, 255, (1, 3, 40, 40)))
        high = torch.nn.functional.interpolate(coarse, size=(HEIGHT, WIDTH), mode="bicubic")[0].permute(1, 2, 0).numpy()
        high = (high + random.normal(0, 6, high.shape)).clip(0, 255).round().astype(np.uint8)
        write_png(root / "high" / f"{key}.png", high)
        write_png(root / "low" / f"{key}.png", downscale_uint8(high[None])[0])
        noisy = (high + random.normal(0, 8 * number, high.shape)).clip(0, 255).round().astype(np.uint8)
        write_png(root / "restored" / f"{key}.png", noisy)
    return root


@pytest.fixture
def model(tmp_path):
    path = tmp_path / "drawn.npz"
    write_model(NiqeModel("drawn", np.random.default_rng(1).normal(size=36), np.eye(36)), path)
    return path


def settings(*overrides):
    return load_settings("evaluate", EvaluateSettings, ["protocol=asc19_preliminary", *overrides])


def run(pictures, *overrides):
    asked = settings(*overrides)
    subject = Subject("restored", "noisy", pictures / "restored")
    found = evaluate(
        subject, pictures / "high", pictures / "low", asked.protocol, [], OPTIONS, perceptual=open_perceptual(asked)
    )
    assert found is not None
    return found


def test_without_any_model_rmse_still_comes_and_the_reasons_are_told(pictures, tmp_path):
    found = run(pictures)
    assert [metric.name for metric in found.scores.metrics] == ["rmse_y", "psnr_y", "ssim", "consistency"]
    assert found.score is None and found.ranking is None
    assert "niqe.model=FILE" in found.missing["niqe"] and "modelparameters.mat" in found.missing["niqe"]
    assert "ma.model=FILE" in found.missing["ma"] and "github.com/chaoma99/sr-metric" in found.missing["ma"]
    (tmp_path / "out").mkdir()
    write_evaluation(tmp_path / "out", found, None, OPTIONS)
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["score"] is None and summary["set"]["perceptual_index"]["value"] is None
    assert summary["set"]["rmse_of_set"]["value"] > 0
    assert "ma.model=FILE" in console_table(found)
    assert "no score" in (tmp_path / "out" / "report.html").read_text()


def test_with_a_pristine_model_niqe_comes_under_its_name(pictures, model):
    found = run(pictures, f"niqe.model={model}")
    assert found.ordering.name == "niqe/drawn"
    assert set(found.missing) == {"ma"}
    assert np.isfinite(found.scores.values["niqe/drawn"]).all()
    assert "niqe/drawn" in console_table(found) and "pristine model drawn" in console_table(found)


def test_the_rmse_of_the_set_is_no_mean_of_rmse(pictures):
    found = run(pictures)
    each = found.scores.values["rmse_y"]
    value = next(figure.value for figure in found.figures if figure.name == "rmse_of_set")
    assert value == pytest.approx(np.sqrt((each**2).mean())) and value != pytest.approx(each.mean(), rel=1e-3)


def test_the_index_ranks_where_both_models_are_there(pictures, model, monkeypatch):
    asked = settings(f"niqe.model={model}", "protocol.perceptual.best_index=3.0")
    perceptual = open_perceptual(asked)

    class FixedMa:
        name, unit, higher_is_better, version, conditions, needs_low = "ma", "1", True, 1, "fixed", False

        def __call__(self, inputs):
            return np.full(len(inputs.restored), 4.0)

    class Model:
        sha256 = "ef" * 32

    fixed = FixedMa()
    fixed.model = Model()
    object.__setattr__(perceptual, "ma", fixed)
    perceptual.missing.clear()
    subject = Subject("restored", "noisy", pictures / "restored")
    found = evaluate(subject, pictures / "high", None, asked.protocol, [], OPTIONS, perceptual=perceptual)
    niqe = found.scores.values["niqe/drawn"]
    assert found.ranking_column == "perceptual_index/drawn"
    assert found.score.mean == pytest.approx((niqe.mean() + 6.0) / 2)
    values = {figure.name: figure.value for figure in found.figures}
    assert "perceptual_index" not in values
    inside = 8 < values["rmse_of_set"] < 18
    assert values["s_pi"] == pytest.approx(20.0 / (found.score.mean / 3.0) ** 4 if inside else 0.0)
    assert "<- ranks" in console_table(found)


def test_figures_name_region_and_window(model):
    perceptual = open_perceptual(settings(f"niqe.model={model}"))
    by_rmse = {
        rmse: {f.name: f.value for f in figures_of({RmseY(4).name: np.array([rmse])}, perceptual)}["region"]
        for rmse in (5.0, 12.0, 15.0, 20.0)
    }
    assert by_rmse == {5.0: 1, 12.0: 2, 15.0: 3, 20.0: None}


def test_a_flat_picture_is_named_and_no_mean_is_spoilt(pictures, model, tmp_path):
    restored = tmp_path / "restored"
    restored.mkdir()
    for key in IDS:
        write_png(restored / f"{key}.png", np.full((HEIGHT, WIDTH, 3), 90, np.uint8))
    asked = settings(f"niqe.model={model}")
    with pytest.raises(ImageError, match=r"restored/1\.png: niqe/drawn is not defined"):
        evaluate(
            Subject("restored", "flat", restored), pictures / "high", None, asked.protocol, [], OPTIONS,
            perceptual=open_perceptual(asked),
        )  # fmt: skip


def test_pictures_as_small_as_faces_are_refused_by_name(make_faces, tmp_path, model):
    faces = make_faces(tmp_path / "faces", width=96, height=112)
    asked = settings(f"niqe.model={model}")
    with pytest.raises(ImageError, match=r"a\.png: NIQE needs at least two whole blocks of 96x96, and 88x104"):
        evaluate(
            Subject("restored", "faces", faces.restored), faces.high, None, asked.protocol, [], OPTIONS,
            perceptual=open_perceptual(asked),
        )  # fmt: skip


@pytest.mark.parametrize("key", ["niqe", "ma"])
def test_a_model_that_was_asked_for_must_be_there_and_be_one(key, tmp_path):
    with pytest.raises(WeightsError, match=f"{key}.model="):
        open_perceptual(settings(f"{key}.model={tmp_path / 'none.mat'}"))
    (tmp_path / "wrong.mat").write_bytes(b"not MATLAB")
    with pytest.raises(WeightsError, match=f"{key}.model=.*wrong.mat"):
        open_perceptual(settings(f"{key}.model={tmp_path / 'wrong.mat'}"))


def test_the_final_takes_no_such_model():
    assert open_perceptual(load_settings("evaluate", EvaluateSettings, [])) is None


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (["judges=[edgeface]"], "asks no judge"),
        (["embedder=edgeface"], "asks no judge"),
        (["protocol.strict=false"], "2019 script"),
        (["protocol.perceptual.border_px=-1"], "border_px"),
        (["protocol.perceptual.best_index=0"], "best_index"),
        (["protocol.perceptual.rmse_window=[8]"], "rmse_window"),
        (["protocol.perceptual.region_rmse=[3,2]"], "region_rmse"),
        (["niqe.strip_blocks=0"], "strip_blocks"),
        (["study=resolution", "high=x"], "leave protocol= out"),
        (["entries=[x]", "method=bicubic"], "study=tradeoff"),
        (["interpolate_with=x", "restored=a", "high=b"], "interpolate_with needs method="),
        (["interpolation_weight=0.3", "restored=a", "high=b"], "needs interpolate_with"),
        (["study=nothing"], "choose one of resolution, tradeoff"),
        (["study=tradeoff", "restored=x"], "put restored folders there"),
        (["study=tradeoff", "method=x"], "needs both"),
        (["study=tradeoff", "low=x"], "high has no value"),
        (["study=tradeoff", "curve_weights=[0,2]"], "from 0 to 1"),
    ],
)
def test_settings_that_do_not_fit_are_told(overrides, sentence):
    with pytest.raises(ConfigError, match=sentence):
        checked(settings(*overrides))


def test_per_image_csv_has_every_picture(pictures, model, tmp_path):
    found = run(pictures, f"niqe.model={model}")
    (tmp_path / "out").mkdir()
    write_evaluation(tmp_path / "out", found, None, OPTIONS)
    with (tmp_path / "out" / "per_image.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["id"] for row in rows] == list(IDS)
    assert float(rows[0]["niqe/drawn"]) == pytest.approx(found.scores.values["niqe/drawn"][0], abs=1e-6)
