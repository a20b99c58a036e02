"""The robustness study: one method on low-resolution pictures that were made in other ways than the competition's.

Every original is degraded by each operator at each strength, restored and scored like any other restoration: identity
similarity and pixel scores against the original, and consistency with the picture that was given, which is to say the
official downscaling of the restored picture against what that operator made. A method that undoes noise or blur is
therefore less consistent with it; a method that keeps them is more.
"""

import csv
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from facesr.evaluation.flow import evaluate
from facesr.evaluation.out_folder import SUMMARY, write_bytes, write_text
from facesr.evaluation.report.study_page import Sheet, study_page
from facesr.evaluation.report.tables import aligned, digits
from facesr.evaluation.result import Evaluation, environment, guard_facts, guard_warnings, warnings_of
from facesr.evaluation.studies.operators import OPERATORS, Case, cases_of, degradation_of, require_originals, write_low
from facesr.evaluation.studies.study import Job
from facesr.evaluation.subjects import pairs_to_score, progress, restored_by, say
from facesr.figures.plane import Marker, Plane, plane_png
from facesr.figures.sheet import Cell, sheet_png
from facesr.names import shown_path
from facesr.png import file_of, read_png

STUDY_FORMAT = 1
NUM_SHOWN = 2  # faces in a cell of the sheet, at most

# (what is going on, folder of low-resolution pictures) -> its evaluation on rank 0
Restore = Callable[[str, Path], Evaluation | None]


@dataclass(frozen=True)
class Score:
    """What a method did in a case."""

    case: Case
    evaluation: Evaluation


def ranking_of(scores: Sequence[Score]) -> str:
    """Returns the name of the column along y: ID similarity by the ranking judge."""
    return scores[0].evaluation.ordering.name


def _mean(score: Score, column: str) -> float:
    return score.evaluation.statistics[column].mean


def robustness_png(scores: Sequence[Score]) -> bytes:
    """Returns the plot, a PNG of 900x640: a line for each operator with strengths, from the official downscaling on."""
    column, evaluation = ranking_of(scores), scores[0].evaluation
    plane = Plane(
        f"{evaluation.subject.name} on {len(evaluation.scores.ids)} faces that were degraded otherwise",
        "strength, from the mildest (1) to the harshest of each operator; 0: another downscaling alone",
        f"{column.removeprefix('is/')}: ID similarity (higher is better)",
        {},
        x_end=max(score.case.level for score in scores) + 0.7,  # room for the labels beside the last points
    )
    lines: list[Marker] = []
    points: list[Marker] = []
    for name in dict.fromkeys(score.case.operator for score in scores):
        own = [score for score in scores if score.case.operator == name]
        if own[0].case.level == 0:
            points.append(Marker(0.0, _mean(own[0], column), name))
            continue
        lines.append(Marker(0.0, _mean(scores[0], column), "", name))
        for score in own:
            lines.append(Marker(score.case.level, _mean(score, column), name if score is own[-1] else "", name))
    # The lines first: they take the colours that differ.
    return plane_png(plane, [*lines, *points])


def robustness_csv(scores: Sequence[Score]) -> str:
    """Returns robustness.csv: operator, strength, level, then the mean of every metric and its interval's ends.

    The last column says how many pictures a fallback restored; it is empty where no guard checked them.
    """
    columns = [metric.name for metric in scores[0].evaluation.scores.metrics]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    heads = [f"{column}{end}" for column in columns for end in ("", "/ci95_low", "/ci95_high")]
    writer.writerow(["operator", "strength", "level", *heads, "guard_replaced"])
    for score in scores:
        found = [score.evaluation.statistics[column] for column in columns]
        values = [f"{value:.6f}" for one in found for value in (one.mean, one.low, one.high)]
        strength = "" if score.case.strength is None else f"{score.case.strength:g}"
        guard = score.evaluation.subject.guard
        replaced = "" if guard is None or not guard.is_checking else str(len(guard.replaced))
        writer.writerow([score.case.operator, strength, score.case.level, *values, replaced])
    return text.getvalue()


def _notes(scores: Sequence[Score]) -> list[str]:
    """Returns what a reader has to know; of the guard, how many pictures of each case a fallback restored."""
    first = scores[0].evaluation
    notes = [text for text in warnings_of(first) if text not in guard_warnings(first)]
    counts = {score.case.label: score.evaluation.subject.guard for score in scores}
    replaced = [f"{label} {len(guard.replaced)}" for label, guard in counts.items() if guard and guard.replaced]
    if replaced:
        notes.append(f"Guard: of {len(first.scores.ids)} pictures a fallback restored so many: {', '.join(replaced)}.")
    return notes


def _rows(scores: Sequence[Score]) -> list[list[str]]:
    metrics = scores[0].evaluation.scores.metrics
    rows = [["operator", *(metric.name for metric in metrics)]]
    for score in scores:
        rows.append([score.case.label, *(f"{_mean(score, metric.name):.{digits(metric)}f}" for metric in metrics)])
    return rows


def robustness_table(scores: Sequence[Score]) -> str:
    """Returns the table that evaluate.py prints, several lines."""
    evaluation = scores[0].evaluation
    head = f"{evaluation.subject.name} on {len(evaluation.scores.ids)} faces, protocol {evaluation.protocol.name}"
    return "\n".join([head, *aligned(_rows(scores)), *(f"note: {text}" for text in _notes(scores))])


