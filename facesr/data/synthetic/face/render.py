"""Synthetic faces: a procedural renderer of parametric persons, for first runs, tests and debugging.

Face i of a set is a pure function of (seed, i): picture i % pictures_per_identity of person
i // pictures_per_identity. It needs no files and no network. It is no benchmark: synthetic faces say little about
photographs. To look at some, a column a person:

    facesr sheet faces.png --people 12 --pictures 4 --seed 0
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import cv2
import numpy as np
from numpy.typing import NDArray

from facesr.arguments import Parser, number
from facesr.data.packed.cache import cached_set
from facesr.data.packed.dataset_format import Row, SetPlan, write_dataset
from facesr.data.synthetic.face import features as features
from facesr.data.synthetic.face import hair as hair
from facesr.data.synthetic.face import wear as wear
from facesr.data.synthetic.face.canvas import Sheet
from facesr.data.synthetic.face.geometry import Points, Pose, add_relief, shape_of
from facesr.data.synthetic.face.identity import Identity, Picture, draw_identity, draw_picture, generator
from facesr.data.synthetic.face.light import photograph
from facesr.processes import num_cores, worker_pool
from facesr.ranges import Range, Seed

RENDERER_VERSION = 3
HEIGHT, WIDTH = 112, 96
_CHUNK = 50  # faces a worker renders between two hand-overs
_POOL_FROM = 200  # fewer faces are rendered sooner than worker processes start


def draw(
    person: Identity, picture: Picture, height: int = HEIGHT, width: int = WIDTH
) -> tuple[NDArray[np.uint8], Points]:
    """Picture (height, width, 3) RGB uint8 of a person, and its landmarks (5, 2: x, y) in pixels."""
    shape = shape_of(person, picture)
    if person.hair_style in ("afro", "bun"):
        picture = replace(picture, hat="none")  # no hat fits over these
    fixed, moving = generator(person.detail_seed), generator(picture.detail_seed)
    sheet = Sheet()
    hair.draw_back_hair(sheet, person, shape, fixed)
    wear.draw_body(sheet, person, picture, shape)
    features.draw_head(sheet, person, shape)
    add_relief(sheet.depth, person, shape, picture.smile)
    features.draw_marks(sheet, person, picture, shape, fixed)
    features.draw_nose(sheet, person, shape)
    hair.draw_beard(sheet, person, shape, fixed)
    features.draw_mouth(sheet, person, shape, fixed)
    features.draw_eyes(sheet, person, picture, shape, fixed)
    features.draw_brows(sheet, person, picture, shape, fixed)
    wear.draw_glasses(sheet, person, picture, shape)
    hair.draw_hair(sheet, person, shape, fixed)
    wear.draw_hat(sheet, person, picture, shape, moving)
    pose = Pose(picture, shape.nose_v, width, height)
    return photograph(sheet, person, picture, shape, pose, moving), pose.landmarks(shape.landmarks())


def render_face(
    identity: int, picture: int, seed: int = 0, height: int = HEIGHT, width: int = WIDTH
) -> NDArray[np.uint8]:
    """Picture (height, width, 3) RGB uint8 of a person: a pure function of the arguments."""
    return draw(draw_identity(seed, identity), draw_picture(seed, identity, picture), height, width)[0]


def _render_range(start: int, stop: int, seed: int, pictures: int) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Faces start..stop-1: pictures (n, 112, 96, 3) and landmarks (n, 5, 2)."""
    images = np.empty((stop - start, HEIGHT, WIDTH, 3), np.uint8)
    landmarks = np.empty((stop - start, 5, 2), np.float32)
    for row, face in enumerate(range(start, stop)):
        person, number = divmod(face, pictures)
        images[row], landmarks[row] = draw(draw_identity(seed, person), draw_picture(seed, person, number))
    return images, landmarks


