"""What a generator snapshot may say of itself: it may come from a stranger, so everything is checked when it is read.

The metadata are read here, within bounds and without torch, before a weight is. docs/security.md has the reasons.
"""

import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from facesr.errors import CheckpointError
from facesr.photos.trained import read_framing

FORMAT = "facesr-generator-1"
# Of the face generators that method=pulse searches (facesr face-generator), which restore nothing by themselves.
FACE_GENERATOR = "facesr-face-generator-1"
# The folder of the snapshots that come with the package.
SHIPPED = Path(__file__).resolve().parent.parent / "pretrained"
# What generator=faces searches; apart from the snapshots, because it restores nothing by itself.
SHIPPED_FACES = SHIPPED / "generators" / "faces.safetensors"
# Files of `facesr export`, which are no snapshots.
ONNX_ENDING = ".onnx"
# The key of the guard's bound, where there is one: the consistency of a picture, at most that of equal ones.
BOUND, MAX_BOUND_DB = "consistency_bound_db", 100.0
# The key of the framing that the network was trained on, where the snapshot states it.
FRAMING = "framing"
# The key of the shipped snapshot whose weights stand for those that the file leaves out, with that one's sha256.
BASE = "base"
# Of the JSON that a safetensors file begins with; 1,000 tensors need 0.1 MiB.
MAX_HEADER_BYTES = 4 << 20
# An integer among a network's arguments: a count or a width. 65,536 of anything is more than any network here has.
MAX_COUNT = 1 << 16
MAX_TEXT = 200
_MAX_ARGUMENTS, _MAX_LIST, _MAX_JUDGES, _MAX_SCORES, _MAX_SCORE = 64, 64, 64, 1000, 1e9
_NETWORK = re.compile(r"facesr\.models\.[a-z][a-z0-9_]*\.[A-Z][A-Za-z0-9]*", re.ASCII)
SHIPPED_NAME = re.compile(r"[a-z0-9][a-z0-9_]{0,99}", re.ASCII)
_ARGUMENT = re.compile(r"[a-z][a-z0-9_]*", re.ASCII)
_SHA256 = re.compile(r"[0-9a-f]{64}", re.ASCII)


def read_about(path: Path) -> dict[str, Any]:
    """Returns the checked metadata of a snapshot's file: generator, run, kimg, config_sha256, loss_judges, scores.

    Raises:
        CheckpointError: the file cannot be read or is no snapshot, or its metadata are out of bounds.
    """
    if path.suffix.lower() == ONNX_ENDING:
        raise CheckpointError(
            f"{path} is an ONNX file, which only restores (method=, checkpoint=); give the snapshot that it was "
            "exported from."
        )
    about = _about_of(_header_of(path))
    if about is None or about.get("format") != FORMAT:
        raise CheckpointError(f"{path} is no generator snapshot of facesr; give one from runs/NAME/snapshots.")
    problem = problem_with(about)
    if problem is not None:
        raise CheckpointError(f"{path} is no sound snapshot: {problem}; use another one of the run.")
    return about


def format_of(path: Path) -> str:
    """Returns the format that a file of ours states, nothing for any other file.

    Raises:
        CheckpointError: the file cannot be read.
    """
    return str((_about_of(_header_of(path)) or {}).get("format", ""))


def _header_of(path: Path) -> bytes:
    """Returns the JSON that a safetensors file begins with; nothing for a file that begins otherwise.

    Raises:
        CheckpointError: the file cannot be read, or only stands for one.
    """
    try:
        with path.open("rb") as file:
            start = file.read(8)
            length = int.from_bytes(start, "little")
            if start == b"version ":
                raise CheckpointError(
                    f"{path} is a pointer of Git LFS, not the file itself; fetch it with git lfs pull."
                )
            return file.read(length) if 0 < length <= MAX_HEADER_BYTES else b""
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror or error}.") from error


