"""The files an evaluation writes: what they hold, and that the page needs nothing but itself."""

import csv
import json
import re
import shutil
import subprocess
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
import torch

from facesr.evaluation.flow import Options, evaluate, write_evaluation
from facesr.evaluation.report.examples import pick, window
from facesr.evaluation.report.tables import console_table
from facesr.evaluation.result import Subject, summary_of, warnings_of
from facesr.figures.charts import histogram_svg

OPTIONS = Options(torch.device("cpu"), batch_size=4, num_resamples=100, num_examples=2, seed=0)


@pytest.fixture
def run(faces, protocol, judge):
    """Evaluates the fixture's faces by two judges; `loss_judges` are those the method was trained on."""

    def evaluated(loss_judges=None, rules=protocol, low=faces.low, **keys):
        second = type(judge)("other")
        subject = Subject("restored", "mine <b>", faces.restored, loss_judges, {"path": str(faces.restored)})
        return evaluate(subject, faces.high, low, rules, [judge, second], OPTIONS, **keys)

    return evaluated


class Page(HTMLParser):
    """Collects the tags, and everything that would be fetched."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.fetched: list[str] = []
        self.num_images = 0
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        if tag not in ("meta", "img", "wbr", "path", "rect"):
            self.open.append(tag)
        self.num_images += tag == "img"
        for name, value in attributes:
            if name in ("src", "href", "data", "action") and not value.startswith("data:"):
                self.fetched.append(value)
        assert tag not in ("script", "link", "iframe")

    def handle_endtag(self, tag):
        if tag not in ("path", "rect"):
            assert self.open.pop() == tag


def test_the_three_files(run, tmp_path, judge):
    evaluation = run()
    write_evaluation(tmp_path, evaluation, judge, OPTIONS)
    assert sorted(path.name for path in tmp_path.glob("*.*")) == ["per_image.csv", "report.html", "summary.json"]
    summary = json.loads((tmp_path / "summary.json").read_text())
    rows = list(csv.DictReader((tmp_path / "per_image.csv").read_text().splitlines()))
    assert [row["id"] for row in rows] == list("abcdefg")
    for name, metric in summary["metrics"].items():
        column = [float(row[name]) for row in rows]
        assert metric["mean"] == pytest.approx(np.mean(column), abs=1e-5)
        assert metric["std"] == pytest.approx(np.std(column, ddof=1), abs=1e-5)
        assert metric["ci95"][0] <= metric["mean"] <= metric["ci95"][1]
        assert metric["count"] == 7 and metric["version"] >= 1 and isinstance(metric["higher_is_better"], bool)
    assert summary["score"] == summary["metrics"]["is/grid"]["mean"]
    assert summary["judges"]["grid"] == {
        "weights_sha256": "0" * 64,
        "dim": 48,
        "ranks": True,
        "in_training_loss": None,
    }
    assert summary["white_box"] is None and summary["warnings"] == []


def test_the_page_needs_nothing_but_itself(run, tmp_path, judge):
    write_evaluation(tmp_path, run(), judge, OPTIONS)
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    page = Page(text)
    assert page.open == [] and page.fetched == []
    assert not re.search(r"url\(|@import|https?://", text)
    # Three rows of two faces, each with three pictures.
    assert page.num_images == 18
    assert 'name="viewport"' in text and "mine &lt;b&gt;" in text and "mine <b>" not in text


@pytest.mark.browser
@pytest.mark.parametrize("width", [320, 390, 1200])
def test_no_screen_has_to_scroll_sideways(run, tmp_path, judge, width):
    (tmp_path / "groups.csv").write_text("id,light\n" + "".join(f"{key},day\n" for key in "abcdefg"))
    judge.name = "a_judge_with_quite_a_long_name"
    write_evaluation(tmp_path, run(loss_judges=(judge.name,), attributes=tmp_path / "groups.csv"), judge, OPTIONS)
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    # Chromium's own window is never narrower than 500 pixels, a frame may be; the frame's page reports its width.
    measure = "<script>onload=()=>parent.postMessage(document.documentElement.scrollWidth,'*')</script>"
    (tmp_path / "page.html").write_text(text.replace("</body>", f"{measure}</body>"), encoding="utf-8")
    (tmp_path / "frame.html").write_text(
        "<body>waiting<script>onmessage=event=>{document.body.textContent='is '+event.data}</script>"
        f"<iframe src=page.html style='width:{width}px;height:600px;border:0'></iframe>"
    )
    browser = next(path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name)))
    command = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=3000", "--dump-dom"]
    command += [f"--user-data-dir={tmp_path / 'profile'}", str(tmp_path / "frame.html")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=True)
    assert int(re.findall(r"is (\d+)", done.stdout)[0]) <= width


def test_without_low_pictures_there_is_no_consistency(run, tmp_path, judge):
    evaluation = run(low=None)
    assert "consistency" not in evaluation.statistics
    write_evaluation(tmp_path, evaluation, judge, OPTIONS)
    assert Page((tmp_path / "report.html").read_text()).num_images == 12


def test_a_white_box_judge_is_told_with_the_held_out_ones_beside_it(run, tmp_path, judge):
    evaluation = run(loss_judges=("grid",))
    held_out = evaluation.statistics["is/other"].mean
    (warning,) = warnings_of(evaluation)
    assert "White-box" in warning and f"other {held_out:.4f}" in warning
    assert warning in console_table(evaluation)
    assert summary_of(evaluation)["white_box"] is True
    write_evaluation(tmp_path, evaluation, judge, OPTIONS)
    text = (tmp_path / "report.html").read_text()
    assert "White-box" in text and ">white-box<" in text and ">held out<" in text
    assert "Add a held-out judge" in warnings_of(run(loss_judges=("grid", "other")))[0]


def test_a_judge_that_was_not_trained_on_is_no_white_box(run):
    evaluation = run(loss_judges=("other",))
    assert not evaluation.white_box and warnings_of(evaluation) == []
    assert [judge.in_training_loss for judge in evaluation.judges] == [False, True]


def test_official_rules_are_told(run, protocol, faces):
    (faces.restored / "a.png").unlink()
    evaluation = run(rules=replace(protocol, strict=False))
    assert "1 missing" in warnings_of(evaluation)[0]
    assert summary_of(evaluation)["official_notes"]["missing"] == ["a.png"]
    assert "official rules" in console_table(evaluation)


def test_groups_are_in_every_output(run, tmp_path, judge):
    path = tmp_path / "groups.csv"
    path.write_text("id,light\n" + "".join(f"{key},{'day' if key < 'd' else 'night'}\n" for key in "abcdefg"))
    evaluation = run(attributes=path)
    values = evaluation.scores.values["is/grid"]
    day = summary_of(evaluation)["groups"]["light"]["day"]["is/grid"]
    assert day["count"] == 3 and day["mean"] == pytest.approx(values[:3].mean())
    assert "night" in console_table(evaluation)
    (tmp_path / "out").mkdir()
    write_evaluation(tmp_path / "out", evaluation, judge, OPTIONS)
    text = (tmp_path / "out" / "report.html").read_text()
    assert "By light" in text and Page(text).open == []


@pytest.mark.parametrize(("count", "faces", "sizes"), [(5, 300, (5, 5, 5)), (5, 7, (2, 2, 2)), (5, 1, (1, 0, 0))])
def test_examples_are_the_extremes_and_no_face_twice(count, faces, sizes):
    values = np.random.default_rng(2).random(faces)
    chosen = pick(values, count, seed=3)
    assert tuple(len(row) for row in chosen.values()) == sizes
    every = [position for row in chosen.values() for position in row]
    assert len(set(every)) == len(every)
    order = list(np.argsort(values))
    assert chosen["worst"] == order[: sizes[0]] and chosen["best"] == order[::-1][: sizes[1]]
    assert pick(values, count, seed=3) == chosen


def test_the_histogram_counts_every_face():
    values = np.array([-0.31, 0.2, 0.21, 0.5, 1.0])
    svg = histogram_svg(values, "a & b", lowest=-0.31)
    counts = [int(count) for count in re.findall(r": (\d+) faces", svg)]
    assert sum(counts) == 5 and max(counts) == 2
    assert "mean 0.3200" in svg and "a &amp; b" in svg
    assert re.findall(r": (\d+) faces", histogram_svg(np.ones(3), "", lowest=1.0)) == ["3"]


def test_of_large_pictures_the_busiest_window_is_shown_in_step_with_the_low_one():
    high = np.full((400, 520, 3), 128, np.uint8)
    high[130:380:2, 200:450] = 0  # stripes: what there is to see
    top, left = window(high)
    assert (top, left) == (128, 192) and top % 4 == left % 4 == 0
    assert window(high[:200, :200]) == (0, 0)
