"""A column by a model that a user supplies: an ONNX file, and a small YAML file that says what goes in and comes out.

    column: age                 # head of the column
    file: age.onnx              # beside the YAML file; one input (N, 3, height, width), first output (N, K)
    width: 64
    height: 64
    mean: [122.8, 117.0, 104.3] # the network sees (grey level - mean) / scale
    scale: 256
    channels: rgb               # or bgr
    eyes: [0.305, 0.681, 0.301] # x of the left eye, x of the right one, y of both, in shares; left out: whole picture
    labels: [female, male]      # of the K outputs, the largest one counts; or
    values: [1, 2, 3]           # numbers that the K outputs weight as probabilities; neither: the one output
    edges: [20, 35, 50]         # thresholds of groups of numbers; left out: thirds
    unit: years
    weakness: trained on ...    # a sentence on what is known to be wrong with it

Nothing but the graph of the ONNX file is run. A column or labels of race or ethnicity are refused.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import cv2
import numpy as np
import yaml
from numpy.typing import NDArray

from facesr.embedders.onnx import MAX_BATCH, open_session
from facesr.errors import ConfigError, WeightsError
from facesr.evaluation.appearance.column import Bins, Column, check_no_origin
from facesr.evaluation.appearance.computed import COLUMNS, POSE
from facesr.names import shown_path
from facesr.photos.detect import Face
from facesr.processes import num_cores
from facesr.ranges import GreyLevels, Positive, Range, Share, Side, check_arguments

_MAX_BYTES = 1 << 20
# From the line of the eyes to the mouth, in distances between the eyes: that of the ArcFace template.
# Source: deepinsight/insightface, face_align.py (5 points for 112x112).
_EYES_TO_MOUTH = 1.153
_TAKEN = {"id", *(column.name for column in (*COLUMNS, *POSE))}


class AttributeModel:
    """A model that gives one column.

    Attributes:
        column: what it is.
    """

    def __init__(
        self,
        column: str,
        width: Side,
        height: Side,
        scale: Positive,
        weakness: str,
        mean: list[GreyLevels] | None = None,
        channels: Literal["rgb", "bgr"] = "rgb",
        eyes: list[Share] | None = None,
        labels: list[str] | None = None,
        values: list[Annotated[float, Range(-1e9, 1e9)]] | None = None,
        edges: list[Annotated[float, Range(-1e9, 1e9)]] | None = None,
        unit: str = "",
        *,
        graph: bytes,
        origin: str,
        sha256: str,
    ) -> None:
        """Checks what is said and opens the graph.

        Args:
            column: head of the column.
            width: of the input, in pixels.
            height: of the input, in pixels.
            scale: see `mean`.
            weakness: what is known to be wrong with it.
            mean: three numbers, None for zeros; the network sees (grey level - mean) / scale.
            channels: their order at the input.
            eyes: where the eyes stand in the input: x of the left one, x of the right one, y; None stretches the
                whole picture.
            labels: of the outputs.
            values: which the outputs weight.
            edges: rising thresholds of groups, of numbers.
            unit: of numbers.
            graph: contents of the ONNX file.
            origin: its name.
            sha256: of the file.

        Raises:
            ConfigError: the parts contradict each other, or name race or ethnicity.
            WeightsError: the graph does not take and give what is said.
        """
        _check_words(column, weakness, channels, labels, unit)
        check_no_origin(column, labels or [])
        if labels is not None and (values is not None or edges is not None):
            raise ConfigError(f"model {column}: labels are words; leave values and edges out, or the labels.")
        mean = [0.0, 0.0, 0.0] if mean is None else mean
        if len(mean) != 3 or (eyes is not None and (len(eyes) != 3 or not eyes[0] < eyes[1])):
            raise ConfigError(f"model {column}: mean needs three numbers, and eyes x, a larger x and y.")
        if edges is not None and (not edges or sorted(set(edges)) != list(edges)):
            raise ConfigError(f"model {column}: edges have to rise.")
        how = "largest of the outputs" if labels else "outputs as weights of numbers" if values else "the output"
        bins = None if edges is None else Bins(tuple(edges), source="as the model's file says")
        self.column = Column(
            column, unit, how, f"{origin}, sha256 {sha256}", weakness, is_number=labels is None, bins=bins
        )
        self.needs_face = eyes is not None
        self._labels, self._values, self._eyes = labels, values, eyes
        self._size, self._mean, self._scale, self._channels = (width, height), mean, scale, channels
        try:
            self._session = open_session(graph, num_cores())
        except Exception as error:  # onnxruntime's exceptions share no base class
            raise WeightsError(f"{origin} is no readable ONNX file; check that it is complete.") from error
        self._probe(origin)

    def _probe(self, origin: str) -> None:
        wanted = len(self._labels or self._values or [None])
        try:
            found = self._run(np.zeros((1, self._size[1], self._size[0], 3), np.uint8))
        except Exception as error:  # onnxruntime's exceptions share no base class
            raise WeightsError(
                f"{origin} does not take one input of {self._size[0]}x{self._size[1]}; set width and height."
            ) from error
        if found.shape != (1, wanted):
            raise WeightsError(
                f"{origin} gives {found.shape} for one picture where (1, {wanted}) is needed; mend labels or values."
            )

    def _run(self, chips: NDArray[np.uint8]) -> NDArray[np.float64]:
        pixels = chips[..., ::-1] if self._channels == "bgr" else chips
        scaled = (pixels.astype(np.float32) - np.array(self._mean, np.float32)) / np.float32(self._scale)
        name = self._session.get_inputs()[0].name
        batch = np.ascontiguousarray(scaled.transpose(0, 3, 1, 2))
        found = np.asarray(self._session.run(None, {name: batch})[0], np.float64)
        return found.reshape(len(chips), -1)

    def __call__(self, pictures: Sequence[NDArray[np.uint8]], faces: Sequence[Face | None]) -> list[float | str | None]:
        """Returns the column's value of each picture, None where it needs a face and there is none.

        Args:
            pictures: RGB, uint8 (H, W, 3).
            faces: of each picture.

        Raises:
            WeightsError: an output is not finite.
        """
        found: list[float | str | None] = [None] * len(pictures)
        known = [i for i, face in enumerate(faces) if face is not None or not self.needs_face]
        for first in range(0, len(known), MAX_BATCH):
            places = known[first : first + MAX_BATCH]
            outputs = self._run(np.stack([self._chip(pictures[i], faces[i]) for i in places]))
            if not np.isfinite(outputs).all():
                raise WeightsError(f"model {self.column.name} gives values that are not finite; leave it out.")
            for place, output in zip(places, outputs, strict=True):
                found[place] = self._value(output)
        return found

    def _value(self, output: NDArray[np.float64]) -> float | str:
        if self._labels is not None:
            return self._labels[int(output.argmax())]
        return float(output[0]) if self._values is None else float(output @ np.array(self._values))

    def _chip(self, picture: NDArray[np.uint8], face: Face | None) -> NDArray[np.uint8]:
        """Returns what the network sees, uint8 (height, width, 3)."""
        if self._eyes is None or face is None:
            return np.asarray(cv2.resize(picture, self._size, interpolation=cv2.INTER_AREA), np.uint8)
        width, height = self._size
        left, right, y = self._eyes[0] * width, self._eyes[1] * width, self._eyes[2] * height
        own = np.stack([*face.landmarks[:2], face.landmarks[3:].mean(0)])
        wanted = np.array([[left, y], [right, y], [(left + right) / 2, y + _EYES_TO_MOUTH * (right - left)]])
        return np.asarray(cv2.warpAffine(picture, similarity(own, wanted), self._size, borderMode=1), np.uint8)


def similarity(own: NDArray[np.float64], wanted: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns the 2x3 matrix of the rotation, scale and shift that takes points (K, 2) closest to others.

    Source: S. Umeyama, IEEE TPAMI 13, 1991; in the plane one complex division.
    """
    here, there = ((points - points.mean(0)) @ np.array([1.0, 1.0j]) for points in (own, wanted))
    factor = np.vdot(here, there) / max(float(np.vdot(here, here).real), 1e-9)
    linear = np.array([[factor.real, -factor.imag], [factor.imag, factor.real]])
    return np.column_stack([linear, wanted.mean(0) - linear @ own.mean(0)])


