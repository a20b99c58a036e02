"""The sheet a built-in face is drawn on: colour at 4 samples per unit, fields of depth and shade at 2."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray

from facesr.data.face_geometry import FIELD, HEIGHT, LEFT, TOP, WIDTH, Field, Points
from facesr.data.face_identity import RGB

FINE = 4  # samples per unit of the colour
_SHIFT = 3  # fractional bits of OpenCV's drawing coordinates
_ORIGIN = np.array([LEFT, TOP], dtype=np.float32)


def _fixed(points: NDArray[np.floating], samples: int) -> NDArray[np.int32]:
    """Points (.., 2) in OpenCV's fixed-point coordinates of a sheet with `samples` per unit."""
    return np.asarray(np.rint(((points - _ORIGIN) * samples - 0.5) * (1 << _SHIFT)), np.int32)


def toned(colour: RGB, tone: float) -> RGB:
    """The colour made lighter (tone > 1) or darker."""
    r, g, b = (min(255.0, max(0.0, c * tone)) for c in colour)
    return r, g, b


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
        size = (HEIGHT * FIELD, WIDTH * FIELD)
        self.depth: Field = np.zeros(size, np.float32)
        self.hair: Field = np.zeros(size, np.float32)
        self.cover: Field = np.zeros(size, np.float32)
        self.shade: Field = np.zeros(size, np.float32)
        self.flush: Field = np.zeros(size, np.float32)
        self.stubble: Field = np.zeros(size, np.float32)
        self._creases = np.zeros(size, np.uint8)

    def fill(self, outline: Points, colour: RGB) -> None:
        """Paints a closed outline."""
        cv2.fillPoly(self.image, [_fixed(outline, FINE)], (*colour, 255.0), cv2.LINE_AA, _SHIFT)

    def lines(
        self, curves: Sequence[Points] | Points, colour: RGB, thickness: int = 1, closed: bool = False
    ) -> None:
        """Draws open (or closed) curves with a thickness in samples (4 samples are one unit)."""
        fixed = [_fixed(np.asarray(curve), FINE) for curve in curves]
        cv2.polylines(self.image, fixed, closed, (*colour, 255.0), thickness, cv2.LINE_AA, _SHIFT)

    def strands(self, curves: Points, tones: NDArray[np.floating], colour: RGB, thickness: int = 1) -> None:
        """Draws curves (n, k, 2) in shades of one colour, 9 shades in all, in an order that mixes them."""
        fixed = _fixed(curves, FINE)
        steps = np.clip(np.rint((tones - 1.0) / 0.11), -5, 5).astype(np.int64)
        # Two rounds, so that light strands lie under dark ones as well as over them.
        for half in (slice(0, None, 2), slice(1, None, 2)):
            for step in np.unique(steps[half]):
                chosen = list(fixed[half][steps[half] == step])
                shade = (*toned(colour, 1.0 + 0.11 * float(step)), 255.0)
                cv2.polylines(self.image, chosen, False, shade, thickness, cv2.LINE_8, _SHIFT)

    def glaze(self, outline: Points, colour: RGB, opacity: float, blur: float = 0.0) -> None:
        """Lays a see-through colour over opaque places, its edge softened by `blur` units."""
        rim = int(np.ceil(3 * blur * FINE)) + 2
        pixels = (outline - _ORIGIN) * FINE
        x0, y0 = np.maximum(np.floor(pixels.min(0)).astype(int) - rim, 0)
        x1, y1 = np.ceil(pixels.max(0)).astype(int) + rim
        area = self.image[y0:y1, x0:x1]
        if area.size == 0:
            return
        mask = np.zeros(area.shape[:2], np.uint8)
        fixed = _fixed(outline, FINE) - np.array([x0, y0], np.int32) * (1 << _SHIFT)
        cv2.fillPoly(mask, [fixed.astype(np.int32)], 255.0, cv2.LINE_AA, _SHIFT)
        if blur > 0.0:
            mask = np.asarray(cv2.GaussianBlur(mask, (0, 0), blur * FINE), np.uint8)
        weight = mask[..., None].astype(np.float32) * np.float32(opacity / 255.0)
        below = area[..., :3]
        area[..., :3] = below + weight * (np.array(colour, np.float32) - below) + np.float32(0.5)

    def patch(self, outline: Points) -> tuple[slice, slice, NDArray[np.bool_]]:
        """Rows, columns and inside-mask of an outline: to draw something that is clipped by it."""
        pixels = (outline - _ORIGIN) * FINE
        x0, y0 = np.maximum(np.floor(pixels.min(0)).astype(int) - 1, 0)
        x1, y1 = np.ceil(pixels.max(0)).astype(int) + 1
        mask = np.zeros((y1 - y0, x1 - x0), np.uint8)
        fixed = _fixed(outline, FINE) - np.array([x0, y0], np.int32) * (1 << _SHIFT)
        cv2.fillPoly(mask, [fixed.astype(np.int32)], 255.0, cv2.LINE_8, _SHIFT)
        return slice(y0, y1), slice(x0, x1), mask > 0

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
        self.shade += 0.42 * fine
        self.depth -= 1.1 * fine
