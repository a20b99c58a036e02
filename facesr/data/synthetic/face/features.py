"""Draws the face itself: skin, ears, eyes, brows, nose, mouth, folds and marks."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from facesr.data.synthetic.face.canvas import Sheet, ellipse, mixed, sided, toned
from facesr.data.synthetic.face.geometry import Points, Shape, flipped, raise_bump, raise_bumps, spline
from facesr.data.synthetic.face.identity import RGB, Identity, Picture


def draw_head(sheet: Sheet, person: Identity, shape: Shape) -> None:
    """Ears and the skin of the face, with its flush and unevenness."""
    skin, size = person.skin, person.ear_size
    for side in (-1, 1):
        lobe = [
            (0.0, -8.0),
            (3.6, -9.5),
            (6.2, -6.0),
            (5.6, 2.0),
            (3.4, 8.0),
            (0.2, 9.0),
            (-3.0, 5.0),
            (-3.0, -5.0),
        ]
        at = (person.face_width - 0.4, 4.0)
        ear = spline(sided([(size * u, size * v) for u, v in lobe], side, *at), 4, closed=True)
        sheet.fill(ear, mixed(skin, (196.0, 96.0, 80.0), 0.14))
        inner = [(1.0, -6.0), (3.6, -7.2), (4.6, -4.0), (3.6, 1.5), (2.2, 4.5)]
        curve = spline(sided([(size * u, size * v) for u, v in inner], side, *at), 4)
        sheet.lines([curve], mixed(toned(skin, 0.66), (150.0, 60.0, 50.0), 0.15), 3)
        sheet.glaze(ellipse(side * (at[0] + 1.6), 4.5, 1.2, 2.6), toned(skin, 0.45), 0.7, 0.5)
        if person.earring:
            sheet.fill(ellipse(side * (at[0] + 1.2), 4.0 + 9.6 * size, 1.1, 1.1), (236.0, 214.0, 150.0))
    sheet.fill(shape.outline, skin)
    raise_bumps(sheet.flush, 0.16 + 0.25 * person.makeup, 18.5, 15.0, 7.0, 5.0)
    raise_bump(sheet.flush, 0.22, 0.0, shape.nose_v - 1.0, 4.5, 3.5)
    raise_bump(sheet.flush, 0.1, 0.0, shape.chin_v - 3.0, 6.0, 3.0)
    raise_bumps(sheet.shade, 0.08 + 0.18 * person.age, 0.85 * shape.eye[0], 5.0, 5.5, 1.8)
    raise_bumps(sheet.shade, 0.14, 0.62 * shape.eye[0], -2.5, 3.0, 3.2)
    raise_bump(sheet.shade, 0.16, 0.0, shape.nose_v + 2.6, 0.55 * person.nose_width, 1.5)


def _lids(person: Identity, shape: Shape, side: int) -> tuple[Points, Points]:
    """Upper and lower lid line of one eye, from the inner to the outer corner."""
    w, h, opening = 0.5 * person.eye_width, person.eye_height, shape.eye_opening
    slant = person.eye_slant
    across = [-w, -0.62 * w, -0.1 * w, 0.5 * w, w]
    top = [0.9, -0.26 * h, -0.55 * h, -0.42 * h, -slant]
    low = [0.9, 0.30 * h, 0.42 * h, 0.33 * h, -slant]
    upper = [(u, b + opening * (a - b)) for u, a, b in zip(across, top, low, strict=True)]
    lower = list(zip(across, low, strict=True))
    u, v = shape.eye
    return spline(sided(upper, side, u, v), 6), spline(sided(lower, side, u, v), 6)


def draw_eyes(sheet: Sheet, person: Identity, picture: Picture, shape: Shape, rng: np.random.Generator) -> None:
    """Both eyes: lids, eyeball, iris with its highlight, lashes."""
    lash: RGB = mixed((26.0, 18.0, 16.0), toned(person.skin, 0.45), 0.35 * (1.0 - person.lashes))
    light_u = 1.0 if picture.light[0] > 0 else -1.0
    phases = rng.random(22)
    for side in (-1, 1):
        upper, lower = _lids(person, shape, side)
        almond = np.concatenate([upper, lower[::-1]])
        u, v = side * shape.eye[0], shape.eye[1]
        if person.makeup > 0.3:
            lid = np.concatenate([upper, upper[::-1] + np.array([0.0, -2.6], np.float32)])
            sheet.glaze(lid, toned(person.lip, 0.5), 0.55 * person.makeup, 0.8)
        if shape.eye_opening > 0.12:
            _draw_ball(sheet, person, almond, (u + 1.7 * picture.gaze_x, v - 0.35 + picture.gaze_y), light_u, phases)
        sheet.lines([lower], mixed(toned(person.skin, 0.62), (150.0, 60.0, 60.0), 0.2), 1 + round(person.makeup))
        sheet.lines([upper], lash, 2 + round(1.6 * person.lashes))
        sheet.lines([upper[10:]], lash, 2 + round(2.2 * person.lashes))
        _draw_lashes(sheet, person, upper, lower, side, lash)
        fold = upper + np.array([0.0, -1.1 - 1.1 * person.lid_fold], np.float32)
        sheet.lines([fold[3:-1]], mixed(person.skin, toned(person.skin, 0.5), 0.25 + 0.5 * person.lid_fold), 2)
        bag = lower[4:-2] + np.array([0.0, 2.6], np.float32)
        sheet.crease(bag, 0.2 + 0.6 * person.wrinkles)
        sheet.fill(
            ellipse(u - side * (0.5 * person.eye_width - 0.7), v + 0.9, 0.6, 0.5, num=10),
            (206.0, 140.0, 130.0),
        )


def _draw_ball(
    sheet: Sheet,
    person: Identity,
    almond: Points,
    at: tuple[float, float],
    light_u: float,
    phases: NDArray[np.float64],
) -> None:
    """White, iris, pupil and highlight of one eye, clipped by its lids."""
    rows, columns, inside = sheet.patch(almond)
    before = sheet.image[rows, columns].copy()
    u, v = at
    radius = 0.232 * person.eye_width
    sheet.fill(almond, (233.0, 227.0, 223.0))
    sheet.fill(ellipse(u, v, radius, radius), toned(person.iris, 0.42))
    sheet.fill(ellipse(u, v, 0.84 * radius, 0.84 * radius), person.iris)
    angles = 2.0 * np.pi * (np.arange(22) + phases) / 22
    spokes = np.stack([np.cos(angles), np.sin(angles)], 1)[:, None] * np.array([0.4, 0.8])[None, :, None] * radius
    sheet.strands((spokes + np.array([u, v])).astype(np.float32), 0.75 + 0.75 * phases, toned(person.iris, 1.12), 1)
    sheet.fill(ellipse(u, v, 0.4 * radius, 0.4 * radius), (14.0, 10.0, 10.0))
    shadow = almond[: len(almond) // 2]
    band = np.concatenate([shadow, shadow[::-1] + np.array([0.0, 1.5], np.float32)])
    sheet.glaze(band, (60.0, 42.0, 40.0), 0.6, 0.4)
    sheet.fill(ellipse(u + 0.42 * light_u * radius, v - 0.42 * radius, 0.7, 0.7), (255.0, 255.0, 255.0))
    sheet.glaze(ellipse(u - 0.35 * light_u * radius, v + 0.45 * radius, 0.8, 0.5), (255.0, 255.0, 255.0), 0.35, 0.2)
    after = sheet.image[rows, columns]
    after[~inside] = before[~inside]


def _draw_lashes(sheet: Sheet, person: Identity, upper: Points, lower: Points, side: int, colour: RGB) -> None:
    roots = upper[6::2]
    spread = np.linspace(0.1, 1.0, len(roots))[:, None] * np.array([0.8 * side, -0.2]) + np.array([0.0, -0.75])
    tips = roots + spread * (0.2 + 2.1 * person.lashes)
    middle = 0.5 * (roots + tips) + np.array([0.0, 0.35])
    sheet.lines(np.stack([roots, middle, tips], 1).astype(np.float32), colour, 1)
    roots = lower[8::4]
    tips = roots + np.array([0.5 * side, 0.5 + 0.9 * person.lashes])
    sheet.lines(np.stack([roots, tips], 1).astype(np.float32), mixed(colour, person.skin, 0.4), 1)


def draw_brows(sheet: Sheet, person: Identity, picture: Picture, shape: Shape, rng: np.random.Generator) -> None:
    """Both brows as short hairs that turn from upright at the nose to lying at the temple."""
    colour = mixed(toned(person.hair, 0.72), toned(person.skin, 0.42), 0.35)
    length, arch = person.brow_length, person.brow_arch
    num = 120
    along, across, jitter = rng.random(num), rng.random(num) - 0.5, rng.normal(0.0, 1.0, (num, 2))
    for side in (-1, 1):
        v = -person.brow_height - picture.brow_raise
        points = [
            (-0.46 * length, 0.4 - person.brow_tilt),
            (-0.1 * length, -0.35 * arch),
            (0.22 * length, -arch),
            (0.54 * length, 1.6 + 0.4 * person.brow_tilt - 0.3 * arch),
        ]
        line = spline(sided(points, side, shape.eye[0] - 0.3, v), 10)
        thick = person.brow_thickness * np.interp(np.linspace(0, 1, len(line)), [0, 0.2, 0.6, 1], [0.75, 1, 0.85, 0.25])
        half = 0.4 * np.stack([np.zeros(len(line)), thick], 1).astype(np.float32)
        sheet.glaze(np.concatenate([line - half, (line + half)[::-1]]), colour, 0.6, 0.35)
        at = along * (len(line) - 1)
        base = np.stack([np.interp(at, np.arange(len(line)), line[:, axis]) for axis in (0, 1)], 1)
        base[:, 1] += across * np.interp(at, np.arange(len(line)), thick)
        lean = np.stack([side * (0.35 + 0.65 * along), -0.95 + 1.15 * along - 0.9 * across], 1) + 0.16 * jitter
        hairs = np.stack([base, base + 1.9 * lean], 1).astype(np.float32)
        sheet.strands(hairs, 0.9 + 0.22 * jitter[:, 0], colour, 1)
        if picture.brow_raise > 0.5 or person.wrinkles > 0.4:
            sheet.crease(line[4:-6] + np.array([0.0, -5.5], np.float32), 0.3 * person.wrinkles + 0.1)


def draw_nose(sheet: Sheet, person: Identity, shape: Shape) -> None:
    """Nostrils and the wings' edges; the rest of the nose is light on depth."""
    nose, wide, skin = shape.nose_v, person.nose_width, person.skin
    dark = mixed(toned(skin, 0.26), (70.0, 20.0, 16.0), 0.35)
    high = 0.6 + 0.08 * max(0.0, person.nose_tip)
    for side in (-1, 1):
        hole = ellipse(side * 0.4 * wide, nose + 0.7, 0.19 * wide, high, 0.25 * side, 16)
        sheet.glaze(hole, dark, 0.85, 0.25)
        wing = [(0.8, -3.0), (1.0, -1.0), (0.86, 0.9), (0.62, 1.2)]
        sheet.crease(spline(sided([(wide * u, nose + v) for u, v in wing], side), 4), 0.55)
        raise_bump(sheet.shade, 0.1, side * 0.95 * wide, nose - 0.6, 1.3, 1.6)
    base = spline([(-0.3 * wide, nose + 1.3), (0.0, nose + 2.0), (0.3 * wide, nose + 1.3)], 4)
    sheet.crease(base, 0.4)


