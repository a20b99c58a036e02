"""The sheet a synthetic face is drawn on: colour at 4 samples per unit, fields of depth and shade at 2."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray

from facesr.data.synthetic.face.geometry import COLUMNS, FIELD, HEIGHT, LEFT, ROWS, TOP, WIDTH, Field, Points
from facesr.data.synthetic.face.identity import RGB

FINE = 4  # samples per unit of the colour
_SHIFT = 3  # fractional bits of OpenCV's drawing coordinates


def _fixed(points: NDArray[np.floating], samples: float) -> NDArray[np.int32]:
    """Points (.., 2) in OpenCV's fixed-point coordinates of a sheet with `samples` per unit."""
    scale = samples * (1 << _SHIFT)
    offset = np.array([-LEFT * scale, -TOP * scale], np.float32) + np.float32(0.5 - (1 << (_SHIFT - 1)))
    return (points * np.float32(scale) + offset).astype(np.int32)


def toned(colour: RGB, tone: float) -> RGB:
    """The colour made lighter (tone > 1) or darker."""
    r, g, b = colour
    return min(255.0, r * tone), min(255.0, g * tone), min(255.0, b * tone)


def mixed(colour: RGB, other: RGB, share: float) -> RGB:
    """Colour on the way from `colour` (share 0) to `other` (share 1)."""
    r, g, b = (c + share * (o - c) for c, o in zip(colour, other, strict=True))
    return r, g, b


@cache
def _circle(num: int) -> tuple[Points, Points]:
    angle = np.arange(num) * (2.0 * np.pi / num)
    return np.cos(angle).astype(np.float32), np.sin(angle).astype(np.float32)


def ellipse(u: float, v: float, radius_u: float, radius_v: float, turn: float = 0.0, num: int = 28) -> Points:
    """Closed outline (num, 2) of an ellipse turned by `turn` radians."""
    cos, sin = _circle(num)
    a, b = radius_u * cos, radius_v * sin
    outline = np.empty((num, 2), np.float32)
    outline[:, 0] = u + a * math.cos(turn) - b * math.sin(turn)
    outline[:, 1] = v + a * math.sin(turn) + b * math.cos(turn)
    return outline


def sided(points: list[tuple[float, float]], side: int, u: float = 0.0, v: float = 0.0) -> Points:
    """Points given for the right half, moved by (u, v) and mirrored to the left half when side is -1."""
    return (np.array(points, np.float32) + np.array([u, v], np.float32)) * np.array([side, 1], np.float32)


