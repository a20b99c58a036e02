"""Lights a synthetic face as a surface in depth, puts it before a background and takes the picture."""

from __future__ import annotations

from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray

from facesr.data.synthetic.face.canvas import FINE, Sheet
from facesr.data.synthetic.face.geometry import COLUMNS, FIELD, ROWS, V_AXIS, Field, Pose, Shape, carried, dome
from facesr.data.synthetic.face.identity import Identity, Picture, generator, vivid_colour
from facesr.task import LUMA

Image = NDArray[np.float32]  # (height, width, 3)

_SUPER = 2  # samples per output pixel of the colour
_SPARE = 128  # samples by which a person's patch of the skin's texture may be moved


def _blur(field: Field, units: float) -> Field:
    """Wide Gaussian blur of a field, done at a third of its size."""
    small = cv2.resize(field, (COLUMNS // 3, ROWS // 3), interpolation=cv2.INTER_AREA)
    small = cv2.GaussianBlur(small, (0, 0), max(0.3, units * FIELD / 3))
    return np.asarray(cv2.resize(small, (COLUMNS, ROWS), interpolation=cv2.INTER_LINEAR), np.float32)


def _moved(field: Field, u: float, v: float) -> Field:
    matrix = np.array([[1, 0, u * FIELD], [0, 1, v * FIELD]], np.float32)
    return np.asarray(cv2.warpAffine(field, matrix, (COLUMNS, ROWS)), np.float32)


@cache
def _texture() -> Field:
    """Unevenness of skin, about -1..1: pores and blotches."""
    white = generator(0).standard_normal((ROWS + _SPARE, COLUMNS + _SPARE), dtype=np.float32)
    fine = cv2.GaussianBlur(white, (0, 0), 0.7)
    coarse = cv2.GaussianBlur(white[::-1], (0, 0), 5.0)
    return np.asarray(0.6 * fine / fine.std() + 0.5 * coarse / coarse.std(), np.float32)


@cache
def _body() -> Field:
    """Depth of neck and shoulders."""
    return np.asarray(np.maximum(dome(21.0, 60.0, 90.0, 20.0), dome(80.0, 120.0, 64.0, 30.0)) - 18.0, np.float32)


def _surface(sheet: Sheet, person: Identity, face: Field) -> Field:
    """Depth of everything in view: head, features, hair, neck and shoulders."""
    head = dome(1.07 * person.face_width, 2.0, 52.0, 34.0)
    head += sheet.depth * np.minimum(np.float32(1.0), head * np.float32(0.1))
    reach = person.hair_volume + (13.0 if person.hair_style == "afro" else 5.0)
    hair = dome(person.face_width + reach, -5.0, 47.0 + reach, 36.0) + 2.0
    body = _body()
    covered = cv2.GaussianBlur(sheet.hair, (0, 0), 1.2 * FIELD)
    depth = body + face * (head - body)
    return np.asarray(depth + covered * (np.maximum(hair, body + 8.0) - depth), np.float32)


def _lit(depth: Field, light: tuple[float, float, float]) -> tuple[Field, Field]:
    """Diffuse light 0..1 and mirrored light 0..1 on a surface."""
    direction = np.array(light, np.float32)
    direction /= np.linalg.norm(direction)
    half = direction + np.array([0, 0, 1], np.float32)  # half-way to the viewer, who looks along depth
    half /= np.linalg.norm(half)
    slope_v, slope_u = np.zeros_like(depth), np.zeros_like(depth)
    scale = np.float32(0.5 * FIELD)
    slope_u[:, 1:-1] = np.clip(scale * (depth[:, 2:] - depth[:, :-2]), -2.6, 2.6)
    slope_v[1:-1] = np.clip(scale * (depth[2:] - depth[:-2]), -2.6, 2.6)
    length = 1.0 / np.sqrt(1.0 + slope_u * slope_u + slope_v * slope_v)
    facing = (direction[2] - direction[0] * slope_u - direction[1] * slope_v) * length
    mirror = np.maximum((half[2] - half[0] * slope_u - half[1] * slope_v) * length, 0.0)
    for _ in range(4):  # to the 16th power
        mirror *= mirror
    return np.maximum(0.12 + 0.88 * facing, 0.0), mirror


def _light(sheet: Sheet, person: Identity, picture: Picture, shape: Shape) -> Image:
    """Field under the picture's light (.., 4): level, highlight, darkening exponent, share of skin."""
    sheet.settle()
    face = sheet.mask(shape.outline)
    bare = 1.0 - sheet.hair
    skin = face * bare * np.asarray(1.0 - np.minimum(sheet.cover, 1.0), np.float32)
    depth = np.asarray(cv2.GaussianBlur(_surface(sheet, person, face), (0, 0), 0.5 * FIELD), np.float32)
    diffuse, mirror = _lit(depth, picture.light)
    lu = picture.light[0] / float(np.linalg.norm(picture.light))
    hidden = np.clip(_blur(depth, 3.5) - depth, 0.0, 6.0)
    shadow = np.float32(0.6) * _moved(_blur(sheet.hair, 1.6), -2.6 * lu, 2.2) * face * bare
    below = (V_AXIS[:, None] > 20).astype(np.float32)
    under = _moved(face, -6.0 * lu, 8.0) * (1.0 - face) * bare * below
    shadow += np.float32(0.75) * _blur(under, 1.0)
    top = 1.24 * (1.0 - picture.ambient)
    level = picture.ambient * (1.0 - 0.06 * hidden) + top * diffuse * (1.0 - shadow)
    # Not along the hair, where the surface has a step that no light should pick out.
    inner = np.clip(2.0 * _blur(skin, 1.5) - 1.0, 0.0, 1.0)
    row, column = person.detail_seed % _SPARE, person.detail_seed // _SPARE % _SPARE
    texture = _texture()[row : row + ROWS, column : column + COLUMNS]
    grain = (0.016 + 0.016 * person.age + 0.008 * person.masculine) * texture
    shine = mirror * inner * np.float32(0.11 + 0.05 * person.masculine) * (1.0 + 0.25 * texture)
    dark = (sheet.shade + grain) * skin + 0.022 * hidden
    return np.asarray(cv2.merge([np.asarray(field, np.float32) for field in (level, shine, dark, skin)]))


def background(rng: np.random.Generator, width: int, height: int) -> Image:
    """Scene behind the person, values 0..1: a gradient, blurred lights or simple structures."""
    dull = rng.uniform(0.1, 0.8)
    first, second = (np.array(vivid_colour(rng), np.float32) for _ in range(2))
    first = first + np.float32(dull) * (first.mean() - first)
    second = second + np.float32(dull) * (second.mean() - second)
    angle = rng.random() * 2 * np.pi
    x, y = np.linspace(-1, 1, width, dtype=np.float32), np.linspace(-1, 1, height, dtype=np.float32)
    ramp = np.clip(0.5 + 0.4 * (np.cos(angle) * x[None, :] + np.sin(angle) * y[:, None]), 0, 1)[..., None]
    scene = (first * (1 - ramp) + second * ramp).astype(np.float32)
    _STRUCTURES[int(rng.integers(len(_STRUCTURES)))](scene, first, rng)
    scene = cv2.GaussianBlur(scene, (0, 0), float(rng.uniform(0.6, 3.5)) * width / 96)
    return np.asarray(np.clip(scene, 0, 255) * np.float32(1 / 255), np.float32)


def _plain(scene: Image, first: NDArray[np.float32], rng: np.random.Generator) -> None:
    del scene, first, rng


def _lights(scene: Image, first: NDArray[np.float32], rng: np.random.Generator) -> None:
    """Lights out of focus."""
    height, width = scene.shape[:2]
    for _ in range(int(rng.integers(8, 22))):
        x, y, radius = int(rng.integers(width)), int(rng.integers(height)), float(rng.uniform(3, 11))
        colour = (0.5 * np.array(vivid_colour(rng)) + 0.5 * first + 30).tolist()
        disc = np.zeros((height, width), np.uint8)
        cv2.circle(disc, (x * 8, y * 8), int(radius * 8), 115.0, -1, cv2.LINE_AA, 3)
        weight = disc[..., None].astype(np.float32) * np.float32(1 / 255)
        scene += weight * (np.array(colour, np.float32) - scene)


def _boards(scene: Image, first: NDArray[np.float32], rng: np.random.Generator) -> None:
    """Walls, curtains, door frames."""
    height, width = scene.shape[:2]
    for _ in range(int(rng.integers(3, 9))):
        x, wide = int(rng.integers(-20, width)), int(rng.integers(6, 22))
        colour = (0.45 * np.array(vivid_colour(rng)) + 0.55 * first).tolist()
        cv2.rectangle(scene, (x, 0), (x + wide, height), colour, -1)


def _shelves(scene: Image, first: NDArray[np.float32], rng: np.random.Generator) -> None:
    """Windows, shelves, frames."""
    height, width = scene.shape[:2]
    for _ in range(int(rng.integers(3, 9))):
        x, y = int(rng.integers(-20, width)), int(rng.integers(-20, height))
        colour = (0.45 * np.array(vivid_colour(rng)) + 0.55 * first).tolist()
        cv2.rectangle(scene, (x, y), (x + int(rng.integers(6, 50)), y + int(rng.integers(6, 40))), colour, -1)


def _leaves(scene: Image, first: NDArray[np.float32], rng: np.random.Generator) -> None:
    """Foliage, or flowers on a wall."""
    height, width = scene.shape[:2]
    chances = rng.random((60, 6)).tolist()
    for x, y, long, short, turn, tone in chances:
        axes = (2 + int(6 * long), 1 + int(3 * short))
        colour = (first * (0.5 + 0.9 * tone)).tolist()
        cv2.ellipse(scene, (int(width * x), int(height * y)), axes, 180.0 * turn, 0, 360, colour, -1)


_STRUCTURES = (_plain, _lights, _boards, _shelves, _leaves)


def _gain(sheet: Sheet, lit: Image, u: Field, v: Field) -> Image:
    """Factor of each channel (height, width, 3) in the picture."""
    level, dark, skin = lit[..., 0], lit[..., 2], lit[..., 3]
    tints = carried(cv2.merge([sheet.flush, sheet.stubble]), FIELD, u, v) * skin[..., None]
    flush, stubble = tints[..., 0], tints[..., 1]
    lack = (1.0 - np.minimum(level, 1.0)) * skin
    gain = np.empty((*level.shape, 3), np.float32)
    # Light that comes out of skin has lost blue first: shadows and folds turn redder.
    rates = ((0.85, 0.0, 0.60, 0.0), (1.05, 0.45, 0.55, 0.05), (1.15, 0.4, 0.46, 0.09))
    for channel, (shade, red, beard, cold) in enumerate(rates):
        gain[..., channel] = level * np.exp(-shade * dark - red * flush - beard * stubble) - cold * lack
    return gain


def photograph(
    sheet: Sheet, person: Identity, picture: Picture, shape: Shape, pose: Pose, rng: np.random.Generator
) -> NDArray[np.uint8]:
    """The picture (height, width, 3) uint8 of a drawn sheet."""
    u, v = pose.sources()
    lit = carried(_light(sheet, person, picture, shape), FIELD, u, v)
    size = (pose.width, pose.height)
    drawn = cv2.resize(carried(sheet.image, FINE, u, v, _SUPER), size, interpolation=cv2.INTER_AREA)
    drawn = drawn.astype(np.float32) * np.float32(1 / 255)
    colour, alpha = drawn[..., :3], drawn[..., 3:]
    colour = colour * _gain(sheet, lit, u, v) + lit[..., 1:2]
    scene = colour + (1.0 - alpha) * background(rng, *size)
    scene = scene * (np.float32(picture.exposure) * np.array(picture.cast, np.float32))
    scene = (scene - 0.45) * picture.contrast + 0.45
    # Highlights roll off softly instead of burning out.
    over = np.maximum(scene - 0.8, 0.0)
    scene = np.minimum(scene, 0.8) + 0.22 * over / (0.22 + over)
    if picture.softness > 0.15:
        scene = cv2.GaussianBlur(scene, (0, 0), picture.softness)
    scene = scene + np.float32(picture.noise / 255.0) * rng.standard_normal(scene.shape, dtype=np.float32)
    if picture.grey:
        scene = np.repeat((scene @ np.array(LUMA, np.float32))[..., None], 3, axis=2)
    return np.asarray(np.clip(scene * 255.0 + 0.5, 0, 255), np.uint8)
