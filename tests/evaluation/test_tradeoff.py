"""study=tradeoff: entries and their names, the plane's points, and its files."""

import csv
import itertools
import json
import unicodedata
from dataclasses import replace
from io import BytesIO

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from facesr.errors import ConfigError, DataError
from facesr.evaluation.flow import Options, evaluate
from facesr.evaluation.report.examples import window
from facesr.evaluation.result import Subject
from facesr.evaluation.studies.operators import cases_of
from facesr.evaluation.studies.robustness import Score, robustness_sheet
from facesr.evaluation.studies.tradeoff import (
    point_of,
    tradeoff_csv,
    tradeoff_sheet,
    tradeoff_table,
    write_tradeoff,
)
from facesr.evaluation.studies.tradeoff_entries import Entry, entries_of
from facesr.figures.plane import Marker, Plane, plane_png, ticks
from facesr.png import read_png

OPTIONS = Options(torch.device("cpu"), batch_size=4, num_resamples=20, num_examples=1, seed=0)


@pytest.fixture
def points(faces, protocol, judge):
    found = []
    for name, folder in (("noisy", faces.restored), ("perfect", faces.high)):
        evaluation = evaluate(Subject("restored", name, folder), faces.high, faces.low, protocol, [judge], OPTIONS)
        assert evaluation is not None
        found.append(point_of(Entry(name, folder=folder), evaluation))
    return found


def test_bicubic_comes_first_and_names_are_unlike(tmp_path):
    for name in ("x/restored", "y/restored", "z/x"):
        (tmp_path / name).mkdir(parents=True)
    specs = [str(tmp_path / "x" / "restored"), str(tmp_path / "y" / "restored"), str(tmp_path / "z" / "x"), "nearest"]
    found = entries_of(specs, None, None, [], with_low=True)
    assert [entry.name for entry in found] == ["bicubic", "x", "y", "x (2)", "nearest"]
    assert found[0].method == "bicubic" and found[1].folder == tmp_path / "x" / "restored"


def test_without_low_pictures_there_are_folders_only(tmp_path):
    (tmp_path / "a").mkdir()
    assert [entry.name for entry in entries_of([str(tmp_path / "a")], None, None, [], with_low=False)] == ["a"]
    with pytest.raises(ConfigError, match="bicubic is a method"):
        entries_of(["bicubic"], None, None, [], with_low=False)
    with pytest.raises(ConfigError, match="nothing to show"):
        entries_of([], None, None, [], with_low=False)


def test_a_curve_has_an_entry_for_every_share(tmp_path):
    for run in ("psnr", "gan"):
        (tmp_path / run / "snapshots").mkdir(parents=True)
        (tmp_path / run / "snapshots" / "best.safetensors").touch()
    found = entries_of([], str(tmp_path / "psnr"), str(tmp_path / "gan"), [0, 0.5, 1], with_low=True)
    assert [(entry.name, entry.share) for entry in found[1:]] == [
        ("psnr+0*gan", 0.0),
        ("psnr+0.5*gan", 0.5),
        ("psnr+1*gan", 1.0),
    ]
    assert {entry.family for entry in found[1:]} == {"psnr to gan"}


def test_a_missing_entry_is_named(tmp_path):
    with pytest.raises(DataError, match="nowhere is neither a folder of pictures nor an archive or a method"):
        entries_of([str(tmp_path / "nowhere")], None, None, [], with_low=True)


def test_points_are_rmse_and_what_similarity_lacks(points):
    noisy, perfect = points
    assert (perfect.x, perfect.y) == pytest.approx((0.0, 0.0), abs=1e-6)
    assert noisy.x == pytest.approx(noisy.evaluation.scores.values["rmse"].mean())
    assert noisy.y == pytest.approx(1 - noisy.evaluation.scores.values["is/grid"].mean())


