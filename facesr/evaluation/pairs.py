"""Pairs of pictures to score: found by name in two or three folders, checked against a protocol's strict rules.

Every fault is an error before anything is scored. Only headers are read here; pixels are read batch by batch.
"""

import unicodedata
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from facesr.config import EvaluationProtocol
from facesr.errors import DataError, ImageError
from facesr.image import Picture
from facesr.names import shown
from facesr.png import list_png, png_header, read_png

# Metrics take some 200 bytes a pixel: 400 faces of 96x112 or four pictures of 1024x1024 are below one gigabyte.
MOST_BATCH_PIXELS = 1 << 22


@dataclass(frozen=True)
class Pair:
    """Files of one face.

    Attributes:
        id: the file name without ``.png``.
        restored: what is scored.
        high: the truth.
        low: the low-resolution picture, None where it is not known.
        size: (width, height) at which it is scored.
    """

    id: str
    restored: Path
    high: Path
    low: Path | None
    size: tuple[int, int]


@dataclass(frozen=True)
class Pairs:
    """What is to be scored.

    Attributes:
        items: sorted by id.
        read: reads a restored or an original picture as uint8 (H, W, 3).
        notes: under official rules, what they let pass: ``skipped``, ``resized`` and ``missing`` file names.
    """

    items: tuple[Pair, ...]
    read: Callable[[Path], Picture] = read_png
    notes: dict[str, list[str]] = field(default_factory=dict)


def strict_pairs(restored: Path, high: Path, low: Path | None, protocol: EvaluationProtocol) -> Pairs:
    """Returns the pairs of the folders, every rule of the protocol kept.

    Raises:
        DataError: a folder is missing or empty, a name is in one folder only, or their number is wrong.
        ImageError: a picture is no PNG or has a wrong size.
    """
    high_files, restored_files = list_pictures(high), list_pictures(restored)
    require_same_names(high_files, high, restored_files, restored)
    low_files = None
    if low is not None:
        low_files = list_pictures(low)
        require_same_names(high_files, high, low_files, low)
    if protocol.num_pictures is not None and len(high_files) != protocol.num_pictures:
        raise DataError(
            f"{high} holds {len(high_files)} pictures where protocol {protocol.name} asks for {protocol.num_pictures}."
        )
    items: list[Pair] = []
    for key, path in high_files.items():
        size = png_size(path)
        pair = Pair(key, restored_files[key], path, low_files[key] if low_files is not None else None, size)
        _check_sizes(pair, protocol)
        items.append(pair)
    return Pairs(tuple(items))


def list_pictures(folder: Path) -> dict[str, Path]:
    """Returns {id: path} of a folder's PNG files sorted by id; ids in Unicode form C, as archives hold them.

    Raises:
        DataError: see `facesr.png.list_png`.
    """
    return dict(sorted((unicodedata.normalize("NFC", key), path) for key, path in list_png(folder).items()))


def require_same_names(first: dict[str, Path], folder: Path, second: dict[str, Path], other: Path) -> None:
    """Raises DataError naming the first pictures that are in one of two folders only."""
    for names, holder, lacking in (
        ([key for key in first if key not in second], folder, other),
        ([key for key in second if key not in first], other, folder),
    ):
        if names:
            listed = shown([f"{name}.png" for name in names])
            raise DataError(f"{listed}: in {holder} but not in {lacking}; both need exactly the same names.")


def png_size(path: Path) -> tuple[int, int]:
    """Returns (width, height) of a PNG file from its header.

    Raises:
        ImageError: the file cannot be read or is no PNG.
    """
    try:
        with path.open("rb") as file:
            width, height, _, _ = png_header(file.read(64), str(path))
    except OSError as error:
        raise ImageError(f"{path} cannot be read: {error.strerror}.") from error
    return width, height


def _check_sizes(pair: Pair, protocol: EvaluationProtocol) -> None:
    high, restored = pair.size, png_size(pair.restored)
    wanted = (protocol.width or high[0], protocol.height or high[1])
    for path, size in ((pair.high, high), (pair.restored, restored)):
        if size == wanted:
            continue
        if size == (wanted[0] // protocol.scale, wanted[1] // protocol.scale):
            raise ImageError(
                f"{path} is {size[0]}x{size[1]}, the low-resolution size, where {wanted[0]}x{wanted[1]} is needed; "
                "restore the pictures first, for example with method=bicubic low=DIR."
            )
        against = f"protocol {protocol.name}" if protocol.width else "its original"
        advice = " or use protocol=open for other sizes" if protocol.width else ""
        raise ImageError(
            f"{path} is {size[0]}x{size[1]} where {against} has {wanted[0]}x{wanted[1]}; "
            f"give pictures of that size{advice}."
        )
    if pair.low is not None:
        low = png_size(pair.low)
        if (low[0] * protocol.scale, low[1] * protocol.scale) != restored:
            raise ImageError(
                f"{pair.low} is {low[0]}x{low[1]}, not {restored[0]}x{restored[1]} divided by {protocol.scale}; "
                "give the low-resolution pictures that were restored."
            )


def batches(pairs: Pairs, batch_size: int) -> list[list[Pair]]:
    """Returns neighbouring pairs of one size in batches; nothing but ids, sizes and `batch_size` decides them.

    A batch holds fewer than `batch_size` pictures where more would be above MOST_BATCH_PIXELS.
    """
    found: list[list[Pair]] = []
    for pair in pairs.items:
        most = min(batch_size, max(1, MOST_BATCH_PIXELS // (pair.size[0] * pair.size[1])))
        if not found or found[-1][0].size != pair.size or len(found[-1]) == most:
            found.append([])
        found[-1].append(pair)
    return found


def read_batch(batch: Iterable[Pair], pairs: Pairs) -> tuple[Picture, Picture, Picture | None]:
    """Returns (restored, high, low), each uint8 (N, ., ., 3), of pairs of one size; low None where not known.

    Raises:
        ImageError: a file cannot be read or is damaged.
    """
    some = list(batch)
    restored = np.stack([pairs.read(pair.restored) for pair in some])
    high = np.stack([pairs.read(pair.high) for pair in some])
    low = [read_png(pair.low) for pair in some if pair.low is not None]
    return restored, high, np.stack(low) if low else None