def robustness_sheet(scores: Sequence[Score], num_examples: int, seed: int) -> bytes | None:
    """Returns the sheet, a PNG: a row for each operator, a column for each strength; None where no face is wanted.

    A cell shows the low-resolution pictures, enlarged, above the restored ones.
    """
    ids = scores[0].evaluation.scores.ids
    chosen = sorted(np.random.default_rng(seed).permutation(len(ids))[: min(num_examples, NUM_SHOWN)])
    if not chosen:
        return None

    def cell(score: Score, caption: str) -> Cell:
        evaluation = score.evaluation
        assert evaluation.low is not None
        column = ranking_of(scores)
        shown = [ids[place] for place in chosen]
        values = [float(evaluation.scores.values[column][place]) for place in chosen]
        return Cell(
            f"{caption}: {', '.join(f'{value:.2f}' for value in values)}",
            [read_png(file_of(evaluation.low, key)) for key in shown],
            [read_png(file_of(evaluation.subject.folder, key)) for key in shown],
        )

    plain = [score for score in scores if score.case.level == 0]
    high = scores[0].evaluation.high
    originals = [read_png(file_of(high, ids[place])) for place in chosen]
    rows = [("downscaling", [Cell("original", [], originals), *(cell(score, score.case.operator) for score in plain)])]
    for name in dict.fromkeys(score.case.operator for score in scores if score.case.level > 0):
        own = [score for score in scores if score.case.operator == name]
        rows.append((name, [cell(score, f"{score.case.strength:g}") for score in own]))
    return sheet_png(rows)


def robustness_html(scores: Sequence[Score], plot: bytes, sheet: bytes | None) -> str:
    """Returns the page of the study: plot, table and sheet, self-contained."""
    evaluation = scores[0].evaluation
    title = f"Robustness of {evaluation.subject.name}"
    how = {f"{metric.name} v{metric.version}": metric.conditions for metric in evaluation.scores.metrics}
    how["consistency here"] = "the official downscaling of the restored picture against what the operator made"
    how |= {f"strength of {name}": operator.what for name, operator in OPERATORS.items() if operator.what}
    note = "What was given, enlarged, above what was restored, with its ID similarity."
    return study_page(
        title,
        heading=title,
        about=f"{len(evaluation.scores.ids)} faces, degraded in {len(scores)} ways",
        notes=_notes(scores),
        plot=plot,
        plot_alt="ID similarity against strength",
        table_title="Means",
        table=_rows(scores),
        how=how,
        sheet=None if sheet is None else Sheet(sheet, note, "sheet of faces"),
    )


def robustness_summary(scores: Sequence[Score]) -> dict[str, Any]:
    """Returns the contents of the study's summary.json."""
    evaluation = scores[0].evaluation
    return {
        "format": STUDY_FORMAT,
        "study": "robustness",
        "protocol": evaluation.protocol.name,
        "num_pictures": len(evaluation.scores.ids),
        "ranking_metric": ranking_of(scores),
        "warnings": _notes(scores),
        "subject": {"kind": evaluation.subject.kind, "name": evaluation.subject.name, **evaluation.subject.facts},
        "cases": [
            {
                "operator": score.case.operator,
                "strength": score.case.strength,
                "low": str(score.evaluation.low),
                "restored": str(score.evaluation.subject.folder),
                "pixels_sha256": score.evaluation.scores.pixels_sha256["restored"],
                "means": {name: found.mean for name, found in score.evaluation.statistics.items()},
                **guard_facts(score.evaluation.subject),
            }
            for score in scores
        ],
        "seed": evaluation.settings["seed"],
        "environment": environment(evaluation.device),
    }


def write_robustness(out: Path, scores: Sequence[Score], num_examples: int, seed: int) -> None:
    """Writes robustness.csv, robustness.png, sheet.png, report.html and, last, summary.json.

    Raises:
        DataError: the folder cannot be written.
    """
    plot, sheet = robustness_png(scores), robustness_sheet(scores, num_examples, seed)
    write_text(out / "robustness.csv", robustness_csv(scores))
    write_bytes(out / "robustness.png", plot)
    if sheet is not None:
        write_bytes(out / "sheet.png", sheet)
    write_text(out / "report.html", robustness_html(scores, plot, sheet))
    write_text(out / SUMMARY, json.dumps(robustness_summary(scores), indent=2, allow_nan=False) + "\n")


def run_cases(
    cases: Sequence[Case], high: Path, out: Path, seed: int, device: torch.device, batch_size: int, restore: Restore
) -> list[Score]:
    """Returns the scores of all cases on rank 0, none on the others.

    Args:
        cases: what is done to the originals.
        high: folder of the originals.
        out: below it come low/NN, a folder for each case.
        seed: of the draws.
        device: where pictures are degraded.
        batch_size: pictures in memory at once.
        restore: restores and scores the pictures of a case.

    Raises:
        FaceSRError: a folder or a picture is not as it has to be.
    """
    scores: list[Score] = []
    for number, case in enumerate(cases):
        low = out / "low" / f"{number:02d}"
        write_low(high, low, degradation_of(case), seed, device, batch_size)
        evaluation = restore(case.label, low)
        if evaluation is not None:
            scores.append(Score(case, evaluation))
    return scores


def run(job: Job) -> None:
    """Degrades, restores and scores every case, writes the study's files and prints its table."""
    settings, options = job.settings, job.options
    high, _ = pairs_to_score(settings, job.out)
    require_originals(high, settings.protocol)
    method = job.method()

    def restore(name: str, low: Path) -> Evaluation | None:
        subject, _ = restored_by(method, low, settings, options.device, job.out / "details" / low.name)
        with progress(name, high) as advance:
            return evaluate(subject, high, low, settings.protocol, job.judges, options, on_batch=advance)

    cases = cases_of(settings.operators)
    scores = run_cases(cases, high, job.out, settings.seed, options.device, options.batch_size, restore)
    if scores:
        write_robustness(job.out, scores, settings.num_examples, settings.seed)
        say(f"{robustness_table(scores)}\nplot: {shown_path(job.out / 'robustness.png')}")