def _lip_lines(person: Identity, shape: Shape) -> tuple[Points, Points, Points, Points]:
    """Upper rim, upper and lower edge of the opening, lower rim; each from the left to the right corner."""
    (cu, cv), mid, gap = shape.corner, shape.mouth_v, shape.mouth_gap
    thin = 1.0 - 0.12 * (cu - person.mouth_width)  # a wide smile makes lips thin
    up, low, bow = person.lip_upper * thin, person.lip_lower * thin, person.cupid
    side = 0.5 * (mid + cv)

    def line(middle: float, near: tuple[float, float], far: tuple[float, float]) -> Points:
        right = np.array([(0.0, middle), near, far, (cu, cv)], np.float32)
        return spline(np.concatenate([flipped(right[:0:-1]), right]), 6)

    top = line(mid - up + 0.75 * bow, (0.34 * cu, mid - up - 0.35 * bow), (0.72 * cu, side - 0.62 * up))
    seam = line(mid + 0.5, (0.28 * cu, mid + 0.25), (0.66 * cu, side + 0.1))
    under = seam.copy()
    under[:, 1] += gap * (1.0 - (seam[:, 0] / cu) ** 2)
    edge = mid + gap + low
    bottom = line(edge, (0.4 * cu, edge - 0.07 * low), (0.74 * cu, side + 0.6 * (gap + person.lip_lower)))
    return top, seam, under, bottom


