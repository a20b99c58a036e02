"""The low-resolution pictures that are restored: their ids, sizes and digest."""

import hashlib
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from facesr.config import EvaluationProtocol
from facesr.errors import DataError
from facesr.methods.record import is_picture_name
from facesr.names import duplicates, shown
from facesr.png import list_png, read_png, stack_pictures
from facesr.task import SCALE


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
    def open(cls, folder: Path, protocol: EvaluationProtocol | None = None) -> "LowPictures":
        """Returns the pictures of a folder, checked against a protocol where one is given.

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
        if protocol is not None and protocol.num_pictures not in (None, len(paths)):
            raise DataError(
                f"{folder} holds {len(paths)} pictures where protocol {protocol.name} asks for {protocol.num_pictures}."
            )
        sizes: dict[str, tuple[int, int]] = {}
        digest = hashlib.sha256()
        for name, path in paths.items():
            picture = read_png(path)
            height, width = picture.shape[:2]
            if protocol is not None and (width, height) != (
                want := (protocol.low_width or width, protocol.low_height or height)
            ):
                raise DataError(
                    f"{path} is {width}x{height} where protocol {protocol.name} gives out {want[0]}x{want[1]}; "
                    "give the low-resolution pictures, or another protocol."
                )
            sizes[name] = (width, height)
            digest.update(f"{name}\0{width}x{height}\0".encode())
            digest.update(picture.tobytes())
        return cls(folder, paths, sizes, SCALE if protocol is None else protocol.scale, digest.hexdigest())

    @property
    def by_id(self) -> dict[str, Path]:
        """The files by id, which is the name without its extension."""
        return {Path(name).stem: path for name, path in self.paths.items()}

    def restored_size(self, name: str) -> tuple[int, int]:
        """Returns (width, height) that the restored picture of a name has to have."""
        width, height = self.sizes[name]
        return width * self.scale, height * self.scale

    def parts(self, most: int) -> Iterator[list[str]]:
        """Yields names of neighbours of one size, at most so many at a time."""
        for _, group in groupby(self.paths, key=self.sizes.__getitem__):
            names = list(group)
            for start in range(0, len(names), most):
                yield names[start : start + most]

    def read(self, names: Sequence[str]) -> NDArray[np.uint8]:
        """Returns pictures of one size, uint8 (N, h, w, 3).

        Raises:
            ImageError: a file cannot be read or is damaged.
        """
        return stack_pictures(self.paths[name] for name in names)
