"""What the built-in judge learns from: faces, their copies at lower resolution and with other poses and light.

Part of `facesr.training.distill.distill`, which says how the folder of faces must look.
"""

from __future__ import annotations

import csv
import hashlib
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from facesr.embedders.builtin import HEIGHT, WIDTH
from facesr.errors import DataError
from facesr.image import to_float, to_uint8
from facesr.resample import downscale_to_grey_levels, resize, upscale
from facesr.task import LUMA

HELD_OUT_SHARE = 8  # one identity in so many
OFFICIAL_SHARE = 0.5  # of the lower-resolution copies that are exactly the benchmark's bicubic pictures
FACTORS = (1.5, 2.0, 3.0, 6.0)  # of the other copies
BATCH = 64
Pictures = NDArray[np.uint8]
_SHIFT = 3  # binary places of a pixel at which OpenCV draws
# Each pixel's row and column, (H, W).
_DOWN, _RIGHT = np.mgrid[:HEIGHT, :WIDTH].astype(np.float32)


@dataclass(frozen=True)
class Faces:
    """Pictures (N, 112, 96, 3), identities, and five landmarks each (N, 5, 2) x y; empty and NaN where unknown."""

    pictures: Pictures
    identity: list[str]
    landmarks: NDArray[np.float32]

    def with_landmarks(self) -> NDArray[np.int64]:
        """Returns the numbers of the pictures whose landmarks are known."""
        return np.flatnonzero(np.isfinite(self.landmarks).all(axis=(1, 2)))


def is_held_out(identity: str) -> bool:
    """Returns whether a person is kept out of training; persons without a name never are."""
    return bool(identity) and hashlib.sha256(identity.encode()).digest()[0] % HELD_OUT_SHARE == 0


def read_faces(folder: Path, part: str, *, held_out: bool) -> Faces:
    """Returns the faces of one part (``train``, ``dev``) of the folder, without rolled copies.

    Args:
        held_out: only the persons kept out of training, or all but them.

    Raises:
        DataError: the index or a picture is missing, damaged or of another size.
    """
    index = folder / "index.csv"
    if not index.is_file():
        raise DataError(f"{index} is missing; give --faces the folder that holds it.")
    with index.open(newline="", encoding="utf-8-sig") as file:
        rows = [row for row in csv.DictReader(file) if row["file"].startswith(f"{part}/") and not row["rolled_copy_of"]]
    rows = [row for row in rows if is_held_out(row["identity"]) == held_out]
    pictures = np.empty((len(rows), HEIGHT, WIDTH, 3), np.uint8)
    landmarks = np.full((len(rows), 5, 2), np.nan, np.float32)
    for position, row in enumerate(rows):
        if numbers := (row.get("landmarks") or "").split():
            try:
                landmarks[position] = np.array(numbers, np.float32).reshape(5, 2)
            except ValueError:
                raise DataError(f"{index}: landmarks of {row['file']} are not five points x y.") from None
        picture = cv2.imread(str(folder / row["file"]), cv2.IMREAD_COLOR_RGB)
        if picture is None or picture.shape != (HEIGHT, WIDTH, 3):
            raise DataError(f"{folder / row['file']} is no readable {WIDTH}x{HEIGHT} picture; remove it from {index}.")
        pictures[position] = picture
    return Faces(pictures, [row["identity"] for row in rows], landmarks)


def bicubic_copies(pictures: Pictures) -> Pictures:
    """Returns what bicubic upscaling makes of the official low-resolution pictures, same shape."""
    parts = [to_uint8(upscale(downscale_to_grey_levels(to_float(part)))) for part in batches(pictures)]
    return np.concatenate(parts)


