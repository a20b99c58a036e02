"""Files that are whole or absent, and folders made ready for pictures."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from facesr.errors import DataError


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yields a path beside `path` to write to; what was written there takes its place at the end.

    When the block fails, or the machine stops, `path` is as it was before.

    Raises:
        OSError: the file could not be moved to its place.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        # The folder itself may be what is missing or closed to us.
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def is_inside(path: Path, folder: Path) -> bool:
    """Returns whether a path, which need not exist, is a folder or lies below it; links are followed."""
    return path.resolve().is_relative_to(folder.resolve())


def make_empty(folder: Path) -> None:
    """Makes the folder and removes the PNG files of an earlier time, half-written ones too.

    Raises:
        DataError: it cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for pattern in ("*.png", ".*.tmp"):
            for path in folder.glob(pattern):
                path.unlink()
    except OSError as error:
        raise DataError(f"{folder} cannot be written: {error.strerror}.") from error
