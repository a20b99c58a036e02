"""report.html: one self-contained page, readable on a phone; no script, no file and no address outside it.

Here is what it says; how it looks stands in facesr/web/templates/report.html.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from facesr.evaluation.bootstrap import Statistics
from facesr.evaluation.energy import energy_table, shown
from facesr.evaluation.report.examples import MOST_PIXELS, Example
from facesr.evaluation.report.tables import digits, shown_figure
from facesr.evaluation.result import Evaluation, Judge, environment, warnings_of
from facesr.figures.charts import histogram_svg
from facesr.guard import GuardRecord, guard_line
from facesr.image import Picture
from facesr.png import encode_png
from facesr.protocols import Column
from facesr.web.page import png_address, render

_ROW_TITLES = {"worst": "Least alike", "best": "Most alike", "random": "Chosen at random"}
_MOST_ROWS = 100  # of the table of pictures


def report_html(evaluation: Evaluation, faces: Mapping[str, Sequence[Example]]) -> str:
    """Returns the page as text."""
    guard = evaluation.subject.guard
    found = render(
        "report.html",
        title=f"{evaluation.subject.name} on {evaluation.protocol.name}",
        headline=_headline(evaluation),
        warnings=warnings_of(evaluation),
        metrics=_metrics(evaluation),
        has_bicubic=bool(evaluation.scores.bicubic),
        figures=[
            {
                "name": figure.name,
                "unit": figure.unit,
                "value": shown_figure(figure),
                "conditions": figure.conditions,
            }
            for figure in evaluation.figures
        ],
        guard=None if guard is None else _guard(evaluation, guard),
        energy=_energy(evaluation),
        charts=_charts(evaluation),
        pictures=None if evaluation.judges else _per_picture(evaluation),
        faces=[_row(evaluation, name, row) for name, row in faces.items() if row],
        groups=[_group(evaluation, name, groups) for name, groups in evaluation.groups.items()],
        num_resamples=evaluation.settings["num_resamples"],
        origin=_origin(evaluation),
    )
    return str(found)


def _headline(evaluation: Evaluation) -> dict[str, str | None]:
    found, ranking = evaluation.score, evaluation.ranking
    rules = "strict" if evaluation.protocol.strict else "official rules"
    what = "perceptual index, lower is better" if ranking is None else f"ID similarity (IS) by {ranking.name}"
    interval = "" if found is None else f"95 % interval {found.low:.4f} to {found.high:.4f} over "
    return {
        "kind": evaluation.subject.label,
        "name": evaluation.subject.name,
        "score": None if found is None else f"{found.mean:.4f}",
        "what": what,
        "about": f"{interval}{len(evaluation.scores.ids)} pictures; protocol {evaluation.protocol.name}, {rules}",
        "created": evaluation.created_utc,
    }


def _metrics(evaluation: Evaluation) -> list[dict[str, Any]]:
    judges = {judge.metric: judge for judge in evaluation.judges}
    bicubic = evaluation.scores.bicubic
    rows: list[dict[str, Any]] = []
    for metric in evaluation.scores.metrics:
        found, decimals = evaluation.statistics[metric.name], digits(metric)
        row = {
            "name": metric.name,
            "unit": "" if metric.unit == "1" else metric.unit,
            "higher_is_better": metric.higher_is_better,
            "tags": _tags(judges[metric.name], evaluation) if metric.name in judges else [],
            "bicubic": f"{bicubic[metric.name]:.{decimals}f}" if bicubic else None,
            "std": f"{found.std:.{decimals}f}",
            "range": f"{found.minimum:.{decimals}f} to {found.maximum:.{decimals}f}",
        }
        rows.append(row | _mean(found, decimals, decimals))
    return rows


def _mean(found: Statistics, decimals: int, decimals_of_interval: int) -> dict[str, str]:
    return {
        "mean": f"{found.mean:.{decimals}f}",
        "low": f"{found.low:.{decimals_of_interval}f}",
        "high": f"{found.high:.{decimals_of_interval}f}",
    }


def _tags(judge: Judge, evaluation: Evaluation) -> list[dict[str, Any]]:
    tags = [{"text": "ranks", "hot": False}] if judge.ranks else []
    if judge.in_training_loss:
        tags.append({"text": "white-box", "hot": True})
    elif judge.in_training_loss is False and evaluation.subject.loss_judges:
        tags.append({"text": "held out", "hot": False})
    return tags


def _guard(evaluation: Evaluation, guard: GuardRecord) -> dict[str, Any]:
    """Returns what the guard did, and the pictures that a fallback restored, least consistent first."""
    scores = evaluation.scores
    state = guard_line(guard, len(scores.ids)) + (" (as its manifest says)" if evaluation.subject.is_claim else "")
    place = {key: i for i, key in enumerate(scores.ids)}
    columns = [evaluation.ordering] + [column for column in scores.metrics if column.name == "consistency"]
    found = sorted((item for item in guard.replaced.items() if item[0] in place), key=lambda i: i[1].consistency_db)
    rows = [
        [key, f"{one.consistency_db:.2f}", one.restored_by, *_values(evaluation, columns, place[key])]
        for key, one in found[:_MOST_ROWS]
    ]
    heads = ["picture", "refused, dB", "restored by", *(f"{column.name} now" for column in columns)]
    return {"state": state, "heads": heads, "rows": rows}


def _energy(evaluation: Evaluation) -> dict[str, Any] | None:
    """Returns what restoring took by node and rank, None where it is not known."""
    log = evaluation.subject.energy
    if log is None:
        return None
    heads, *rows = energy_table(log)
    state = (
        f"Restoring {log.num_images} pictures took {shown(log.joules, ',.1f')} J and "
        f"{shown(log.mean_watts, ',.1f')} W on average, "
        f"{shown(log.images_per_joule, '.4g')} images a joule."
        if log.joules is not None
        else "What restoring took was not measured: neither NVML nor RAPL could be read."
    )
    return {"state": state, "heads": heads, "rows": rows}


def _values(evaluation: Evaluation, columns: Sequence[Column], place: int) -> list[str]:
    return [f"{evaluation.scores.values[column.name][place]:.{digits(column)}f}" for column in columns]


def _per_picture(evaluation: Evaluation) -> dict[str, Any]:
    """Returns a table of the pictures, worst first."""
    scores, ordering = evaluation.scores, evaluation.ordering
    columns = [metric for metric in scores.metrics if metric.name in scores.values]
    values = scores.values[ordering.name]
    order = np.argsort(values if ordering.higher_is_better else -values, kind="stable")[:_MOST_ROWS]
    return {
        "ordering": ordering.name,
        "heads": ["picture", *(metric.name for metric in columns)],
        "rows": [[scores.ids[i], *_values(evaluation, columns, i)] for i in order],
    }


def _charts(evaluation: Evaluation) -> list[dict[str, Any]]:
    # One range for all, so that the judges can be compared.
    lowest = min((evaluation.statistics[judge.metric].minimum for judge in evaluation.judges), default=0.0)
    return [
        {
            "name": judge.name,
            "svg": histogram_svg(evaluation.scores.values[judge.metric], f"ID similarity by {judge.name}", lowest),
        }
        for judge in evaluation.judges
    ]


def _row(evaluation: Evaluation, name: str, row: Sequence[Example]) -> dict[str, Any]:
    column, ranking = evaluation.ordering, evaluation.ranking
    if ranking is None:
        title = _ROW_TITLES[name] if name == "random" else f"{name.capitalize()} by {column.name}"
        part = f"of large ones the busiest {MOST_PIXELS}x{MOST_PIXELS} pixels are shown"
        note = f"Under each picture: its {column.name}; {part}."
    else:
        title, note = _ROW_TITLES[name], f"Under each picture: its ID similarity by {ranking.name}."
    decimals = digits(column)
    cards = similarity_cards(row) if ranking is not None else _cards(row, decimals, is_similarity=False)
    return {"title": title, "note": note, "large": ranking is None, "cards": cards}


def similarity_cards(row: Sequence[Example]) -> list[dict[str, Any]]:
    """Returns what the macro `faces` shows of pictures whose value is an ID similarity."""
    return _cards(row, 3, is_similarity=True)


def _cards(row: Sequence[Example], decimals: int, is_similarity: bool) -> list[dict[str, Any]]:
    return [{"id": example.id, "cells": _cells(example, decimals, is_similarity)} for example in row]


def _cells(example: Example, decimals: int, is_similarity: bool) -> list[dict[str, Any]]:
    cells: list[dict[str, Any]] = []
    if example.low is not None:
        value = "" if example.low_value is None else f"{example.low_value:.3f}"
        cells.append(_cell(example.low, value, "low", example.high))
    cells.append(_cell(example.restored, f"{example.value:.{decimals}f}", "restored", example.high))
    cells.append(_cell(example.high, "1" if is_similarity else "", "original", example.high))
    return cells


def _cell(picture: Picture, value: str, label: str, like: Picture) -> dict[str, Any]:
    height, width = like.shape[:2]
    address = png_address(encode_png(picture))
    return {"address": address, "value": value, "label": label, "width": width, "height": height}


def _group(evaluation: Evaluation, attribute: str, groups: Mapping[str, Mapping[str, Statistics]]) -> dict[str, Any]:
    similarities = [(judge.metric, 4) for judge in evaluation.judges]
    columns = similarities or [(metric.name, digits(metric)) for metric in evaluation.scores.metrics]
    rows = [
        {
            "name": group,
            "count": found[evaluation.ordering.name].count,
            "cells": [_mean(found[column], decimals, max(decimals - 1, 1)) for column, decimals in columns],
        }
        for group, found in groups.items()
    ]
    return {
        "attribute": attribute,
        "what": "Mean ID similarity" if similarities else "Means",
        "heads": [column.removeprefix("is/") for column, _ in columns],
        "rows": rows,
    }


def _origin(evaluation: Evaluation) -> dict[str, str]:
    protocol, subject = evaluation.protocol, evaluation.subject
    size = f"{protocol.width}x{protocol.height}" if protocol.width else "any size"
    rules = "strict" if protocol.strict else "official rules of the 2019 script"
    trained = (
        "not known"
        if subject.loss_judges is None
        else (", ".join(subject.loss_judges) or "none") + (" (as its manifest says)" if subject.is_claim else "")
    )
    return {
        "Protocol": f"{protocol.name}, {rules}, 8-bit RGB PNG, {size}, {len(evaluation.scores.ids)} pictures",
        "Judges in its training loss": trained,
        **{f"Judge {judge.name}": f"weights sha256 {judge.weights_sha256}" for judge in evaluation.judges},
        **{f"Model of {name}": f"sha256 {sha256}" for name, sha256 in evaluation.models.items() if sha256},
        **{name.replace("_", " ").capitalize(): str(value) for name, value in subject.facts.items() if value},
        "Originals": str(evaluation.high),
        "Pixels scored": f"sha256 {evaluation.scores.pixels_sha256['restored']}",
        **{
            f"Metric {metric.name}": f"version {metric.version}: {metric.conditions}"
            for metric in evaluation.scores.metrics
        },
        **{
            f"{note.capitalize()} under official rules": ", ".join(names) or "none"
            for note, names in evaluation.pairs.notes.items()
        },
        "Versions": ", ".join(f"{name} {value}" for name, value in environment(evaluation.device).items()),
        "Seconds": ", ".join(f"{name} {value:.1f}" for name, value in evaluation.seconds.items()),
    }
