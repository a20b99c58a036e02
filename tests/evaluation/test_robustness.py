"""study=robustness: operators and cases, what they write, the study from keys to files, and what is refused."""

import csv
import json
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from facesr.build import load_settings
from facesr.config import EvaluateSettings
from facesr.embedders.builtin import SmallRecogniser
from facesr.errors import ConfigError, FaceSRError, ImageError
from facesr.evaluation import run as evaluate
from facesr.evaluation import subjects
from facesr.evaluation.flow import Options
from facesr.evaluation.flow import evaluate as score_folder
from facesr.evaluation.result import Subject
from facesr.evaluation.studies.operators import OPERATORS, Case, cases_of, degradation_of, require_originals, write_low
from facesr.evaluation.studies.robustness import Score, robustness_csv, robustness_png, robustness_sheet, run_cases
from facesr.faults.kernels import DOWNSCALERS
from facesr.figures.sheet import Cell, sheet_png
from facesr.methods.folder import PICTURES, RestoreOptions, restore_folder
from facesr.methods.low import LowPictures
from facesr.methods.open import open_method
from facesr.png import list_png, read_png, write_png
from tests.ranks import run_as_ranks

CPU = torch.device("cpu")
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """Random weights of the built-in judge."""
    torch.manual_seed(0)
    torch.save(SmallRecogniser().state_dict(), tmp_path / "random.pt")
    return tmp_path / "random.pt"


@pytest.fixture
def run(tmp_path, weights, monkeypatch):
    """Runs evaluate.py's main with keys and returns its output folder."""
    monkeypatch.setenv("FACESR_CACHE", str(tmp_path / "cache"))

    def call(**keys) -> Path:
        given = {"study": "robustness", "device": "cpu", "out": tmp_path / "out", "embedder.weights": weights}
        given |= {"restored_dir": tmp_path / "kept"}
        given |= {"num_resamples": 20, "protocol": "open", **keys}
        overrides = [f"{key}={value}" for key, value in given.items() if value is not None]
        evaluate.run(load_settings("evaluate", EvaluateSettings, overrides))
        return Path(given["out"])

    return call


@pytest.fixture
def scores(faces, protocol, judge, tmp_path) -> list[Score]:
    """Bicubic on three cases, one of them with two strengths."""
    options = Options(CPU, batch_size=3, num_resamples=20, num_examples=1, seed=0)

    def restore(name, low):
        options_of = RestoreOptions(CPU, 3, False)
        restored = restore_folder(open_method("bicubic", CPU), LowPictures.open(low), options_of, tmp_path / "kept")
        subject = Subject("method", "bicubic", restored.path / PICTURES)
        return score_folder(subject, faces.high, low, protocol, [judge], options)

    cases = [Case("official"), Case("nearest"), Case("jpeg", 90, 1), Case("jpeg", 10, 2)]
    return run_cases(cases, faces.high, tmp_path / "cases", 0, CPU, 3, restore)


def pixels(folder: Path) -> dict[str, bytes]:
    return {key: read_png(path).tobytes() for key, path in list_png(folder).items()}


# Operators


def test_all_operators_come_with_the_official_one_first():
    cases = cases_of([])
    assert cases[0] == Case("official") and [case.operator for case in cases].count("official") == 1
    assert set(OPERATORS) == {case.operator for case in cases} >= set(DOWNSCALERS)
    assert all(case.level == 0 for case in cases if case.operator in DOWNSCALERS)
    for name, operator in OPERATORS.items():
        own = [case for case in cases if case.operator == name]
        assert len(own) == max(1, len(operator.strengths)) and bool(operator.what) == bool(operator.strengths)
    assert len({case.label for case in cases}) == len(cases)


def test_some_operators_come_in_the_order_of_the_list():
    assert [case.label for case in cases_of(["jpeg", "area"])] == [
        "official", "area", "jpeg 95", "jpeg 80", "jpeg 60", "jpeg 40"
    ]  # fmt: skip
    assert cases_of(["official"]) == [Case("official")]


def test_the_official_case_writes_the_official_pictures(faces, tmp_path):
    write_low(faces.high, tmp_path / "made", degradation_of(Case("official")), 0, CPU, 3)
    assert pixels(tmp_path / "made") == pixels(faces.low)


@pytest.mark.parametrize("case", [case for case in cases_of([]) if case.level in (0, 2)], ids=lambda case: case.label)
def test_what_an_operator_writes_does_not_depend_on_the_batch(case, faces, tmp_path):
    for name, batch_size in (("one", 1), ("many", 5)):
        write_low(faces.high, tmp_path / name, degradation_of(case), 3, CPU, batch_size)
    assert pixels(tmp_path / "one") == pixels(tmp_path / "many")
    assert (pixels(tmp_path / "one") == pixels(faces.low)) == (case.operator == "official")


