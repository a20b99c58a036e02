"""Lights a drawn face as a surface in depth, puts it before a background and takes the picture."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from facesr.data.face_canvas import FINE, Sheet
from facesr.data.face_geometry import FIELD, V_AXIS, Field, Pose, Shape, carried, dome
from facesr.data.face_identity import Identity, Picture, vivid_colour

_LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601
_SUPER = 3  # samples per output pixel of the colour
Image = NDArray[np.float32]  # (height, width, 3)


def _blur(field: Field, units: float) -> Field:
    """Wide Gaussian blur of a field, done at a quarter of its size."""
    small = cv2.resize(field, None, fx=0.25, fy=0.25, interpolation=cv2.INTER_AREA)
    small = cv2.GaussianBlur(small, (0, 0), max(0.3, units * FIELD / 4))
    return np.asarray(cv2.resize(small, field.shape[::-1], interpolation=cv2.INTER_LINEAR), np.float32)


def _moved(field: Field, u: float, v: float) -> Field:
    matrix = np.array([[1, 0, u * FIELD], [0, 1, v * FIELD]], np.float32)
    return np.asarray(cv2.warpAffine(field, matrix, field.shape[::-1]), np.float32)


def _surface(sheet: Sheet, person: Identity, shape: Shape, face: Field) -> Field:
    """Depth of everything in view: head, features, hair, neck and shoulders."""
    head = dome(1.07 * person.face_width, 2.0, 52.0, 34.0)
    head += sheet.depth * np.minimum(1.0, head * np.float32(0.1))
    volume = person.hair_volume
    hair = dome(person.face_width + volume + 5.0, -4.0 if volume < 9 else -10.0, 52.0 + volume, 36.0) + 2.0
    body = np.maximum(dome(21.0, 60.0, 90.0, 20.0), dome(80.0, 130.0, 64.0, 30.0)) - 18.0
    covered = cv2.GaussianBlur(sheet.hair, (0, 0), 1.2 * FIELD)
    depth = np.where(face > 0.5, head, body)
    return np.asarray(depth + covered * (np.maximum(hair, body + 8.0) - depth), np.float32)


def light(sheet: Sheet, person: Identity, picture: Picture, shape: Shape) -> tuple[Image, Field]:
    """Gain (rows, columns, 3) and highlight (rows, columns) of the sheet under the picture's light."""
    sheet.settle()
    face = sheet.mask(shape.outline)
    sheet.skin = face * (1.0 - sheet.hair)
    depth = cv2.GaussianBlur(_surface(sheet, person, shape, face), (0, 0), 0.45 * FIELD)
    slope_v, slope_u = np.zeros_like(depth), np.zeros_like(depth)
    slope_u[:, 1:-1] = np.clip(depth[:, 2:] - depth[:, :-2], -2.6, 2.6)  # two samples are one unit
    slope_v[1:-1] = np.clip(depth[2:] - depth[:-2], -2.6, 2.6)
    direction = np.array(picture.light, np.float32)
    lu, lv, lw = direction / np.linalg.norm(direction)
    length = 1.0 / np.sqrt(1.0 + slope_u * slope_u + slope_v * slope_v)
    facing = (lw - lu * slope_u - lv * slope_v) * length
    diffuse = np.maximum(0.12 + 0.88 * facing, 0.0)
    # Half-way vector between light and viewer; the viewer looks along depth.
    hu, hv, hw = np.array([lu, lv, lw + 1.0]) / np.linalg.norm([lu, lv, lw + 1.0])
    mirror = np.maximum((np.float32(hw) - np.float32(hu) * slope_u - np.float32(hv) * slope_v) * length, 0.0)
    mirror = mirror * mirror
    mirror = mirror * mirror
    shine = mirror**4 * sheet.skin * np.float32(0.10 + 0.05 * person.masculine)
    hidden = np.clip(_blur(depth, 3.5) - depth, 0.0, 6.0)
    shadow = _moved(_blur(sheet.hair, 1.6), -2.6 * float(lu), 2.2) * sheet.skin * np.float32(0.6)
    under = _moved(face, -6.0 * float(lu), 7.0) * (1.0 - face) * (1.0 - sheet.hair) * (V_AXIS[:, None] > 20)
    shadow += np.float32(0.6) * _blur(under, 1.2)
    level = picture.ambient * (1.0 - 0.06 * hidden) + (1.0 - picture.ambient) * 1.28 * diffuse * (
        1.0 - shadow
    )
    dark = sheet.shade * sheet.skin + 0.022 * hidden
    gain = np.empty((*depth.shape, 3), np.float32)
    # Light that enters skin comes out redder: shadows keep more red than blue.
    warm = np.array([0.0, 0.05, 0.09]) * (1.0 - np.minimum(level, 1.0))[..., None] * sheet.skin[..., None]
    weights = zip((0.85, 1.05, 1.15), (0.0, 0.45, 0.4), (0.62, 0.55, 0.46), strict=True)
    for channel, (shade, flush, stubble) in enumerate(weights):
        absorbed = shade * dark + sheet.skin * (flush * sheet.flush + stubble * sheet.stubble)
        gain[..., channel] = level * np.exp(-absorbed) - warm[..., channel]
    return gain, shine.astype(np.float32)