class Sheet:
    """Colour with premultiplied alpha, and the fields that the light needs.

    Attributes:
        image: (HEIGHT*FINE, WIDTH*FINE, 4) uint8, premultiplied RGBA.
        depth: field of heights in face units.
        hair: field, share of hair or cloth on the head, which casts a shadow.
        cover: field, share of skin hidden by a beard or glasses.
        shade: field, darkening exponent (0 none).
        flush: field, reddening exponent.
        stubble: field, share of shaved beard.
    """

    def __init__(self) -> None:
        self.image = np.zeros((HEIGHT * FINE, WIDTH * FINE, 4), np.uint8)
        size = (ROWS, COLUMNS)
        self.depth: Field = np.zeros(size, np.float32)
        self.hair: Field = np.zeros(size, np.float32)
        self.cover: Field = np.zeros(size, np.float32)
        self.shade: Field = np.zeros(size, np.float32)
        self.flush: Field = np.zeros(size, np.float32)
        self.stubble: Field = np.zeros(size, np.float32)
        self._creases = np.zeros(size, np.uint8)

    def fill(self, outline: Points, colour: RGB) -> None:
        """Paints a closed outline."""
        cv2.fillPoly(self.image, [_fixed(outline, FINE)], (*colour, 255.0), cv2.LINE_8, _SHIFT)

    def lines(self, curves: Sequence[Points] | Points, colour: RGB, thickness: int = 1, closed: bool = False) -> None:
        """Draws open (or closed) curves with a thickness in samples (4 samples are one unit)."""
        fixed = [_fixed(np.asarray(curve), FINE) for curve in curves]
        cv2.polylines(self.image, fixed, closed, (*colour, 255.0), thickness, cv2.LINE_AA, _SHIFT)

    def strands(self, curves: Points, tones: NDArray[np.floating], colour: RGB, thickness: int = 1) -> None:
        """Draws curves (n, k, 2) in shades of one colour, at most 9 shades, in an order that mixes them."""
        fixed = _fixed(curves, FINE)
        steps = np.clip(np.rint((tones - 1.0) / 0.13), -4, 4).astype(np.int64)
        # Two rounds, so that light strands lie under dark ones as well as over them.
        steps[1::2] += 9
        order = np.argsort(steps, kind="stable")
        bounds = np.searchsorted(steps[order], np.arange(-4, 15))
        for step, start, stop in zip(range(-4, 14), bounds[:-1], bounds[1:], strict=True):
            if start < stop:
                shade = (*toned(colour, 1.0 + 0.13 * (step if step < 5 else step - 9)), 255.0)
                chosen = list(fixed[order[start:stop]])
                cv2.polylines(self.image, chosen, False, shade, thickness, cv2.LINE_8, _SHIFT)

    def glaze(self, outline: Points, colour: RGB, opacity: float, blur: float = 0.0) -> None:
        """Lays a see-through colour over opaque places, its edge softened by `blur` units."""
        fixed, rows, columns = self._box(outline, math.ceil(3 * blur * FINE) + 1)
        area = self.image[rows, columns]
        if area.size == 0:
            return
        mask = np.zeros(area.shape[:2], np.uint8)
        cv2.fillPoly(mask, [fixed], 255.0, cv2.LINE_AA, _SHIFT)
        if blur > 0.0:
            mask = np.asarray(cv2.GaussianBlur(mask, (0, 0), blur * FINE), np.uint8)
        weight = mask[..., None].astype(np.float32) * np.float32(opacity / 255.0)
        below = area[..., :3]
        area[..., :3] = below + weight * (np.array(colour, np.float32) - below) + np.float32(0.5)

    def patch(self, outline: Points) -> tuple[slice, slice, NDArray[np.bool_]]:
        """Rows, columns and inside-mask of an outline: to draw something that is clipped by it."""
        fixed, rows, columns = self._box(outline, 1)
        mask = np.zeros((rows.stop - rows.start, columns.stop - columns.start), np.uint8)
        cv2.fillPoly(mask, [fixed], 255.0, cv2.LINE_8, _SHIFT)
        return rows, columns, mask > 0

    def _box(self, outline: Points, rim: int) -> tuple[NDArray[np.int32], slice, slice]:
        """Rows and columns of the colour around an outline, and the outline in their coordinates."""
        fixed = _fixed(outline, FINE)
        left, top, width, height = cv2.boundingRect(fixed)
        x0, y0 = max(0, (left >> _SHIFT) - rim), max(0, (top >> _SHIFT) - rim)
        rows = slice(y0, min(self.image.shape[0], ((top + height) >> _SHIFT) + rim + 1))
        columns = slice(x0, min(self.image.shape[1], ((left + width) >> _SHIFT) + rim + 1))
        return fixed - np.array([x0 << _SHIFT, y0 << _SHIFT], np.int32), rows, columns

    def mask(self, *outlines: Points) -> Field:
        """Field that is 1 inside any of the outlines and 0 outside."""
        field = np.zeros(self.shade.shape, np.uint8)
        for outline in outlines:
            cv2.fillPoly(field, [_fixed(outline, FIELD)], 255.0, cv2.LINE_AA, _SHIFT)
        return field.astype(np.float32) * np.float32(1.0 / 255.0)

    def crease(self, curve: Points, strength: float, thickness: int = 1) -> None:
        """Notes a fold of the skin (strength 0..1) that `settle` turns into shade and depth."""
        if strength > 0.02:
            level = float(min(255.0, 255.0 * strength))
            cv2.polylines(self._creases, [_fixed(curve, FIELD)], False, level, thickness, cv2.LINE_AA, _SHIFT)

    def settle(self) -> None:
        """Works the noted folds into shade and depth; called once, when the features are drawn."""
        fine = cv2.GaussianBlur(self._creases, (0, 0), 0.7 * FIELD).astype(np.float32) * np.float32(1 / 255)
        self.shade += 0.37 * fine
        self.depth -= 1.0 * fine
