"""Draws the face itself: skin, ears, eyes, brows, nose, mouth, folds and marks, and the body below."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from facesr.data.face_canvas import Sheet, ellipse, mixed, toned
from facesr.data.face_geometry import Points, Shape, bump, bumps, spline
from facesr.data.face_identity import RGB, Identity, Picture


def _sided(points: list[tuple[float, float]], side: int, u: float = 0.0, v: float = 0.0) -> Points:
    """Points given for the right half, moved by (u, v) and mirrored to the left half when side is -1."""
    return (np.array(points, np.float32) + np.array([u, v], np.float32)) * np.array([side, 1], np.float32)


def draw_body(sheet: Sheet, person: Identity, picture: Picture, shape: Shape) -> None:
    """Neck, shoulders and clothes."""
    man, chin = person.masculine, shape.chin_v
    neck = 16.5 + 4.5 * man
    slope = 69.0 - 3.0 * man
    skin = toned(person.skin, 0.97)
    half = [
        (0.0, 18.0),
        (neck, 18.0),
        (neck, chin + 4.0),
        (neck + 2.5, chin + 15.0),
        (neck + 12.0, slope + 2.0),
    ]
    right = np.array([*half, (0.0, 100.0)], np.float32)
    outline = np.concatenate([right, right[::-1] * np.array([-1, 1], np.float32)])
    sheet.fill(outline, skin)
    sheet.shade += 0.25 * sheet.mask(outline) * bump(0.0, chin - 3.0, 26.0, 11.0)
    for side in (-1, 1):
        sheet.crease(_sided([(neck - 3.0, chin + 3.0), (6.0, slope + 12.0)], side), 0.35)
        sheet.crease(_sided([(4.0, slope + 14.0), (28.0, slope + 9.0)], side), 0.3)
    _draw_clothes(sheet, picture, neck, slope)


def _draw_clothes(sheet: Sheet, picture: Picture, neck: float, slope: float) -> None:
    colour, second, kind = picture.clothes_colour, picture.second_colour, picture.clothes
    depth = {"round": 11.0, "v": 22.0, "shirt": 15.0, "suit": 17.0, "hood": 9.0, "high": -6.0}[kind]
    open_u = neck + (1.0 if kind == "high" else 5.0)
    top = slope - 9.0
    collar = [
        (0.0, slope + depth),
        (0.55 * open_u, slope + (0.4 if kind in ("v", "suit", "shirt") else 0.72) * depth),
    ]
    right = spline(
        [*collar, (open_u, top), (40.0, slope + 4.0), (66.0, slope + 16.0), (80.0, slope + 32.0)], 4
    )
    right = np.concatenate([right, np.array([(80.0, 110.0), (0.0, 110.0)], np.float32)])
    sides = [right, right * np.array([-1, 1], np.float32)]
    if kind in ("suit", "shirt"):
        shirt = (236.0, 236.0, 238.0) if kind == "suit" else toned(colour, 1.05)
        for side in sides:
            sheet.fill(side, shirt)
        if kind == "suit":
            tie = np.array(
                [(-3, slope + 13), (3, slope + 13), (2, slope + 18), (5, 110), (-5, 110), (-2, slope + 18)]
            )
            sheet.fill(tie.astype(np.float32), second)
            jacket = toned(colour, 0.5)
            for side in (-1, 1):
                lapel = [
                    (open_u - 1.0, top + 2.0),
                    (40.0, slope + 4.0),
                    (66.0, slope + 16.0),
                    (80.0, slope + 32.0),
                ]
                sheet.fill(_sided([*lapel, (80.0, 110.0), (5.0, 110.0)], side), jacket)
                sheet.lines(
                    [_sided([(open_u, top + 4.0), (19.0, slope + 22.0), (6.0, 108.0)], side)],
                    toned(jacket, 1.5),
                )
        for side in (-1, 1):
            flap = [
                (open_u - 2.0, top - 4.0),
                (open_u + 4.0, top + 2.0),
                (13.0, slope + 19.0),
                (2.0, slope + depth - 1),
            ]
            sheet.fill(_sided(flap, side), toned(shirt, 1.06))
            sheet.lines([_sided(flap[1:], side)], toned(shirt, 0.7))
    else:
        for side in sides:
            sheet.fill(side, colour)
        if picture.detail_seed % 3 == 0:  # stripes
            for row in range(0, 34, 7):
                arc = spline(
                    [
                        (-80.0, slope + 40.0 + row),
                        (-30.0, slope + 12.0 + row),
                        (0.0, slope + depth + 9.0 + row),
                    ],
                    4,
                )
                both = np.concatenate([arc, arc[::-1] * np.array([-1, 1], np.float32)])
                sheet.lines([both], second, 9)
        for side in sides:
            sheet.lines([side[: 4 * 2 + 1] + np.array([0.0, 1.6], np.float32)], toned(colour, 0.72), 3)
    if kind == "hood":
        for side in (-1, 1):
            sheet.lines([_sided([(5.0, slope + 11.0), (6.0, 108.0)], side)], (225.0, 225.0, 220.0), 4)
    for side in (-1, 1):
        sheet.crease(_sided([(44.0, slope + 12.0), (34.0, 100.0)], side), 0.5, 2)
        sheet.crease(_sided([(24.0, slope + 20.0), (27.0, 104.0)], side), 0.3, 3)


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
        ear = spline(_sided([(size * u, size * v) for u, v in lobe], side, *at), 4, closed=True)
        sheet.fill(ear, mixed(skin, (196.0, 96.0, 80.0), 0.14))
        inner = [(1.0, -6.0), (3.6, -7.2), (4.6, -4.0), (3.6, 1.5), (2.2, 4.5)]
        curve = spline(_sided([(size * u, size * v) for u, v in inner], side, *at), 4)
        sheet.lines([curve], mixed(toned(skin, 0.66), (150.0, 60.0, 50.0), 0.15), 3)
        sheet.glaze(ellipse(side * (at[0] + 1.6), 4.5, 1.2, 2.6), toned(skin, 0.45), 0.7, 0.5)
        if person.earring:
            sheet.fill(ellipse(side * (at[0] + 1.2), 4.0 + 9.6 * size, 1.1, 1.1), (236.0, 214.0, 150.0))
    sheet.fill(shape.outline, skin)
    sheet.flush += (0.16 + 0.25 * person.makeup) * bumps(18.5, 15.0, 7.0, 5.0)
    sheet.flush += 0.22 * bump(0.0, shape.nose_v - 1.0, 4.5, 3.5)
    sheet.flush += 0.1 * bump(0.0, shape.chin_v - 3.0, 6.0, 3.0)
    sheet.shade += (0.1 + 0.18 * person.age) * bumps(0.85 * shape.eye[0], 5.0, 5.5, 1.8)
    sheet.shade += 0.16 * bumps(0.62 * shape.eye[0], -2.5, 3.0, 3.2)
    sheet.shade += 0.25 * bump(0.0, shape.nose_v + 2.4, 0.55 * person.nose_width, 1.1)


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
    return spline(_sided(upper, side, u, v), 6), spline(_sided(lower, side, u, v), 6)


def draw_eyes(
    sheet: Sheet, person: Identity, picture: Picture, shape: Shape, rng: np.random.Generator
) -> None:
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
            _draw_ball(
                sheet, person, almond, (u + 1.7 * picture.gaze_x, v - 0.35 + picture.gaze_y), light_u, phases
            )
        sheet.lines(
            [lower], mixed(toned(person.skin, 0.62), (150.0, 60.0, 60.0), 0.2), 1 + round(person.makeup)
        )
        sheet.lines([upper], lash, 2 + round(1.6 * person.lashes))
        sheet.lines([upper[10:]], lash, 3 + round(1.6 * person.lashes))
        _draw_lashes(sheet, person, upper, lower, side, lash)
        fold = upper + np.array([0.0, -1.1 - 1.1 * person.lid_fold], np.float32)
        sheet.lines(
            [fold[3:-1]], mixed(person.skin, toned(person.skin, 0.5), 0.25 + 0.5 * person.lid_fold), 2
        )
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
    spokes = (
        np.stack([np.cos(angles), np.sin(angles)], 1)[:, None] * np.array([0.4, 0.8])[None, :, None] * radius
    )
    sheet.strands(
        (spokes + np.array([u, v])).astype(np.float32), 0.75 + 0.75 * phases, toned(person.iris, 1.12), 1
    )
    sheet.fill(ellipse(u, v, 0.4 * radius, 0.4 * radius), (14.0, 10.0, 10.0))
    shadow = almond[: len(almond) // 2]
    band = np.concatenate([shadow, shadow[::-1] + np.array([0.0, 1.5], np.float32)])
    sheet.glaze(band, (60.0, 42.0, 40.0), 0.6, 0.4)
    sheet.fill(ellipse(u + 0.42 * light_u * radius, v - 0.42 * radius, 0.7, 0.7), (255.0, 255.0, 255.0))
    sheet.glaze(
        ellipse(u - 0.35 * light_u * radius, v + 0.45 * radius, 0.8, 0.5), (255.0, 255.0, 255.0), 0.35, 0.2
    )
    after = sheet.image[rows, columns]
    after[~inside] = before[~inside]


def _draw_lashes(
    sheet: Sheet, person: Identity, upper: Points, lower: Points, side: int, colour: RGB
) -> None:
    roots = upper[6::2]
    spread = np.linspace(0.1, 1.0, len(roots))[:, None] * np.array([side, -0.25]) + np.array([0.0, -0.75])
    tips = roots + spread * (0.6 + 2.0 * person.lashes)
    middle = 0.5 * (roots + tips) + np.array([0.0, 0.35])
    sheet.lines(np.stack([roots, middle, tips], 1).astype(np.float32), colour, 1)
    roots = lower[8::4]
    tips = roots + np.array([0.5 * side, 0.5 + 0.9 * person.lashes])
    sheet.lines(np.stack([roots, tips], 1).astype(np.float32), mixed(colour, person.skin, 0.4), 1)


def draw_brows(
    sheet: Sheet, person: Identity, picture: Picture, shape: Shape, rng: np.random.Generator
) -> None:
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
        line = spline(_sided(points, side, shape.eye[0] - 0.3, v), 10)
        thick = person.brow_thickness * np.interp(
            np.linspace(0, 1, len(line)), [0, 0.2, 0.6, 1], [0.75, 1, 0.85, 0.25]
        )
        half = 0.4 * np.stack([np.zeros(len(line)), thick], 1).astype(np.float32)
        sheet.glaze(np.concatenate([line - half, (line + half)[::-1]]), colour, 0.6, 0.35)
        at = along * (len(line) - 1)
        base = np.stack([np.interp(at, np.arange(len(line)), line[:, axis]) for axis in (0, 1)], 1)
        base[:, 1] += across * np.interp(at, np.arange(len(line)), thick)
        lean = (
            np.stack([side * (0.35 + 0.65 * along), -0.95 + 1.15 * along - 0.9 * across], 1) + 0.16 * jitter
        )
        hairs = np.stack([base, base + 1.9 * lean], 1).astype(np.float32)
        sheet.strands(hairs, 0.9 + 0.22 * jitter[:, 0], colour, 1)
        if picture.brow_raise > 0.5 or person.wrinkles > 0.4:
            sheet.crease(line[4:-6] + np.array([0.0, -5.5], np.float32), 0.3 * person.wrinkles + 0.1)


def draw_nose(sheet: Sheet, person: Identity, shape: Shape) -> None:
    """Nostrils and the wings' edges; the rest of the nose is light on depth."""
    nose, wide, skin = shape.nose_v, person.nose_width, person.skin
    dark = mixed(toned(skin, 0.26), (70.0, 20.0, 16.0), 0.35)
    lift = 0.25 * person.nose_tip
    for side in (-1, 1):
        hole = ellipse(side * 0.42 * wide, nose + 0.9, 0.2 * wide, 0.7 + 0.3 * max(0.0, lift), 0.2 * side, 16)
        sheet.glaze(hole, dark, 0.92, 0.22)
        wing = _sided(
            [
                (0.8 * wide, nose - 3.0),
                (1.0 * wide, nose - 1.0),
                (0.86 * wide, nose + 0.9),
                (0.62 * wide, nose + 1.2),
            ],
            side,
        )
        sheet.crease(spline(wing, 4), 0.75)
        sheet.shade += 0.14 * bump(side * 0.95 * wide, nose - 0.6, 1.3, 1.6)
    base = spline([(-0.3 * wide, nose + 1.3), (0.0, nose + 2.0), (0.3 * wide, nose + 1.3)], 4)
    sheet.crease(base, 0.6)