def _check_words(column: object, weakness: object, channels: object, labels: Any, unit: object) -> None:
    """Raises ConfigError for what is no text where text is needed."""
    if not isinstance(column, str) or not column.isidentifier() or column in _TAKEN:
        raise ConfigError("column has to be a new name of letters, digits and _, such as age.")
    if not isinstance(weakness, str) or not weakness.strip() or not isinstance(unit, str):
        raise ConfigError(f"model {column}: weakness has to say in a sentence what is known to be wrong with it.")
    if channels not in ("rgb", "bgr"):
        raise ConfigError(f"model {column}: channels is rgb or bgr.")
    is_list = isinstance(labels, list) and len(set(map(str, labels))) == len(labels) > 1
    if labels is not None and not (is_list and all(isinstance(label, str) and label for label in labels)):
        raise ConfigError(f"model {column}: labels has to be a list of different words; quote yes and no.")


def read_description(path: Path) -> tuple[dict[str, Any], Path]:
    """Returns what a YAML file says of a model, without `file`, and where that file is.

    Raises:
        WeightsError: it cannot be read.
        ConfigError: it is no such file.
    """
    name = shown_path(path)
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_BYTES + 1)
    except OSError as error:
        raise WeightsError(
            f"{name} cannot be read: {error.strerror}; give a YAML file that describes a model."
        ) from error
    try:
        given = yaml.safe_load(data) if len(data) <= _MAX_BYTES else None
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError, ValueError) as error:
        raise ConfigError(f"{name} is not YAML: {' '.join(str(error).split())}.") from error
    if (
        not isinstance(given, dict)
        or not isinstance(given.get("file"), str)
        or not all(isinstance(k, str) for k in given)
    ):
        raise ConfigError(f"{name} has to hold keys, file: NAME.onnx among them; docs/attributes.md has an example.")
    given = dict(given)
    return given, path.parent / given.pop("file")


def made(given: dict[str, Any], graph: bytes, origin: str, sha256: str, key: str) -> AttributeModel:
    """Returns the model that a description and the contents of an ONNX file make.

    Raises:
        ConfigError: a key is unknown, missing or wrong.
        WeightsError: see `AttributeModel`.
    """
    own: dict[str, Any] = {"graph": graph, "origin": origin, "sha256": sha256}
    if set(given) & set(own):
        raise ConfigError(f"{key}: graph, origin and sha256 are taken from the file; leave them out.")
    check_arguments(AttributeModel, {*given, *own}, given, key)
    return AttributeModel(**given, **own)