def degraded_copies(pictures: Pictures, seed: int) -> Pictures:
    """Returns each picture at a lower resolution, same shape: half of them bicubic x4, the others at random."""
    rng = np.random.default_rng(seed)
    official = rng.random(len(pictures)) < OFFICIAL_SHARE
    factor = rng.integers(len(FACTORS), size=len(pictures))
    blend = rng.uniform(0.3, 1.0, size=len(pictures)).astype(np.float32)
    copies = np.empty_like(pictures)
    copies[official] = bicubic_copies(pictures[official])
    for number, size in enumerate(FACTORS):
        chosen = np.flatnonzero(~official & (factor == number))
        for part in np.array_split(chosen, max(1, len(chosen) // 256)):
            high = to_float(pictures[part])
            blurred = resize(resize(high, round(HEIGHT / size), round(WIDTH / size)), HEIGHT, WIDTH)
            copies[part] = to_uint8(torch.lerp(high, blurred, torch.from_numpy(blend[part])[:, None, None, None]))
    return copies


def varied_copies(pictures: Pictures, seed: int) -> Pictures:
    """Returns each picture rolled, scaled, shifted, flipped and relit at random, one in ten of them grey.

    Two in five of them are lit from one side.
    """
    rng = np.random.default_rng(seed)
    copies = np.empty_like(pictures)
    for number, picture in enumerate(pictures):
        turn = cv2.getRotationMatrix2D((WIDTH / 2, HEIGHT / 2), rng.normal(0, 14), rng.uniform(0.85, 1.2))
        warp = np.asarray(turn, np.float64)
        warp[:, 2] += rng.uniform(-6, 6, size=2)
        if rng.random() < 0.5:
            warp = warp @ np.array([[-1.0, 0.0, WIDTH - 1.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
        turned = cv2.warpAffine(picture, warp, (WIDTH, HEIGHT), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT)
        levels = turned.astype(np.float32) / 255.0
        grey = levels @ np.array(LUMA, np.float32)
        saturation = 0.0 if rng.random() < 0.1 else rng.uniform(0.6, 1.3)
        levels = grey[..., None] + saturation * (levels - grey[..., None])
        levels = np.clip(levels, 0.0, 1.0) ** rng.uniform(0.65, 1.5) * rng.uniform(0.85, 1.1)
        if rng.random() < 0.4:
            levels *= _side_light(rng)[..., None]
        copies[number] = np.clip(levels * rng.uniform(0.95, 1.05, size=3) * 255.0 + 0.5, 0.0, 255.0)
    return copies


def _side_light(rng: np.random.Generator) -> NDArray[np.float32]:
    """Returns the light (H, W) of a face lit from a random side, between a dark value and 1."""
    angle, dark = rng.uniform(0.0, 2.0 * np.pi), rng.uniform(0.15, 0.75)
    along = (_RIGHT - WIDTH / 2) * np.cos(angle) + (_DOWN - HEIGHT / 2) * np.sin(angle)
    shade = 1.0 / (1.0 + np.exp((along - rng.uniform(-10, 20)) / rng.uniform(4, 20)))
    return np.asarray(dark + (1.0 - dark) * shade, np.float32)


def covered_copies(faces: Faces, seed: int) -> Pictures:
    """Returns the pictures (N, 112, 96, 3) with something before the face: glasses on a third, a cover on a half.

    A cover reaches from a random side to the brow, cheek or chin and shows a piece of another picture or one colour,
    as hats, hair, hands and scarves do. Pictures without landmarks stay as they are.
    """
    rng = np.random.default_rng(seed)
    copies = faces.pictures.copy()
    for number in faces.with_landmarks():
        picture, points = copies[number], faces.landmarks[number]
        if rng.random() < 1 / 3:
            _put_on_glasses(picture, points[0], points[1], rng)
        if rng.random() < 0.5:
            _cover(picture, points, copies[rng.integers(len(copies))], rng)
    return copies


def _put_on_glasses(
    picture: Pictures, left: NDArray[np.float32], right: NDArray[np.float32], rng: np.random.Generator
) -> None:
    """Paints glasses, most of them dark, over the eyes at (x, y) of a picture (112, 96, 3)."""
    apart = float(np.hypot(*(right - left))) + 1e-3
    angle = float(np.degrees(np.arctan2(*(right - left)[::-1])))
    width = rng.uniform(0.36, 0.55) * apart
    axes = _fixed(width, width * rng.uniform(0.6, 1.0))
    lenses, frame = np.zeros((HEIGHT, WIDTH), np.uint8), np.zeros((HEIGHT, WIDTH), np.uint8)
    thickness = int(rng.integers(1, 3))
    for eye in (left, right):
        cv2.ellipse(lenses, _fixed(*eye), axes, angle, 0, 360, 255, -1, cv2.LINE_AA, _SHIFT)
        cv2.ellipse(frame, _fixed(*eye), axes, angle, 0, 360, 255, thickness, cv2.LINE_AA, _SHIFT)
    to_rim = (right - left) / apart * width
    cv2.line(frame, _fixed(*(left + to_rim)), _fixed(*(right - to_rim)), 255, thickness, cv2.LINE_AA, _SHIFT)
    colour = _colour(rng, 60.0) if rng.random() < 0.8 else _colour(rng, 255.0)
    strength = rng.uniform(0.65, 1.0) if rng.random() < 0.7 else rng.uniform(0.0, 0.25)
    _paint(picture, lenses / 255.0 * strength, colour)
    _paint(picture, frame / 255.0, _colour(rng, 150.0))


def _fixed(right: float, down: float) -> tuple[int, int]:
    """Returns pixels in OpenCV's fixed-point numbers with `_SHIFT` binary places."""
    return round(float(right) * 2**_SHIFT), round(float(down) * 2**_SHIFT)


def _middle_and_size(points: NDArray[np.float32]) -> tuple[NDArray[np.float32], float]:
    """Returns the middle (x, y) of five landmarks (5, 2) and the way from eyes to mouth in pixels."""
    eyes_to_mouth = points[:2].mean(axis=0) - points[3:].mean(axis=0)
    return points.mean(axis=0), float(np.hypot(*eyes_to_mouth)) + 1e-3


def _cover(picture: Pictures, points: NDArray[np.float32], other: Pictures, rng: np.random.Generator) -> None:
    """Paints a round cover over a part of a picture (112, 96, 3), in one colour or from the other picture."""
    middle, size = _middle_and_size(points)
    direction, radius = rng.uniform(0.0, 2.0 * np.pi), rng.uniform(0.7, 2.5) * size
    centre = middle + (rng.uniform(0.5, 1.1) * size + radius) * np.array([np.cos(direction), np.sin(direction)])
    inside = np.clip(radius - np.hypot(_RIGHT - centre[0], _DOWN - centre[1]) + 0.5, 0.0, 1.0)
    turn = cv2.getRotationMatrix2D((WIDTH / 2, HEIGHT / 2), rng.uniform(0, 360), rng.uniform(1.0, 3.0))
    stuff = cv2.warpAffine(other, np.asarray(turn), (WIDTH, HEIGHT), borderMode=cv2.BORDER_REFLECT)
    colour = _colour(rng, 255.0)
    _paint(picture, inside, colour + rng.choice([0.0, 0.3, 1.0]) * (stuff - colour))


def _colour(rng: np.random.Generator, brightest: float) -> NDArray[np.float64]:
    """Returns a colour (3,), most of them nearly grey."""
    return np.clip(rng.uniform(0.0, brightest) + rng.normal(0.0, 25.0, 3), 0.0, 255.0)


def _paint(picture: Pictures, share: NDArray[np.floating], colour: NDArray[np.floating]) -> None:
    """Mixes a colour (3,) or a picture into a picture (H, W, 3), in place, by shares (H, W) from 0 to 1."""
    mixed = picture + share[..., None] * (colour - picture)
    picture[:] = np.clip(mixed + 0.5, 0.0, 255.0)


def stranger_copies(faces: Faces, seed: int) -> Pictures:
    """Returns each picture (N, 112, 96, 3) with another person's face blended into its own: persons nobody has seen.

    The other face is turned and scaled so that its landmarks fall on those of the first; a third to three quarters
    of it show inside an ellipse around them. Pictures without landmarks stay as they are.
    """
    rng = np.random.default_rng(seed)
    known = faces.with_landmarks()
    copies = faces.pictures.copy()
    for number in known:
        other, share = rng.choice(known), rng.uniform(0.35, 0.75)
        points = faces.landmarks[number]
        turn, _ = cv2.estimateAffinePartial2D(faces.landmarks[other], points, method=cv2.LMEDS)
        # Profiles on frontal faces may need a turn that leaves nothing of the face.
        if turn is None or not 0.5 < np.hypot(*turn[:, 0]) < 2.0:
            continue
        guest = cv2.warpAffine(
            faces.pictures[other], turn, (WIDTH, HEIGHT), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT
        )
        middle, size = _middle_and_size(points)
        radius = np.hypot((_RIGHT - middle[0]) / (1.15 * size), (_DOWN - middle[1]) / (1.35 * size))
        mask = share * np.clip((1.15 - radius) / 0.35, 0.0, 1.0)[..., None]
        copies[number] = np.clip(copies[number] * (1.0 - mask) + guest * mask + 0.5, 0.0, 255.0)
    return copies


def batches(pictures: Pictures) -> list[Pictures]:
    """Returns the pictures in parts of at most 64."""
    return [pictures[start : start + BATCH] for start in range(0, len(pictures), BATCH)]
