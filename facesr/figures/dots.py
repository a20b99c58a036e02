"""Charts of opinions as inline SVG: values with their intervals, how often each answer was given, and points."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from facesr.figures.charts import COLOURS
from facesr.figures.plane import ticks
from facesr.web.page import render

_WIDTH, _ROW, _TOP, _BOTTOM, _RIGHT = 420, 24, 10, 34, 14
_LETTER = 7.4  # pixels of a bold letter of 11 px, on the average of wide fonts
_LONGEST = 26  # letters of a name that are shown
# From bad to excellent, in steps that a colour-blind reader tells apart (Okabe and Ito); the middle one is light.
ANSWER_COLOURS = ("#d55e00", "#e9a15e", "#cfd3da", "#7fb8dc", "#0072b2")


@dataclass(frozen=True)
class Dot:
    """A value with its interval.

    Attributes:
        label: of its row.
        value: None leaves the row empty.
        low: lower end, None where there is no interval.
        high: upper end.
        is_quiet: drawn in grey: an anchor, or a difference that is none.
        note: in words, shown when pointed at.
    """

    label: str
    value: float | None
    low: float | None = None
    high: float | None = None
    is_quiet: bool = False
    note: str = ""


def dots_svg(
    dots: Sequence[Dot], title: str, axis: str, limits: tuple[float, float] | None = None, zero: float | None = None
) -> Markup:
    """Returns an inline SVG with a row for each value; the page has the colours.

    Args:
        dots: at least one of them with a value.
        title: in words, for those who do not see it.
        axis: what is along it.
        limits: of the axis; by default those of the values.
        zero: where an upright line stands.
    """
    known = [end for dot in dots for end in (dot.value, dot.low, dot.high) if end is not None]
    low, high = limits or _range([*known, *([] if zero is None else [zero])])
    left = 14 + _LETTER * min(max(len(dot.label) for dot in dots), _LONGEST)
    height = _TOP + _ROW * len(dots) + _BOTTOM

    def x(value: float) -> str:
        return f"{left + (_WIDTH - _RIGHT - left) * (min(max(value, low), high) - low) / (high - low):.1f}"

    rows = [
        {
            "y": _TOP + _ROW * i + _ROW // 2,
            "label": _cut(dot.label),
            "left": f"{left - 8:.1f}",
            "class": "muted" if dot.is_quiet else "main",
            "x": None if dot.value is None else x(dot.value),
            "low": None if dot.low is None else x(dot.low),
            "high": None if dot.high is None else x(dot.high),
            "note": dot.note or dot.label,
        }
        for i, dot in enumerate(dots)
    ]
    return render(
        "dots.svg",
        width=_WIDTH,
        height=height,
        title=title,
        rows=rows,
        top=_TOP,
        base=height - _BOTTOM,
        ticks=[{"x": x(value), "text": f"{value:.6g}"} for value in ticks(low, high)],
        zero=None if zero is None else x(zero),
        axis={"x": f"{(left + _WIDTH - _RIGHT) / 2:.1f}", "y": height - 4, "text": axis},
        edge={"left": f"{left:.1f}", "right": _WIDTH - _RIGHT},
    )


def _range(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values, default=0.0), max(values, default=1.0)
    margin = 0.06 * max(high - low, 0.05 * max(abs(low), abs(high), 1e-3))
    return low - margin, high + margin


def _cut(label: str) -> str:
    return label if len(label) <= _LONGEST else f"{label[: _LONGEST - 3]}..."


def answers_svg(rows: Sequence[tuple[str, Sequence[int]]], title: str, names: Sequence[str]) -> Markup:
    """Returns an inline SVG of how often each answer was given, a bar for each method; `names` of the answers."""
    left = 14 + _LETTER * min(max(len(label) for label, _ in rows), _LONGEST)
    across = _WIDTH - _RIGHT - left
    bars = []
    for i, (label, counts) in enumerate(rows):
        total, x = sum(counts), left
        parts = []
        for number, count in enumerate(counts):
            width = across * count / total if total else 0.0
            if count:
                parts.append(
                    {
                        "x": f"{x:.1f}",
                        "width": f"{width:.1f}",
                        "colour": ANSWER_COLOURS[number],
                        "note": f"{label}: {names[number]} {count} of {total}",
                    }
                )
            x += width
        bars.append({"label": _cut(label), "y": _TOP + _ROW * i, "left": f"{left - 8:.1f}", "parts": parts})
    keys = [
        {"x": f"{10 + (_WIDTH - 20) * i / len(names):.1f}", "colour": ANSWER_COLOURS[i], "text": name}
        for i, name in enumerate(names)
    ]
    height = _TOP + _ROW * len(rows) + _BOTTOM
    return render("answers.svg", width=_WIDTH, height=height, title=title, bars=bars, keys=keys)


@dataclass(frozen=True)
class Point:
    """A point of a scatter plot; `note` is shown when it is pointed at."""

    x: float
    y: float
    note: str
    group: int = 0


def points_svg(points: Sequence[Point], title: str, x_axis: str, y_axis: str) -> Markup:
    """Returns an inline SVG scatter plot of at least one point, the groups in different colours."""
    width, height, left, bottom, top = 380, 260, 44, 36, 22
    x_low, x_high = _range([point.x for point in points])
    y_low, y_high = _range([point.y for point in points])

    def x(value: float) -> str:
        return f"{left + (width - _RIGHT - left) * (value - x_low) / (x_high - x_low):.1f}"

    def y(value: float) -> str:
        return f"{height - bottom - (height - bottom - top) * (value - y_low) / (y_high - y_low):.1f}"

    return render(
        "points.svg",
        width=width,
        height=height,
        title=title,
        points=[
            {"x": x(one.x), "y": y(one.y), "note": one.note, "colour": COLOURS[one.group % len(COLOURS)]}
            for one in points
            if math.isfinite(one.x) and math.isfinite(one.y)
        ],
        x_ticks=[{"x": x(value), "text": f"{value:.6g}"} for value in ticks(x_low, x_high, 5)],
        y_ticks=[{"y": y(value), "text": f"{value:.6g}"} for value in ticks(y_low, y_high, 5)],
        edge={"left": left, "right": width - _RIGHT, "base": height - bottom, "bottom": height},
        x_axis=x_axis,
        y_axis=y_axis,
    )
