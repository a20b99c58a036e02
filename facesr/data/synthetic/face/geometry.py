"""Where everything of a synthetic face lies: outlines, landmarks, depth, and the pose it has in a picture.

A face is drawn from the front and upright in face units (u to the right, v down, origin between the eyes).
One warp then carries it into the picture: a head turned by yaw and pitch as a surface in depth, rolled,
scaled and shifted, on a body that follows only part of the roll. `Pose.landmarks` follows the same formulas
the other way round.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from facesr.data.synthetic.face.identity import Identity, Picture

Points = NDArray[np.float32]  # (n, 2): u, v
Field = NDArray[np.float32]  # (height, width)

# Canvas in face units: left, top, width, height. Wide enough for a picture rolled by 35 degrees.
LEFT, TOP, WIDTH, HEIGHT = -70, -56, 140, 140
FIELD = 1.5  # samples per unit of the fields (depth, light, masks)
ROWS, COLUMNS = int(HEIGHT * FIELD), int(WIDTH * FIELD)  # size of a field
_EYES_AT = (
    48.2,
    46.8,
)  # pixel between the eyes in a 96x112 picture, as in photographs framed for the benchmark
_BODY_ROLL = 0.3  # share of the head's roll that the shoulders follow


@cache
def _spline_weights(num_points: int, num: int, closed: bool) -> NDArray[np.float32]:
    """(n, num_points): share of each given point in each point of a Catmull-Rom curve."""
    eye = np.eye(num_points)
    if closed:
        eye = np.concatenate([eye[-1:], eye, eye[:2]])
    else:
        eye = np.concatenate([2 * eye[:1] - eye[1:2], eye, 2 * eye[-1:] - eye[-2:-1]])
    t = (np.arange(num) / num)[:, None]
    a, b, c, d = (part[:, None] for part in (eye[:-3], eye[1:-2], eye[2:-1], eye[3:]))
    curve = 0.5 * (2 * b + t * (c - a) + t**2 * (2 * a - 5 * b + 4 * c - d) + t**3 * (3 * b - a - 3 * c + d))
    weights = curve.reshape(-1, num_points)
    return np.asarray(weights if closed else np.concatenate([weights, eye[-2:-1]]), dtype=np.float32)


def spline(points: list[tuple[float, float]] | Points, num: int = 6, closed: bool = False) -> Points:
    """Catmull-Rom curve (n, 2) through the points, with `num` samples per stretch."""
    given = np.asarray(points, dtype=np.float32)
    return np.asarray(_spline_weights(len(given), num, closed) @ given)


def flipped(points: Points) -> Points:
    """The points mirrored from the right half to the left, or back."""
    return points * np.array([-1.0, 1.0], dtype=np.float32)


def mirrored(half: Points) -> Points:
    """Closed outline from its right half, which runs from the top to the bottom of the middle line."""
    return np.concatenate([half, flipped(half[::-1])])


def resampled(curve: Points, num: int) -> Points:
    """The same curve with `num` points at equal distances."""
    steps = np.hypot(*np.diff(curve, axis=0).T)
    length = np.concatenate([[0.0], np.cumsum(steps)])
    at = np.linspace(0.0, length[-1], num)
    return np.stack([np.interp(at, length, curve[:, 0]), np.interp(at, length, curve[:, 1])], 1).astype(np.float32)


@dataclass(frozen=True)
class Shape:
    """Contours and anchor points of one face with one expression, in face units."""

    outline: Points  # closed, skin of the whole head without ears
    hairline: Points  # right half, from the middle of the forehead to the front of the ear
    skull: Points  # right half of the hair's outer contour, from the crown to beside the ear
    eye: tuple[float, float]  # right eye's centre; the left one is mirrored
    eye_opening: float  # 0 closed .. about 1.1
    nose_v: float
    mouth_v: float
    corner: tuple[float, float]  # right mouth corner
    mouth_gap: float  # height of the opening between the lips
    chin_v: float

    def landmarks(self) -> Points:
        """(5, 2): left eye, right eye, nose tip, left and right mouth corner as seen in the picture."""
        (eu, ev), (cu, cv) = self.eye, self.corner
        return np.array([(-eu, ev), (eu, ev), (0, self.nose_v - 1.6), (-cu, cv), (cu, cv)], dtype=np.float32)


def _outline(person: Identity, chin: float) -> Points:
    width, temple, jaw = person.face_width, person.temple_width, person.jaw_width
    right = [
        (0.0, -42.0),
        (0.56 * temple, -38.5),
        (0.92 * temple, -25.0),
        (temple, -10.0),
        (width, 5.0),
        (0.96 * width, 15.0),
        (jaw, 28.0),
        (0.5 * (jaw + person.chin_width), 0.5 * (28.0 + chin) + 2.6),
        (0.86 * person.chin_width, chin - 2.0),
        (0.0, chin),
    ]
    return mirrored(spline(right))


def _hairline(person: Identity) -> Points:
    top, recede = -person.forehead, person.recession
    width, temple = person.face_width, person.temple_width
    return spline(
        [
            (0.0, top + 0.6 * recede),
            (0.35 * temple, top - 0.5 - 2.8 * recede),
            (0.7 * temple, top + 3.0 - 4.8 * recede),
            (0.9 * temple, -13.0 - 2.5 * recede),
            (0.915 * temple, -7.0),
            (0.955 * width, 3.0),
            (1.0 * width, 11.0),
        ]
    )


def _skull(person: Identity) -> Points:
    lift, width, temple = person.hair_volume, person.face_width, person.temple_width
    return spline(
        [
            (0.0, -43.0 - lift),
            (0.6 * temple, -40.0 - 0.95 * lift),
            (0.97 * temple + 0.2 * lift, -29.0 - 0.6 * lift),
            (1.05 * temple + 0.45 * lift, -14.0),
            (width + 0.4 * lift, 0.0),
            (width + 0.8, 11.0),
        ]
    )


def shape_of(person: Identity, picture: Picture) -> Shape:
    """Shape of a person's face with the expression of a picture."""
    smile, grin = picture.smile, max(0.0, picture.smile)
    gap = 6.0 * max(0.0, picture.mouth_open) + 1.2 * max(0.0, smile - 0.55)
    mouth_v = person.nose_length + person.mouth_height
    chin = max(person.chin_length, mouth_v + person.lip_lower + 10.5) + 0.55 * gap
    corner_u = person.mouth_width + 2.2 * grin - 0.25 * gap
    return Shape(
        outline=_outline(person, chin),
        hairline=_hairline(person),
        skull=_skull(person),
        eye=(0.5 * person.eye_spacing, 0.0),
        eye_opening=(1.0 - picture.blink) * (1.0 - 0.28 * grin),
        nose_v=person.nose_length,
        mouth_v=mouth_v,
        corner=(corner_u, mouth_v + 0.2 - 2.5 * smile + 0.3 * gap),
        mouth_gap=gap,
        chin_v=chin,
    )


