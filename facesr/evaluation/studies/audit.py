"""The audit: whom does a method serve? Scores, failures and false colours by groups of faces, with intervals and tests.

    uv run evaluate.py study=audit method=NAME attributes=FILE.csv low=DIR high=DIR

For every group of the file, and for every intersection of two attributes with enough faces: ID similarity by each
judge, the gain over bicubic interpolation, the share of faces that are less like the person than bicubic
interpolation is, and by how much skin became lighter or of another colour.
"""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from facesr.evaluation.attributes import read_attributes
from facesr.evaluation.flow import find_pairs, labelled
from facesr.evaluation.out_folder import SUMMARY, write_text
from facesr.evaluation.report.tables import aligned
from facesr.evaluation.result import Subject, environment
from facesr.evaluation.scoring import Scores, score
from facesr.evaluation.studies.audit_groups import JOINT, Finding, Group, findings_of, groups_of
from facesr.evaluation.studies.study import Job
from facesr.evaluation.subjects import progress, restored_by, restored_subject, say
from facesr.figures.dots import Dot, dots_svg
from facesr.metrics import default_metrics
from facesr.metrics.skin_colour import CONDITIONS, ColourShift, LightnessShift
from facesr.names import shown_cell, shown_path
from facesr.web.page import render

AUDIT_FORMAT = 1
_MOST_TOLD = 20


@dataclass(frozen=True)
class Measure:
    """What is compared between groups.

    Attributes:
        name: as in audit.csv.
        title: for readers.
        digits: behind the point.
        how: in words.
    """

    name: str
    title: str
    digits: int
    how: str


@dataclass(frozen=True)
class Audit:
    """What was found.

    Attributes:
        subject: what was audited.
        num_faces: all of them.
        measures: in the order of display.
        findings: for every group and measure.
        too_small: groups with too few faces.
        min_faces: how many are enough.
        white_box: judges that were in the training loss; None where that is not known.
    """

    subject: Subject
    num_faces: int
    measures: tuple[Measure, ...]
    findings: tuple[Finding, ...]
    too_small: tuple[Group, ...]
    min_faces: int
    white_box: tuple[str, ...] | None

    @property
    def real(self) -> list[Finding]:
        """Differences that chance does not explain: of groups, then of intersections, the surest first."""
        found = [one for one in self.findings if one.is_real]
        return sorted(found, key=lambda one: (JOINT in one.attribute, one.p_holm or 0.0, -abs(one.difference or 0.0)))

    def measure(self, name: str) -> Measure:
        """Returns the measure of a name."""
        return next(one for one in self.measures if one.name == name)


def measures_of(judges: Sequence[str]) -> tuple[Measure, ...]:
    """Returns what is compared, given the names of the judges."""
    found: list[Measure] = []
    for judge in judges:
        found += [
            Measure(f"is/{judge}", f"IS, {judge}", 3, f"ID similarity to the original by {judge}"),
            Measure(f"gain/{judge}", f"gain, {judge}", 3, "the same, minus that of bicubic interpolation of the input"),
            Measure(f"worse/{judge}", f"worse, {judge}", 3, "share of faces that are less alike than bicubic ones"),
        ]
    return (
        *found,
        Measure("lightness_shift", "lighter by L*", 2, f"{CONDITIONS}; above 0 is lighter"),
        Measure("colour_shift", "colour off by dE", 2, f"{CONDITIONS}; CIE 1976, 2.3 is just noticeable"),
    )


def values_of(scores: Scores, judges: Sequence[str]) -> dict[str, NDArray[np.float64]]:
    """Returns each measure's value of each face, (N,)."""
    found: dict[str, NDArray[np.float64]] = {}
    for judge in judges:
        own, bicubic = scores.values[f"is/{judge}"], scores.bicubic_values[f"is/{judge}"]
        found[f"is/{judge}"] = own
        found[f"gain/{judge}"] = own - bicubic
        found[f"worse/{judge}"] = (own < bicubic).astype(np.float64)
    return found | {name: scores.values[name] for name in ("lightness_shift", "colour_shift")}