def draw_mouth(sheet: Sheet, person: Identity, shape: Shape, rng: np.random.Generator) -> None:
    """Lips with their fine folds, and teeth when the mouth is open."""
    (cu, cv), mid, gap = shape.corner, shape.mouth_v, shape.mouth_gap
    up, low, cupid = person.lip_upper, person.lip_lower, person.cupid
    stretch = 1.0 - 0.12 * (cu - person.mouth_width)
    ends = [(-cu, cv), (cu, cv)]
    top_half = [
        (0.34 * cu, mid - up * stretch - 0.35 * cupid),
        (0.72 * cu, 0.5 * (mid + cv) - 0.62 * up * stretch),
    ]
    top = [
        ends[0],
        *[(-u, v) for u, v in reversed(top_half)],
        (0.0, mid - up * stretch + 0.75 * cupid),
        *top_half,
        ends[1],
    ]
    seam_half = [(0.28 * cu, mid + 0.25), (0.66 * cu, 0.5 * (mid + cv) + 0.1)]
    seam = [ends[0], *[(-u, v) for u, v in reversed(seam_half)], (0.0, mid + 0.5), *seam_half, ends[1]]
    under = [(u, v + gap * (1.0 - (u / cu) ** 2)) for u, v in seam]
    bottom_half = [
        (0.4 * cu, mid + gap + low * stretch * 0.93),
        (0.74 * cu, 0.5 * (mid + cv) + 0.6 * (gap + low)),
    ]
    bottom = [
        ends[0],
        *[(-u, v) for u, v in reversed(bottom_half)],
        (0.0, mid + gap + low * stretch),
        *bottom_half,
        ends[1],
    ]
    curves = [spline(points, 6) for points in (top, seam, under, bottom)]
    upper = np.concatenate([curves[0], curves[1][::-1]])
    lower = np.concatenate([curves[2], curves[3][::-1]])
    if gap > 0.3:
        inside = np.concatenate([curves[1], curves[2][::-1]])
        sheet.fill(inside, (64.0, 20.0, 22.0))
        teeth = curves[1] + np.array([0.0, 1.0], np.float32) * np.minimum(
            curves[2][:, 1:] - curves[1][:, 1:], 2.6
        )
        smile = np.concatenate([curves[1], teeth[::-1]]) * np.array([0.93, 1.0], np.float32)
        sheet.fill(smile, (236.0, 230.0, 220.0))
        marks = np.linspace(-0.6, 0.6, 8)[:, None, None] * cu * np.array([1.0, 0.0]) + np.array(
            [[0, mid], [0, mid + 2.2]]
        )
        sheet.lines(marks.astype(np.float32), (198.0, 188.0, 180.0), 1)
    sheet.glaze(upper, toned(person.lip, 0.84), 0.92, 0.25)
    sheet.glaze(lower, person.lip, 0.9, 0.3)
    at = np.linspace(-0.8, 0.8, 17) + rng.normal(0.0, 0.02, 17)
    fold = np.stack(
        [
            np.stack([at * cu, np.full(17, mid + gap + 0.6)], 1),
            np.stack([at * cu * 1.06, np.full(17, mid + gap + 0.75 * low)], 1),
        ],
        1,
    )
    sheet.strands(fold[2:-2].astype(np.float32), rng.normal(1.0, 0.12, 13), toned(person.lip, 0.93), 1)
    sheet.glaze(
        ellipse(0.0, mid + gap + 0.55 * low, 0.34 * cu, 0.24 * low),
        (255.0, 238.0, 232.0),
        0.2 + 0.25 * person.makeup,
        0.45,
    )
    dark = mixed(toned(person.lip, 0.32), (60.0, 14.0, 16.0), 0.3)
    sheet.lines([curves[1]] if gap < 0.3 else [curves[1], curves[2]], dark, 3 if gap < 0.3 else 1)
    for side in (-1, 1):
        sheet.glaze(ellipse(side * cu, cv, 0.9, 0.7), dark, 0.6, 0.4)
    sheet.crease(
        spline(
            [
                (-0.5 * cu, mid + gap + low + 0.9),
                (0.0, mid + gap + low + 1.5),
                (0.5 * cu, mid + gap + low + 0.9),
            ],
            4,
        ),
        0.4,
        2,
    )


