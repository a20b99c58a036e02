"""Bicubic interpolation beside a method, and the date: right values, at no cost to the scores of the method."""

import json
from dataclasses import replace
from datetime import datetime, timedelta, timezone

import numpy as np
import pytest
import torch

from facesr import dist
from facesr.build import load_settings
from facesr.config import EvaluateSettings
from facesr.evaluation.flow import Options, evaluate, write_evaluation
from facesr.evaluation.pairs import strict_pairs
from facesr.evaluation.perceptual import open_perceptual
from facesr.evaluation.report.tables import console_table
from facesr.evaluation.result import Subject, summary_of
from facesr.evaluation.scoring import score
from facesr.metrics import default_metrics
from facesr.png import read_png, write_png
from facesr.resample import resize_matrix

CPU = torch.device("cpu")
OPTIONS = Options(CPU, batch_size=3, num_resamples=50, num_examples=1, seed=0)


@pytest.fixture
def run(faces, protocol, judge):
    """Evaluates the fixture's restored faces."""

    def evaluated(subject=None, low=faces.low, beside_bicubic=True, options=OPTIONS, **keys):
        subject = subject or Subject("restored", "mine", faces.restored)
        return evaluate(subject, faces.high, low, protocol, [judge], options, beside_bicubic=beside_bicubic, **keys)

    return evaluated


def test_of_flat_pictures_the_values_are_known(run, faces):
    # Interpolating one colour gives that colour: by picture 3, 6, .. 21 grey levels from its original, 12 on average.
    for place, key in enumerate("abcdefg", 1):
        write_png(faces.low / f"{key}.png", np.full((7, 6, 3), 100, np.uint8))
        write_png(faces.high / f"{key}.png", np.full((28, 24, 3), 100 + 3 * place, np.uint8))
    found = run().scores.bicubic
    assert found["rmse"] == pytest.approx(12.0)
    assert found["psnr_rgb"] == pytest.approx(np.mean([20 * np.log10(255 / (3 * place)) for place in range(1, 8)]))
    assert found["consistency"] == 100.0
    # The judge sees grey, below the middle or above: its vectors point the same way or the opposite one.
    signs = [np.sign(100 + 3 * place - 127.5) for place in range(1, 8)]
    assert found["is/grid"] == pytest.approx(-np.mean(signs))


def test_the_values_are_those_of_a_folder_of_interpolated_pictures(run, faces, protocol, judge, tmp_path):
    folder = tmp_path / "bicubic"
    folder.mkdir()
    for key in "abcdefg":
        low = read_png(faces.low / f"{key}.png").astype(np.float64)
        large = np.einsum("yi,xj,ijc->yxc", resize_matrix(7, 28), resize_matrix(6, 24), low)
        write_png(folder / f"{key}.png", np.floor(large + 0.5).clip(0, 255).astype(np.uint8))
    alone = score(
        strict_pairs(folder, faces.high, faces.low, protocol), default_metrics([judge], with_low=True), CPU, 3
    )
    found = run().scores.bicubic
    assert list(found) == list(alone.values)
    assert found == pytest.approx({name: values.mean() for name, values in alone.values.items()}, abs=1e-6)


def test_no_score_of_the_method_moves(run):
    alone, beside = run(beside_bicubic=False), run()
    assert alone.scores.bicubic == {} and beside.scores.pixels_sha256 == alone.scores.pixels_sha256
    assert beside.statistics == alone.statistics
    for name, values in alone.scores.values.items():
        np.testing.assert_array_equal(beside.scores.values[name], values)


def test_any_number_of_ranks_gives_the_same_bits(faces, protocol, judge, monkeypatch):
    pairs, metrics = strict_pairs(faces.restored, faces.high, faces.low, protocol), default_metrics([judge], True)
    alone = score(pairs, metrics, CPU, 2, with_bicubic=True)
    for num_ranks in (2, 5):
        parts, counts = [], []
        for rank in range(num_ranks):
            monkeypatch.setattr(dist, "rank", lambda rank=rank: rank)
            monkeypatch.setattr(dist, "world_size", lambda count=num_ranks: count)
            monkeypatch.setattr(dist, "together", lambda work, parts=parts: parts.append(work()))
            before = judge.num_pictures
            score(pairs, metrics, CPU, 2, with_bicubic=True)
            counts.append(judge.num_pictures - before)
        monkeypatch.setattr(dist, "together", lambda work, parts=parts: parts)
        assert score(pairs, metrics, CPU, 2, with_bicubic=True).bicubic == alone.bicubic
        # Restored, interpolated and, as nothing is remembered here, originals twice; of 7 faces in all.
        assert sum(counts) == 28 and max(counts) < 28


