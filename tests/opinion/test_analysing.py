"""The command analyse: its files, whole and without a number that is none; and the command plan."""

import argparse
import csv
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from facesr.errors import ConfigError, DataError
from facesr.opinion.analysing import FILES, judges_of, require_ratings, write_analysis
from facesr.opinion.conclusions import conclusions_of, warnings_of
from facesr.opinion.exclusion import conduct_of, everyone, kept
from facesr.opinion.findings import findings_of
from facesr.opinion.options import DEVIATIONS, add_analyse_options, add_plan_options
from facesr.opinion.planning import plan, size_of
from facesr.opinion.ratings import ORIGINAL, Records, read_raters, read_ratings
from facesr.opinion.simulation import Deviations
from facesr.png import write_png
from tests.opinion.made_ratings import MEANS, pair_study, person_study, study, with_pictures

OTHERS = {"biased": 1, "clicker": 2, "straight": 1}


def constant(answer: int = 3) -> Records:
    records = study(4, 5)
    return replace(records, ratings=tuple(replace(one, answer=answer) for one in records.ratings))


STUDIES = {
    "ratings": study(20, 10, OTHERS),
    "pairs": pair_study(),
    "persons": person_study(),
    "one rater": study(1, 5),
    "one face": study(4, 1),
    "one method": study(4, 5, means={"only": 3.0}),
    "constant": constant(),
    "all excluded": study(3, 5, {"clicker": 3}),
}


