"""A plane of labelled points as a PNG: the perception-distortion plot, without a plotting library."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from io import BytesIO

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from facesr.figures.charts import COLOURS

WIDTH, HEIGHT = 900, 640
_ZOOM = 2  # drawn twice as large and shrunk, which smooths the lines
_LEFT, _RIGHT, _TOP, _BOTTOM = 90, 40, 60, 70
_MARGIN = 0.08  # of the range, on each side of the outermost points
_GREY = "#888888"
_LINE = 18  # pixels from one line of labels to the next

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Marker:
    """A point of the plane; those of one family, where it has a name, are joined in their order."""

    x: float
    y: float
    label: str
    family: str = ""
    is_inner: bool = False


@dataclass(frozen=True)
class Plane:
    """Labels of the plot, upright lines across it (position along x -> label), and how far x goes at least."""

    title: str
    x_label: str
    y_label: str
    limits: dict[float, str]
    x_end: float | None = None


def ticks(low: float, high: float, about: int = 6) -> list[float]:
    """Returns round numbers from `low` to `high`, some more or fewer than `about` of them, at equal steps."""
    raw = (high - low) / about
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1.0, 2.0, 2.5, 5.0, 10.0) if factor * power >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [number * step for number in range(first, math.floor(high / step + 1e-9) + 1)]


def plane_png(plane: Plane, markers: Sequence[Marker]) -> bytes:
    """Returns a PNG of 900x640 with the markers, their labels and the limits that lie within the range."""
    picture = Image.new("RGB", (WIDTH * _ZOOM, HEIGHT * _ZOOM), "white")
    x_low, x_high = _range(m.x for m in markers)
    x_range = (x_low, x_high if plane.x_end is None else max(x_high, plane.x_end))
    canvas = _Canvas(ImageDraw.Draw(picture), x_range, _range(m.y for m in markers))
    canvas.frame(plane)
    families = list(dict.fromkeys(marker.family or marker.label for marker in markers))
    for number, family in enumerate(families):
        own = [marker for marker in markers if (marker.family or marker.label) == family]
        canvas.series(own, COLOURS[number % len(COLOURS)])
    for marker in sorted(markers, key=lambda marker: marker.is_inner):
        canvas.label(marker)
    encoded = BytesIO()
    picture.resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS).save(encoded, "PNG")
    return encoded.getvalue()


def _range(values: Iterable[float]) -> tuple[float, float]:
    array = np.fromiter(values, np.float64)
    low, high = float(array.min()), float(array.max())
    spread = max(high - low, 0.02 * max(abs(high), 1e-6))
    return low - _MARGIN * spread, high + _MARGIN * spread


class _Canvas:
    """The drawing surface with its two scales, and the places that are taken."""

    def __init__(self, draw: ImageDraw.ImageDraw, x_range: tuple[float, float], y_range: tuple[float, float]) -> None:
        self.draw, self.x_range, self.y_range = draw, x_range, y_range
        self.font, self.bold = ImageFont.load_default(15 * _ZOOM), ImageFont.load_default(20 * _ZOOM)
        self.small = ImageFont.load_default(13 * _ZOOM)
        self.left, self.right = _LEFT * _ZOOM, (WIDTH - _RIGHT) * _ZOOM
        self.top, self.bottom = _TOP * _ZOOM, (HEIGHT - _BOTTOM) * _ZOOM
        self.taken: list[Box] = []

    def x(self, value: float) -> float:
        """Returns the column of a value."""
        low, high = self.x_range
        return self.left + (value - low) / (high - low) * (self.right - self.left)

    def y(self, value: float) -> float:
        """Returns the row of a value."""
        low, high = self.y_range
        return self.bottom - (value - low) / (high - low) * (self.bottom - self.top)

    def frame(self, plane: Plane) -> None:
        """Draws title, axes, grid and limits."""
        self.draw.text((self.left, 10 * _ZOOM), plane.title, "black", self.bold)
        self.draw.text((self.left, self.top - 6 * _ZOOM), plane.y_label, "#444444", self.font, anchor="lb")
        middle = (self.left + self.right) / 2
        self.draw.text((middle, (HEIGHT - 12) * _ZOOM), plane.x_label, "black", self.font, anchor="mb")
        for value in ticks(*self.y_range):
            y = self.y(value)
            self.draw.line([(self.left, y), (self.right, y)], "#dddddd", _ZOOM)
            self.draw.text((self.left - 8 * _ZOOM, y), f"{value:.6g}", "#444444", self.font, anchor="rm")
        for value in ticks(*self.x_range):
            x = self.x(value)
            self.draw.line([(x, self.bottom), (x, self.bottom + 5 * _ZOOM)], _GREY, _ZOOM)
            self.draw.text((x, self.bottom + 9 * _ZOOM), f"{value:.6g}", "#444444", self.font, anchor="mt")
        for value, text in plane.limits.items():
            if self.x_range[0] <= value <= self.x_range[1]:
                x = self.x(value)
                for y in range(self.top, self.bottom, 12 * _ZOOM):
                    self.draw.line([(x, y), (x, y + 6 * _ZOOM)], _GREY, _ZOOM)
                self.draw.text((x - 4 * _ZOOM, self.top + 2 * _ZOOM), text, _GREY, self.small, anchor="ra")

    def series(self, markers: Sequence[Marker], colour: str) -> None:
        """Draws the markers of one colour; more than one are joined."""
        points = [(self.x(marker.x), self.y(marker.y)) for marker in markers]
        if len(points) > 1:
            self.draw.line(points, colour, 2 * _ZOOM, joint="curve")
        radius = 6 * _ZOOM
        for x, y in points:
            box = (x - radius, y - radius, x + radius, y + radius)
            self.draw.ellipse(box, colour, "white", _ZOOM)
            self.taken.append(box)

    def label(self, marker: Marker) -> None:
        """Writes a marker's label at the first free place: a side or corner of it, or lines off at the end of a stroke.

        Without a free place the label stands at its right; inside a family, whose ends are labelled, it is left out.
        """
        x, y = self.x(marker.x), self.y(marker.y)
        gap, near = 9 * _ZOOM, 6 * _ZOOM
        sides = [((x + gap, y), "lm"), ((x - gap, y), "rm"), ((x, y - gap), "mb"), ((x, y + gap), "mt")]
        sides += [((x + near, y - near), "lb"), ((x + near, y + near), "lt")]
        sides += [((x - near, y - near), "rb"), ((x - near, y + near), "rt")]
        num_beside = len(sides)
        for lines in () if marker.is_inner else (1, 2, 3):
            off = gap + lines * _LINE * _ZOOM
            sides += [((x, y - off), "mb"), ((x, y + off), "mt"), ((x, y - off), "lb"), ((x, y + off), "lt")]
        boxes = [self.draw.textbbox(place, marker.label, self.font, anchor=anchor) for place, anchor in sides]
        free = [number for number, box in enumerate(boxes) if self._is_free(box)]
        if not free and marker.is_inner:
            return
        chosen = free[0] if free else 0
        self.taken.append(boxes[chosen])
        place, anchor = sides[chosen]
        if chosen >= num_beside:
            self.draw.line([(x, y + math.copysign(near, place[1] - y)), place], _GREY, _ZOOM)
        self.draw.text(place, marker.label, "black", self.font, anchor=anchor)

    def _is_free(self, box: Box) -> bool:
        inside = self.left <= box[0] and box[2] <= self.right + 30 * _ZOOM and self.top <= box[1] <= self.bottom
        return inside and not any(
            box[0] < other[2] and other[0] < box[2] and box[1] < other[3] and other[1] < box[3] for other in self.taken
        )