def test_stronger_is_further_from_the_official_picture(faces, tmp_path):
    official = {key: read_png(path).astype(int) for key, path in list_png(faces.low).items()}
    for name in (name for name, operator in OPERATORS.items() if operator.strengths and name != "second_order"):
        found = []
        for case in (case for case in cases_of([name]) if case.level):
            write_low(faces.high, tmp_path / case.label, degradation_of(case), 0, CPU, 8)
            made = list_png(tmp_path / case.label)
            found.append(np.mean([np.abs(read_png(made[key]) - official[key]).mean() for key in official]))
        assert found == sorted(found) and len(found) == 4, (name, found)


def test_a_side_that_does_not_divide_is_named(tmp_path, any_size):
    (tmp_path / "high").mkdir()
    write_png(tmp_path / "high" / "odd.png", np.zeros((28, 26, 3), np.uint8))
    with pytest.raises(ImageError, match=r"odd\.png is 26x28"):
        require_originals(tmp_path / "high", any_size)


# Files


def test_the_table_as_csv(scores):
    rows = list(csv.DictReader(robustness_csv(scores).splitlines()))
    assert [(row["operator"], row["strength"], row["level"]) for row in rows] == [
        ("official", "", "0"), ("nearest", "", "0"), ("jpeg", "90", "1"), ("jpeg", "10", "2")
    ]  # fmt: skip
    psnr = [float(row["psnr_rgb"]) for row in rows]
    assert psnr[0] == max(psnr) and psnr[3] == min(psnr)
    assert float(rows[0]["consistency/ci95_low"]) <= float(rows[0]["consistency"])


def test_consistency_is_with_what_the_operator_made(scores):
    for score in scores:
        low = score.evaluation.low
        assert low is not None and low.parent.name == "low"
    # Bicubic keeps what it is given, however far that is from the original.
    harsh, official = scores[3].evaluation, scores[0].evaluation
    assert harsh.statistics["psnr_rgb"].mean < official.statistics["psnr_rgb"].mean - 3
    assert harsh.statistics["consistency"].mean > 25


def test_the_plot_and_the_sheet(scores):
    with Image.open(BytesIO(robustness_png(scores))) as plot:
        assert plot.size == (900, 640)
    sheet = robustness_sheet(scores, 6, seed=0)
    assert sheet is not None and robustness_sheet(scores, 0, seed=0) is None
    assert robustness_sheet(scores, 6, seed=0) == sheet
    one = robustness_sheet(scores, 1, seed=0)
    assert one is not None
    with Image.open(BytesIO(sheet)) as wide, Image.open(BytesIO(one)) as narrow:
        # Cells of the two faces' or the one face's width, and gaps of 8: original, official, nearest.
        assert (wide.width, narrow.width) == (8 + 3 * (24 + 2 + 24 + 8), 8 + 3 * (24 + 8))


def test_a_sheet_shows_low_pictures_pixel_by_pixel_above_the_restored():
    low, restored = np.zeros((2, 2, 3), np.uint8), np.full((8, 8, 3), 200, np.uint8)
    low[0, 0], low[1, 1] = 90, 250
    with Image.open(BytesIO(sheet_png([("row", [Cell("", [low], [restored])])]))) as picture:
        shown = np.array(picture)
    top = 8 + 24 + 18
    assert (shown[top : top + 4, 8:12] == 90).all() and (shown[top + 4 : top + 8, 12:16] == 250).all()
    assert (shown[top + 10 : top + 18, 8:16] == 200).all()


def test_large_pictures_are_shrunk_in_the_sheet():
    large = np.zeros((1024, 512, 3), np.uint8)
    with Image.open(BytesIO(sheet_png([("row", [Cell("", [large[::4, ::4]], [large])])]))) as picture:
        assert picture.width == 64 + 16


# From keys to files