@pytest.mark.parametrize("name", STUDIES)
def test_all_files_are_written_and_every_number_is_one(name: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    write_analysis(STUDIES[name], [], out, 200, 0)
    assert {path.name for path in out.iterdir()} == set(FILES)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    for path in out.iterdir():
        assert not re.search(r"\b([nN]a[nN]|inf|None)\b", path.read_text()), path.name
    page = (out / "report.html").read_text()
    assert "Simulated study, no person rated anything" in page
    assert not re.search(r"(src|href)=|https?://|@import|url\(", page)
    assert read_ratings(out / "ratings.csv") == STUDIES[name].ratings
    assert read_raters(out / "raters.csv") == STUDIES[name].raters
    summary = json.loads((out / "summary.json").read_text())
    assert summary["all"]["scores"]


def test_the_same_study_and_seed_give_the_same_files(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_analysis(STUDIES["ratings"], [], tmp_path / name, 200, 7)
    for file in FILES:
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_exclusions_stand_with_their_reasons_and_both_results(tmp_path: Path) -> None:
    write_analysis(STUDIES["ratings"], [], tmp_path / "out", 200, 0)
    rows = list(csv.DictReader((tmp_path / "out" / "raters.csv").read_text().splitlines()))
    assert [row["rater"] for row in rows if row["excluded"] == "yes"] == ["r0017", "r0018", "r0019"]
    assert "traps" in rows[17]["reasons"] and float(rows[17]["inconsistency"]) > 1.2
    assert float(rows[0]["bias"]) == pytest.approx(float(rows[0]["bias"]))
    methods = list(csv.DictReader((tmp_path / "out" / "methods.csv").read_text().splitlines()))
    assert {row["raters_set"] for row in methods} == {"kept", "all"}
    assert {row["raters"] for row in methods if row["raters_set"] == "all"} == {"20"}
    page = (tmp_path / "out" / "report.html").read_text()
    assert "With and without the exclusions" in page and "r0017" in page


def test_names_of_methods_command_neither_page_nor_spreadsheet(tmp_path: Path) -> None:
    records = study(4, 4, means={"<script>x</script>": 2.0, "=1+1": 4.0})
    write_analysis(replace(records, title="Simulated </title><script>"), [], tmp_path / "out", 200, 0)
    assert "<script" not in (tmp_path / "out" / "report.html").read_text()
    for name in ("ratings.csv", "methods.csv", "differences.csv"):
        assert not re.search(r"(^|,)=", (tmp_path / "out" / name).read_text(), re.MULTILINE)


def test_an_analysis_replaces_an_earlier_one_and_nothing_else(tmp_path: Path) -> None:
    out = tmp_path / "out"
    write_analysis(STUDIES["one face"], [], out, 200, 0)
    write_analysis(STUDIES["ratings"], [], out, 200, 0)
    assert json.loads((out / "summary.json").read_text())["raters"]["joined"] == 20
    (out / "mine.txt").write_text("kept")
    with pytest.raises(DataError, match="holds other files"):
        write_analysis(STUDIES["ratings"], [], out, 200, 0)
    assert (out / "mine.txt").read_text() == "kept"
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot be used"):
        write_analysis(STUDIES["ratings"], [], tmp_path / "file", 200, 0)


def test_a_study_that_nobody_rated_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has no answer that counts yet"):
        require_ratings(replace(study(1, 2), ratings=()), tmp_path)


@pytest.fixture
def pictured(tmp_path: Path) -> Records:
    """Returns a study whose methods are the originals with more and more noise, as people have them."""
    records = study(8, 6, means=MEANS)
    random = np.random.default_rng(0)
    folders = {name: tmp_path / name for name in (ORIGINAL, *records.methods)}
    for folder in folders.values():
        folder.mkdir()
    for face in records.faces:
        low = random.integers(40, 216, (14, 12, 3))
        picture = np.kron(low, np.ones((8, 8, 1), np.int64))
        write_png(folders[ORIGINAL] / f"{face}.png", picture.astype(np.uint8))
        for i, name in enumerate(records.methods):
            noisy = picture + random.normal(0, 50 - 12 * i, picture.shape)
            write_png(folders[name] / f"{face}.png", np.clip(noisy, 0, 255).astype(np.uint8))
    (folders[ORIGINAL] / "other.png").write_bytes((folders[ORIGINAL] / "000000.png").read_bytes())
    return with_pictures(records, folders.pop(ORIGINAL), folders)


def test_opinions_are_held_against_judges_and_metrics(pictured: Records, tmp_path: Path) -> None:
    write_analysis(pictured, ["builtin"], tmp_path / "out", 200, 0)
    rows = list(csv.DictReader((tmp_path / "out" / "correlations.csv").read_text().splitlines()))
    found = {(row["metric"], row["level"]): row for row in rows if row["raters_set"] == "kept"}
    assert {metric for metric, _ in found} >= {"other raters", "is/builtin", "psnr_rgb", "psnr_y", "ssim", "rmse"}
    assert float(found["psnr_rgb", "methods"]["spearman"]) == 1
    assert found["rmse", "pictures"]["spearman"] == found["psnr_rgb", "pictures"]["spearman"]
    assert "agrees best with people" in (tmp_path / "out" / "report.html").read_text()


def test_missing_pictures_are_named_before_anything_is_written(pictured: Records, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nobody"):
        write_analysis(pictured, ["nobody"], tmp_path / "out", 200, 0)
    (pictured.folders["gan"] / "000003.png").unlink()
    with pytest.raises(DataError, match=r"\(gan\) lacks '000003.png'"):
        write_analysis(pictured, ["builtin"], tmp_path / "out", 200, 0)
    with pytest.raises(DataError, match="names no folder of originals"):
        write_analysis(STUDIES["ratings"], ["builtin"], tmp_path / "out", 200, 0)
    assert not (tmp_path / "out").exists()


def said(records: Records) -> str:
    conducts = conduct_of(records)
    found, everybody = (findings_of(records, who(conducts), {}, 200, 0) for who in (kept, everyone))
    return " ".join([*warnings_of(records, found, everybody), *conclusions_of(records, found)])


def test_what_may_be_concluded_is_no_more_than_the_numbers_say() -> None:
    assert "Informal: 14 raters" in said(study(14, 20))
    assert "Informal" not in said(study(15, 20))
    assert "10 faces only" in said(study(15, 10))
    assert "It is better than psnr, bicubic and nearest" in said(
        study(30, 20, means={"nearest": 1.5, "bicubic": 2.2, "psnr": 2.9, "gan": 4.0})
    )
    equal = said(study(20, 20, means={"a": 3.0, "b": 3.0}, seed=2))
    assert "not shown to be better than" in equal and "no proof of equality" in equal and "It is better" not in equal
    assert "higher MOS than the hidden originals" in said(study(20, 20, means={"gan": 4.0, ORIGINAL: 3.0}))
    assert "below bicubic, an anchor" in said(study(20, 20, means={"bicubic": 3.5, "gan": 2.5}))
    assert "exclude every rater" in said(STUDIES["all excluded"])
    assert "no interval" in said(STUDIES["constant"])
    assert "Not to be concluded" in said(STUDIES["persons"])


def options(*arguments: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_plan_options(parser)
    return parser.parse_args(list(arguments))


def test_the_plan_tells_the_intervals_of_each_size(capsys: pytest.CaptureFixture[str]) -> None:
    plan(options("--raters", "15", "24", "--faces", "20", "40", "--simulations", "200"))
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[0] for line in lines[1:5]] == ["15 x 20", "15 x 40", "24 x 20", "24 x 40"]
    assert {name: (value, DEVIATIONS[name][1]) for name, value in vars(Deviations()).items()} == DEVIATIONS


def test_the_plan_s_half_widths_are_those_of_the_formula() -> None:
    one = Deviations()
    for raters, faces, known in ((15, 20, 0.30), (24, 40, 0.22), (40, 40, 0.19)):
        found = size_of(raters, faces, one, simulations=400)
        rest = one.noise**2 + 1 / 12
        variance = 2 * (one.rater_method**2 / raters + one.method_face**2 / faces + rest / raters / faces)
        assert found.half_width_difference == pytest.approx(1.96 * variance**0.5, rel=0.08)
        assert found.half_width_difference == pytest.approx(known, abs=0.015)
        assert found.half_width_naive < 0.6 * found.half_width_difference


@pytest.mark.parametrize("kind", ["acr", "pairs", "same"])
def test_power_grows_with_raters_and_is_5_percent_without_a_difference(kind: str) -> None:
    small, large = (size_of(size, size, Deviations(), kind=kind, simulations=300) for size in (10, 40))
    assert small.power + 0.2 < large.power and large.power_corrected < large.power
    nothing = size_of(15, 20, Deviations(), kind=kind, simulations=1000, difference=1e-9)
    assert 0.02 <= nothing.power <= 0.08


def test_a_plan_that_would_never_end_is_refused() -> None:
    with pytest.raises(ConfigError, match="billion simulated answers"):
        plan(options("--raters", "1000", "--faces", "1000", "--simulations", "100000"))
    flags = [f"--sd-{name.replace('_', '-')}" for name in DEVIATIONS]
    with pytest.raises(ConfigError, match="one rater would do"):
        plan(options(*(part for flag in flags for part in (flag, "0"))))


def test_judges_are_read() -> None:
    parser = argparse.ArgumentParser()
    add_analyse_options(parser)
    assert judges_of(parser.parse_args([]).judges) == ["builtin"]
    assert judges_of("none") == judges_of("") == []
    assert judges_of(" builtin,facenet,builtin ") == ["builtin", "facenet"]
