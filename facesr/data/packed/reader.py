"""Reading prepared datasets and validation pairs.

A prepared dataset is a folder with ``images.npy`` (uint8 (N, H + 2m, W + 2m, 3), memory-mapped), ``index.csv`` and
``set.json``; `facesr.data.prepare.prepare`, `facesr.data.prepare.patches` and the built-in renderers write it.
"""

import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray

from facesr.data.packed.dataset_format import ABOUT, FORMAT, IMAGES, INDEX, SHARD
from facesr.data.packed.mixture import joined, weights_of_shares
from facesr.data.synthetic.dead_leaves import dead_leaves_cache
from facesr.data.synthetic.face.render import synthetic_cache
from facesr.errors import ConfigError, DataError
from facesr.photos.trained import ASC19, KINDS, MAX_SIDE, MIN_SIDE, PIECES, TrainedFraming, framing_of_set
from facesr.png import list_png, stack_pictures
from facesr.ranges import Count, CountFromZero, Range, Seed, Share
from facesr.resample import downscale_uint8
from facesr.task import SCALE
from facesr.weights import cache_dir, sha256_of

PatchSide = Annotated[int, Range(8, 4_096)]
MarginPx = Annotated[int, Range(0, 1_024)]


@dataclass(frozen=True)
class PackedDataset:
    """Faces, or pieces of general pictures, of one size as one memory-mapped array.

    Attributes:
        path: the folder.
        images: uint8 (N, height + 2 * margin, width + 2 * margin, 3), RGB, read-only.
        margin: pixels stored around the crop on each side.
        identity: int64 (N,), equal for pictures of one person, -1 where unknown.
        sources: the file each face came from, N names.
        landmarks: float32 (N, 5, 2), x and y in pixels of the crop without margin, pixel centres at whole numbers; NaN
            where unknown. Left eye, right eye, nose tip, left and right mouth corner as seen in the picture.
        digests: sha256 of the file each face came from, "" where unknown; empty where the index has none.
        framing: where faces lie in the crops; None for a set that does not say how it was made.
        weights: float64 (N,) of mean 1, how often each face comes in an epoch on average; None: once.
    """

    path: Path
    images: NDArray[np.uint8]
    margin: int
    identity: NDArray[np.int64]
    sources: tuple[str, ...]
    landmarks: NDArray[np.float32]
    digests: tuple[str, ...] = ()
    framing: TrainedFraming | None = None
    weights: NDArray[np.float64] | None = None

    def __len__(self) -> int:
        return len(self.images)

    @classmethod
    def open(cls, path: Path) -> "PackedDataset":
        """Returns the prepared dataset of a folder, its pictures memory-mapped.

        Raises:
            DataError: the folder is missing, unfinished, of another format, or its parts disagree.
        """
        if not (path / ABOUT).is_file():
            if (path / SHARD).is_file():
                raise DataError(f"{path} is one shard of a dataset; facesr prepare merge OUT SHARD... makes it of all.")
            state = "is unfinished or no prepared dataset" if path.is_dir() else "does not exist"
            raise DataError(
                f"{path} {state}; make it with: facesr prepare PICTURES {path} "
                "(or facesr patches for large general pictures)"
            )
        try:
            about: dict[str, Any] = json.loads((path / ABOUT).read_text(encoding="utf-8-sig"))
            images = np.load(path / IMAGES, mmap_mode="r")
            with (path / INDEX).open(newline="", encoding="utf-8-sig") as file:
                rows = list(csv.DictReader(file))
            names = [row["identity"] for row in rows]
            sources = tuple(row["source"] for row in rows)
            digests = tuple(row.get("sha256") or "" for row in rows)
            landmarks = _landmarks_of([row.get("landmarks") for row in rows])
            margin = int(about["margin"])
            shape = (int(about["count"]), int(about["height"]) + 2 * margin, int(about["width"]) + 2 * margin, 3)
        except (OSError, ValueError, KeyError, TypeError, EOFError) as error:
            raise DataError(
                f"{path} is a damaged prepared dataset ({error}); prepare it again with --overwrite."
            ) from error
        if about.get("format") != FORMAT:
            raise DataError(f"{path} has format {about.get('format')}, not {FORMAT}; prepare it again.")
        if images.shape != shape or images.dtype != np.uint8 or len(rows) != shape[0]:
            raise DataError(f"{path} is damaged: images.npy, index.csv and set.json disagree; prepare it again.")
        known = {name: number for number, name in enumerate(sorted(set(names) - {""}))}
        identity = np.array([known.get(name, -1) for name in names], np.int64)
        return cls(path, images, margin, identity, sources, landmarks, digests, _framing_of(about))


def _framing_of(about: dict[str, Any]) -> TrainedFraming | None:
    """Returns the framing of a set by its set.json: how it was cut, drawn faces as the competition's are."""
    settings, sides = about.get("settings"), (int(about["width"]), int(about["height"]))
    if not isinstance(settings, dict) or not all(MIN_SIDE <= side <= MAX_SIDE for side in sides):
        return None
    crop = settings.get("crop")
    if settings.get("source") == "builtin":
        crop = ASC19.crop
    elif settings.get("source") == "dead_leaves" or "min_detail" in settings:
        crop = PIECES
    return framing_of_set(crop, *sides) if crop in KINDS else None


def _landmarks_of(texts: Sequence[str | None]) -> NDArray[np.float32]:
    """Returns (N, 5, 2) from texts "x y x y ..."; NaN where there is none. A ValueError says that one is malformed."""
    landmarks = np.full((len(texts), 5, 2), np.nan, np.float32)
    for points, text in zip(landmarks, texts, strict=True):
        if text:
            points[:] = np.array(text.split(), np.float32).reshape(5, 2)
    return landmarks


