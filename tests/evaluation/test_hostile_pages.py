"""No page lets a name out as HTML: of a subject, team, run, picture, judge, group, or a fact of any of them."""

from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
import torch

from facesr.evaluation.compare import write_comparison
from facesr.evaluation.flow import Options, evaluate
from facesr.evaluation.perceptual import Figure
from facesr.evaluation.report.examples import examples
from facesr.evaluation.report.report import report_html
from facesr.evaluation.report.study_page import Sheet, study_page
from facesr.evaluation.result import Subject
from facesr.guard import Fallback, GuardRecord, Replaced

HOSTILE = "<script>alert(1)</script>'\"&"
OPTIONS = Options(torch.device("cpu"), batch_size=4, num_resamples=20, num_examples=2, seed=0)


class Parsed(HTMLParser):
    """What a browser makes of a page: its elements, and where the hostile name comes out as plain text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: set[str] = set()
        self.attributes: set[str] = set()
        self.text = ""
        self.values: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.elements.add(tag)
        self.attributes |= {name for name, _ in attributes}
        self.values += [value or "" for _, value in attributes]

    def handle_data(self, data):
        self.text += data


def parsed(text: str) -> Parsed:
    found = Parsed(text)
    assert "script" not in found.elements
    assert found.attributes <= {
        "aria-label", "alt", "charset", "class", "content", "d", "height", "lang", "name", "role", "scope", "src",
        "text-anchor", "title", "viewbox", "width", "x", "y",
    }  # fmt: skip
    return found


@pytest.fixture
def hostile(faces, protocol, judge, tmp_path):
    """An evaluation in which everything that has a name has the hostile one; a slash is no part of a file's name."""
    (tmp_path / "groups.csv").write_text(
        "id,light\n" + "".join(f'{key},"group{HOSTILE.replace(chr(34), chr(34) * 2)}"\n' for key in "abcdefg")
    )
    judge.name = f"judge{HOSTILE}"
    fallback = Fallback(f"fallback{HOSTILE}", "f" * 64)
    replaced = {f"a{HOSTILE}": Replaced(12.0, f"by{HOSTILE}")}
    subject = Subject(
        "submission", f"team{HOSTILE}", faces.restored, (f"judge{HOSTILE}",), {f"fact{HOSTILE}": f"value{HOSTILE}"},
        is_claim=True, guard=GuardRecord(True, 30.0, (fallback,), replaced),
    )  # fmt: skip
    found = evaluate(subject, faces.high, faces.low, protocol, [judge], OPTIONS, attributes=tmp_path / "groups.csv")
    ids = tuple(f"{key}{HOSTILE}" for key in found.scores.ids)
    items = tuple(replace(pair, id=key) for pair, key in zip(found.pairs.items, ids, strict=True))
    return replace(
        found,
        scores=replace(found.scores, ids=ids),
        pairs=replace(found.pairs, items=items),
        protocol=replace(found.protocol, name=f"protocol{HOSTILE}"),
        groups={f"attribute{HOSTILE}": found.groups["light"]},
        figures=(Figure(f"figure{HOSTILE}", 1.0, f"unit{HOSTILE}", True, f"conditions{HOSTILE}"),),
        missing={f"missing{HOSTILE}": f"reason{HOSTILE}"},
        models={f"model{HOSTILE}": "e" * 64},
    )


def test_of_an_evaluation(hostile, judge):
    rows = examples(hostile.pairs, hostile.scores, hostile.ordering, judge, OPTIONS.device, 2, 0)
    found = parsed(report_html(hostile, rows))
    what = (
        "team", "judge", "value", "by", "a", "protocol", "attribute", "group", "figure", "unit", "conditions",
        "missing", "reason", "Model of model",
    )  # fmt: skip
    assert [name for name in what if f"{name}{HOSTILE}" not in found.text] == []
    assert f"ID similarity by judge{HOSTILE}" in found.values


def test_of_an_evaluation_without_judges(hostile):
    rows = examples(hostile.pairs, hostile.scores, hostile.ordering, None, OPTIONS.device, 2, 0)
    column = f"judge{HOSTILE}"
    found = parsed(report_html(replace(hostile, judges=(), ranking_column=f"is/{column}"), rows))
    assert f"Worst by is/{column} first." in found.text and f"a{HOSTILE}" in found.text


def test_of_a_study():
    text = study_page(
        f"title{HOSTILE}", heading=f"heading{HOSTILE}", about=f"about{HOSTILE}", notes=[f"note{HOSTILE}"], plot=b"",
        plot_alt=f"plot{HOSTILE}", table_title=f"table{HOSTILE}", table=[["entry", f"head{HOSTILE}"],
        [f"row{HOSTILE}", f"cell{HOSTILE}"]], how={f"how{HOSTILE}": f"taken{HOSTILE}"},
        sheet=Sheet(b"", f"sheet{HOSTILE}", f"alt{HOSTILE}"),
    )  # fmt: skip
    found = parsed(text)
    what = ("title", "heading", "about", "note", "table", "head", "row", "cell", "how", "taken", "sheet")
    assert [name for name in what if f"{name}{HOSTILE}" not in found.text] == []
    assert [name for name in ("plot", "alt") if f"{name}{HOSTILE}" not in found.values] == []


def test_of_a_comparison(tmp_path: Path):
    write_comparison(tmp_path, [["run", f"key{HOSTILE}"], [f"run{HOSTILE}", f"value{HOSTILE}"]])
    found = parsed((tmp_path / "compare.html").read_text())
    assert [name for name in ("key", "run", "value") if f"{name}{HOSTILE}" not in found.text] == []
