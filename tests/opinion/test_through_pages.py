"""Simulated raters through the real pages, from the link to the report: what was planted is found."""

import argparse
import csv
import json
from pathlib import Path

import numpy as np
import pytest

from facesr.opinion.analysing import analyse
from facesr.opinion.ratings import ORIGINAL
from facesr.opinion.sessions import Trial
from tests.opinion.made import Hall, a_study, answer

MEANS = {"nearest": 1.5, "bicubic": 2.0, "ours": 3.8, "theirs": 2.8, ORIGINAL: 4.6}
KINDS = ["honest"] * 4 + ["biased", "clicker", "straight"]


def chosen(trial: Trial, kind: str, leniency: float, random: np.random.Generator) -> int:
    """Returns what a rater of a kind answers."""
    if kind == "clicker":
        return int(random.integers(1, 6))
    if kind == "straight":
        return 3
    if trial.expected is not None:
        return trial.expected
    opinion = MEANS[trial.method] + leniency + (0.6 if kind == "biased" else 0.0) + random.normal(0.0, 0.5)
    return int(np.clip(np.rint(opinion), 1, 5))


@pytest.mark.slow
def test_planted_differences_and_clickers_are_found_through_the_pages(tmp_path: Path) -> None:
    study = a_study(tmp_path, "faces=6", "raters=7", "reserve=1", "repeats=2", "traps=3", "rules.min_seconds=0")
    hall, random = Hall(study), np.random.default_rng(20)
    for kind in KINDS:
        link, leniency = hall.link(), random.normal(0.0, 0.3)
        client = hall.joined(link)
        for trial in hall.trials(link):
            assert answer(client, chosen(trial, kind, leniency, random)).status_code == 303
    out = tmp_path / "out"
    analyse(argparse.Namespace(folder=study.folder, out=out, judges="none", resamples=200, seed=0))
    rows = list(csv.DictReader((out / "raters.csv").read_text().splitlines()))
    excluded = [KINDS[i] for i, row in enumerate(rows) if row["excluded"] == "yes"]
    assert excluded == ["clicker", "straight"]
    summary = json.loads((out / "summary.json").read_text())
    assert summary["informal"] and summary["raters"]["kept"] == 5
    found = {one["method"]: one for one in summary["kept"]["scores"] if one["measure"] == "mos"}
    order = sorted(found, key=lambda name: found[name]["value"])
    assert order == ["nearest", "bicubic", "theirs", "ours", ORIGINAL]
    pairs = [one for one in summary["kept"]["differences"] if {one["first"], one["second"]} == {"ours", "theirs"}]
    assert pairs[0]["p"] < 0.05 and abs(pairs[0]["value"]) == pytest.approx(1.0, abs=0.4)
