"""Draws what a person wears: clothes over neck and shoulders, glasses and hats."""

from __future__ import annotations

import numpy as np

from facesr.data.synthetic.face.canvas import Sheet, ellipse, mixed, sided, toned
from facesr.data.synthetic.face.geometry import Points, Shape, flipped, mirrored, raise_bump, spline
from facesr.data.synthetic.face.identity import RGB, Identity, Picture


def draw_body(sheet: Sheet, person: Identity, picture: Picture, shape: Shape) -> None:
    """Neck, shoulders and clothes."""
    man, chin = person.masculine, shape.chin_v
    neck = 15.5 + 5.0 * man
    slope = chin + 13.0 - 3.0 * man
    skin = toned(person.skin, 0.97)
    half = [
        (0.0, 18.0),
        (neck, 18.0),
        (neck, chin + 4.0),
        (neck + 2.5, chin + 15.0),
        (neck + 12.0, slope + 2.0),
    ]
    right = np.array([*half, (0.0, 100.0)], np.float32)
    sheet.fill(mirrored(right), skin)
    for side in (-1, 1):
        sheet.crease(sided([(neck - 3.0, chin + 3.0), (6.0, slope + 12.0)], side), 0.35)
        sheet.crease(sided([(4.0, slope + 14.0), (28.0, slope + 9.0)], side), 0.3)
    _draw_clothes(sheet, picture, neck, slope)


def _draw_clothes(sheet: Sheet, picture: Picture, neck: float, slope: float) -> None:
    kind = picture.clothes
    depth = {"round": 11.0, "v": 22.0, "shirt": 15.0, "suit": 17.0, "hood": 9.0, "high": -6.0}[kind]
    open_u = neck + (1.0 if kind == "high" else 5.0)
    steep = 0.4 if kind in ("v", "suit", "shirt") else 0.72
    collar = [(0.0, slope + depth), (0.55 * open_u, slope + steep * depth), (open_u, slope - 7.0)]
    shoulder = [(40.0, slope + 4.0), (66.0, slope + 16.0), (80.0, slope + 32.0)]
    edge = spline([*collar, *shoulder], 4)
    right = np.concatenate([edge, np.array([(80.0, 110.0), (0.0, 110.0)], np.float32)])
    formal = kind in ("suit", "shirt")
    shirt = (236.0, 236.0, 238.0) if kind == "suit" else picture.clothes_colour
    sheet.fill(right, shirt)
    sheet.fill(flipped(right), shirt)
    if kind == "suit":
        _draw_jacket(sheet, picture, open_u, slope)
    if formal:
        _draw_collar(sheet, toned(shirt, 1.04), open_u, slope, depth)
    else:
        _draw_knit(sheet, picture, edge[:9], slope + depth)
    for side in (-1, 1):
        if kind == "hood":
            sheet.lines([sided([(5.0, slope + 11.0), (6.0, 108.0)], side)], (225.0, 225.0, 220.0), 4)
        sheet.crease(sided([(44.0, slope + 12.0), (34.0, 100.0)], side), 0.5, 2)
        sheet.crease(sided([(24.0, slope + 20.0), (27.0, 104.0)], side), 0.3, 3)


def _draw_jacket(sheet: Sheet, picture: Picture, open_u: float, slope: float) -> None:
    """Tie and jacket with lapels."""
    knot = [(-3.0, slope + 13.0), (3.0, slope + 13.0), (2.0, slope + 18.0)]
    tie = np.array([*knot, (5.0, 110.0), (-5.0, 110.0), (-2.0, slope + 18.0)], np.float32)
    sheet.fill(tie, picture.second_colour)
    jacket = toned(picture.clothes_colour, 0.5)
    for side in (-1, 1):
        front = [(open_u - 1.0, slope - 5.0), (40.0, slope + 4.0), (66.0, slope + 16.0), (80.0, slope + 32.0)]
        sheet.fill(sided([*front, (80.0, 110.0), (5.0, 110.0)], side), jacket)
        lapel = [(open_u, slope - 3.0), (19.0, slope + 22.0), (6.0, 108.0)]
        sheet.lines([sided(lapel, side)], toned(jacket, 1.5))


def _draw_collar(sheet: Sheet, colour: RGB, open_u: float, slope: float, depth: float) -> None:
    """Collar of a shirt, folded over."""
    for side in (-1, 1):
        flap = [(open_u - 2.0, slope - 11.0), (open_u + 4.0, slope - 5.0), (13.0, slope + 19.0)]
        flap = [*flap, (2.0, slope + depth - 1.0)]
        sheet.fill(sided(flap, side), colour)
        sheet.lines([sided(flap[1:], side)], toned(colour, 0.7))


def _draw_knit(sheet: Sheet, picture: Picture, neckline: Points, front: float) -> None:
    """Seam along the neckline (right half, from the middle) and, on some pieces, stripes."""
    if picture.detail_seed % 3 == 0:
        for row in range(0, 34, 7):
            arc = spline([(0.0, front + 9.0 + row), (30.0, front + 4.0 + row), (80.0, front + 30.0 + row)], 4)
            sheet.lines([np.concatenate([flipped(arc[:0:-1]), arc])], picture.second_colour, 9)
    seam = neckline + np.array([0.0, 1.6], np.float32)
    sheet.lines([np.concatenate([flipped(seam[:0:-1]), seam])], toned(picture.clothes_colour, 0.72), 3)