def run(job: Job) -> None:
    """Restores where that is asked for, measures, compares groups, and writes the study's files."""
    settings, options = job.settings, job.options
    high, low = Path(settings.high or ""), Path(settings.low or "")
    if settings.method is not None:
        with progress("restore", low) as advance:
            subject, _ = restored_by(job.method(), low, settings, options.device, job.out / "details", advance)
    else:
        subject = restored_subject(Path(settings.restored or ""), settings)
    pairs = find_pairs(subject.folder, high, low, settings.protocol)
    attributes = read_attributes(Path(settings.attributes or ""), [pair.id for pair in pairs.items])
    metrics = [
        *default_metrics(job.judges, True, remember_high=True, kept_in=options.kept_in),
        LightnessShift(),
        ColourShift(),
    ]
    with progress("score", high) as advance:
        scores = score(pairs, metrics, options.device, options.batch_size, advance, with_bicubic=True)
    if scores is None:
        return
    names = [judge.name for judge in job.judges]
    enough, too_small = groups_of(attributes, settings.min_group_faces)
    values = values_of(scores, names)
    known = subject.loss_judges
    audit = Audit(
        subject=labelled(subject, pairs),
        num_faces=len(scores.ids),
        measures=measures_of(names),
        findings=tuple(findings_of(enough, values, options.num_resamples, options.seed)),
        too_small=tuple(too_small),
        min_faces=settings.min_group_faces,
        white_box=None if known is None else tuple(name for name in names if name in known),
    )
    write_audit(job.out, audit, str(options.device))
    say(f"{audit_table(audit)}\nreport: {shown_path(job.out / 'report.html')}")


def sentences_of(audit: Audit) -> list[str]:
    """Returns what may and what may not be concluded, a sentence or two each."""
    said = [_told(audit, one) for one in audit.real[:_MOST_TOLD]]
    if len(audit.real) > _MOST_TOLD:
        said.append(f"{len(audit.real) - _MOST_TOLD} further differences are in audit.csv.")
    num_tests = sum(one.p is not None for one in audit.findings)
    if not said:
        said.append(
            f"No group differs from the other faces by more than chance explains, in {num_tests} tests. That is no "
            "proof of equality: a difference smaller than the intervals are wide could not have been seen."
        )
    said.append(
        f"A difference counts where p is below 0.05 after Holm's correction for all {num_tests} tests. Groups of fewer "
        f"than {audit.min_faces} faces are not compared."
    )
    said.append(
        "Groups may differ in their pictures (pose, light, sharpness) rather than in the persons: the gain takes out "
        "what bicubic interpolation shows as well, the other columns do not. Groups are what the file says they are."
    )
    if audit.white_box:
        judges = " and ".join(audit.white_box)
        said.append(f"{judges} was part of the training loss, so its values flatter; a held-out judge weighs more.")
    return said


def _told(audit: Audit, one: Finding) -> str:
    measure = audit.measure(one.measure)
    assert one.difference is not None and one.difference_low is not None and one.difference_high is not None
    digits, where = measure.digits, "higher" if one.difference > 0 else "lower"
    ends = f"{one.difference_low:+.{digits}f} to {one.difference_high:+.{digits}f}"
    return (
        f"{shown_cell(one.attribute)} = {shown_cell(one.group)} ({one.count} faces): {measure.title} is {where} than "
        f"of the other faces, {one.value:.{digits}f} against {one.value - one.difference:.{digits}f} "
        f"(difference {one.difference:+.{digits}f}, 95 % interval {ends}, p {_p(one.p_holm)})."
    )


def _p(value: float | None) -> str:
    return "" if value is None else "below 0.001" if value < 0.001 else f"{value:.3f}"


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
    tables: dict[str, dict[str, list[str]]] = {}
    for one in audit.findings:
        rows = tables.setdefault(one.attribute, {})
        row = rows.setdefault(one.group, [shown_cell(one.group), str(one.count)])
        mark = "*" if one.is_real else ""
        row.append(f"{one.value:.{audit.measure(one.measure).digits}f}{mark}")
    return [(attribute, list(rows.values())) for attribute, rows in tables.items()]


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
            how={one.title: one.how for one in audit.measures},
        )
    )


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
        "environment": environment(device),
    }


def write_audit(out: Path, audit: Audit, device: str) -> None:
    """Writes audit.csv, report.html, model_card.md and, last, summary.json.

    Raises:
        DataError: the folder cannot be written.
    """
    write_text(out / "audit.csv", audit_csv(audit))
    write_text(out / "report.html", audit_html(audit))
    write_text(out / "model_card.md", model_card(audit))
    write_text(out / SUMMARY, json.dumps(audit_summary(audit, device), indent=2, allow_nan=False) + "\n")
