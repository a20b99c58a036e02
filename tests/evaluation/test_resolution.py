"""The self-similarity study and its chart."""

import csv

import cv2
import numpy as np
import pytest
import torch

from facesr.evaluation.studies.resolution import curve_csv, curve_png, curve_table, resolution_curve, shrink_and_enlarge
from facesr.figures.charts import Axes, curves_png

CPU = torch.device("cpu")


def test_a_stay_at_the_full_size_changes_nothing_and_a_flat_picture_never_changes():
    batch = torch.randint(0, 256, (2, 3, 32, 24)).float() / 255
    assert torch.equal(shrink_and_enlarge(batch, 32), batch)
    flat = torch.full((1, 3, 32, 24), 100 / 255)
    assert torch.allclose(shrink_and_enlarge(flat, 5), flat)


def test_the_longer_side_has_the_size():
    # Columns of alternating black and white: 16 of 32 columns cannot hold them, 32 of 32 can.
    batch = torch.zeros(1, 3, 16, 32)
    batch[..., ::2] = 1
    assert (shrink_and_enlarge(batch, 16) - 0.5).abs().mean() < 0.2
    assert torch.equal(shrink_and_enlarge(batch, 32), batch)


def test_the_curve_falls_and_has_only_sizes_the_pictures_have(make_faces, tmp_path, judge, monkeypatch):
    # Every pixel is a feature, so that whatever detail is lost lowers the cosine.
    monkeypatch.setattr(type(judge), "__call__", lambda self, batch: (batch - 0.5).flatten(1))
    faces = make_faces(tmp_path / "large", 48, 64)
    for path in faces.high.iterdir():
        noise = np.random.default_rng(len(path.stem)).integers(0, 256, (64, 48, 3), dtype=np.uint8)
        cv2.imwrite(str(path), noise)
    curve = resolution_curve(faces.high, [judge], CPU, 3, 100, 0)
    by_size = curve.statistics["grid"]
    assert list(by_size) == [64, 40, 32, 20, 16] and curve.num_pictures == 7
    means = [found.mean for found in by_size.values()]
    assert means[0] == pytest.approx(1.0)
    assert means == sorted(means, reverse=True) and means[-1] < 0.999
    rows = list(csv.DictReader(curve_csv(curve).splitlines()))
    assert [row["size"] for row in rows] == ["64", "40", "32", "20", "16"]
    assert float(rows[-1]["mean"]) == pytest.approx(means[-1], abs=1e-6)
    assert "grid" in curve_table(curve).splitlines()[0]
    chart = cv2.imdecode(np.frombuffer(curve_png(curve), np.uint8), cv2.IMREAD_COLOR_RGB)
    assert chart.shape == (540, 900, 3)


def test_curves_are_drawn_where_their_values_are():
    axes = Axes("title", "x", "y", ["1", "2", "3"])
    chart = cv2.imdecode(np.frombuffer(curves_png(axes, {"j": [1.0, 1.0, 1.0]}), np.uint8), cv2.IMREAD_COLOR_RGB)
    blue = (chart[..., 2].astype(int) - chart[..., 0] > 100).sum(axis=1)
    # The upper edge of the axes is the value 1; the legend's short line is further down.
    assert 57 <= int(blue.argmax()) <= 63 and blue.max() > 700