@pytest.mark.parametrize("is_kept", [False, True])
def test_the_originals_are_embedded_once(run, judge, tmp_path, is_kept):
    options = replace(OPTIONS, kept_in=tmp_path / "kept" if is_kept else None)
    run(options=options)
    # Seven restored, seven originals, seven interpolated, and the fixed picture that names what is remembered.
    assert judge.num_pictures == 22
    judge.num_pictures = 0
    run(options=options)
    assert judge.num_pictures == (15 if is_kept else 22)


def test_bicubic_does_not_stand_beside_itself(run, faces):
    known = {"weights_sha256": ""}
    assert run(Subject("method", "bicubic", faces.restored, facts=known)).scores.bicubic == {}
    assert run(Subject("restored", "bicubic", faces.restored, facts=known)).scores.bicubic == {}
    others = [
        Subject("method", "nearest", faces.restored, facts=known),
        Subject("method", "bicubic", faces.restored, facts={"weights_sha256": "0" * 64}),
        Subject("restored", "bicubic", faces.restored),
        Subject("submission", "bicubic", faces.restored, facts=known, is_claim=True),
    ]
    assert [subject for subject in others if not run(subject).scores.bicubic] == []


def test_without_low_pictures_or_for_the_perceptual_index_there_is_none(run, make_faces, tmp_path):
    assert run(low=None).scores.bicubic == {}
    large = make_faces(tmp_path / "large", 160, 120, ("a", "b"))
    asked = load_settings("evaluate", EvaluateSettings, ["protocol=asc19_preliminary"])
    found = evaluate(
        Subject("restored", "x", large.restored), large.high, large.low, asked.protocol, [], OPTIONS,
        perceptual=open_perceptual(asked), beside_bicubic=True,
    )  # fmt: skip
    assert found.scores.bicubic == {}


def test_it_stands_in_table_page_and_summary(run, judge, tmp_path):
    found = run()
    write_evaluation(tmp_path, found, judge, OPTIONS)
    assert json.loads((tmp_path / "summary.json").read_text())["bicubic"] == found.scores.bicubic
    lines = console_table(found).splitlines()
    assert lines[1].split() == ["mean", "95", "%", "interval", "std", "bicubic", "unit", "better"]
    page = (tmp_path / "report.html").read_text()
    assert "<th>bicubic</th>" in page
    for name, decimals in (("is/grid", 4), ("psnr_rgb", 2), ("ssim", 4), ("consistency", 2)):
        shown = f"{found.scores.bicubic[name]:.{decimals}f}"
        assert next(line for line in lines if line.startswith(name)).split()[6] == shown
        assert f"</td><td>{shown}</td><td class='wide'>{found.statistics[name].std:.{decimals}f}</td>" in page


def test_without_it_there_is_no_column(run, judge, tmp_path):
    found = run(low=None)
    write_evaluation(tmp_path, found, judge, OPTIONS)
    assert "bicubic" not in console_table(found) + (tmp_path / "report.html").read_text()
    assert summary_of(found)["bicubic"] == {}


def test_the_date_is_told_in_utc(run, judge, tmp_path):
    found = run(created=datetime(2019, 4, 23, 1, 30, 5, 999, tzinfo=timezone(timedelta(hours=8))))
    write_evaluation(tmp_path, found, judge, OPTIONS)
    assert json.loads((tmp_path / "summary.json").read_text())["created"] == "2019-04-22T17:30:05+00:00"
    assert '<p class="quiet">Created 2019-04-22T17:30:05+00:00</p>' in (tmp_path / "report.html").read_text()


def test_without_a_date_none_is_told(run, judge, tmp_path):
    write_evaluation(tmp_path, run(), judge, OPTIONS)
    assert json.loads((tmp_path / "summary.json").read_text())["created"] is None
    assert "Created" not in (tmp_path / "report.html").read_text()