def _about_of(header: bytes) -> dict[str, Any] | None:
    try:
        metadata = json.loads(header).get("__metadata__")
        about = json.loads(metadata["facesr"])
    # Whatever such a file holds, it is no snapshot: brackets nested too deep are a RecursionError, for example.
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None
    return about if isinstance(about, dict) else None


def problem_with(about: Mapping[str, Any]) -> str | None:
    """Returns what is wrong with a snapshot's metadata in a few words, None for sound ones."""
    if not is_name(about.get("run")):
        return f"its run has no name of 1 to {MAX_TEXT} printable characters"
    kimg: Any = about.get("kimg")
    if not is_number(kimg) or not 0 <= kimg <= _MAX_SCORE:
        return "its kimg is no number from 0 up"
    digest = about.get("config_sha256")
    if not isinstance(digest, str) or not _SHA256.fullmatch(digest):
        return "its config_sha256 is no sha256 of 64 hexadecimal digits"
    judges = about.get("loss_judges")
    if not isinstance(judges, list) or len(judges) > _MAX_JUDGES or not all(map(is_name, judges)):
        return f"its loss_judges are no list of at most {_MAX_JUDGES} names"
    scores = about.get("scores")
    if not isinstance(scores, dict) or len(scores) > _MAX_SCORES or not all(map(is_name, scores)):
        return f"its scores are not at most {_MAX_SCORES} figures with names"
    if not all(is_number(value) and abs(value) <= _MAX_SCORE for value in scores.values()):
        return "its scores are not all finite numbers"
    bound: Any = about.get(BOUND)
    if bound is not None and not (is_number(bound) and 0 <= bound <= MAX_BOUND_DB):
        return f"its {BOUND} is no number from 0 to {MAX_BOUND_DB:g}"
    if about.get(FRAMING) is not None:
        try:
            read_framing(about[FRAMING])
        except ValueError as error:
            return str(error)
    if about.get(BASE) is not None and not _is_base(about[BASE]):
        return f"its {BASE} is not the name and the sha256 of a snapshot that comes with this package"
    return _problem_with_generator(about.get("generator"))


def _is_base(base: object) -> bool:
    if not isinstance(base, Mapping) or set(base) != {"name", "sha256"}:
        return False
    name, digest = base["name"], base["sha256"]
    fits = isinstance(name, str) and SHIPPED_NAME.fullmatch(name) and isinstance(digest, str)
    return bool(fits and _SHA256.fullmatch(digest))


def _problem_with_generator(node: object) -> str | None:
    if not isinstance(node, Mapping) or not isinstance(node.get("_target_"), str):
        return "it names no network"
    if not _NETWORK.fullmatch(node["_target_"][:MAX_TEXT]):
        return "it names something else than a network of facesr.models"
    if len(node) > _MAX_ARGUMENTS:
        return f"its network has more than {_MAX_ARGUMENTS} arguments"
    for key, value in node.items():
        if key == "_target_":
            continue
        if not isinstance(key, str) or not _ARGUMENT.fullmatch(key[:MAX_TEXT]):
            return "its network has an argument without a plain name"
        values = value if isinstance(value, list | tuple) else [value]
        if len(values) > _MAX_LIST or not all(map(_is_plain, values)):
            return f"its network's argument {key[:MAX_TEXT]} is no plain value, or above {MAX_COUNT}"
    return None


def _is_plain(value: Any) -> bool:
    if isinstance(value, bool) or value is None:
        return True
    return is_name(value) if isinstance(value, str) else is_number(value) and abs(value) <= MAX_COUNT


def is_name(value: object) -> bool:
    """Returns whether a value is a text that may be shown in a console, a report or a file: printable and short."""
    return isinstance(value, str) and 0 < len(value) <= MAX_TEXT and value.isprintable()


def is_number(value: Any) -> bool:
    """Returns whether a value is a finite number."""
    # A whole number of JSON may be too large for a float.
    return not isinstance(value, bool) and (
        isinstance(value, int) or (isinstance(value, float) and math.isfinite(value))
    )
