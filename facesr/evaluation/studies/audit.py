"""The audit: whom does a method serve? Scores, failures and false colours by groups of faces, with intervals and tests.

    uv run evaluate.py study=audit method=NAME attributes=FILE.csv low=DIR high=DIR

For every group of the file, and for every intersection of two attributes with enough faces: ID similarity by each
judge, the gain over bicubic interpolation, the share of faces that are less like the person than bicubic
interpolation is, by how much skin became lighter or of another colour, and what else `changes=` asks for.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from facesr.config import EvaluateSettings
from facesr.errors import ConfigError
from facesr.evaluation.attributes import read_attributes
from facesr.evaluation.flow import find_pairs, labelled
from facesr.evaluation.report.examples import example_of
from facesr.evaluation.scoring import Scores, score
from facesr.evaluation.studies.audit_changes import open_changes
from facesr.evaluation.studies.audit_groups import MOST_TESTS, Group, findings_of, groups_of
from facesr.evaluation.studies.audit_page import audit_table, write_audit
from facesr.evaluation.studies.audit_result import Audit, PerFace, measures_of
from facesr.evaluation.studies.study import Job
from facesr.evaluation.subjects import progress, restored_by, restored_subject, say
from facesr.metrics import default_metrics
from facesr.metrics.skin_colour import ColourShift, LightnessShift
from facesr.names import shown, shown_path

NUM_WORST = 10


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
    names = [judge.name for judge in job.judges]
    changes = open_changes(settings.changes)
    measures = (*measures_of(names), *changes.measures())
    if settings.method is not None:
        with progress("restore", low) as advance:
            subject, _ = restored_by(job.method(), low, settings, options.device, job.out / "details", advance)
    else:
        subject = restored_subject(Path(settings.restored or ""), settings)
    pairs = find_pairs(subject.folder, high, low, settings.protocol)
    metrics = [
        *default_metrics(job.judges, True, remember_high=True, kept_in=options.kept_in),
        LightnessShift(),
        ColourShift(),
    ]
    with progress("score", high) as advance:
        scores = score(pairs, metrics, options.device, options.batch_size, advance, with_bicubic=True)
    if scores is None:
        return
    enough, too_small, attributes = _groups(settings, scores.ids)
    with progress("changes", high) as advance:
        values = values_of(scores, names) | changes.values(pairs, str(options.device), options.batch_size, advance)
    known = subject.loss_judges
    # By the last judge, which is a held-out one where any was given.
    worst_by = f"is/{names[-1]}"
    worst = np.argsort(values[worst_by], kind="stable")[:NUM_WORST]
    audit = Audit(
        subject=labelled(subject, pairs),
        num_faces=len(scores.ids),
        measures=measures,
        findings=tuple(findings_of(enough, values, options.num_resamples, options.seed)),
        too_small=tuple(too_small),
        min_faces=settings.min_group_faces,
        white_box=None if known is None else tuple(name for name in names if name in known),
        faces=PerFace(scores.ids, attributes, values, {name: scores.bicubic_values[f"is/{name}"] for name in names}),
        worst=tuple(
            example_of(scores.ids[i], pairs, job.judges[-1], options.device, float(values[worst_by][i])) for i in worst
        ),
        worst_by=worst_by,
    )
    write_audit(job.out, audit, str(options.device))
    say(f"{audit_table(audit)}\nreport: {shown_path(job.out / 'report.html')}")


def _groups(
    settings: EvaluateSettings, ids: Sequence[str]
) -> tuple[list[Group], list[Group], Mapping[str, Sequence[str]]]:
    """Returns the groups with enough faces, the others, and the group of each face by attribute.

    Raises:
        DataError: the file does not fit.
        ConfigError: `group_by` names what is no attribute of it.
    """
    attributes = read_attributes(Path(settings.attributes or ""), ids)
    absent = [name for name in settings.group_by if name not in attributes]
    if absent:
        raise ConfigError(
            f"group_by names {shown(absent)}; attributes={settings.attributes} has {shown(attributes, 9)}."
        )
    chosen = {name: attributes[name] for name in settings.group_by or attributes}
    return *groups_of(chosen, settings.min_group_faces, settings.intersections), chosen


def check(settings: EvaluateSettings, ids: Sequence[str]) -> None:
    """Checks, before anything is restored, that file and models fit and that something is left to be found.

    Raises:
        FaceSRError: they do not, or there would be too many tests.
    """
    measures = (*measures_of(["", *settings.judges]), *open_changes(settings.changes).measures())
    _check_tests(_groups(settings, ids)[0], len(measures))


def _check_tests(groups: Sequence[Group], num_measures: int) -> None:
    """Raises ConfigError where so much is compared that no difference could count after the correction."""
    num_tests = num_measures * sum(bool(group.others.any()) for group in groups)
    if num_tests > MOST_TESTS:
        raise ConfigError(
            f"{len(groups)} groups and {num_measures} measures are {num_tests} tests, after whose correction no "
            f"difference could count (at most {MOST_TESTS}); choose attributes by group_by=[NAME,...], or give "
            "intersections=false."
        )
