"""study=audit: groups, intersections, tests against enumeration, the study from keys to files, and what is refused."""

import csv
import itertools
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from facesr.build import load_settings
from facesr.config import EvaluateSettings
from facesr.embedders.builtin import SmallRecogniser
from facesr.errors import FaceSRError
from facesr.evaluation import run as evaluate
from facesr.evaluation.bootstrap import holm, interval_of_mean
from facesr.evaluation.studies import audit, audit_groups
from facesr.evaluation.studies.audit_groups import findings_of, groups_of
from facesr.png import read_png, write_png

IDS = tuple(f"{number:03d}" for number in range(8))


def test_groups_and_their_intersections_leave_out_what_is_not_given():
    attributes = {
        "kind": ("photo", "photo", "photo", "drawn", "drawn", "not given"),
        "pose": ("front", "front", "side", "side", "side", "front"),
    }
    enough, small = groups_of(attributes, 2)
    assert [(one.attribute, one.name, one.count) for one in enough] == [
        ("kind", "drawn", 2),
        ("kind", "photo", 3),
        ("pose", "front", 3),
        ("pose", "side", 3),
        ("kind & pose", "photo & front", 2),
    ]
    # All drawn faces are seen from the side, so that intersection is a group already.
    assert [(one.name, one.count) for one in small] == [("photo & side", 1)]
    photo, front = enough[1], enough[4]
    assert photo.others.tolist() == [False, False, False, True, True, False]
    assert front.others.tolist() == [False, False, True, True, True, False]


def test_p_values_are_those_of_all_groups_of_that_size(monkeypatch):
    values = np.array([0.1, 0.4, 0.35, 0.9, 0.8, 0.7])
    groups, _ = groups_of({"kind": ("a", "a", "a", "b", "b", "b")}, 3)
    found = findings_of(groups, {"is": values, "flat": np.full(6, 0.3)}, 100, 0)
    seen = abs(values[:3].mean() - values[3:].mean())
    splits = [list(chosen) for chosen in itertools.combinations(range(6), 3)]
    differences = [values[one].mean() - np.delete(values, one).mean() for one in splits]
    exact = np.mean([abs(difference) >= seen - 1e-12 for difference in differences])
    assert exact == 0.1  # the groups as they are, and the other way round, of 20
    assert found[0].p == pytest.approx(exact, abs=0.01) and found[2].p == pytest.approx(exact, abs=0.01)
    assert found[1].p == 1.0 and found[1].difference == 0.0
    assert found[0].difference == pytest.approx(-seen) and found[2].difference == pytest.approx(seen)
    assert (found[0].low, found[0].high) == interval_of_mean(values[:3], 100, 0)
    monkeypatch.setattr(audit_groups, "_MOST_CELLS", 60)
    in_parts = findings_of(groups, {"is": values}, 100, 0)
    assert in_parts[0].p == pytest.approx(exact, abs=0.01)


def test_a_planted_difference_is_found_and_its_interval_holds_it():
    draw = np.random.default_rng(7)
    kinds = tuple(draw.permutation(["a"] * 40 + ["b"] * 60).tolist())
    poses = tuple(draw.choice(["front", "side"], 100).tolist())
    values = draw.normal(0.8, 0.05, 100) - 0.1 * (np.array(kinds) == "a")
    groups, _ = groups_of({"kind": kinds, "pose": poses}, 20)
    found = findings_of(groups, {"is": values, "noise": draw.normal(size=100)}, 1000, 0)
    real = {(one.attribute, one.group, one.measure) for one in found if one.is_real}
    assert ("kind", "a", "is") in real and ("kind", "b", "is") in real
    assert not [one for one in real if one[2] == "noise" or one[0] == "pose"]
    planted = next(one for one in found if (one.group, one.measure) == ("a", "is"))
    assert planted.difference_low < -0.1 < planted.difference_high < 0.0


