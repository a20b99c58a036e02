"""What the built-in judge learns from: faces, their copies at lower resolution and with other poses and light.

Part of `facesr.training.distill`, which says how the folder of faces must look.
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

HELD_OUT_SHARE = 8  # one identity in so many
OFFICIAL_SHARE = 0.5  # of the lower-resolution copies that are exactly the benchmark's bicubic pictures
FACTORS = (1.5, 2.0, 3.0, 6.0)  # of the other copies
BATCH = 64
Pictures = NDArray[np.uint8]


@dataclass(frozen=True)
class Faces:
    """Pictures (N, 112, 96, 3), identities, and five landmarks each (N, 5, 2) x y; empty and NaN where unknown."""

    pictures: Pictures
    identity: list[str]
    landmarks: NDArray[np.float32]


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
    with index.open(newline="", encoding="utf-8") as file:
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
    """Returns each picture rolled, scaled, shifted, flipped and relit at random, one in ten of them grey."""
    rng = np.random.default_rng(seed)
    copies = np.empty_like(pictures)
    for number, picture in enumerate(pictures):
        turn = cv2.getRotationMatrix2D((WIDTH / 2, HEIGHT / 2), rng.normal(0, 11), rng.uniform(0.85, 1.2))
        warp = np.asarray(turn, np.float64)
        warp[:, 2] += rng.uniform(-6, 6, size=2)
        if rng.random() < 0.5:
            warp = warp @ np.array([[-1.0, 0.0, WIDTH - 1.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
        turned = cv2.warpAffine(picture, warp, (WIDTH, HEIGHT), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT)
        levels = turned.astype(np.float32) / 255.0
        grey = levels @ np.array([0.299, 0.587, 0.114], np.float32)
        saturation = 0.0 if rng.random() < 0.1 else rng.uniform(0.6, 1.3)
        levels = grey[..., None] + saturation * (levels - grey[..., None])
        levels = np.clip(levels, 0.0, 1.0) ** rng.uniform(0.7, 1.4) * rng.uniform(0.85, 1.1)
        copies[number] = np.clip(levels * rng.uniform(0.95, 1.05, size=3) * 255.0 + 0.5, 0.0, 255.0)
    return copies


def stranger_copies(faces: Faces, seed: int) -> Pictures:
    """Returns each picture (N, 112, 96, 3) with another person's face blended into its own: persons nobody has seen.

    The other face is turned and scaled so that its landmarks fall on those of the first; a third to three quarters
    of it show inside an ellipse around them. Pictures without landmarks stay as they are.
    """
    rng = np.random.default_rng(seed)
    known = np.flatnonzero(np.isfinite(faces.landmarks).all(axis=(1, 2)))
    down, right = np.mgrid[:HEIGHT, :WIDTH].astype(np.float32)
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
        middle = points.mean(axis=0)
        size = float(np.hypot(*(points[:2].mean(axis=0) - points[3:].mean(axis=0)))) + 1e-3  # eyes to mouth
        radius = np.hypot((right - middle[0]) / (1.15 * size), (down - middle[1]) / (1.35 * size))
        mask = share * np.clip((1.15 - radius) / 0.35, 0.0, 1.0)[..., None]
        copies[number] = np.clip(copies[number] * (1.0 - mask) + guest * mask + 0.5, 0.0, 255.0)
    return copies


def batches(pictures: Pictures) -> list[Pictures]:
    """Returns the pictures in parts of at most 64."""
    return [pictures[start : start + BATCH] for start in range(0, len(pictures), BATCH)]
