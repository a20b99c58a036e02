"""What study=pulse_paper writes: tables, sheets of pictures, a page, and a summary."""

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facesr.config import EvaluateSettings
from facesr.evaluation.bootstrap import Statistics, describe
from facesr.evaluation.out_folder import SUMMARY, write_bytes, write_text
from facesr.evaluation.report.tables import aligned
from facesr.evaluation.result import environment
from facesr.evaluation.studies.paper_faces import Faces
from facesr.evaluation.studies.paper_rows import CONSISTENCY, Row, Values
from facesr.evaluation.studies.paper_search import Known, Searched
from facesr.figures.sheet import Cell, sheet_png
from facesr.png import file_of, read_png
from facesr.web.page import png_address, render

PAPER_FORMAT = 1
_ZOOM = 2  # pictures on a sheet have 256 pixels at most
_HOW = {
    "niqe": "distance of a picture's statistics from those of pristine pictures; lower is better",
    CONSISTENCY: "PSNR between the downscaled picture and the input, as the search downscales, in grey levels; dB",
    "is": "cosine of a judge's embeddings of picture and original, in the framing that judges know",
    "found": "faces whose search ended within pulse.eps",
    "latent distance": "between directions of found and own latents, divided by that of random latents from the own "
    "ones: 0 is the very latents, 1 is chance",
    "rms": "root of the mean square difference from the portrait at the generator's size, grey levels",
    "degraded inputs": "the originals at four times the input's size, degraded as study=robustness does it at the "
    "harshest strength; consistency is with the degraded input",
}


@dataclass(frozen=True)
class Scored:
    """A row with its scores.

    Attributes:
        row: whose they are.
        values: column -> float64 (N,); NaN where NIQE is not defined.
        num_found: of a search; None for other rows.
    """

    row: Row
    values: Values
    num_found: int | None


@dataclass(frozen=True)
class Paper:
    """What was found.

    Attributes:
        faces: what was searched for.
        generator: its name, and
        size: (width, height) of its pictures.
        columns: of the table.
        rows: of the table, the originals last where there are any.
        searches: the one as published first, then those of degraded inputs; with their scores.
        known: how near the search came to portraits of the generator.
        notes: what a reader has to know.
        settings: of the study.
        device: it ran on.
    """

    faces: Faces
    generator: str
    size: tuple[int, int]
    columns: tuple[str, ...]
    rows: tuple[Scored, ...]
    searches: tuple[Searched, ...]
    known: tuple[Known, ...]
    notes: tuple[str, ...]
    settings: EvaluateSettings
    device: str

    @property
    def about(self) -> str:
        """A line on what was done."""
        low, high = ("x".join(map(str, size)) for size in (self.faces.operator.low_size, self.size))
        kind = "generated portraits (nobody)" if self.faces.seeds else "given faces"
        return f"{len(self.faces.ids)} {kind}, {low} to {high}, generator {self.generator}"

    def described(self, values: NDArray[np.float64]) -> Statistics | None:
        """Returns statistics of the values that are defined, None where none is."""
        defined = values[np.isfinite(values)]
        return describe(defined, self.settings.num_resamples, self.settings.seed) if len(defined) else None


def _shown(column: str, found: Statistics | None, of: int) -> str:
    if found is None:
        return "-"
    digits = 3 if column.startswith("is/") else 2
    return f"{found.mean:.{digits}f}" + ("" if found.count == of else f" ({found.count} of {of})")


def method_rows(paper: Paper) -> list[list[str]]:
    """Returns the table of methods, the first row its heads."""
    of = len(paper.faces.ids)
    rows = [["method", *paper.columns, "found"]]
    for one in paper.rows:
        cells = [_shown(column, paper.described(one.values[column]), of) for column in paper.columns]
        rows.append([one.row.name, *cells, "" if one.num_found is None else f"{one.num_found} of {of}"])
    return rows


def search_rows(paper: Paper) -> list[list[str]]:
    """Returns the table of searches by what was done to the inputs, the first row its heads."""
    columns = [column for column in paper.columns if column in paper.searches[0].values and "niqe" not in column]
    of = len(paper.faces.ids)
    rows = [["input", *columns, "found"]]
    for one in paper.searches:
        cells = [_shown(column, paper.described(one.values[column]), of) for column in columns]
        rows.append([one.name, *cells, f"{one.num_found} of {of}"])
    return rows


def known_rows(paper: Paper) -> list[list[str]]:
    """Returns the table of known portraits, the first row its heads; the last row holds the means."""
    rows = [["portrait", "latent distance", "cosine", "rms"]]
    rows += [[one.id, f"{one.latent_distance:.3f}", f"{one.cosine:.3f}", f"{one.rms:.1f}"] for one in paper.known]
    means = [np.mean([getattr(one, key) for one in paper.known]) for key in ("latent_distance", "cosine", "rms")]
    return [*rows, ["mean", f"{means[0]:.3f}", f"{means[1]:.3f}", f"{means[2]:.1f}"]]


def _tables(paper: Paper) -> list[tuple[str, list[list[str]]]]:
    found = [("Methods", method_rows(paper))]
    if len(paper.searches) > 1:
        found.append(("Degraded inputs", search_rows(paper)))
    if paper.known:
        found.append(("Portraits whose latents are known", known_rows(paper)))
    return found


def paper_table(paper: Paper) -> str:
    """Returns what evaluate.py prints."""
    lines = [paper.about]
    for title, rows in _tables(paper):
        lines += ["", title, *aligned(rows)]
    return "\n".join([*lines, *(f"note: {text}" for text in paper.notes)])