def test_faces_without_a_value_do_not_count():
    values = np.array([0.1, np.nan, 0.3, 0.9, 0.7, np.nan])
    groups, _ = groups_of({"kind": ("a", "a", "a", "b", "b", "b")}, 3)
    found = findings_of(groups, {"is": np.nan_to_num(values), "yaw": values, "none": np.full(6, np.nan)}, 50, 0)
    assert [one.measure for one in found] == ["is", "yaw", "is", "yaw"]
    yaw = found[1]
    assert (yaw.count, yaw.value, yaw.difference) == (2, pytest.approx(0.2), pytest.approx(-0.6))
    assert yaw.p == pytest.approx(1 / 3, abs=0.02)  # 2 of the 6 splits of four faces into pairs


def test_without_intersections_there_are_none_and_too_many_tests_are_refused():
    attributes = {"kind": ("a", "b"), "pose": ("a", "b"), "hat": ("b", "b")}
    assert {group.attribute for group in groups_of(attributes, 1, False)[0]} == {"kind", "pose", "hat"}
    groups = groups_of({"kind": ("a", "b")}, 1)[0]
    audit._check_tests(groups, audit_groups.MOST_TESTS // 2)
    with pytest.raises(FaceSRError, match="are 902 tests, after whose correction"):
        audit._check_tests(groups, audit_groups.MOST_TESTS // 2 + 1)
    # As many as are allowed leave the lowest p value below 5 %.
    assert audit_groups.MOST_TESTS / (audit_groups._NUM_PERMUTATIONS + 1) < 0.05


def test_holm_by_hand():
    assert holm(np.array([0.01, 0.04, 0.03])).tolist() == pytest.approx([0.03, 0.06, 0.06])
    assert holm(np.array([0.5, np.nan, 0.4]))[[0, 2]].tolist() == pytest.approx([0.8, 0.8])


@pytest.fixture
def faces(make_faces, tmp_path):
    """Eight faces of the competition's size; the restored ones of group a are lighter than their originals."""
    made = make_faces(tmp_path / "faces", 96, 112, IDS)
    for key in IDS:
        high = read_png(made.high / f"{key}.png")
        light = 30 if int(key) < 4 else 0
        write_png(made.restored / f"{key}.png", np.clip(high.astype(int) + light, 0, 255).astype(np.uint8))
    lines = [f"{key},{'a' if int(key) < 4 else '=cmd|<b>x'},{'even' if int(key) % 2 else 'odd'}" for key in IDS]
    (tmp_path / "groups.csv").write_text("\n".join(["id,kind,number", *lines]) + "\n")
    return made


@pytest.fixture
def run(tmp_path, faces, monkeypatch):
    """Runs the audit with keys and returns its output folder."""
    monkeypatch.setenv("FACESR_CACHE", str(tmp_path / "cache"))
    torch.manual_seed(0)
    torch.save(SmallRecogniser().state_dict(), tmp_path / "random.pt")

    def call(**keys) -> Path:
        given = {"study": "audit", "device": "cpu", "out": tmp_path / "out", "embedder.weights": tmp_path / "random.pt"}
        given |= {"restored": faces.restored, "high": faces.high, "low": faces.low, "num_resamples": 50}
        given |= {
            "attributes": tmp_path / "groups.csv",
            "min_group_faces": 4,
            "restored_dir": tmp_path / "kept",
            **keys,
        }
        overrides = [f"{key}={value}" for key, value in given.items() if value is not None]
        evaluate.run(load_settings("evaluate", EvaluateSettings, overrides))
        return Path(given["out"])

    return call


def check_per_face(out: Path, page: str) -> None:
    """The means of per_face.csv by group are those of summary.json, and the page shows the least alike first."""
    with (out / "per_face.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    summary = json.loads((out / "summary.json").read_text())
    assert [row["file"] for row in rows] == list(IDS) and {row["method"] for row in rows} == {"restored"}
    assert len(summary["findings"]) == 4 * 5
    for one in summary["findings"]:
        group = one["group"] if one["group"] in ("a", "odd", "even") else f"'{one['group']}"
        own = [float(row[one["measure"]]) for row in rows if row[f"group: {one['attribute']}"] == group]
        assert len(own) == one["count"] and np.mean(own) == pytest.approx(one["value"], abs=2e-6)
    for row in rows:
        score, beside = float(row["is/builtin"]), float(row["bicubic/builtin"])
        assert float(row["gain/builtin"]) == pytest.approx(score - beside, abs=2e-6)
        assert float(row["worse/builtin"]) == float(float(row["gain/builtin"]) < 0)
    assert len(summary["worst"]["ids"]) == 8 and summary["worst"]["by"] == "is/builtin"
    values = {row["file"]: float(row["is/builtin"]) for row in rows}
    in_order = [values[key] for key in summary["worst"]["ids"]]
    assert in_order == sorted(in_order)
    assert page.count("alt='restored'") == page.count("alt='original'") == page.count("alt='low'") == 8


def test_the_study_tells_whose_skin_became_lighter(run, capsys):
    out = run()
    assert sorted(path.name for path in out.iterdir()) == [
        "audit.csv",
        "model_card.md",
        "per_face.csv",
        "question.json",
        "report.html",
        "summary.json",
    ]
    with (out / "audit.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    lighter = {row["group"]: row for row in rows if row["measure"] == "lightness_shift"}
    assert float(lighter["a"]["mean"]) > 5 and float(lighter["'=cmd|<b>x"]["mean"]) == 0.0
    # By chance a group of four of eight is as extreme as this in 2 of 70 draws.
    assert float(lighter["a"]["p"]) == pytest.approx(2 / 70, abs=0.005)
    summary = json.loads((out / "summary.json").read_text())
    assert summary["study"] == "audit" and summary["num_pictures"] == 8 and len(summary["too_small"]) == 4
    page, card = (out / "report.html").read_text(), (out / "model_card.md").read_text()
    assert "<b>x" not in page and "<b>x" not in card and "Whom does" in page and card.startswith("## Whom")
    printed = capsys.readouterr().out
    check_per_face(out, page)
    assert "worse, builtin" in printed and "report.html" in printed and "is no proof" in printed.replace("\n", " ")


def test_worse_than_bicubic_is_counted_face_by_face(run, faces, tmp_path):
    for key in IDS[:3]:
        write_png(faces.restored / f"{key}.png", np.zeros((112, 96, 3), np.uint8))
    out = run()
    with (out / "audit.csv").open(newline="") as file:
        rows = {(row["group"], row["measure"]): float(row["mean"]) for row in csv.DictReader(file)}
    assert rows["a", "worse/builtin"] >= 0.75
    gain, score = rows["a", "gain/builtin"], rows["a", "is/builtin"]
    bicubic = run(restored=None, method="bicubic", out=tmp_path / "bicubic")
    with (bicubic / "audit.csv").open(newline="") as file:
        beside = {(row["group"], row["measure"]): float(row["mean"]) for row in csv.DictReader(file)}
    assert beside["a", "gain/builtin"] == 0.0 and beside["a", "worse/builtin"] == 0.0
    assert gain == pytest.approx(score - beside["a", "is/builtin"], abs=2e-6)


@pytest.mark.parametrize(
    ("keys", "reason"),
    [
        ({"attributes": None}, "needs attributes="),
        ({"low": None}, "needs low="),
        ({"restored": None}, "looks at one method"),
        ({"method": "bicubic"}, "looks at one method"),
        ({"min_group_faces": 1}, "min_group_faces=1"),
        ({"protocol": "asc19_preliminary"}, "asks judges of faces|asks no judge"),
        ({"attributes": "absent.csv"}, "cannot be read"),
        ({"group_by": "[shoe]"}, "group_by names 'shoe'"),
        ({"changes": "[deepface]"}, "model deepface is unknown"),
        ({"study": None, "changes": "[ita]"}, "belong to study=audit"),
    ],
)
def test_what_the_audit_cannot_do_is_one_sentence(run, tmp_path, keys, reason):
    with pytest.raises(FaceSRError, match=reason) as caught:
        run(**keys)
    assert "\n" not in str(caught.value) and not (tmp_path / "out").exists()
