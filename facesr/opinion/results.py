"""An analysis as tables and as summary.json."""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import version
from typing import Any

from facesr import __version__
from facesr.names import shown_cell
from facesr.opinion.conclusions import FEWEST_RATERS, conclusions_of, warnings_of
from facesr.opinion.exclusion import Conduct, reasons_of
from facesr.opinion.findings import Findings
from facesr.opinion.ratings import Records, raters_csv
from facesr.opinion.screening import AnnexE

SUMMARY = "summary.json"
SUMMARY_FORMAT = 1


def _table(heads: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(heads)
    writer.writerows([[_cell(cell) for cell in row] for row in rows])
    return text.getvalue()


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.6g}" if isinstance(value, float) else shown_cell(value) if isinstance(value, str) else str(value)


def methods_csv(sets: Mapping[str, Findings], anchors: Sequence[str]) -> str:
    """Returns methods.csv: every measure of every method, for the kept raters and for all."""
    heads = ["raters_set", "measure", "method", "anchor", "value", "low", "high", "resampled_low", "resampled_high"]
    heads += ["answers", "raters", "faces", *(f"answers_{star}" for star in range(1, 6))]
    rows: list[list[object]] = []
    for name, found in sets.items():
        for one in found.scores:
            values = [one.value, one.low, one.high, one.resampled_low, one.resampled_high]
            counts: list[object] = list(one.counts) or [None] * 5
            who = [name, one.measure, one.method, one.method in anchors]
            rows.append([*who, *values, one.answers, one.raters, one.faces, *counts])
    return _table(heads, rows)


def differences_csv(sets: Mapping[str, Findings]) -> str:
    """Returns differences.csv: the first method minus the second one."""
    heads = ["raters_set", "measure", "first", "second", "difference", "low", "high", "p", "p_holm"]
    return _table(heads, [[name, *vars(one).values()] for name, found in sets.items() for one in found.differences])


def correlations_csv(sets: Mapping[str, Findings]) -> str:
    """Returns correlations.csv: every metric on every level."""
    heads = ["raters_set", "measure", "metric", "level", "spearman", "low", "high", "points"]
    heads += ["behind_best", "behind_low", "behind_high"]
    return _table(heads, [[name, *vars(one).values()] for name, found in sets.items() for one in found.correlations])


def raters_table(
    records: Records,
    conducts: Sequence[Conduct],
    rated: Sequence[str],
    model: AnnexE | None,
    rejected: Mapping[str, bool],
) -> str:
    """Returns raters.csv: who they are not, how they worked, and why some are excluded.

    Args:
        records: of the study.
        conducts: of all raters.
        rated: the raters of `model`, in its order.
        model: bias and inconsistency, None where there are none.
        rejected: by BT.500, which excludes nobody here.
    """
    heads = ["answers", "rated", "traps", "failed_traps", "share_too_fast", "repeat_difference", "answers_sd"]
    heads += ["completed_share", "median_seconds", "bias", "inconsistency", "inconsistency_low", "inconsistency_high"]
    heads += ["bt500_rejects", "excluded", "reasons"]
    place = {name: i for i, name in enumerate(rated)}
    cells: dict[str, list[object]] = {}
    for one in conducts:
        worked = [value for key, value in vars(one).items() if key not in ("rater", "reasons")]
        i = place.get(one.rater)
        parts = ("bias", "inconsistency", "inconsistency_low", "inconsistency_high")
        numbers = [None if model is None or i is None else float(getattr(model, part)[i]) for part in parts]
        end = [rejected.get(one.rater), bool(one.reasons), "; ".join(one.reasons)]
        cells[one.rater] = [_rounded(value) for value in (*worked, *numbers, *end)]
    return raters_csv(records.raters, heads, cells)


def _rounded(value: object) -> object:
    return float(f"{value:.6g}") if isinstance(value, float) else value


def summary_of(
    records: Records,
    conducts: Sequence[Conduct],
    sets: Mapping[str, Findings],
    unusual: Mapping[str, str],
    origin: Mapping[str, str],
) -> dict[str, Any]:
    """Returns summary.json as plain containers; `unusual` raters are kept by the rules, `origin` is how it was made."""
    kept, everyone = sets["kept"], sets["all"]
    return {
        "format": SUMMARY_FORMAT,
        "title": records.title,
        "plan_sha256": records.plan_sha256,
        "kinds": list(records.kinds),
        "methods": list(records.methods),
        "anchors": list(records.anchors),
        "faces": list(records.faces),
        "rules": asdict(records.rules),
        "raters": {
            "joined": len(records.raters),
            "withdrawn": sum(one.withdrawn for one in records.raters),
            "finished": sum(one.finished is not None for one in records.raters),
            "kept": kept.raters,
            "excluded": sum(bool(one.reasons) for one in conducts),
            "reasons": dict(reasons_of(conducts)),
            "unusual": dict(unusual),
        },
        "informal": kept.raters < FEWEST_RATERS,
        "warnings": warnings_of(records, kept, everyone),
        "conclusions": conclusions_of(records, kept),
        **{name: _findings(found) for name, found in sets.items()},
        "made_with": {"facesr": __version__, "numpy": version("numpy"), "scipy": version("scipy"), **origin},
    }


def _findings(found: Findings) -> dict[str, Any]:
    sides = found.preferences
    return {
        "raters": found.raters,
        "answers": found.answers,
        "scores": [asdict(one) for one in found.scores],
        "differences": [asdict(one) for one in found.differences],
        "agreement": {kind: [asdict(one) for one in alphas] for kind, alphas in found.alphas.items()},
        "correlations": [asdict(one) for one in found.correlations],
        "pairs": None
        if sides is None
        else {
            "side": sides.side,
            "side_low": sides.side_low,
            "side_high": sides.side_high,
            "is_bounded": sides.is_bounded,
            "wins": sides.wins.tolist(),
        },
        "standard_deviations": dict(found.components),
    }
