"""The files of an audit: tables, the page with the worst faces, the section of a model card, summary.json."""

import csv
import io
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from facesr.evaluation.out_folder import SUMMARY, write_text
from facesr.evaluation.report.report import similarity_cards
from facesr.evaluation.report.tables import aligned
from facesr.evaluation.result import environment
from facesr.evaluation.studies.audit_result import Audit, Measure, sentences_of
from facesr.figures.dots import Dot, dots_svg
from facesr.names import shown_cell
from facesr.web.page import render

AUDIT_FORMAT = 1


def per_face_csv(audit: Audit) -> str:
    """Returns per_face.csv: a line for each face with its groups and values; empty where one is not defined."""
    faces = audit.faces
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    groups = [shown_cell(f"group: {name}") for name in faces.groups]
    bicubic = [f"bicubic/{judge}" for judge in faces.bicubic]
    writer.writerow(["file", "method", *(one.name for one in audit.measures), *bicubic, *groups])
    for place, key in enumerate(faces.ids):
        numbers = [faces.values[one.name][place] for one in audit.measures]
        numbers += [column[place] for column in faces.bicubic.values()]
        cells = ["" if np.isnan(number) else f"{number:.6f}" for number in numbers]
        own = [shown_cell(members[place]) for members in faces.groups.values()]
        writer.writerow([shown_cell(key), shown_cell(audit.subject.name), *cells, *own])
    return text.getvalue()


def audit_csv(audit: Audit) -> str:
    """Returns audit.csv, a line for each group and measure; empty cells where there are no other faces."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    heads = ["attribute", "group", "measure", "count", "mean", "ci95_low", "ci95_high"]
    writer.writerow([*heads, "difference", "difference_ci95_low", "difference_ci95_high", "p", "p_holm"])
    for one in audit.findings:
        numbers = (one.value, one.low, one.high, one.difference, one.difference_low, one.difference_high)
        cells = ["" if number is None else f"{number:.6f}" for number in (*numbers, one.p, one.p_holm)]
        writer.writerow([shown_cell(one.attribute), shown_cell(one.group), one.measure, one.count, *cells])
    return text.getvalue()


def _rows(audit: Audit) -> list[tuple[str, list[list[str]]]]:
    """Returns for each attribute the rows of its groups: name, faces, and a cell for each measure."""
    tables: dict[str, dict[str, dict[str, str]]] = {}
    for one in audit.findings:
        rows = tables.setdefault(one.attribute, {})
        row = rows.setdefault(one.group, {"": str(one.count)})
        mark = "*" if one.is_real else ""
        row[one.measure] = f"{one.value:.{audit.measure(one.measure).digits}f}{mark}"
    columns = ["", *(one.name for one in audit.measures)]
    return [
        (attribute, [[shown_cell(name), *(row.get(column, "") for column in columns)] for name, row in rows.items()])
        for attribute, rows in tables.items()
    ]


def audit_table(audit: Audit) -> str:
    """Returns what evaluate.py prints: a table for each attribute, and what may be concluded."""
    lines = [f"audit of {audit.subject.name} on {audit.num_faces} faces; * differs from the other faces"]
    for attribute, rows in _rows(audit):
        lines += aligned([[shown_cell(attribute), "faces", *(one.title for one in audit.measures)], *rows])
    return "\n".join([*lines, *sentences_of(audit)])


def _chart(audit: Audit, attribute: str, measure: Measure) -> Markup:
    own = [one for one in audit.findings if (one.attribute, one.measure) == (attribute, measure.name)]
    dots = [Dot(one.group, one.value, one.low, one.high, is_quiet=not one.is_real) for one in own]
    return dots_svg(dots, f"{measure.title} by {attribute}", f"{measure.title}, 95 % interval")


def audit_html(audit: Audit) -> str:
    """Returns the page: what may be concluded, a chart and a table for each attribute; self-contained."""
    # By the last judge, which is a held-out one where any was given.
    gain = [one for one in audit.measures if one.name.startswith("gain/")][-1]
    tables = [
        {"attribute": attribute, "rows": rows, "chart": _chart(audit, attribute, gain)}
        for attribute, rows in _rows(audit)
    ]
    small = [f"{group.attribute} = {group.name} ({group.count})" for group in audit.too_small]
    return str(
        render(
            "audit.html",
            title=f"Whom does {audit.subject.name} serve?",
            about=f"{audit.num_faces} faces; groups of at least {audit.min_faces}",
            sentences=sentences_of(audit),
            heads=["group", "faces", *(one.title for one in audit.measures)],
            tables=tables,
            small=small,
            worst=_worst(audit) if audit.worst else None,
            how={one.title: one.how for one in audit.measures},
        )
    )


def _worst(audit: Audit) -> dict[str, Any]:
    return {
        "title": f"The {len(audit.worst)} least alike",
        "note": f"By {audit.measure(audit.worst_by).title}, the number under it; per_face.csv has all faces.",
        "large": False,
        "cards": similarity_cards(audit.worst),
    }


def model_card(audit: Audit) -> str:
    """Returns the section of a model card, Markdown."""
    lines = [f"## Whom {audit.subject.name} serves", "", f"Measured on {audit.num_faces} faces (`study=audit`).", ""]
    return "\n".join([*lines, *(f"- {_plain(sentence)}" for sentence in sentences_of(audit))]) + "\n"


def _plain(text: str) -> str:
    """Returns a text in which names out of a file cannot act as Markdown or HTML."""
    return "".join(f"\\{letter}" if letter in "\\`*_[]<>#|!" else letter for letter in text)


def audit_summary(audit: Audit, device: str) -> Mapping[str, Any]:
    """Returns the contents of the study's summary.json."""
    subject = audit.subject
    return {
        "format": AUDIT_FORMAT,
        "study": "audit",
        "num_pictures": audit.num_faces,
        "subject": {"kind": subject.kind, "name": subject.name, **subject.facts},
        "sentences": sentences_of(audit),
        "findings": [asdict(one) for one in audit.findings],
        "too_small": [[group.attribute, group.name, group.count] for group in audit.too_small],
        "min_group_faces": audit.min_faces,
        "measures": {one.name: one.how for one in audit.measures},
        "worst": {"by": audit.worst_by, "ids": [one.id for one in audit.worst]},
        "environment": environment(device),
    }


def write_audit(out: Path, audit: Audit, device: str) -> None:
    """Writes audit.csv, per_face.csv, report.html, model_card.md and, last, summary.json.

    Raises:
        DataError: the folder cannot be written.
    """
    write_text(out / "audit.csv", audit_csv(audit))
    write_text(out / "per_face.csv", per_face_csv(audit))
    write_text(out / "report.html", audit_html(audit))
    write_text(out / "model_card.md", model_card(audit))
    write_text(out / SUMMARY, json.dumps(audit_summary(audit, device), indent=2, allow_nan=False) + "\n")