def test_the_files(points, tmp_path):
    write_tradeoff(tmp_path, points, num_examples=2, seed=0)
    with (tmp_path / "tradeoff.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["name"] for row in rows] == ["noisy", "perfect"]
    assert float(rows[0]["x"]) == pytest.approx(points[0].x, abs=1e-6)
    assert float(rows[0]["psnr_y"]) == pytest.approx(points[0].evaluation.statistics["psnr_y"].mean, abs=1e-6)
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["study"] == "tradeoff" and [entry["name"] for entry in summary["entries"]] == ["noisy", "perfect"]
    page = (tmp_path / "report.html").read_text()
    assert "data:image/png;base64," in page and "noisy" in page and "http" not in page.replace("http-equiv", "")
    with Image.open(tmp_path / "tradeoff.png") as picture:
        assert picture.size == (900, 640)


def test_the_sheet_shows_every_entry_pixel_for_pixel(points, faces):
    sheet = tradeoff_sheet(points, 2, seed=0)
    assert sheet is not None and tradeoff_sheet(points, 0, seed=0) is None
    assert tradeoff_sheet(points, 2, seed=0) == sheet
    shown = np.array(Image.open(BytesIO(sheet)).convert("RGB"))
    ids = points[0].evaluation.scores.ids
    found = {"noisy": 0, "perfect": 0, "low": 0}
    for key in ids:
        for name, folder, zoom in (("noisy", faces.restored, 2), ("perfect", faces.high, 2), ("low", faces.low, 8)):
            picture = read_png(folder / f"{key}.png")
            found[name] += places_of(np.kron(picture, np.ones((zoom, zoom, 1), np.uint8)), shown)
    # The originals stand in the first row and are the second entry.
    assert found == {"noisy": 2, "perfect": 4, "low": 2}


def places_of(part: np.ndarray, whole: np.ndarray) -> int:
    """Returns how often a picture lies inside another one."""
    height, width = part.shape[:2]
    corners = np.argwhere((whole[: whole.shape[0] - height + 1, : whole.shape[1] - width + 1] == part[0, 0]).all(-1))
    return sum(np.array_equal(whole[y : y + height, x : x + width], part) for y, x in corners)


def test_the_sheet_finds_names_in_either_unicode_form(faces, protocol, judge):
    """A ZIP file made on macOS has its names in form D; an id is in form C."""
    for folder in (faces.high, faces.low, faces.restored):
        for number, path in enumerate(sorted(folder.iterdir())):
            path.rename(folder / unicodedata.normalize("NFD", f"J\u00fcrgen {number}.png"))
    evaluation = evaluate(Subject("restored", "x", faces.restored), faces.high, faces.low, protocol, [judge], OPTIONS)
    assert evaluation is not None and all(unicodedata.is_normalized("NFC", key) for key in evaluation.scores.ids)
    point = point_of(Entry("x", folder=faces.restored), evaluation)
    assert tradeoff_sheet([point], 2, seed=0) is not None
    case = next(case for case in cases_of([]) if case.level == 0)
    assert robustness_sheet([Score(case, evaluation)], 2, seed=0) is not None


def test_of_large_pictures_the_sheet_shows_one_window(any_size, judge, make_faces, tmp_path):
    large = make_faces(tmp_path / "large", width=320, height=288, ids=("a",))
    entries = [("noisy", large.restored), ("perfect", large.high)]
    found = [
        point_of(Entry(name, folder=folder), evaluated)
        for name, folder in entries
        if (evaluated := evaluate(Subject("restored", name, folder), large.high, large.low, any_size, [judge], OPTIONS))
    ]
    sheet = tradeoff_sheet(found, 1, seed=0)
    assert sheet is not None
    shown = np.array(Image.open(BytesIO(sheet)).convert("RGB"))
    top, left = window(read_png(large.high / "a.png"))
    for folder in (large.restored, large.high):
        part = read_png(folder / "a.png")[top : top + 128, left : left + 128]
        assert places_of(np.kron(part, np.ones((2, 2, 1), np.uint8)), shown) >= 1


def test_the_rules_of_2019_give_no_sheet(points):
    loose = replace(points[0].evaluation.protocol, strict=False)
    changed = [replace(point, evaluation=replace(point.evaluation, protocol=loose)) for point in points]
    assert tradeoff_sheet(changed, 2, seed=0) is None


def test_the_table_says_what_the_axes_are(points):
    text = tradeoff_table(points)
    assert "mean RMSE" in text and "1 - ID similarity by grid" in text and "noisy" in text


def test_csv_is_the_same_every_time(points):
    assert tradeoff_csv(points) == tradeoff_csv(points)


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.0, 1.0, [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]),
        (9.3, 18.7, [10.0, 12.0, 14.0, 16.0, 18.0]),
        (-0.3, 0.3, [-0.3, -0.2, -0.1, 0.0, 0.1, 0.2, 0.3]),
    ],
)
def test_ticks_are_round(low, high, expected):
    assert ticks(low, high) == pytest.approx(expected, abs=1e-12)


