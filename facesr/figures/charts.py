"""Two small charts without a plotting library: a histogram as inline SVG, and curves as a PNG."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from facesr.web.page import render

# Colours that differ also for colour-blind readers (Okabe and Ito, "Color Universal Design", 2008).
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")

_WIDTH, _HEIGHT = 380, 180
_LEFT, _RIGHT, _TOP, _BOTTOM = 30, 12, 24, 26


def histogram_svg(values: NDArray[np.float64], title: str, lowest: float, bin_width: float = 0.05) -> Markup:
    """Returns an inline SVG histogram of values from `lowest` to 1 with their mean marked; the page has the colours."""
    first = int(np.floor(lowest / bin_width))
    last = max(int(np.ceil(1.0 / bin_width)), first + 1)
    edges = np.arange(first, last + 1) * bin_width
    counts = np.histogram(values.clip(edges[0], edges[-1]), edges)[0]
    inner_width, inner_height = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM
    base = _HEIGHT - _BOTTOM

    def x(value: float) -> float:
        return _LEFT + inner_width * (value - float(edges[0])) / float(edges[-1] - edges[0])

    step = max(1, round(len(counts) / 6))
    mean = float(values.mean())
    return render(
        "histogram.svg",
        width=_WIDTH,
        height=_HEIGHT,
        title=title,
        bars=[
            {
                "x": f"{x(left) + 0.5:.1f}",
                "y": f"{base - inner_height * count / counts.max():.1f}",
                "width": f"{x(right) - x(left) - 1:.1f}",
                "height": f"{inner_height * count / counts.max():.1f}",
                "text": f"{left:.2f} to {right:.2f}: {count} faces",
            }
            for count, left, right in zip(counts, edges[:-1], edges[1:], strict=True)
            if count
        ],
        axis=f"M{_LEFT} {base}H{_WIDTH - _RIGHT}",
        ticks=[_label(f"{x(edge):.1f}", base + 16, "middle", f"{edge:.2f}") for edge in edges[::-1][::step]]
        + [_label(f"{_LEFT - 4}", _TOP + 4, "end", f"{counts.max()}")],
        mean_line=f"M{x(mean):.1f} {_TOP - 4}V{base}",
        mean=_label(
            f"{x(mean):.1f}",
            _TOP - 9,
            "end" if x(mean) > _WIDTH - 100 else "start" if x(mean) < 100 else "middle",
            f"mean {mean:.4f}",
        ),
    )


def _label(x: str, y: int, anchor: str, text: str) -> dict[str, str]:
    return {"x": x, "y": str(y), "anchor": anchor, "text": text}


@dataclass(frozen=True)
class Axes:
    """Labels and the positions of the curves' points: categories along x, values in [0, 1] along y."""

    title: str
    x_label: str
    y_label: str
    x_ticks: Sequence[str]


def curves_png(axes: Axes, curves: Mapping[str, Sequence[float]]) -> bytes:
    """Returns a PNG of 900x540 with one curve per name; NaN leaves a gap."""
    zoom = 2  # drawn twice as large and shrunk, which smooths the lines
    width, height = 900 * zoom, 540 * zoom
    left, right, top, bottom = 80 * zoom, 30 * zoom, 60 * zoom, 70 * zoom
    picture = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(picture)
    font, bold = ImageFont.load_default(15 * zoom), ImageFont.load_default(20 * zoom)
    known = [value for values in curves.values() for value in values if np.isfinite(value)]
    lowest = min(0.0, np.floor(min(known, default=0.0) * 10) / 10)

    def position(index: int, value: float) -> tuple[float, float]:
        across = index / max(len(axes.x_ticks) - 1, 1)
        up = (value - lowest) / (1.0 - lowest)
        return left + across * (width - left - right), height - bottom - up * (height - top - bottom)

    draw.text((left, 10 * zoom), axes.title, "black", bold)
    for value in np.arange(lowest, 1.001, 0.2):
        y = position(0, float(value))[1]
        draw.line([(left, y), (width - right, y)], "#dddddd", zoom)
        draw.text((left - 10 * zoom, y), f"{value:.1f}", "#444444", font, anchor="rm")
    for index, tick in enumerate(axes.x_ticks):
        x = position(index, lowest)[0]
        draw.line([(x, height - bottom), (x, height - bottom + 5 * zoom)], "#888888", zoom)
        draw.text((x, height - bottom + 10 * zoom), tick, "#444444", font, anchor="mt")
    draw.text(((left + width - right) / 2, height - 16 * zoom), axes.x_label, "black", font, anchor="mb")
    draw.text((left, top - 6 * zoom), axes.y_label, "#444444", font, anchor="lb")
    for number, (name, values) in enumerate(curves.items()):
        colour = COLOURS[number % len(COLOURS)]
        points = [position(i, value) for i, value in enumerate(values) if np.isfinite(value)]
        draw.line(points, colour, 3 * zoom, joint="curve")
        for x, y in points:
            draw.ellipse([x - 4 * zoom, y - 4 * zoom, x + 4 * zoom, y + 4 * zoom], colour)
        # The legend lies at the lower left, where curves that fall to the right do not come.
        y = height - bottom - (len(curves) - number) * 24 * zoom
        draw.line([(left + 16 * zoom, y), (left + 46 * zoom, y)], colour, 3 * zoom)
        draw.text((left + 54 * zoom, y), name, "black", font, anchor="lm")
    encoded = BytesIO()
    picture.resize((900, 540), Image.Resampling.LANCZOS).save(encoded, "PNG")
    return encoded.getvalue()
