"""An evaluation as text: the console's table and per_image.csv."""

import csv
import io
from collections.abc import Sequence

from facesr.evaluation.bootstrap import Statistics
from facesr.evaluation.perceptual import Figure
from facesr.evaluation.result import Evaluation, warnings_of
from facesr.protocols import Column


def digits(metric: Column) -> int:
    """Returns how many decimals of a metric are worth showing."""
    return 4 if metric.unit == "1" else 2


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Returns lines with columns of one width, the first one left-aligned and the others right-aligned."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    first, others = widths[0], widths[1:]
    return [
        "  ".join([row[0].ljust(first), *(cell.rjust(width) for cell, width in zip(row[1:], others, strict=True))])
        for row in rows
    ]


def annotated(rows: Sequence[Sequence[str]]) -> list[str]:
    """Returns `aligned` lines whose last column follows left-aligned."""
    lines = aligned([row[:-1] for row in rows])
    return [f"{line}  {row[-1]}".rstrip() for line, row in zip(lines, rows, strict=True)]


def console_table(evaluation: Evaluation) -> str:
    """Returns the table that evaluate.py prints, several lines."""
    protocol, subject = evaluation.protocol, evaluation.subject
    rules = "strict" if protocol.strict else "official rules"
    num_pictures = len(evaluation.scores.ids)
    lines = [f"{subject.label} {subject.name}: {num_pictures} pictures, protocol {protocol.name}, {rules}"]
    bicubic = evaluation.scores.bicubic
    rows = [["", "mean", "95 % interval", "std", *(["bicubic"] if bicubic else []), "unit", "better"]]
    for metric in evaluation.scores.metrics:
        mark = "  <- ranks" if metric.name == evaluation.ranking_column else ""
        better = ("higher" if metric.higher_is_better else "lower") + mark
        unit = "" if metric.unit == "1" else metric.unit
        beside = [f"{bicubic[metric.name]:.{digits(metric)}f}"] if bicubic else []
        rows.append([metric.name, *_cells(evaluation.statistics[metric.name], digits(metric)), *beside, unit, better])
    lines += annotated(rows)
    if evaluation.figures:
        lines += ["", "of the whole set:"]
        lines += annotated([[f.name, shown_figure(f), f.unit, f.conditions] for f in evaluation.figures])
    ordering = evaluation.ordering
    for attribute, groups in evaluation.groups.items():
        rows = [[attribute, "pictures", ordering.name, "95 % interval", "std"]]
        for group, statistics in groups.items():
            found = statistics[ordering.name]
            rows.append([group, str(found.count), *_cells(found, digits(ordering))])
        lines += ["", *aligned(rows)]
    lines += ["", "how they are taken:"]
    lines += annotated([[metric.name, f"v{metric.version}", metric.conditions] for metric in evaluation.scores.metrics])
    lines += [f"note: {warning}" for warning in warnings_of(evaluation)]
    return "\n".join(lines)


def shown_figure(figure: Figure) -> str:
    """Returns a figure's value for people; what is missing is a dash."""
    if figure.value is None:
        return "-"
    return str(figure.value) if isinstance(figure.value, int) else f"{figure.value:.2f}"


def _cells(found: Statistics, decimals: int) -> list[str]:
    return [
        f"{found.mean:.{decimals}f}",
        f"{found.low:.{decimals}f} .. {found.high:.{decimals}f}",
        f"{found.std:.{decimals}f}",
    ]


def per_image_csv(evaluation: Evaluation) -> str:
    """Returns per_image.csv: header id and the metrics' names, then a line a picture, values with 6 decimals.

    Where the guard checked the pictures, two more columns: ``guard``, the fallback that restored this one, and
    ``guard_db``, the consistency of the picture that was not let pass; both are empty for a picture that was.
    """
    scores, guard = evaluation.scores, evaluation.subject.guard
    is_guarded = guard is not None and guard.is_checking
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["id", *scores.values, *(("guard", "guard_db") if is_guarded else ())])
    for i, key in enumerate(scores.ids):
        cells = [f"{column[i]:.6f}" for column in scores.values.values()]
        if guard is not None and is_guarded:
            found = guard.replaced.get(key)
            cells += ["", ""] if found is None else [found.restored_by, f"{found.consistency_db:.6f}"]
        writer.writerow([key, *cells])
    return text.getvalue()