def pixels(markers, limits=None) -> np.ndarray:
    data = plane_png(Plane("title", "x", "y", limits or {}), markers)
    return np.array(Image.open(BytesIO(data)).convert("RGB")).astype(int)


def test_markers_lie_where_their_values_are():
    # The first colour of the palette marks the first series; right and up mean larger.
    picture = pixels([Marker(1, 1, "a"), Marker(9, 9, "b")])
    blue = np.argwhere((abs(picture - [0x00, 0x72, 0xB2]).sum(2)) < 30).mean(0)
    red = np.argwhere((abs(picture - [0xD5, 0x5E, 0x00]).sum(2)) < 30).mean(0)
    assert blue[0] > red[0] + 300 and blue[1] < red[1] - 400


def test_equal_and_single_points_are_drawn_too():
    assert (pixels([Marker(2, 3, "one")]) != 255).any()
    assert (pixels([Marker(2, 3, "one"), Marker(2, 3, "two")]) != 255).any()


def test_limits_outside_the_range_are_left_out():
    markers = [Marker(1, 1, "a"), Marker(2, 2, "b")]
    assert (pixels(markers, {100.0: "far"}) == pixels(markers)).all()
    assert (pixels(markers, {1.5: "near"}) != pixels(markers)).any()


CORNERS = {"blind": (9.08, 0.1206), "final": (9.15, 0.11), "final, flips": (9.01, 0.107), "psnr_long": (8.9, 0.1226)}
LINES_OFF = {
    "psnr_grown_long": (8.738, 0.1111),
    "blind": (9.839, 0.1085),
    "final": (9.164, 0.1035),
    "final, flips": (8.977, 0.1025),
}


@pytest.mark.parametrize(
    ("points", "far"),
    [(CORNERS, (14.658, 0.3464)), (LINES_OFF, (15.524, 0.41))],
    ids=["corners are enough", "some lines off"],
)
def test_labels_of_crowded_points_move_before_they_cover_each_other(monkeypatch, points, far):
    written = []
    plain = ImageDraw.ImageDraw.text

    def text(draw, place, words, fill=None, font=None, anchor=None, **more):
        if words.startswith("asc19"):
            written.append(draw.textbbox(place, words, font, anchor=anchor))
        return plain(draw, place, words, fill, font, anchor, **more)

    monkeypatch.setattr(ImageDraw.ImageDraw, "text", text)
    markers = [Marker(x, y, f"asc19_{name}") for name, (x, y) in points.items()]
    plane_png(Plane("", "", "", {}), [*markers, Marker(*far, "far")])
    assert len(written) == 4
    for first, second in itertools.combinations(written, 2):
        assert first[0] >= second[2] or second[0] >= first[2] or first[1] >= second[3] or second[1] >= first[3]