@pytest.mark.slow
def test_the_study_end_to_end(run, faces, capsys):
    out = run(method="bicubic", high=faces.high, operators="[nearest,gaussian_noise]")
    assert {path.name for path in out.iterdir()} == {
        "question.json", "low", "robustness.csv", "robustness.png", "sheet.png", "report.html",
        "summary.json",
    }  # fmt: skip
    found = json.loads((out / "summary.json").read_text())
    assert found["study"] == "robustness" and found["subject"]["name"] == "bicubic" and found["num_pictures"] == 7
    assert [(case["operator"], case["strength"]) for case in found["cases"]] == [
        ("official", None), ("nearest", None), *(("gaussian_noise", level) for level in (2, 5, 10, 20))
    ]  # fmt: skip
    assert pixels(out / "low" / "00") == pixels(faces.low)
    page = (out / "report.html").read_text()
    assert page.count("data:image/png;base64,") == 2 and "gaussian_noise 20" in page and "src='http" not in page
    printed = capsys.readouterr().out
    assert "gaussian_noise 20" in printed and "robustness.png" in printed
    # The very same again; another question is refused.
    again = run(method="bicubic", high=faces.high, operators="[gaussian_noise,nearest]", batch_size=2)
    assert json.loads((again / "summary.json").read_text())["ranking_metric"] == found["ranking_metric"]
    for first, second in zip(found["cases"], json.loads((again / "summary.json").read_text())["cases"], strict=True):
        assert first["pixels_sha256"] == second["pixels_sha256"]
        assert second["means"] == pytest.approx(first["means"], abs=1e-5)
    with pytest.raises(FaceSRError, match="operators was"):
        run(method="bicubic", high=faces.high, operators="[nearest]")


def test_the_official_case_is_the_plain_evaluation(run, faces, tmp_path):
    out = run(method="bicubic", high=faces.high, operators="[official]")
    plain = run(study=None, method="bicubic", high=faces.high, low=faces.low, out=tmp_path / "plain")
    metrics = json.loads((plain / "summary.json").read_text())["metrics"]
    (case,) = json.loads((out / "summary.json").read_text())["cases"]
    assert case["means"] == pytest.approx({name: metric["mean"] for name, metric in metrics.items()})


def test_without_a_folder_built_in_faces_are_degraded(run, monkeypatch):
    def two_faces(folder: Path) -> int:
        return evaluate_export(folder, num_faces=2)

    evaluate_export = subjects.export_synthetic
    monkeypatch.setattr(subjects, "export_synthetic", two_faces)
    out = run(method="nearest", operators="[area]", protocol="asc19_final")
    found = json.loads((out / "summary.json").read_text())
    assert found["num_pictures"] == 2 and len(found["cases"]) == 2


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"high": "high"}, "give method=NAME"),
        ({"high": "high", "restored": "restored"}, "give method=NAME"),
        ({"high": "high", "method": "bicubic", "restored": "restored"}, "give method=NAME"),
        ({"high": "high", "low": "low", "method": "bicubic"}, "leave low= out"),
        ({"high": "high", "method": "bicubic", "operators": "[jpg]"}, "jpg is unknown; choose from official"),
        ({"high": "high", "method": "bicubic", "attributes": "a.csv"}, "no groups"),
        ({"method": "bicubic", "protocol": "asc19_preliminary", "embedder.weights": None}, "judges of faces"),
        (
            {"high": "high", "method": "bicubic", "study": "resolution", "operators": "[jpeg]"},
            "belongs to study=robust",
        ),
        ({"high": "absent", "method": "bicubic"}, "absent is not a folder"),
        (
            {"high": "high", "method": "bicubic", "protocol": "asc19_final"},
            "originals of protocol asc19_final have 96x112",
        ),
    ],
)
def test_bad_keys_are_one_sentence(run, faces, monkeypatch, keys, words):
    monkeypatch.chdir(faces.high.parent)
    with pytest.raises(FaceSRError, match=words) as caught:
        run(**keys)
    assert "\n" not in str(caught.value) and str(caught.value).endswith(".")


def test_an_unknown_operator_is_refused_by_name():
    with pytest.raises(ConfigError, match="operators: sharpen is unknown"):
        cases_of(["jpeg", "sharpen"])


@pytest.mark.slow
def test_two_ranks_give_the_files_of_one(run, faces, weights, tmp_path):
    arguments = f"study=robustness method=bicubic high={faces.high} embedder.weights={weights} num_resamples=20"
    arguments += f" operators=[gaussian_noise] protocol=open device=cpu batch_size=2 out={tmp_path / 'two'}"
    environment = {"FACESR_CACHE": str(tmp_path / "cache2")}
    ranks = run_as_ranks(2, "evaluate.py", arguments.split(), environment, timeout_s=180)
    assert [rank.returncode for rank in ranks] == [0, 0] and ranks[1].stdout == ""
    one = run(method="bicubic", high=faces.high, operators="[gaussian_noise]", batch_size=2)
    for number in range(5):
        assert pixels(tmp_path / "two" / "low" / f"{number:02d}") == pixels(one / "low" / f"{number:02d}")
    assert (tmp_path / "two" / "robustness.png").read_bytes() == (one / "robustness.png").read_bytes()
