"""What a restoration changes: flips, angles and numbers by hand, through a small network made here."""

import math

import numpy as np
import pytest
import yaml

from facesr.config import EvaluationProtocol
from facesr.evaluation.pairs import strict_pairs
from facesr.evaluation.studies.audit_changes import difference, flipped, open_changes
from facesr.metrics.skin_colour import lab
from facesr.png import write_png
from tests.attribute_models import write_means

OPEN = EvaluationProtocol("open", strict=True, width=None, height=None, num_pictures=None)
RED, BLUE, GREY, SKIN, LIGHT = (200, 0, 9), (9, 0, 200), (90, 90, 90), (180, 130, 100), (220, 180, 150)


@pytest.fixture
def pairs(tmp_path):
    """Originals and restored faces of one colour each."""
    for folder, colours in {"high": (RED, RED, BLUE, GREY, SKIN), "restored": (RED, BLUE, BLUE, SKIN, LIGHT)}.items():
        (tmp_path / folder).mkdir()
        for number, colour in enumerate(colours):
            write_png(tmp_path / folder / f"{number}.png", np.full((112, 96, 3), colour, np.uint8))
    return strict_pairs(tmp_path / "restored", tmp_path / "high", None, OPEN)


def described(tmp_path, **keys) -> str:
    write_means(tmp_path / "means.onnx")
    given = {"column": "tint", "file": "means.onnx", "width": 10, "height": 8, "scale": 255.0, "weakness": "a test"}
    (tmp_path / "model.yaml").write_text(yaml.safe_dump(given | keys))
    return str(tmp_path / "model.yaml")


def test_flips_by_hand(tmp_path, pairs):
    changes = open_changes([described(tmp_path, labels=["red", "blue"])])
    assert [one.name for one in changes.measures()] == ["flip/tint"]
    for batch_size in (2, 5):
        found = changes.values(pairs, "cpu", batch_size)["flip/tint"]
        assert found.tolist() == [0.0, 1.0, 0.0, 0.0, 0.0]


def test_numbers_by_hand(tmp_path, pairs):
    changes = open_changes([described(tmp_path, values=[255.0, 0.0], unit="levels")])
    assert changes.measures()[0].title == "tint off, levels"
    assert changes.values(pairs, "cpu", 5)["off/tint"].tolist() == pytest.approx([0, 191, 0, 90, 40], abs=1e-3)


def test_the_angle_by_hand_and_only_where_both_have_one(pairs):
    found = open_changes(["ita"]).values(pairs, "cpu", 5)
    angles = []
    for colour in (SKIN, LIGHT):
        lightness, _, yellow = lab(np.array(colour) / 255.0)
        angles.append(math.degrees(math.atan((lightness - 50) / yellow)))
    assert found["ita_shift"][4] == pytest.approx(angles[1] - angles[0]) and angles[1] > angles[0] + 10
    assert found["ita_off"][4] == pytest.approx(angles[1] - angles[0])
    # Grey and blue have no angle.
    assert np.isnan(found["ita_shift"]).tolist() == [False, True, True, True, False] and found["ita_off"][0] == 0.0


def test_a_mirrored_profile_turns_by_twice_its_yaw(tmp_path, pairs, monkeypatch):
    from facesr.photos.detect import Face

    points = np.array([[33.0, 45], [63, 45], [60, 60], [38, 75], [58, 75]])
    mirrored = np.array([[33.0, 45], [63, 45], [36, 60], [38, 75], [58, 75]])
    calls = iter(([Face(np.zeros(4), points, 1.0)] * 4 + [None], [Face(np.zeros(4), mirrored, 1.0)] * 5))
    monkeypatch.setattr("facesr.evaluation.studies.audit_changes.faces_of", lambda pictures, device: next(calls))
    found = open_changes(["yaw"]).values(pairs, "cpu", 5)["yaw_off"]
    # 12 px of 30 are 0.4 eye distances: 45 degrees to the right, then to the left.
    assert found[:4].tolist() == pytest.approx([90.0] * 4) and np.isnan(found[4])


def test_nothing_is_asked_and_what_is_not_known_stays_so(pairs):
    changes = open_changes([])
    assert changes.measures() == () and changes.values(pairs, "cpu", 5) == {}
    assert math.isnan(difference(None, 3.0)) and math.isnan(flipped("a", None)) and difference(1.0, 3.0) == -2.0