def _draw_teeth(sheet: Sheet, shape: Shape, seam: Points, under: Points) -> None:
    sheet.fill(np.concatenate([seam, under[::-1]]), (64.0, 20.0, 22.0))
    edge = seam.copy()
    edge[:, 1] += np.minimum(under[:, 1] - seam[:, 1], 2.6)
    row = np.concatenate([seam, edge[::-1]]) * np.array([0.93, 1.0], np.float32)
    sheet.fill(row, (236.0, 230.0, 220.0))
    start, end = shape.mouth_v + 0.4, shape.mouth_v + min(2.4, shape.mouth_gap)
    for u in np.linspace(-0.6, 0.6, 8) * shape.corner[0]:
        sheet.lines([np.array([(u, start), (u, end)], np.float32)], (198.0, 188.0, 180.0))


def draw_mouth(sheet: Sheet, person: Identity, shape: Shape, rng: np.random.Generator) -> None:
    """Lips with their fine folds, and teeth when the mouth is open."""
    (cu, cv), low = shape.corner, person.lip_lower
    edge = shape.mouth_v + shape.mouth_gap  # upper edge of the lower lip
    top, seam, under, bottom = _lip_lines(person, shape)
    is_open = shape.mouth_gap > 0.3
    if is_open:
        _draw_teeth(sheet, shape, seam, under)
    sheet.glaze(np.concatenate([top, seam[::-1]]), toned(person.lip, 0.84), 0.92, 0.25)
    sheet.glaze(np.concatenate([under, bottom[::-1]]), person.lip, 0.9, 0.3)
    at = (np.linspace(-0.6, 0.6, 13) + rng.normal(0.0, 0.02, 13)) * cu
    start = np.stack([at, np.full(13, edge + 0.6)], 1)
    end = np.stack([1.06 * at, np.full(13, edge + 0.75 * low)], 1)
    folds = np.stack([start, end], 1).astype(np.float32)
    sheet.strands(folds, rng.normal(1.0, 0.12, 13), toned(person.lip, 0.93))
    gloss = ellipse(0.0, edge + 0.55 * low, 0.34 * cu, 0.24 * low)
    sheet.glaze(gloss, (255.0, 238.0, 232.0), 0.2 + 0.25 * person.makeup, 0.45)
    dark = mixed(toned(person.lip, 0.32), (60.0, 14.0, 16.0), 0.3)
    if is_open:
        sheet.lines([seam, under], dark)
    else:
        sheet.lines([seam], dark, 3)
    for side in (-1, 1):
        sheet.glaze(ellipse(side * cu, cv, 0.9, 0.7), dark, 0.6, 0.4)
    below = [(-0.5 * cu, edge + low + 0.9), (0.0, edge + low + 1.5), (0.5 * cu, edge + low + 0.9)]
    sheet.crease(spline(below, 4), 0.4, 2)


