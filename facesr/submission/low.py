"""The low-resolution pictures that a submission answers: their ids, sizes and digest."""

import hashlib
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from facesr.config import EvaluationProtocol
from facesr.errors import DataError
from facesr.names import shown
from facesr.png import list_png, read_png, stack_pictures
from facesr.submission.manifest import is_picture_name
from facesr.submission.names import duplicates


@dataclass(frozen=True)
class LowPictures:
    """A folder of low-resolution PNG files that fits a protocol.

    Attributes:
        folder: where they are.
        paths: name that the restored picture has in an archive (<id>.png in Unicode form C) -> file, sorted.
        sizes: the same name -> (width, height) of the low-resolution picture.
        scale: a restored picture is so many times as wide and high.
        sha256: digest of ids, sizes and pixels; it does not depend on how the PNG files are compressed.
    """

    folder: Path
    paths: dict[str, Path]
    sizes: dict[str, tuple[int, int]]
    scale: int
    sha256: str

    @classmethod
    def open(cls, folder: Path, protocol: EvaluationProtocol) -> "LowPictures":
        """Returns the pictures of a folder.

        Raises:
            DataError: the folder is missing or empty, a picture is broken or has another size than the protocol's,
                there are too many or too few, or a name cannot be packed.
        """
        found = [(unicodedata.normalize("NFC", f"{key}.png"), path) for key, path in list_png(folder).items()]
        paths = dict(sorted(found))
        names = [name for name, _ in found]
        bad = [name for name in names if not is_picture_name(name)]
        if bad:
            raise DataError(f"{folder} holds {shown(bad)}, which no archive may hold; use letters, digits, - and _.")
        alike = duplicates(names)
        if alike:
            raise DataError(f"{folder} holds names that differ only by letter case or accents ({shown(alike)}).")
        if protocol.num_pictures is not None and len(paths) != protocol.num_pictures:
            raise DataError(
                f"{folder} holds {len(paths)} pictures where protocol {protocol.name} asks for {protocol.num_pictures}."
            )
        sizes: dict[str, tuple[int, int]] = {}
        digest = hashlib.sha256()
        for name, path in paths.items():
            picture = read_png(path)
            height, width = picture.shape[:2]
            want = (protocol.low_width or width, protocol.low_height or height)
            if (width, height) != want:
                raise DataError(
                    f"{path} is {width}x{height} where protocol {protocol.name} gives out {want[0]}x{want[1]}; "
                    "give the low-resolution pictures, or another protocol."
                )
            sizes[name] = (width, height)
            digest.update(f"{name}\0{width}x{height}\0".encode())
            digest.update(picture.tobytes())
        return cls(folder, paths, sizes, protocol.scale, digest.hexdigest())

    def restored_size(self, name: str) -> tuple[int, int]:
        """Returns (width, height) that the restored picture of a name has to have."""
        width, height = self.sizes[name]
        return width * self.scale, height * self.scale

    def batches(self, most: int) -> Iterator[tuple[list[str], NDArray[np.uint8]]]:
        """Yields (names, pictures uint8 (N, h, w, 3)): neighbours of one size, at most so many at a time."""
        for _, group in groupby(self.paths, key=self.sizes.__getitem__):
            names = list(group)
            for start in range(0, len(names), most):
                part = names[start : start + most]
                yield part, stack_pictures(self.paths[name] for name in part)
