"""Draws what grows on a head: hair strand by strand, and beards hair by hair."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from facesr.data.synthetic.face.canvas import Sheet, ellipse, mixed, toned
from facesr.data.synthetic.face.geometry import FIELD, LEFT, TOP, Points, Shape, flipped, mirrored, resampled, spline
from facesr.data.synthetic.face.identity import Identity

_NUM = 24  # points of a contour that strands interpolate
_LONG = ("middle part", "long side part", "fringe", "long curls")
_COILED = ("afro", "curly", "long curls")


@dataclass(frozen=True)
class Lock:
    """Patch of hair between two contours (_NUM, 2) that run side by side from root to tip."""

    inner: Points
    outer: Points

    def outline(self) -> Points:
        """Closed outline of the patch."""
        return np.concatenate([self.inner, self.outer[::-1]])

    def at(self, across: NDArray[np.floating], along: NDArray[np.floating]) -> Points:
        """Points (.., 2) at shares across (0 inner, 1 outer) and along (0 root, 1 tip) of the patch."""
        k = np.clip(along, 0.0, 1.0) * (_NUM - 1)
        whole = np.minimum(k.astype(np.int64), _NUM - 2)
        part = (k - whole)[..., None]
        inner = self.inner[whole] * (1 - part) + self.inner[whole + 1] * part
        outer = self.outer[whole] * (1 - part) + self.outer[whole + 1] * part
        return np.asarray(inner + across[..., None] * (outer - inner), dtype=np.float32)


def _parted(shape: Shape, person: Identity, part: float, curtain: float | None) -> list[Lock]:
    """Right and left lock from a parting at u = part; beside the face a curtain hangs to v = curtain."""
    width, locks = person.face_width, []
    inner, outer = shape.hairline, shape.skull
    if curtain is not None:
        spread, volume = 0.16 * (curtain - 20.0), person.hair_volume
        hang = [
            (0.955 * width, 2.0),
            (0.99 * width, 16.0),
            (0.9 * width, 34.0),
            (0.86 * width + 0.3 * spread, curtain),
        ]
        fall = [
            (width + 2.6 + volume, 2.0),
            (width + 5.0 + volume, 22.0),
            (width + 5.5 + volume + 0.6 * spread, curtain),
        ]
        inner = np.concatenate([inner[:-12], spline(hang, 8)])
        outer = np.concatenate([outer[:-8], spline(fall, 8)])
    for side in (1, -1):
        root = np.array([part, 0.0], np.float32)
        scale = np.array([side, 1.0], np.float32)
        # Only the part near the middle moves with the parting; beside the face the contour stays.
        ease_in = np.clip(1.0 - inner[:, :1] / width, 0.0, 1.0)
        ease_out = np.clip(1.0 - outer[:, :1] / width, 0.0, 1.0)
        left = inner * scale + root * ease_in
        right = outer * scale + root * ease_out * 0.6
        lock = Lock(resampled(left, _NUM), resampled(right, _NUM))
        locks.append(lock)
    return locks


def _tones(rng: np.random.Generator, across: NDArray[np.floating]) -> NDArray[np.float64]:
    """Brightness of each strand: clumps, single hairs and darker rims."""
    phase = rng.random(3) * 2 * np.pi
    clumps = 0.15 * np.sin(21 * across + phase[0]) + 0.1 * np.sin(47 * across + phase[1])
    rim = -0.2 * (np.abs(across - 0.5) > 0.44)
    return np.asarray(1.0 + clumps + rim + rng.normal(0.0, 0.11, across.shape))


def _along(sheet: Sheet, lock: Lock, person: Identity, rng: np.random.Generator, num: int, wave: float) -> None:
    """Strands that run from root to tip, with a band of gloss."""
    across = rng.random(num)
    start, span = 0.75 * rng.random(num), rng.uniform(0.25, 0.6, num)
    steps = np.linspace(0.0, 1.0, 9)
    along = start[:, None] + span[:, None] * steps
    sway = 0.05 * wave * np.sin(26 * along + 5 * across[:, None] + rng.normal(0.0, 0.5, (num, 1)))
    drift = rng.normal(0.0, 0.025, (num, 1)) * steps
    curves = lock.at(across[:, None] * 1.04 - 0.01 + sway + drift, along)
    sheet.strands(curves, _tones(rng, across), person.hair)
    gloss = slice(0, num // 3)
    place = 0.3 + 0.06 * np.sin(9 * across[gloss]) + 0.04 * rng.normal(size=num // 3)
    along = place[:, None] + 0.13 * (steps - 0.5)
    curves = lock.at(across[gloss][:, None] + sway[gloss], along)
    shine = 1.28 + 0.14 * rng.random(num // 3)
    sheet.strands(curves, shine, mixed(person.hair, (190.0, 186.0, 186.0), 0.14))


def _across(sheet: Sheet, lock: Lock, person: Identity, rng: np.random.Generator, num: int, sweep: float) -> None:
    """Strands that run from the hairline over the head, leaning sideways by `sweep`."""
    along = rng.random(num)
    start, span = 0.95 * rng.random(num) ** 1.1 - 0.08, rng.uniform(0.2, 0.45, num)
    steps = np.linspace(0.0, 1.0, 6)
    across = start[:, None] + span[:, None] * steps
    bent = along[:, None] + (sweep + rng.normal(0.0, 0.02, (num, 1))) * across
    curves = lock.at(np.minimum(across, 1.06), bent)
    sheet.strands(curves, _tones(rng, along) + 0.16 * (np.abs(start - 0.4) < 0.12), person.hair)


def _coils(sheet: Sheet, lock: Lock, person: Identity, rng: np.random.Generator, num: int, size: float) -> None:
    """Small curls: arcs of circles all over the patch and over its rim."""
    across, along = rng.random(num) * 1.06 - 0.03, rng.random(num)
    centre = lock.at(across, along)
    radius = size * rng.uniform(0.55, 1.2, num)
    turn = rng.random(num)[:, None] * 2 * np.pi + np.linspace(0.0, 4.4, 8)
    arcs = centre[:, None] + radius[:, None, None] * np.stack([np.cos(turn), np.sin(turn)], 2)
    up = 0.13 * np.clip(-(centre[:, 1] + 22.0) / 22.0, -1.0, 1.0)
    sheet.strands(arcs.astype(np.float32), 1.0 + up + rng.normal(0.0, 0.2, num), person.hair, 2)


def _length(person: Identity) -> float | None:
    """Height v to which the hair hangs beside the face, None for hair that ends above the ears."""
    if person.hair_style in _LONG:
        return max(48.0, person.hair_length)
    return 0.5 * person.hair_length + 8.0 if person.hair_style == "bob" else None


def draw_back_hair(sheet: Sheet, person: Identity, shape: Shape, rng: np.random.Generator) -> None:
    """Hair behind the head and neck."""
    length, width = _length(person), person.face_width
    dark = toned(person.hair, 0.62)
    if person.hair_style == "afro":
        volume = 9.0 + person.hair_volume
        cloud = ellipse(0.0, -10.0, width + volume, 38.0 + volume, num=40)
        cloud = cloud + rng.normal(0.0, 0.7, cloud.shape).astype(np.float32)
        cloud = spline(cloud, 4, closed=True)
        sheet.fill(cloud, toned(person.hair, 0.85))
        sheet.hair = sheet.mask(cloud) * (1.0 - sheet.mask(shape.outline))
        turn = np.linspace(0.0, 2 * np.pi, _NUM)
        rim = np.stack([np.cos(turn) * (width + volume), -10.0 + np.sin(turn) * (38.0 + volume)], 1)
        lock = Lock((rim * 0.6 + (0.0, -4.0)).astype(np.float32), rim.astype(np.float32))
        _coils(sheet, lock, person, rng, 420, 1.7)
        return
    if person.hair_style == "bun":
        knot = ellipse(0.3 * person.hair_part, -49.0, 13.0, 9.0)
        sheet.fill(knot, toned(person.hair, 0.8))
        turns = [ellipse(0.3 * person.hair_part, -49.0, r, 0.7 * r) for r in np.linspace(2.0, 13.0, 16)]
        sheet.strands(np.stack(turns), rng.normal(0.95, 0.18, 16), person.hair)
    if length is None:
        return
    out = width + 4.0 + person.hair_volume
    half = spline(
        [
            (0.0, -40.0),
            (0.8 * out, -28.0),
            (out, 0.0),
            (out + 1.0, 0.6 * length),
            (0.8 * out, length),
            (0.0, length + 1.0),
        ]
    )
    sheet.fill(mirrored(half), dark)
    for side in (1, -1):
        scale = np.array([side, 1.0])
        lock = Lock(
            resampled(np.array([(4.0, -20.0), (6.0, 20.0), (5.0, length)], np.float32) * scale, _NUM),
            resampled(spline([(20.0, -20.0), (out, 20.0), (0.85 * out, length)], 8) * scale, _NUM),
        )
        across = rng.random(60)
        along = np.linspace(0.0, 1.0, 9) + rng.normal(0.0, 0.05, (60, 1))
        sheet.strands(lock.at(across[:, None] + 0.0 * along, along), _tones(rng, across), toned(dark, 1.05))


def draw_hair(sheet: Sheet, person: Identity, shape: Shape, rng: np.random.Generator) -> None:
    """Hair in front of the head."""
    style, hair = person.hair_style, person.hair
    if style == "bald":
        shaved = sheet.mask(shape.outline) * _above_hairline(sheet, shape)
        sheet.stubble += np.float32(0.3 * (1.0 - person.recession)) * shaved
        return
    part = {"middle part": 0.12, "long side part": 1.1, "side part": 1.2, "bob": 0.6, "long curls": 0.4}.get(style, 0.0)
    locks = _parted(shape, person, part * person.hair_part, _length(person))
    outlines = [lock.outline() for lock in locks]
    for outline in outlines:
        sheet.fill(outline, toned(hair, 0.82))
    if style == "fringe":
        outlines.append(_draw_fringe(sheet, person, shape, rng))
    sheet.hair = np.maximum(sheet.hair, sheet.mask(*outlines))
    for lock in locks:
        if style in _COILED:
            _coils(sheet, lock, person, rng, 260 if style != "curly" else 200, 1.5 + 0.5 * person.hair_wave)
        elif style in ("swept", "crop", "quiff", "bun"):
            side = 1.0 if lock.inner[-1, 0] > 0 else -1.0
            sweep = {"swept": 0.3 * side, "crop": 0.03, "quiff": -0.12, "bun": -0.3}[style]
            _across(sheet, lock, person, rng, 260, sweep)
        else:
            _along(sheet, lock, person, rng, 240, person.hair_wave)
    if style == "fringe":
        _draw_fringe(sheet, person, shape, rng)


def _above_hairline(sheet: Sheet, shape: Shape) -> NDArray[np.float32]:
    right = np.concatenate([shape.hairline, shape.skull[::-1]])
    return sheet.mask(right, flipped(right))


def _draw_fringe(sheet: Sheet, person: Identity, shape: Shape, rng: np.random.Generator) -> Points:
    width = person.temple_width
    end = -9.5 + 0.15 * person.hair_part
    edges = []
    for u in (-0.9 * width, 0.0, 0.9 * width):
        droop = 3.5 * (u / width) ** 2
        edges.append(
            resampled(spline([(0.25 * u, -46.0), (0.75 * u, -35.0), (u, -20.0), (0.98 * u, end + droop)], 8), _NUM)
        )
    outline = np.concatenate([edges[0], edges[1][-1:], edges[2][::-1]])
    sheet.fill(outline, toned(person.hair, 0.85))
    for pair in ((edges[0], edges[1]), (edges[1], edges[2])):
        _along(sheet, Lock(*pair), person, rng, 130, 0.4 * person.hair_wave)
        ends = rng.random(26)
        steps = np.linspace(0.8, 1.0, 5) * np.ones((26, 1))
        tips = Lock(*pair).at(ends[:, None] + rng.normal(0, 0.02, (26, 1)) * steps, steps)
        tips[:, -1, 1] += rng.uniform(0.3, 1.8, 26)
        sheet.strands(tips, _tones(rng, ends), toned(person.hair, 0.9), 2)
    return outline


def _beard_areas(person: Identity, shape: Shape) -> dict[str, Points]:
    """Right half of each style's area."""
    width, (cu, cv), nose, chin = person.face_width, shape.corner, shape.nose_v, shape.chin_v
    lip = [(0.0, nose + 3.6), (0.8 * person.nose_width, nose + 4.0)]
    cheek = spline([*lip, (cu + 3.0, cv - 4.5), (0.62 * width, 21.0), (0.84 * width, 14.0)], 5)
    jaw = [(0.97 * width, 8.0), (0.965 * width, 16.0), (person.jaw_width + 0.3, 28.0)]
    jaw = [*jaw, (0.9 * person.chin_width + 5.0, chin - 4.0), (0.0, chin + 1.6)]
    goatee = [*lip, (cu + 2.6, cv - 2.5), (cu + 3.0, cv + 6.0), (0.75 * cu, chin - 0.5), (0.0, chin + 1.5)]
    under = [(cu + 2.2, cv + 1.2), (0.5 * cu, shape.mouth_v - 2.6), (0.0, shape.mouth_v - 2.2)]
    return {
        "full": np.concatenate([cheek, spline(jaw, 5)]),
        "goatee": spline(goatee, 5),
        "moustache": spline([*lip, (cu + 1.6, cv - 2.2), *under], 5),
    }


