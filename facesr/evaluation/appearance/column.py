"""A column of a table of attributes: what it says, what made it, and what is known to be wrong with it.

The sidecar ``FILE.columns.json`` beside ``FILE.csv`` holds them, and the thresholds by which numbers become groups.
"""

import itertools
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from facesr.errors import ConfigError, DataError
from facesr.names import shown, shown_path

SIDECAR_FORMAT = 1
_MAX_BYTES = 1 << 20
# Beginnings of words that name race or ethnicity, of columns or of labels.
_STEMS = (
    "race", "racial", "ethni", "ancest", "national", "asia", "afric", "caucas", "latin", "hispan", "arab", "negr",
    "mongol", "indian", "black", "white", "european", "aborigin", "jew", "eastern",
)  # fmt: skip
_NAMES = ("origin",)


@dataclass(frozen=True)
class Bins:
    """Thresholds that make groups of numbers.

    Attributes:
        edges: rising; a value on an edge belongs above it.
        names: of the bins, one more than edges; empty where there are none.
        source: of the thresholds, in words.
    """

    edges: tuple[float, ...]
    names: tuple[str, ...] = ()
    source: str = ""


@dataclass(frozen=True)
class Column:
    """A column of the table.

    Attributes:
        name: its head.
        unit: of a number, empty for words.
        how: what is taken.
        model: what made it: ``none (computed)``, or the model and the sha256 of its file.
        weakness: what is known to be wrong with it.
        is_number: whether it holds numbers rather than words.
        bins: published or documented thresholds; None makes thirds of the faces.
    """

    name: str
    unit: str
    how: str
    model: str
    weakness: str
    is_number: bool = True
    bins: Bins | None = None


def check_no_origin(column: str, labels: Sequence[str]) -> None:
    """Checks that a model's column names no race or ethnicity.

    Raises:
        ConfigError: it does.
    """
    names = [word for word in _words(column) if word.startswith((*_STEMS, *_NAMES))]
    found = names or [label for label in labels if any(word.startswith(_STEMS) for word in _words(label))]
    if found:
        raise ConfigError(
            f"column {shown([column])} would name race or ethnicity ({shown(found)}), which no picture tells; "
            "leave that model out, and use the angle ita for how light skin looks in the picture."
        )


def _words(text: str) -> list[str]:
    # A lower-case letter before a capital ends a word, too: raceLabel.
    parted = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", text)
    return re.findall(r"[a-z]+", parted.casefold())


def sidecar_of(table: Path) -> Path:
    """Returns where the columns of a table are described."""
    return table.with_name(f"{table.stem}.columns.json")


def sidecar_text(columns: Sequence[Column], notes: Mapping[str, Any]) -> str:
    """Returns the sidecar of a table: its columns, and what else is to be told."""
    told = {"format": SIDECAR_FORMAT, **notes, "columns": [asdict(column) for column in columns]}
    return json.dumps(told, indent=2, allow_nan=False) + "\n"


def read_bins(table: Path) -> dict[str, Bins | None]:
    """Returns {name: thresholds} of the columns of numbers that a table's sidecar names; empty without a sidecar.

    Raises:
        DataError: the sidecar cannot be read, or says something else.
    """
    path = sidecar_of(table)
    if not path.exists():
        return {}
    name = shown_path(path)
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_BYTES + 1)
    except OSError as error:
        raise DataError(f"{name} cannot be read: {error.strerror}; mend it, or remove it.") from error
    try:
        if len(data) > _MAX_BYTES:
            raise ValueError("too large")
        columns: list[Any] = json.loads(data)["columns"]
        return {str(one["name"]): _bins(one["bins"]) for one in columns if one["is_number"]}
    except (ValueError, TypeError, KeyError, RecursionError, OverflowError) as error:
        raise DataError(
            f"{name} does not describe columns as facesr attributes writes them; mend it, or remove it."
        ) from error


def _bins(given: Any) -> Bins | None:
    if given is None:
        return None
    edges, names = tuple(float(edge) for edge in given["edges"]), tuple(str(name) for name in given["names"])
    is_rising = all(low < high for low, high in itertools.pairwise(edges))
    if not edges or not is_rising or not all(map(math.isfinite, edges)) or len(names) not in (0, len(edges) + 1):
        raise ValueError("edges have to rise")
    return Bins(edges, names, str(given.get("source", "")))