def background(rng: np.random.Generator, width: int, height: int) -> Image:
    """Scene behind the person, values 0..1: a gradient, blurred lights or simple structures."""
    first, second = (np.array(vivid_colour(rng), np.float32) for _ in range(2))
    angle = rng.random() * 2 * np.pi
    x, y = np.linspace(-1, 1, width, dtype=np.float32), np.linspace(-1, 1, height, dtype=np.float32)
    ramp = np.clip(0.5 + 0.4 * (np.cos(angle) * x[None, :] + np.sin(angle) * y[:, None]), 0, 1)[..., None]
    scene = first * (1 - ramp) + second * ramp
    kind = int(rng.integers(5))
    if kind == 1:  # lights out of focus
        for _ in range(int(rng.integers(8, 22))):
            at = (int(rng.integers(width * 8)), int(rng.integers(height * 8)))
            layer = scene.copy()
            cv2.circle(layer, at, int(rng.integers(24, 90)), vivid_colour(rng), -1, cv2.LINE_AA, 3)
            scene = cv2.addWeighted(layer, 0.45, scene, 0.55, 0.0)
    elif kind in (2, 3):  # boards, windows, shelves
        for _ in range(int(rng.integers(3, 9))):
            x0, y0 = int(rng.integers(-20, width)), int(rng.integers(-20, height))
            tall = kind == 2
            wide = int(rng.integers(6, 22 if tall else 50))
            high = height if tall else int(rng.integers(6, 40))
            colour = (0.6 * np.array(vivid_colour(rng)) + 0.4 * first).tolist()
            cv2.rectangle(scene, (x0, 0 if tall else y0), (x0 + wide, y0 + high), colour, -1)
    elif kind == 4:  # foliage
        for _ in range(60):
            at = (int(rng.integers(width)), int(rng.integers(height)))
            axes = (int(rng.integers(2, 8)), int(rng.integers(1, 4)))
            colour = (first * rng.uniform(0.5, 1.4)).tolist()
            cv2.ellipse(scene, at, axes, float(rng.random() * 180), 0, 360, colour, -1, cv2.LINE_AA)
    softness = float(rng.uniform(0.6, 3.5)) * width / 96
    scene = cv2.GaussianBlur(scene, (0, 0), softness)
    return np.asarray(np.clip(scene, 0, 255) * np.float32(1 / 255), np.float32)


def photograph(
    sheet: Sheet, person: Identity, picture: Picture, shape: Shape, pose: Pose, rng: np.random.Generator
) -> NDArray[np.uint8]:
    """The picture (height, width, 3) uint8 of a drawn sheet."""
    gain, shine = light(sheet, person, picture, shape)
    u, v = pose.sources()
    size = (pose.width, pose.height)
    drawn = cv2.resize(carried(sheet.image, FINE, u, v, _SUPER), size, interpolation=cv2.INTER_AREA)
    drawn = drawn.astype(np.float32) * np.float32(1 / 255)
    colour, alpha = drawn[..., :3], drawn[..., 3:]
    colour = colour * carried(gain, FIELD, u, v) + carried(shine, FIELD, u, v)[..., None]
    scene = colour + (1.0 - alpha) * background(rng, *size)
    scene = scene * (picture.exposure * np.array(picture.cast, np.float32))
    scene = (scene - 0.45) * picture.contrast + 0.45
    # Highlights roll off softly instead of burning out.
    scene = np.where(scene > 0.8, 0.8 + 0.2 * np.tanh((scene - 0.8) / 0.2), scene)
    if picture.softness > 0.15:
        scene = cv2.GaussianBlur(scene, (0, 0), picture.softness)
    grain = rng.normal(0.0, picture.noise / 255.0, (pose.height, pose.width, 3)).astype(np.float32)
    scene = scene + grain
    if picture.grey:
        scene = np.repeat((scene @ _LUMA)[..., None], 3, axis=2)
    return np.clip(scene * 255.0 + 0.5, 0, 255).astype(np.uint8)
