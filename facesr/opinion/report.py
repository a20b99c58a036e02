"""report.html of a study: what may be concluded, plots and tables; one page with nothing outside it.

How it looks stands in facesr/web/templates/opinion_report.html.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from markupsafe import Markup

from facesr.figures.dots import Dot, Point, answers_svg, dots_svg, points_svg
from facesr.opinion.conclusions import conclusions_of, warnings_of
from facesr.opinion.correlation import CEILING, LEVELS, Correlation
from facesr.opinion.exclusion import Conduct, reasons_of
from facesr.opinion.findings import Findings
from facesr.opinion.ratings import ORIGINAL, Records
from facesr.opinion.scores import MEASURES, Difference, Score
from facesr.opinion.screening import AnnexE
from facesr.web.page import render

STARS = ("1 bad", "2 poor", "3 fair", "4 good", "5 excellent")
_MOST_DIFFERENCES = 45
_ABOUT = {
    "mos": "Mean opinion score: the mean of the ratings from 1 (bad) to 5 (excellent).",
    "dmos": "Against the hidden originals: a rating minus that of the original by the same rater, plus 5.",
    "bradley_terry": "Log odds of being chosen; a difference of 1 means chosen in 73 of 100 comparisons.",
    "hit_rate": "How often a picture of the same person was called that.",
    "false_alarm": "How often a picture of another person was called the same one; low is good.",
    "d_prime": "How well persons are told apart, whatever the habit of saying yes; 0 is guessing.",
}
_RULES = {
    "max_failed_traps": "failed traps, at most",
    "min_seconds": "an answer is too fast below, s",
    "max_share_too_fast": "share of too fast answers, at most",
    "max_repeat_difference": "mean difference of repeated trials, at most",
    "min_answers_sd": "SD of the ratings, at least",
    "min_completed_share": "share of the session done, at least",
}


def report_html(
    records: Records,
    conducts: Sequence[Conduct],
    kept: Findings,
    everyone: Findings,
    people: Mapping[str, tuple[float, float]],
    unusual: Mapping[str, str],
    origin: Mapping[str, str],
) -> str:
    """Returns the page.

    Args:
        records: of the study.
        conducts: of all its raters.
        kept: what those say whom the rules keep.
        everyone: what all say.
        people: rater -> bias and inconsistency by Annex E; empty where there are none.
        unusual: rater whom the rules keep -> why one should look at the answers.
        origin: name -> value, how the analysis was made.
    """
    shown = kept if kept.raters else everyone
    excluded = [one for one in conducts if one.reasons]
    names = {one.rater: one for one in conducts}
    return str(
        render(
            "opinion_report.html",
            title=records.title,
            counts=_counts(conducts, shown),
            warnings=warnings_of(records, kept, everyone),
            conclusions=conclusions_of(records, kept),
            measures=[_measure(records, name, shown) for name in MEASURES if shown.of(name)],
            answers=_answers(shown),
            alphas=_alphas(shown),
            side=_side(shown),
            correlations=[
                _correlations(measure, shown) for measure in dict.fromkeys(o.measure for o in shown.correlations)
            ],
            excluded=[[one.rater, "; ".join(one.reasons)] for one in excluded],
            reasons=reasons_of(conducts),
            unusual=list(unusual.items()),
            beside=_beside(kept, everyone) if kept.raters and excluded else None,
            people=_people(people, names),
            rules=[[_RULES[name], f"{value:g}"] for name, value in asdict(records.rules).items()],
            components=[[name.replace("_", " x "), _value(value)] for name, value in shown.components.items()],
            origin={"Plan, fixed before the first rater": f"sha256 {records.plan_sha256}", **origin},
        )
    )


def _value(value: float | None, decimals: int = 2) -> str:
    return "-" if value is None else f"{value:.{decimals}f}"


def _ends(low: float | None, high: float | None) -> str:
    return "-" if low is None or high is None else f"{low:.2f} to {high:.2f}"


def _p(value: float | None) -> str:
    return "-" if value is None else "< 0.001" if value < 0.001 else f"{value:.3f}"


def _counts(conducts: Sequence[Conduct], shown: Findings) -> str:
    excluded = sum(bool(one.reasons) for one in conducts)
    faces = max((one.faces for one in shown.scores), default=0)
    return (
        f"{shown.raters} raters, {faces} faces, {shown.answers} answers; {excluded} of {len(conducts)} raters excluded"
    )


def _measure(records: Records, measure: str, found: Findings) -> dict[str, Any]:
    scores = sorted(found.of(measure).values(), key=lambda one: -one.value)
    name, lowest, highest = MEASURES[measure]
    is_rate = lowest == 0.0 and highest == 1.0
    is_chart = measure != "false_alarm"
    limits = (lowest, highest) if measure == "mos" or is_rate else None
    dots = [
        Dot(one.method, one.value, one.low, one.high, one.method in (*records.anchors, ORIGINAL), _note(one))
        for one in scores
    ]
    resampled = any(one.resampled_low is not None for one in scores)
    pairs = sorted(found.pairs_of(measure), key=lambda one: (one.p_holm is None, one.p_holm or 0.0))
    chart = dots_svg(dots, f"{name} of each method", f"{name}, 95 % interval", limits) if is_chart else None
    return {
        "name": name,
        "about": _ABOUT[measure],
        "chart": chart,
        "heads": [
            "method",
            name,
            "95 % interval",
            *(["by resampling"] if resampled else []),
            "answers",
            "raters",
            "faces",
        ],
        "rows": [
            [
                one.method,
                _value(one.value),
                _ends(one.low, one.high),
                *([_ends(one.resampled_low, one.resampled_high)] if resampled else []),
                one.answers,
                one.raters,
                one.faces,
            ]
            for one in scores
        ],
        "differences": _differences(pairs, name),
    }


def _note(one: Score) -> str:
    return f"{one.method}: {_value(one.value)}, 95 % interval {_ends(one.low, one.high)}"


def _differences(pairs: Sequence[Difference], name: str) -> dict[str, Any] | None:
    if not pairs:
        return None
    shown = list(pairs[:_MOST_DIFFERENCES])
    # Every pair is written from its better side.
    turned = [_turned(one) for one in shown]
    dots = [
        Dot(f"{one.first} - {one.second}", one.value, one.low, one.high, one.p_holm is None or one.p_holm >= 0.05)
        for one in turned
    ]
    return {
        "chart": dots_svg(dots, f"Differences in {name}", f"difference in {name}, 95 % interval", None, 0.0),
        "more": len(pairs) - len(shown),
        "rows": [
            [f"{one.first} - {one.second}", _value(one.value), _ends(one.low, one.high), _p(one.p), _p(one.p_holm)]
            for one in turned
        ],
    }


def _turned(one: Difference) -> Difference:
    if one.value >= 0:
        return one
    ends = (None if one.high is None else -one.high, None if one.low is None else -one.low)
    return Difference(one.measure, one.second, one.first, -one.value, *ends, one.p, one.p_holm)


def _answers(found: Findings) -> Markup | None:
    rows = [(one.method, one.counts) for one in sorted(found.of("mos").values(), key=lambda one: -one.value)]
    return answers_svg(rows, "How often each answer was given", STARS) if rows else None


def _alphas(found: Findings) -> list[list[str]]:
    questions = {"acr": "ratings 1 to 5", "same": "same person"}
    return [
        [f"{questions[kind]}, {one.level}", _value(one.value), _ends(one.low, one.high)]
        for kind, alphas in found.alphas.items()
        for one in alphas
    ]


def _side(found: Findings) -> str | None:
    one = found.preferences
    if one is None or one.side is None:
        return None
    return f"{one.side:.2f} log odds for the left picture (95 % interval {_ends(one.side_low, one.side_high)})"


def _correlations(measure: str, found: Findings) -> dict[str, Any]:
    own = [one for one in found.correlations if one.measure == measure]
    by_place = {(one.metric, one.level): one for one in own}
    ceiling = by_place.get((CEILING, "pictures"))
    on_pictures = [one for one in own if one.level == "pictures" and one.metric != CEILING]
    order = sorted(on_pictures, key=lambda one: (one.value is None, -(one.value or 0.0)))
    dots = [Dot(one.metric, one.value, one.low, one.high) for one in order]
    names = [one.metric for one in order] + [CEILING]
    chart = None
    if any(one.value is not None for one in order):
        line = None if ceiling is None else ceiling.value
        chart = dots_svg(dots, "Spearman's correlation over all pictures", "Spearman over all pictures", None, line)
    return {
        "name": MEASURES[measure][0],
        "chart": chart,
        "ceiling": None if ceiling is None or ceiling.value is None else _value(ceiling.value),
        "heads": ["metric", *(f"{level} ({_points(own, level)})" for level in LEVELS), "behind the best"],
        "rows": [
            [name, *(_cell(by_place.get((name, level))) for level in LEVELS), _behind(by_place.get((name, "pictures")))]
            for name in names
        ],
    }


def _points(own: Sequence[Correlation], level: str) -> int:
    return next((one.points for one in own if one.level == level), 0)


def _cell(one: Correlation | None) -> str:
    if one is None or one.value is None:
        return "-"
    return _value(one.value) if one.low is None else f"{_value(one.value)} ({_ends(one.low, one.high)})"


def _behind(one: Correlation | None) -> str:
    if one is None or one.behind is None:
        return "-"
    return "best" if one.behind == 0 else f"{one.behind:.2f} ({_ends(one.behind_low, one.behind_high)})"


def _beside(kept: Findings, everyone: Findings) -> dict[str, Any] | None:
    """Returns the main measure with and without the exclusions."""
    measure = kept.main_measure
    if measure is None:
        return None
    mine, theirs = kept.of(measure), everyone.of(measure)
    rows = []
    for method in sorted(theirs, key=lambda name: -theirs[name].value):
        own = mine.get(method)
        cells = ["-", "-"] if own is None else [_value(own.value), _ends(own.low, own.high)]
        rows.append([method, *cells, _value(theirs[method].value), _ends(theirs[method].low, theirs[method].high)])
    name = MEASURES[measure][0]
    heads = ["method", f"{name}, {kept.raters} raters", "interval", f"{name}, all {everyone.raters} raters", "interval"]
    return {"heads": heads, "rows": rows}


def _people(people: Mapping[str, tuple[float, float]], conducts: Mapping[str, Conduct]) -> Markup | None:
    if not people:
        return None
    points = []
    for rater, (bias, inconsistency) in people.items():
        reasons = conducts[rater].reasons
        note = f"{rater}: bias {bias:+.2f}, inconsistency {inconsistency:.2f}" + (
            f"; excluded: {reasons[0]}" if reasons else ""
        )
        points.append(Point(bias, inconsistency, note, 1 if reasons else 0))
    return points_svg(points, "Bias and inconsistency of each rater", "bias, points of the scale", "inconsistency")


def annex_e_points(raters: Sequence[str], model: AnnexE | None) -> dict[str, tuple[float, float]]:
    """Returns rater -> (bias, inconsistency), empty without a model."""
    if model is None:
        return {}
    return {name: (float(model.bias[i]), float(model.inconsistency[i])) for i, name in enumerate(raters)}