def _axes() -> tuple[Field, Field]:
    u = LEFT + (np.arange(COLUMNS) + 0.5) / FIELD
    v = TOP + (np.arange(ROWS) + 0.5) / FIELD
    return u.astype(np.float32), v.astype(np.float32)


U_AXIS, V_AXIS = _axes()


def raise_bump(field: Field, height: float, u: float, v: float, spread_u: float, spread_v: float) -> None:
    """Adds a Gaussian hill of that height at (u, v) to a field; only the part within 3 spreads is touched."""
    left, right = (max(0, int((u + way * spread_u - LEFT) * FIELD)) for way in (-3, 3))
    top, bottom = (max(0, int((v + way * spread_v - TOP) * FIELD)) for way in (-3, 3))
    columns, rows = slice(left, right), slice(top, bottom)
    across = np.exp(-0.5 * ((U_AXIS[columns] - u) / spread_u) ** 2)
    down = np.exp(-0.5 * ((V_AXIS[rows] - v) / spread_v) ** 2)
    field[rows, columns] += np.float32(height) * np.outer(down, across)


def raise_bumps(field: Field, height: float, u: float, v: float, spread_u: float, spread_v: float) -> None:
    """Adds the hill at (u, v) and its mirror image at (-u, v) to a field."""
    raise_bump(field, height, u, v, spread_u, spread_v)
    raise_bump(field, height, -u, v, spread_u, spread_v)