def _render(
    num_faces: int, seed: int, pictures: int, first: int, num_workers: int | None
) -> tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.int64]]:
    if min(num_faces, seed, first) < 0 or pictures < 1:
        raise ValueError("num_faces, seed and first must be >= 0 and pictures_per_identity >= 1")
    identity = np.arange(first, first + num_faces, dtype=np.int64) // pictures
    if num_workers is None:
        num_workers = num_cores() if num_faces >= _POOL_FROM else 0
    if num_workers <= 1:
        return *_render_range(first, first + num_faces, seed, pictures), identity
    starts = range(first, first + num_faces, _CHUNK)
    stops = [min(start + _CHUNK, first + num_faces) for start in starts]
    images = np.empty((num_faces, HEIGHT, WIDTH, 3), np.uint8)
    landmarks = np.empty((num_faces, 5, 2), np.float32)
    with worker_pool(num_workers, "free some and run the same command again") as pool:
        parts = pool.map(_render_range, starts, stops, [seed] * len(stops), [pictures] * len(stops))
        for start, stop, part in zip(starts, stops, parts, strict=True):
            images[start - first : stop - first], landmarks[start - first : stop - first] = part
    return images, landmarks, identity


def render_faces(
    num_faces: int,
    seed: int = 0,
    pictures_per_identity: int = 4,
    first: int = 0,
    num_workers: int | None = None,
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Pictures (N, 112, 96, 3) RGB uint8 of faces first..first+N-1 and their persons (N,).

    With `num_workers` None every core that this process may use renders a large set; 0 renders in this process.
    """
    images, _, identity = _render(num_faces, seed, pictures_per_identity, first, num_workers)
    return images, identity


def _write_set(
    folder: Path, num_faces: int, seed: int, pictures_per_identity: int, first: int, num_workers: int | None
) -> None:
    images, landmarks, identity = _render(num_faces, seed, pictures_per_identity, first, num_workers)
    sources = [
        f"builtin/{seed}/{person}/{(first + face) % pictures_per_identity}" for face, person in enumerate(identity)
    ]
    settings = {"seed": seed, "pictures_per_identity": pictures_per_identity, "first": first, "source": "builtin"}
    plan = SetPlan(WIDTH, HEIGHT, 0, sources, [str(person) for person in identity], settings, RENDERER_VERSION)
    rows = [
        Row(hashlib.sha256(face.tobytes()).hexdigest(), landmarks=" ".join(f"{value:.2f}" for value in points.ravel()))
        for face, points in zip(images, landmarks, strict=True)
    ]
    write_dataset(folder, plan, images, rows)


def synthetic_cache(
    num_faces: int,
    seed: int,
    pictures_per_identity: int,
    first: int,
    cache_dir: Path,
    num_workers: int | None = None,
) -> Path:
    """Folder of a prepared dataset with these faces below `cache_dir`: rendered once, found by later calls.

    Raises:
        DataError: the cache cannot be written, see `cached_set`.
    """
    name = f"builtin-v{RENDERER_VERSION}-seed{seed}-each{pictures_per_identity}-from{first}-n{num_faces}"
    return cached_set(
        cache_dir,
        name,
        lambda folder: _write_set(folder, num_faces, seed, pictures_per_identity, first, num_workers),
    )


def main(arguments: list[str] | None = None) -> None:
    """Writes a contact sheet."""
    parser = Parser(prog="facesr sheet", description="A sheet of synthetic faces.")
    parser.add_argument("out", type=Path, help="PNG to write")
    parser.add_argument("--people", type=number(Annotated[int, Range(1, 1_000)]), default=12)
    parser.add_argument("--pictures", type=number(Annotated[int, Range(1, 1_000)]), default=4)
    parser.add_argument("--seed", type=number(Seed), default=0)
    chosen = parser.parse_args(arguments)
    images, _ = render_faces(chosen.people * chosen.pictures, chosen.seed, chosen.pictures)
    grid = images.reshape(chosen.people, chosen.pictures, HEIGHT, WIDTH, 3).transpose(1, 2, 0, 3, 4)
    sheet = grid.reshape(chosen.pictures * HEIGHT, chosen.people * WIDTH, 3)
    chosen.out.write_bytes(cv2.imencode(".png", sheet[..., ::-1])[1].tobytes())
