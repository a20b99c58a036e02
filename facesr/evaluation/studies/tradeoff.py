"""The trade-off study: many restored folders on one plane, distortion along x and perception along y.

Both axes fall toward what one wants, so good entries lie at the lower left, and no method can reach all of it.

    asc19_preliminary    RMSE of the set against the perceptual index, or against NIQE where Ma's model is missing
    other protocols      mean RMSE against 1 - ID similarity by the ranking judge

Source: Y. Blau, T. Michaeli, "The perception-distortion tradeoff", CVPR 2018.
"""

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from facesr.errors import ConfigError
from facesr.evaluation.flow import evaluate
from facesr.evaluation.out_folder import SUMMARY, write_bytes, write_text
from facesr.evaluation.perceptual import Perceptual
from facesr.evaluation.report.examples import window
from facesr.evaluation.report.study_page import Sheet, study_page
from facesr.evaluation.report.tables import aligned
from facesr.evaluation.result import Evaluation, environment, guard_facts, guard_warnings
from facesr.evaluation.studies.study import Job
from facesr.evaluation.studies.tradeoff_entries import Entry, entries_of_study, subject_of
from facesr.evaluation.subjects import pairs_to_score, progress, say
from facesr.figures.plane import Marker, Plane, plane_png
from facesr.figures.sheet import MOST_PIXELS, Cell, sheet_png
from facesr.image import Picture
from facesr.names import shown_path
from facesr.png import file_of, read_png

STUDY_FORMAT = 1


@dataclass(frozen=True)
class Point:
    """An entry's place on the plane, and the evaluation that it comes from."""

    entry: Entry
    x: float
    y: float
    evaluation: Evaluation


def require_perception(perceptual: Perceptual | None) -> None:
    """Raises ConfigError where a protocol without judges lacks a perceptual metric, too."""
    if perceptual is not None and perceptual.niqe is None:
        raise ConfigError(f"study=tradeoff needs a perceptual metric; {perceptual.missing['niqe']}")


def point_of(entry: Entry, evaluation: Evaluation) -> Point:
    """Returns the point of an evaluation."""
    if evaluation.ranking is not None:
        similarity = evaluation.statistics[evaluation.ranking.metric].mean
        return Point(entry, evaluation.statistics["rmse"].mean, 1.0 - similarity, evaluation)
    column = evaluation.ordering
    rmse = next(figure.value for figure in evaluation.figures if figure.name == "rmse_of_set")
    assert rmse is not None
    return Point(entry, float(rmse), evaluation.statistics[column.name].mean, evaluation)


def _axes(points: Sequence[Point]) -> Plane:
    evaluation = points[0].evaluation
    title = f"{len(evaluation.scores.ids)} pictures, {evaluation.protocol.name}"
    if evaluation.ranking is not None:
        y_label = f"1 - ID similarity by {evaluation.ranking.name} (lower is better)"
        return Plane(title, "mean RMSE in grey levels, RGB (lower is better)", y_label, {})
    rules = evaluation.protocol.perceptual
    limits = {} if rules is None else {limit: f"region {i}" for i, limit in enumerate(rules.region_rmse, start=1)}
    return Plane(
        title,
        "RMSE of the set in grey levels, luma (lower is better)",
        f"{evaluation.ordering.name.replace('_', ' ')} (lower is better)",
        limits,
    )


def tradeoff_png(points: Sequence[Point]) -> bytes:
    """Returns the plot, a PNG of 900x640."""
    return plane_png(_axes(points), [_marker(point) for point in points])


def _marker(point: Point) -> Marker:
    """Returns an entry's marker; the ends of a curve have the names of their runs, the others their shares alone."""
    entry = point.entry
    if entry.share is None:
        return Marker(point.x, point.y, entry.name)
    first, _, last = entry.family.partition(" to ")
    ends = {0.0: first, 1.0: last}
    label = ends.get(entry.share, f"{entry.share:g}")
    return Marker(point.x, point.y, label, entry.family, is_inner=entry.share not in ends)


def tradeoff_csv(points: Sequence[Point]) -> str:
    """Returns tradeoff.csv: name, family, share, x, y, then the mean of every metric, a line an entry."""
    columns = [metric.name for metric in points[0].evaluation.scores.metrics]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["name", "family", "share", "x", "y", *columns])
    for point in points:
        share = "" if point.entry.share is None else f"{point.entry.share:g}"
        means = [f"{point.evaluation.statistics[column].mean:.6f}" for column in columns]
        writer.writerow([point.entry.name, point.entry.family, share, f"{point.x:.6f}", f"{point.y:.6f}", *means])
    return text.getvalue()


def tradeoff_table(points: Sequence[Point]) -> str:
    """Returns the table that evaluate.py prints, several lines."""
    plane = _axes(points)
    rows = [["", "distortion", "perception"]]
    rows += [[point.entry.name, f"{point.x:.3f}", f"{point.y:.4f}"] for point in points]
    notes = [f"note: {note}" for note in _notes(points)]
    heads = [f"distortion: {plane.x_label}", f"perception: {plane.y_label}"]
    return "\n".join([plane.title, *heads, *aligned(rows), *notes])