def _csv(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(heads)
    writer.writerows(rows)
    return text.getvalue()


def paper_csv(paper: Paper) -> str:
    """Returns paper.csv: a line for each method and column, with the mean, its interval and how many are defined."""
    rows: list[list[str]] = []
    for one in paper.rows:
        for column in paper.columns:
            found = paper.described(one.values[column])
            numbers = ["", "", ""] if found is None else [f"{x:.6f}" for x in (found.mean, found.low, found.high)]
            rows.append([one.row.name, column, *numbers, str(0 if found is None else found.count)])
    return _csv(["method", "column", "mean", "ci95_low", "ci95_high", "count"], rows)


def per_face_csv(paper: Paper) -> str:
    """Returns per_face.csv: a line for each face and row or search; cells are empty where nothing is defined."""
    rows: list[list[str]] = []
    lines = [(one.row.name, one.values) for one in paper.rows]
    lines += [(f"degraded: {one.name}", one.values) for one in paper.searches[1:]]
    for name, values in lines:
        for place, key in enumerate(paper.faces.ids):
            numbers = [float(values[column][place]) if column in values else float("nan") for column in paper.columns]
            rows.append([name, key, *(f"{number:.6f}" if np.isfinite(number) else "" for number in numbers)])
    return _csv(["method", "id", *paper.columns], rows)


def self_consistency_csv(paper: Paper) -> str:
    """Returns self_consistency.csv, a line for each portrait whose latents are known."""
    rows = [[one.id, f"{one.latent_distance:.6f}", f"{one.cosine:.6f}", f"{one.rms:.6f}"] for one in paper.known]
    return _csv(["id", "latent_distance", "cosine", "rms"], rows)


def methods_sheet(paper: Paper) -> bytes:
    """Returns sheet.png: a row for each of the first faces, a column for each method."""
    keys = paper.faces.ids[: max(paper.settings.num_examples, 1)]
    rows = []
    for key in keys:
        pictures = [(one.row.name, read_png(file_of(one.row.folder, key))) for one in paper.rows]
        rows.append((key, [Cell(name, [], [picture]) for name, picture in pictures]))
    return sheet_png(rows, zoom=_ZOOM)


def degraded_sheet(paper: Paper) -> bytes:
    """Returns degraded.png: a row for each of the first faces, a column for each input, above what was found."""
    rows = []
    for key in paper.faces.ids[: max(paper.settings.num_examples, 1)]:
        place = paper.faces.ids.index(key)
        cells = []
        for one in paper.searches:
            low, picture = read_png(file_of(one.low, key)), read_png(one.folder / f"{key}.png")
            cells.append(Cell(f"{one.name}: {one.values[CONSISTENCY][place]:.1f} dB", [low], [picture]))
        rows.append((key, cells))
    return sheet_png(rows, zoom=_ZOOM)


def paper_html(paper: Paper, sheets: Sequence[tuple[str, str, bytes]]) -> str:
    """Returns the page: notes, a table for each part, sheets (title, note, PNG); self-contained."""
    tables = [{"title": title, "heads": rows[0], "rows": rows[1:]} for title, rows in _tables(paper)]
    shown = [{"title": title, "note": note, "address": png_address(png)} for title, note, png in sheets]
    notes = list(paper.notes)
    return str(
        render(
            "pulse_paper.html",
            title="The evidence of PULSE's paper, repeated",
            about=paper.about,
            notes=notes,
            tables=tables,
            sheets=shown,
            how=_HOW,
        )
    )


def paper_summary(paper: Paper) -> dict[str, Any]:
    """Returns the contents of the study's summary.json."""

    def means(values: Values) -> dict[str, float | None]:
        found = {column: paper.described(own) for column, own in values.items()}
        return {column: None if one is None else one.mean for column, one in found.items()}

    return {
        "format": PAPER_FORMAT,
        "study": "pulse_paper",
        "num_pictures": len(paper.faces.ids),
        "synthetic": True,
        "originals": "none" if paper.faces.high is None else "generated" if paper.faces.seeds else "given",
        "generator": paper.generator,
        "low_size": list(paper.faces.operator.low_size),
        "size": list(paper.size),
        "pulse": asdict(paper.settings.pulse),
        "methods": [
            {"name": one.row.name, "folder": str(one.row.folder), "num_found": one.num_found, **means(one.values)}
            for one in paper.rows
        ],
        "searches": [
            {"name": one.name, "low": str(one.low), "num_found": one.num_found, **means(one.values)}
            for one in paper.searches
        ],
        "self_consistency": [asdict(one) for one in paper.known],
        "warnings": list(paper.notes),
        "seed": paper.settings.seed,
        "environment": environment(paper.device),
    }


def write_paper(out: Path, paper: Paper) -> None:
    """Writes tables, sheets, report.html and, last, summary.json.

    Raises:
        DataError: the folder cannot be written.
    """
    sheets = [("Pictures", "Whatever is not the original is invented or interpolated.", methods_sheet(paper))]
    write_bytes(out / "sheet.png", sheets[0][2])
    if len(paper.searches) > 1:
        note = "The input, enlarged, above what the search found for it."
        sheets.append(("Degraded inputs", note, degraded_sheet(paper)))
        write_bytes(out / "degraded.png", sheets[1][2])
    if paper.known:
        write_text(out / "self_consistency.csv", self_consistency_csv(paper))
    write_text(out / "paper.csv", paper_csv(paper))
    write_text(out / "per_face.csv", per_face_csv(paper))
    write_text(out / "report.html", paper_html(paper, sheets))
    write_text(out / SUMMARY, json.dumps(paper_summary(paper), indent=2, allow_nan=False) + "\n")
