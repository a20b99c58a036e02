"""Official rules: the number of a plain transcription of the script, and its holes without its crashes."""

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from facesr.errors import ConfigError, DataError
from facesr.evaluation.official import official_pairs
from facesr.evaluation.scoring import score
from facesr.metrics import IdentitySimilarity


@pytest.fixture
def official(protocol):
    return replace(protocol, name="asc19_final", strict=False, width=96, height=112)


def script(restored: Path, high: Path, judge) -> float:
    """One pair at a time, as the script does it: every file found, resized by OpenCV, cosine, mean."""
    total = 0.0
    names = [path.name for path in restored.iterdir()]
    for name in names:
        both = []
        for folder in (high, restored):
            picture = cv2.resize(cv2.imread(str(folder / name)), (96, 112), interpolation=cv2.INTER_CUBIC)
            both.append(picture[..., ::-1].transpose(2, 0, 1) / 255.0)
        first, second = judge(torch.from_numpy(np.stack(both)).float())
        total += float(first.dot(second) / first.norm() / second.norm())
    return total / len(names)


def scored(restored: Path, high: Path, judge, rules) -> np.ndarray:
    pairs = official_pairs(restored, high, None, rules)
    return score(pairs, [IdentitySimilarity(judge)], torch.device("cpu"), 3).values["is/grid"]


def test_it_gives_the_scripts_number(faces, judge, official):
    expected = script(faces.restored, faces.high, judge)
    assert scored(faces.restored, faces.high, judge, official).mean() == pytest.approx(expected, abs=1e-6)


def test_partial_submissions_and_any_kind_of_picture_are_scored_as_there(faces, judge, official):
    for key in "abc":
        (faces.restored / f"{key}.png").unlink()
    cv2.imwrite(str(faces.restored / "d.png"), np.full((50, 30), 120, np.uint8))
    cv2.imwrite(str(faces.restored / "e.png"), np.full((28, 24, 4), 120, np.uint16) * 200)
    values = scored(faces.restored, faces.high, judge, official)
    assert len(values) == 4
    assert values.mean() == pytest.approx(script(faces.restored, faces.high, judge), abs=1e-6)


def test_what_would_crash_the_script_is_left_out_and_named(faces, judge, official):
    expected = script(faces.restored, faces.high, judge)
    (faces.restored / ".DS_Store").write_bytes(b"x")
    (faces.restored / "empty.png").touch()
    (faces.restored / "folder").mkdir()
    cv2.imwrite(str(faces.restored / "nobody.png"), np.zeros((28, 24, 3), np.uint8))
    pairs = official_pairs(faces.restored, faces.high, None, official)
    assert pairs.notes["skipped"] == [".DS_Store", "empty.png", "folder", "nobody.png"]
    assert scored(faces.restored, faces.high, judge, official).mean() == pytest.approx(expected, abs=1e-6)


def test_it_says_what_it_let_pass(faces, official):
    (faces.restored / "a.png").unlink()
    notes = official_pairs(faces.restored, faces.high, None, official).notes
    assert notes == {"skipped": [], "resized": [f"{key}.png" for key in "bcdefg"], "missing": ["a.png"]}


def test_a_protocol_without_a_size_cannot_resize(faces, any_size):
    with pytest.raises(ConfigError, match="open has none"):
        official_pairs(faces.restored, faces.high, None, replace(any_size, strict=False))


def test_folders_without_common_pictures(faces, official, tmp_path):
    with pytest.raises(DataError, match="not a folder"):
        official_pairs(tmp_path / "absent", faces.high, None, official)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no picture"):
        official_pairs(tmp_path / "empty", faces.high, None, official)
    (faces.low / "b.png").unlink()
    with pytest.raises(DataError, match=r"b\.png is not in"):
        official_pairs(faces.restored, faces.high, faces.low, official)