def prepared(path: str | list[str], max_faces: Count | None = None, shares: list[Share] | None = None) -> PackedDataset:
    """Returns the prepared dataset at `path`, or several as one.

    Args:
        path: a folder, or a list of folders, whose pictures have one size and margin.
        max_faces: take the first so many of each folder; None takes all.
        shares: how much of what is shown comes from each of several folders; None shows every picture equally often.

    Raises:
        ConfigError: the shares do not fit the folders.
        DataError: see `PackedDataset.open`, or the sets do not go together.
    """
    paths = [path] if isinstance(path, str) else list(path)
    if not paths:
        raise ConfigError("data.train.path=[] names no folder; name at least one.")
    parts = [_first(PackedDataset.open(Path(one).expanduser()), max_faces) for one in paths]
    weights = weights_of_shares([len(part) for part in parts], shares, "data.train.shares") if shares else None
    return parts[0] if len(parts) == 1 else joined(parts, weights)


def _first(found: PackedDataset, max_faces: int | None) -> PackedDataset:
    """Returns the first `max_faces` faces."""
    if max_faces is None or max_faces >= len(found):
        return found
    some = slice(0, max_faces)
    return replace(
        found,
        images=found.images[some],
        identity=found.identity[some],
        sources=found.sources[some],
        landmarks=found.landmarks[some],
        digests=found.digests[some],
    )


def synthetic(num_faces: Count, seed: Seed, pictures_per_identity: Count, first: CountFromZero = 0) -> PackedDataset:
    """Returns synthetic faces, rendered at the first call and cached after that."""
    return PackedDataset.open(synthetic_cache(num_faces, seed, pictures_per_identity, first, cache_dir() / "builtin"))


def dead_leaves(
    num_pictures: Count,
    patch_px: PatchSide,
    margin_px: MarginPx,
    seed: Seed,
    first: CountFromZero = 0,
) -> PackedDataset:
    """Returns synthetic general pictures, squares of `patch_px`, drawn at the first call and cached after that."""
    folder = dead_leaves_cache(num_pictures, patch_px, margin_px, seed, first, cache_dir() / "dead_leaves")
    return PackedDataset.open(folder)


@dataclass(frozen=True)
class Pairs:
    """Validation pairs: what is restored, and the truth.

    Attributes:
        names: one id per pair.
        low: uint8 (N, h, w, 3).
        high: uint8 (N, 4h, 4w, 3).
        digests: sha256 of the file each truth came from, "" where unknown.
    """

    names: tuple[str, ...]
    low: NDArray[np.uint8]
    high: NDArray[np.uint8]
    digests: tuple[str, ...] = ()


def pair_folders(high: str, low: str | None = None, max_faces: Count | None = None) -> Pairs:
    """Returns the pairs of two folders of PNG files; `low` is made by the official downscaling where not given.

    Raises:
        DataError: a folder is missing or empty, or a name is in one folder only.
        ImageError: a picture cannot be read, or sizes do not fit.
    """
    high_files = list_png(Path(high).expanduser())
    names = list(high_files)[:max_faces]
    truth = stack_pictures(high_files[name] for name in names)
    if truth.shape[1] % SCALE or truth.shape[2] % SCALE:
        raise DataError(f"{high} holds {truth.shape[2]}x{truth.shape[1]} pictures; sides must be multiples of {SCALE}.")
    digests = tuple(sha256_of(high_files[name]) for name in names)
    if low is None:
        return Pairs(tuple(names), downscale_uint8(truth), truth, digests)
    low_files = list_png(Path(low).expanduser())
    lonely = sorted(set(low_files) ^ set(high_files))
    if lonely:
        holder = low if lonely[0] in low_files else high
        raise DataError(f"{lonely[0]}.png is in {holder} only; {low} and {high} must hold the same names.")
    small = stack_pictures(low_files[name] for name in names)
    if (small.shape[1] * SCALE, small.shape[2] * SCALE) != truth.shape[1:3]:
        raise DataError(
            f"{low} holds {small.shape[2]}x{small.shape[1]} pictures, {high} {truth.shape[2]}x{truth.shape[1]}; "
            f"the ratio must be {SCALE}."
        )
    return Pairs(tuple(names), small, truth, digests)


def pairs_of_dataset(faces: PackedDataset, max_faces: int | None = None) -> Pairs:
    """Returns validation pairs made from a prepared dataset by the official downscaling."""
    margin = faces.margin
    height, width = faces.images.shape[1] - 2 * margin, faces.images.shape[2] - 2 * margin
    truth = np.ascontiguousarray(faces.images[:max_faces, margin : margin + height, margin : margin + width])
    names = tuple(f"{number:06d}" for number in range(len(truth)))
    return Pairs(names, downscale_uint8(truth), truth, faces.digests[: len(truth)])


def synthetic_pairs(num_faces: Count, seed: Seed, pictures_per_identity: Count, first: CountFromZero) -> Pairs:
    """Returns validation pairs of synthetic faces, of persons that `synthetic` of a lower index does not draw."""
    return pairs_of_dataset(synthetic(num_faces, seed, pictures_per_identity, first))


def dead_leaves_pairs(num_pictures: Count, patch_px: PatchSide, seed: Seed, first: CountFromZero) -> Pairs:
    """Returns validation pairs of synthetic general pictures, which `dead_leaves` of lower indices does not draw."""
    return pairs_of_dataset(dead_leaves(num_pictures, patch_px, 0, seed, first))


def prepared_pairs(path: str, max_faces: Count | None = None) -> Pairs:
    """Returns validation pairs made from the prepared dataset at `path`.

    Raises:
        DataError: see `PackedDataset.open`.
    """
    return pairs_of_dataset(PackedDataset.open(Path(path).expanduser()), max_faces)