def add_relief(depth: Field, person: Identity, shape: Shape, smile: float) -> None:
    """Adds the face's features to a depth field: heights over a plain head, in face units."""
    eu, nose, mouth, gap = shape.eye[0], shape.nose_v, shape.mouth_v, shape.mouth_gap
    wide, man, grin = person.nose_width, person.masculine, max(0.0, smile)
    rise = 1.0 / (1.0 + np.exp(-(V_AXIS - 0.4 * nose) / 3.2))  # from the root to the tip of the nose
    end = 1.0 + np.exp(np.clip((V_AXIS - nose + 1.2) / 1.1, -30, 30))
    root = 1.0 + np.exp(np.clip(-(V_AXIS + 5.0) / 2.6, -30, 30))
    spread = person.nose_bridge * (1.0 + 0.02 * np.clip(V_AXIS, 0, nose))
    ridge = ((1.0 + 2.3 * rise) / (end * root))[:, None] * np.exp(-0.5 * (U_AXIS[None, :] / spread[:, None]) ** 2)
    depth += ridge.astype(np.float32)
    raise_bump(depth, 2.1, 0.0, nose - 2.4, 0.46 * wide, 2.4)
    raise_bumps(depth, 1.3, 0.68 * wide, nose - 1.2, 0.27 * wide, 1.7)
    raise_bumps(depth, 0.4 + 1.1 * man, 0.85 * eu, -7.5, 7.0, 2.4)
    raise_bumps(depth, -1.9, 0.9 * eu, -1.5, 5.4, 3.6)
    raise_bumps(depth, 1.3, eu, 0.4, 4.3, 2.7)
    raise_bumps(depth, 0.9 + 0.6 * person.cheek + 1.0 * grin, 18.5, 13.5 - smile, 6.5, 5.5)
    raise_bumps(depth, -0.5 * person.cheek, 19.5, 28.0, 4.5, 7.0)
    raise_bump(depth, 1.5, 0.0, mouth, 11.0, 6.5)
    raise_bump(depth, -0.4, 0.0, 0.5 * (nose + mouth) + 0.3, 1.1, 2.6)
    raise_bump(depth, 0.8, 0.0, mouth + 0.6 * person.lip_lower + gap, 5.0, 1.4)
    raise_bump(depth, -0.8, 0.0, mouth + 2.1 * person.lip_lower + gap, 6.0, 1.7)
    raise_bumps(depth, -0.6, shape.corner[0] + 0.8, shape.corner[1], 1.4, 1.5)
    raise_bump(depth, 1.7, 0.0, shape.chin_v - 5.0, 0.62 * person.chin_width, 3.6)


def dome(half_width: float, centre: float, half_height: float, depth: float) -> Field:
    """Depth of an ellipsoid's front, 0 outside of it."""
    u = (U_AXIS / half_width) ** 2
    v = ((V_AXIS - centre) / half_height) ** 2
    return np.float32(depth) * np.sqrt(np.maximum(np.float32(1.0) - v[:, None] - u[None, :], np.float32(0.0)))


def _turning_depth(u: Field, v: Field, nose: float) -> Field:
    """Smooth depth (face units) that the pose turns: gentle enough that the warp never folds."""
    head = 27.0 * np.exp(-0.5 * ((u / 23.0) ** 2 + ((v - 4.0) / 33.0) ** 2))
    tip = 7.0 * np.exp(-0.5 * ((u / 6.0) ** 2 + ((v - nose + 2.0) / 8.0) ** 2))
    return np.asarray(head + tip, dtype=np.float32)