def draw_marks(
    sheet: Sheet, person: Identity, picture: Picture, shape: Shape, rng: np.random.Generator
) -> None:
    """Folds of age and smile, freckles and moles."""
    nose, (cu, cv), wrinkles = shape.nose_v, shape.corner, person.wrinkles
    smile = max(0.0, picture.smile)
    for side in (-1, 1):
        fold = [(person.nose_width + 0.6, nose - 2.0), (cu + 1.4, 0.5 * (nose + cv)), (cu + 2.6, cv + 2.0)]
        sheet.crease(spline(_sided(fold, side), 6), 0.12 + 0.5 * wrinkles + 0.45 * smile, 2)
        for row in (-1.6, 0.2, 2.0):
            start = shape.eye[0] + 0.5 * person.eye_width + 1.2
            line = _sided([(start, row * 0.6), (start + 3.6, row * 1.7)], side)
            sheet.crease(line, 0.7 * wrinkles + 0.25 * smile * wrinkles)
        sheet.crease(_sided([(1.6, -9.0), (1.9, -5.0)], side), 0.75 * wrinkles)
    for row in (-15.0, -18.5, -22.0):
        line = spline([(-14.0, row + 1.0), (-6.0, row - 0.4), (4.0, row + 0.2), (14.0, row + 0.8)], 4)
        sheet.crease(line, 0.8 * wrinkles)
    if person.freckles:
        spots = rng.normal(0.0, 1.0, (person.freckles, 2)) * (11.0, 4.6) + (0.0, 12.0)
        for (u, v), size in zip(spots, rng.uniform(0.22, 0.55, person.freckles), strict=True):
            sheet.fill(
                ellipse(float(u), float(v), size, size, num=8), mixed(person.skin, (140.0, 76.0, 40.0), 0.4)
            )
    for _ in range(person.moles):
        u, v, size = rng.uniform(-22, 22), rng.uniform(6.0, shape.chin_v - 6.0), rng.uniform(0.5, 0.95)
        sheet.fill(
            ellipse(float(u), float(v), size, size, num=10),
            mixed(toned(person.skin, 0.42), (60.0, 30.0, 20.0), 0.4),
        )
