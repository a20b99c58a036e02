"""Drawings of the board: curves as inline SVG without a style of their own, and the plane of all entries as a PNG."""

from collections.abc import Mapping, Sequence

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from facesr.figures.plane import Marker, Plane, plane_png, ticks
from facesr.leaderboard.standing import Standing
from facesr.web.page import render

_WIDTH, _HEIGHT = 380, 190
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 12, 16, 26
# More labels than these lie upon each other.
MAX_MARKERS = 40


def curve_svg(
    values: Sequence[float] | NDArray[np.float64],
    title: str,
    x_label: str,
    *,
    lines: Mapping[float, str] | None = None,
    has_points: bool = False,
) -> Markup:
    """Returns an inline SVG of values in their order, joined; the page has the colours.

    Args:
        values: (N,), N >= 1.
        title: what it shows, also for who cannot see it.
        x_label: what the order is.
        lines: levels to mark -> what they are.
        has_points: whether the values are dots as well.
    """
    table = np.asarray(values, np.float64)
    marked = lines or {}
    low, high = _range([*table.tolist(), *marked])
    base, right = _HEIGHT - _BOTTOM, _WIDTH - _RIGHT

    def x(index: int) -> str:
        return f"{_LEFT + (right - _LEFT) * (index + 0.5) / len(table):.1f}"

    def y(value: float) -> float:
        return base - (base - _TOP) * (value - low) / (high - low)

    points = [(x(index), f"{y(value):.1f}") for index, value in enumerate(table.tolist())]
    return render(
        "board/curve.svg",
        width=_WIDTH,
        height=_HEIGHT,
        title=title,
        left=_LEFT,
        right=right,
        base=base,
        middle=(_LEFT + right) // 2,
        x_label=x_label,
        path="M" + "L".join(f"{across} {down}" for across, down in points),
        points=[
            {"x": across, "y": down, "text": f"{number}: {value:.4f}"}
            for number, ((across, down), value) in enumerate(zip(points, table.tolist(), strict=True), 1)
        ]
        if has_points
        else [],
        ticks=[{"y": f"{y(value):.1f}", "text": f"{value:.6g}"} for value in ticks(low, high, 4)],
        lines=[
            {"y": f"{y(value):.1f}", "above": f"{y(value) - 4:.1f}", "text": text} for value, text in marked.items()
        ],
    )


def _range(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    spread = max(high - low, 1e-3 * max(abs(high), abs(low)), 1e-6)
    return low - 0.06 * spread, high + 0.06 * spread


def axes_of(table: Standing) -> tuple[str, str] | None:
    """Returns the metrics of a table for distortion and perception, None where it has none for a plane.

    Perception is the perceptual index or NIQE where there is one, else the ranking judge's similarity.
    """
    x_name = next((name for name in ("psnr_rgb", "psnr_y", "rmse_y") if name in table.columns), None)
    y_name = next((name for name in ("perceptual_index", "niqe") if name in table.columns), table.ranking_metric)
    return None if x_name is None or y_name is None or x_name == y_name else (x_name, y_name)


def plane_of(table: Standing) -> bytes | None:
    """Returns a PNG with the entries of a table on that plane; None without entries or columns for it."""
    axes = axes_of(table)
    is_seen = [one for one in table.entries if not (one.team.disqualified or one.submission.disqualified)]
    if axes is None or not is_seen:
        return None
    shown = is_seen[:MAX_MARKERS] + [one for one in is_seen[MAX_MARKERS:] if one.team.is_baseline]
    plane = Plane(
        title=f"{table.phase.title}: {table.num_faces} {table.phase.unit}, {table.view} scores",
        x_label=_axis_label(table, axes[0]),
        y_label=_axis_label(table, axes[1]),
        limits={},
    )
    return plane_png(plane, [Marker(one.means[axes[0]], one.means[axes[1]], one.team.name) for one in shown])


def _axis_label(table: Standing, metric: str) -> str:
    unit = " in dB" if metric.startswith("psnr") else ""
    is_higher = table.columns[metric]["higher_is_better"]
    return f"{label_of(metric)}{unit} ({'higher' if is_higher else 'lower'} is better)"


def label_of(metric: str) -> str:
    """Returns what people call a metric."""
    known = {
        "psnr_rgb": "PSNR",
        "psnr_y": "PSNR (luma)",
        "ssim": "SSIM",
        "consistency": "LR consistency",
        "perceptual_index": "perceptual index",
        "niqe": "NIQE",
        "ma": "Ma",
        "rmse_y": "RMSE (luma)",
    }
    return f"IS {metric.removeprefix('is/')}" if metric.startswith("is/") else known.get(metric, metric)