def draw_beard(sheet: Sheet, person: Identity, shape: Shape, rng: np.random.Generator) -> None:
    """Beard of the person's style: hair by hair, or the shade of a shaved one."""
    style, nose, chin = person.beard_style, shape.nose_v, shape.chin_v
    areas = _beard_areas(person, shape)
    if person.masculine > 0.6 and person.age > 0.15 and style in ("none", "stubble", "moustache"):
        shaved = sheet.mask(areas["full"], flipped(areas["full"]))
        shade = 0.75 if style == "stubble" else 0.25
        sheet.stubble += shade * cv2.GaussianBlur(shaved, (0, 0), 2.2 * FIELD)
    if style not in areas:
        return
    sides = [areas[style], flipped(areas[style])]
    colour = mixed(toned(person.hair, 0.85), toned(person.skin, 0.4), 0.18)
    for side in sides:
        sheet.glaze(side, toned(colour, 0.8), person.beard_density, 0.9)
    inside = sheet.mask(*sides)
    sheet.cover += cv2.GaussianBlur(inside, (0, 0), 0.8 * FIELD)
    box = ((-person.face_width, nose), (person.face_width, chin + 2.0))
    roots = rng.uniform(*box, (1500 if style == "full" else 2600, 2))
    columns = ((roots[:, 0] - LEFT) * FIELD).astype(np.int64)
    rows = ((roots[:, 1] - TOP) * FIELD).astype(np.int64)
    roots = roots[inside[rows, columns] > 0.5]
    outward = 0.05 * roots[:, 0] * (1.5 - (roots[:, 1] > shape.corner[1]))
    lean = np.stack([outward, np.full(len(roots), 0.9)], 1) + rng.normal(0.0, 0.3, roots.shape)
    tips = roots + lean * rng.uniform(1.6, 2.6, (len(roots), 1))
    curves = np.stack([roots, roots + 1.1 * lean, tips], 1)
    sheet.strands(curves.astype(np.float32), rng.normal(1.05, 0.22, len(roots)), colour)