def tradeoff_sheet(points: Sequence[Point], num_examples: int, seed: int) -> bytes | None:
    """Returns the sheet, a PNG: a row for each entry, a column for each picture; None without any.

    The first row shows the originals, below what was given. Of large pictures a window is shown, pixel for pixel.
    Each cell has its value of the column that ranks. Under the rules of 2019 there is no sheet: entries may then hold
    other pictures, and of any size.
    """
    first = points[0].evaluation
    if not first.protocol.strict:
        return None
    ids = first.scores.ids
    chosen = sorted(int(place) for place in np.random.default_rng(seed).permutation(len(ids))[:num_examples])
    if not chosen:
        return None
    originals = {ids[place]: read_png(file_of(first.high, ids[place])) for place in chosen}
    corners = {key: window(picture) for key, picture in originals.items()}

    def shown(folder: Path, key: str, scale: int = 1) -> Picture:
        top, left = (place // scale for place in corners[key])
        side = MOST_PIXELS // scale
        return read_png(file_of(folder, key))[top : top + side, left : left + side]

    rows = []
    for point in points:
        evaluation, column = point.evaluation, point.evaluation.ordering.name
        cells = []
        for place in chosen:
            value = float(evaluation.scores.values[column][place])
            cells.append(Cell(f"{value:.3f}", [], [shown(evaluation.subject.folder, ids[place])]))
        rows.append((point.entry.name, cells))
    top_row = [
        Cell(key, [] if first.low is None else [shown(first.low, key, first.protocol.scale)], [shown(first.high, key)])
        for key in originals
    ]
    return sheet_png([("input and original", top_row), *rows], zoom=2)


def tradeoff_html(points: Sequence[Point], plot: bytes, sheet: bytes | None) -> str:
    """Returns the page of the study: plot, table and sheet, self-contained."""
    evaluation, plane = points[0].evaluation, _axes(points)
    metrics = evaluation.scores.metrics
    table = [["entry", "distortion", *(metric.name for metric in metrics)]]
    for point in points:
        means = [f"{point.evaluation.statistics[metric.name].mean:.4f}" for metric in metrics]
        table.append([point.entry.name, f"{point.x:.3f}", *means])
    note = f"Twice as large as they are; above each its {evaluation.ordering.name}."
    return study_page(
        f"Trade-off on {evaluation.protocol.name}",
        heading="Perception and distortion",
        about=f"{plane.title}; good entries lie at the lower left",
        notes=_notes(points),
        plot=plot,
        plot_alt=f"{plane.y_label} against {plane.x_label}",
        table_title="Entries",
        table=table,
        how={f"{metric.name} v{metric.version}": metric.conditions for metric in metrics},
        sheet=None if sheet is None else Sheet(sheet, note, "sheet of pictures"),
    )


def _notes(points: Sequence[Point]) -> list[str]:
    """Returns what a reader has to know: invented faces, pictures that a fallback restored, and what is missing."""
    invented = ", ".join(point.entry.name for point in points if point.evaluation.subject.is_synthetic)
    notes = [f"Synthetic: the faces of {invented} are invented; they are not the persons."] if invented else []
    notes += [f"{point.entry.name}: {text}" for point in points for text in guard_warnings(point.evaluation)]
    return notes + [f"{name} is missing: {why}" for name, why in points[0].evaluation.missing.items()]


def tradeoff_summary(points: Sequence[Point]) -> dict[str, Any]:
    """Returns the contents of the study's summary.json."""
    plane, evaluation = _axes(points), points[0].evaluation
    return {
        "format": STUDY_FORMAT,
        "study": "tradeoff",
        "protocol": evaluation.protocol.name,
        "num_pictures": len(evaluation.scores.ids),
        "x": plane.x_label,
        "y": plane.y_label,
        "missing": evaluation.missing,
        "models": evaluation.models,
        "entries": [
            {
                "name": point.entry.name,
                "family": point.entry.family or None,
                "share": point.entry.share,
                "x": point.x,
                "y": point.y,
                "folder": str(point.evaluation.subject.folder),
                "pixels_sha256": point.evaluation.scores.pixels_sha256["restored"],
                "means": {name: found.mean for name, found in point.evaluation.statistics.items()},
                **guard_facts(point.evaluation.subject),
                **point.evaluation.subject.facts,
            }
            for point in points
        ],
        "environment": environment(evaluation.device),
    }


def write_tradeoff(out: Path, points: Sequence[Point], num_examples: int, seed: int) -> None:
    """Writes tradeoff.csv, tradeoff.png, sheet.png, report.html and, last, summary.json.

    Raises:
        DataError: the folder cannot be written.
    """
    write_text(out / "tradeoff.csv", tradeoff_csv(points))
    plot, sheet = tradeoff_png(points), tradeoff_sheet(points, num_examples, seed)
    write_bytes(out / "tradeoff.png", plot)
    if sheet is not None:
        write_bytes(out / "sheet.png", sheet)
    write_text(out / "report.html", tradeoff_html(points, plot, sheet))
    write_text(out / SUMMARY, json.dumps(tradeoff_summary(points), indent=2, allow_nan=False) + "\n")


def run(job: Job) -> None:
    """Restores and scores every entry, writes the plane's files and prints its table."""
    settings, options = job.settings, job.options
    require_perception(job.perceptual)
    high, low = pairs_to_score(settings, job.out)
    points: list[Point] = []
    for number, entry in enumerate(entries_of_study(settings)):
        with progress(entry.name, high) as advance:
            subject = subject_of(entry, number, job, low)
            evaluation = evaluate(
                subject, high, low, settings.protocol, job.judges, options, perceptual=job.perceptual, on_batch=advance
            )
        if evaluation is not None:
            points.append(point_of(entry, evaluation))
    if points:
        write_tradeoff(job.out, points, settings.num_examples, settings.seed)
        say(f"{tradeoff_table(points)}\nplot: {shown_path(job.out / 'tradeoff.png')}")