def _lens(person: Identity, shape: Shape, side: int, dark: bool) -> Points:
    grow = 1.12 if dark else 1.0
    u, v = side * (shape.eye[0] + 0.9), 1.4
    if person.glasses == "round":
        return ellipse(u, v, 8.4 * grow, 7.6 * grow, num=32)
    angle = np.linspace(0.0, 2 * np.pi, 36, endpoint=False)
    cos, sin = np.cos(angle), np.sin(angle)
    across = 9.4 * grow * np.sign(cos) * np.abs(cos) ** 0.5
    down = 6.2 * grow * np.sign(sin) * np.abs(sin) ** 0.55
    return np.stack([u + across * (1.0 - 0.012 * down), v + down], 1).astype(np.float32)


def draw_glasses(sheet: Sheet, person: Identity, picture: Picture, shape: Shape) -> None:
    """The person's glasses, or sunglasses where the picture has them."""
    dark = picture.sunglasses
    if person.glasses == "none" and not dark:
        return
    frame = person.glasses_colour if not dark else (26.0, 22.0, 22.0)
    thick = 4 + (person.detail_seed % 3) + (2 if dark else 0)
    for side in (-1, 1):
        lens = _lens(person, shape, side, dark)
        u, v = side * (shape.eye[0] + 0.9), 1.4
        streak = np.array([(u - 4, v + 5), (u + 0.5, v - 5), (u + 3, v - 5), (u - 1.5, v + 5)], np.float32)
        if dark:
            sheet.fill(lens, (30.0, 26.0, 30.0))
            sheet.cover += sheet.mask(lens)
            low = lens[lens[:, 1] > v - 1.0]
            sheet.glaze(low, mixed((120.0, 96.0, 80.0), frame, 0.3), 0.55, 1.2)
            sheet.glaze(streak, (255.0, 255.0, 255.0), 0.16, 0.5)
        else:
            sheet.glaze(lens, (255.0, 255.0, 255.0), 0.03)
            sheet.glaze(streak, (255.0, 255.0, 255.0), 0.1, 0.4)
        sheet.lines([lens], frame, thick, closed=True)
        sheet.lines([lens[lens[:, 1] < v - 2.5][:4] + np.array([0, -0.3], np.float32)], toned(frame, 1.9), 1)
        arm = np.array([(u + side * 8.6, -1.6), (side * (person.face_width + 1.0), -2.6)], np.float32)
        sheet.lines([arm], frame, thick)
        sheet.crease(lens[lens[:, 1] > v + 3.0] + np.array([0.0, 1.6], np.float32), 0.35, 2)
    inner = shape.eye[0] - 7.4
    sheet.lines([spline([(-inner, 0.2), (0.0, -1.6), (inner, 0.2)], 6)], frame, thick)


def draw_hat(sheet: Sheet, person: Identity, picture: Picture, shape: Shape, rng: np.random.Generator) -> None:
    """Knitted hat or peaked cap."""
    if picture.hat == "none":
        return
    out = person.temple_width + 4.5 + 0.5 * person.hair_volume
    low = -15.0 if picture.hat == "beanie" else -20.0
    crown = spline([(0.0, -52.0), (0.62 * out, -48.0), (0.98 * out, -33.0), (out, low + 2.0)], 6)
    rim = spline([(out, low + 2.0), (0.6 * out, low - 3.4), (0.0, low - 5.0)], 6)
    right = np.concatenate([crown, rim])
    sheet.fill(right, picture.hat_colour)
    sheet.fill(flipped(right), picture.hat_colour)
    covered = [right, flipped(right)]
    if picture.hat == "beanie":
        _draw_knitting(sheet, picture, rim, out, low, rng)
    else:
        covered.append(_draw_peak(sheet, picture, out, low))
    sheet.hair = np.maximum(sheet.hair, sheet.mask(*covered))
    raise_bump(sheet.shade, 0.3, 0.0, low + 3.0, 24.0, 4.5)


def _draw_knitting(
    sheet: Sheet, picture: Picture, rim: Points, out: float, low: float, rng: np.random.Generator
) -> None:
    """Ribs of a knitted hat and its turned-up band."""
    ribs, steps = np.linspace(-0.97, 0.97, 34)[:, None], np.linspace(0.0, 1.0, 7)
    u = ribs * out * (0.25 + 0.75 * np.sqrt(steps))
    v = -54.0 + steps * (50.0 + low + 6.0 * ribs**2)
    tones = 0.82 + 0.3 * (np.arange(34) % 2)
    sheet.strands(np.stack([u, v], 2).astype(np.float32), tones, picture.hat_colour, 3)
    band = np.concatenate([rim, (rim - np.array([0, 9], np.float32))[::-1]])
    sheet.fill(band, toned(picture.second_colour, 1.05))
    sheet.fill(flipped(band), toned(picture.second_colour, 1.05))
    at = np.linspace(-0.98, 0.98, 44)
    top = np.stack([at * out, low - 13.6 + 6.5 * at**2], 1)
    bars = np.stack([top, top + np.array([0.0, 8.2])], 1).astype(np.float32)
    sheet.strands(bars, 0.86 + 0.2 * rng.random(44), picture.second_colour, 2)


def _draw_peak(sheet: Sheet, picture: Picture, out: float, low: float) -> Points:
    """Seams and peak of a cap; returns the peak's outline."""
    for share in (-0.5, 0.0, 0.5):
        seam = [(0.3 * share * out, -52.0), (0.85 * share * out, -40.0), (share * out, low - 4.0)]
        sheet.lines([spline(seam, 5)], toned(picture.hat_colour, 0.7), 2)
    upper = [(0.0, low - 7.0), (0.62 * out, low - 5.5), (0.93 * out, low + 1.0)]
    peak = spline([*upper, (0.72 * out, low + 5.0), (0.0, low + 4.4)], 6)
    for half in (peak, flipped(peak)):
        sheet.fill(half, toned(picture.second_colour, 0.8))
        sheet.lines([half[12:]], toned(picture.second_colour, 1.25), 3)
    return mirrored(peak)