@dataclass(frozen=True)
class Pose:
    """How the upright face lies in a picture of `width` x `height` pixels."""

    picture: Picture
    nose: float
    width: int
    height: int

    def _zoom(self) -> tuple[float, float, float]:
        """Pixels per unit and the pixel between the eyes."""
        frame = min(self.width / 96.0, self.height / 112.0)
        x = 0.5 * self.width + frame * (_EYES_AT[0] - 47.5 + self.picture.shift_x) - 0.5
        y = 0.5 * self.height + frame * (_EYES_AT[1] - 55.5 + self.picture.shift_y) - 0.5
        return frame * self.picture.scale, x, y

    def _turn(self) -> tuple[float, float, float, float]:
        yaw, pitch = np.radians(self.picture.yaw), np.radians(self.picture.pitch)
        return float(np.sin(yaw)), float(np.cos(yaw)), float(np.sin(pitch)), float(np.cos(pitch))

    def _level(self) -> float:
        """Depth of the point between the eyes, which the turn keeps in place."""
        zero = np.zeros(1, np.float32)
        return float(_turning_depth(zero, zero, self.nose)[0])

    def landmarks(self, points: Points) -> Points:
        """Pixels (n, 2: x, y; whole numbers are pixel centres) of points (n, 2: u, v) above the jaw."""
        zoom, x0, y0 = self._zoom()
        sin_yaw, cos_yaw, sin_pitch, cos_pitch = self._turn()
        u, v = points[:, 0], points[:, 1]
        z = _turning_depth(u, v, self.nose) - self._level()
        u, v = u * cos_yaw + z * sin_yaw, v * cos_pitch + z * sin_pitch
        roll = np.radians(self.picture.roll)
        x = x0 + zoom * (u * np.cos(roll) - v * np.sin(roll))
        y = y0 + zoom * (u * np.sin(roll) + v * np.cos(roll))
        return np.stack([x, y], 1)

    def sources(self) -> tuple[Field, Field]:
        """Face units (u, v), each (height, width), from which every pixel of the picture takes its colour."""
        zoom, x0, y0 = self._zoom()
        sin_yaw, cos_yaw, sin_pitch, cos_pitch = self._turn()
        x = ((np.arange(self.width, dtype=np.float32) - x0) / zoom)[None, :]
        y = ((np.arange(self.height, dtype=np.float32) - y0) / zoom)[:, None]
        roll = np.radians(self.picture.roll)
        down = y * np.cos(roll) - x * np.sin(roll)
        # Below the jaw (v > 50) the body bends away from the head's roll.
        ease = np.clip((down - 50.0) / 45.0, 0.0, 1.0)
        bend = roll * (1.0 - (1.0 - _BODY_ROLL) * ease * ease * (3.0 - 2.0 * ease))
        cos, sin = np.cos(bend), np.sin(bend)
        u1, v1 = (x * cos + y * sin).astype(np.float32), (y * cos - x * sin).astype(np.float32)
        level = self._level()
        u, v = u1, v1
        for _ in range(4):  # fixed point: the depth is that of the source, not of the target
            z = _turning_depth(u, v, self.nose) - level
            u = (u1 - z * np.float32(sin_yaw)) / np.float32(cos_yaw)
            v = (v1 - z * np.float32(sin_pitch)) / np.float32(cos_pitch)
        return u, v


def carried(layer: NDArray[Any], samples: float, u: Field, v: Field, finer: int = 1) -> NDArray[Any]:
    """The layer (rows, columns, ..) with `samples` per unit as sources (u, v) see it, `finer` times finer."""
    if finer > 1:
        size = (u.shape[1] * finer, u.shape[0] * finer)
        u = np.asarray(cv2.resize(u, size, interpolation=cv2.INTER_LINEAR), np.float32)
        v = np.asarray(cv2.resize(v, size, interpolation=cv2.INTER_LINEAR), np.float32)
    x, y = (u - LEFT) * samples - 0.5, (v - TOP) * samples - 0.5
    return np.asarray(cv2.remap(layer, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE))