def draw_marks(sheet: Sheet, person: Identity, picture: Picture, shape: Shape, rng: np.random.Generator) -> None:
    """Folds of age and smile, freckles and moles."""
    nose, (cu, cv), wrinkles = shape.nose_v, shape.corner, person.wrinkles
    smile = max(0.0, picture.smile)
    for side in (-1, 1):
        fold = [(person.nose_width + 1.4, nose - 3.0), (cu + 2.6, 0.5 * (nose + cv)), (cu + 4.0, cv + 2.6)]
        sheet.crease(spline(sided(fold, side), 6), 0.06 + 0.4 * wrinkles + 0.32 * smile, 2)
        for row in (-1.6, 0.2, 2.0):
            start = shape.eye[0] + 0.5 * person.eye_width + 1.2
            line = sided([(start, row * 0.6), (start + 3.6, row * 1.7)], side)
            sheet.crease(line, 0.7 * wrinkles + 0.25 * smile * wrinkles)
        sheet.crease(sided([(1.6, -9.0), (1.9, -5.0)], side), 0.75 * wrinkles)
    for row in (-15.0, -18.5, -22.0):
        line = spline([(-14.0, row + 1.0), (-6.0, row - 0.4), (4.0, row + 0.2), (14.0, row + 0.8)], 4)
        sheet.crease(line, 0.8 * wrinkles)
    if person.freckles:
        spots = rng.normal(0.0, 1.0, (person.freckles, 2)) * (11.0, 4.6) + (0.0, 12.0)
        for (u, v), size in zip(spots, rng.uniform(0.22, 0.55, person.freckles), strict=True):
            sheet.fill(ellipse(float(u), float(v), size, size, num=8), mixed(person.skin, (140.0, 76.0, 40.0), 0.4))
    for _ in range(person.moles):
        u, v, size = rng.uniform(-22, 22), rng.uniform(6.0, shape.chin_v - 6.0), rng.uniform(0.4, 0.75)
        sheet.fill(
            ellipse(float(u), float(v), size, size, num=10),
            mixed(toned(person.skin, 0.42), (60.0, 30.0, 20.0), 0.4),
        )
