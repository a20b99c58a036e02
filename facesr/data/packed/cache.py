"""Prepared sets that are drawn on this machine: made once below the cache folder, found by later calls."""

import contextlib
import shutil
from collections.abc import Callable
from pathlib import Path

from facesr.data.packed.dataset_format import ABOUT
from facesr.errors import DataError
from facesr.files import unfinished_folder


def cached_set(cache_dir: Path, name: str, write: Callable[[Path], None]) -> Path:
    """Returns the folder `name` below `cache_dir`, filled by `write` if it is not there yet.

    It is written under another name and renamed when complete, so a folder of this name is always whole; of
    several processes that race, one wins and the others use its folder. What a killed process has left unfinished is
    removed by the next that writes a set there.

    Args:
        cache_dir: made where it does not exist.
        name: has to tell apart everything that decides the set's content.
        write: fills the folder it is given, its set.json last.

    Raises:
        DataError: the cache cannot be written.
    """
    folder = cache_dir / name
    if _is_whole(folder):
        return folder
    with contextlib.ExitStack() as stack:
        try:
            cache_dir.mkdir(parents=True, exist_ok=True)
            unfinished = stack.enter_context(unfinished_folder(cache_dir, name))
        except OSError as error:
            raise DataError(
                f"cannot write to {cache_dir} ({error.strerror}); set FACESR_CACHE to a writable folder."
            ) from error
        write(unfinished)
        if folder.exists() and not _is_whole(folder):
            shutil.rmtree(folder)  # nothing here leaves such a folder, but a copy or a clean-up may
        try:
            unfinished.rename(folder)
        except OSError as error:
            if not _is_whole(folder):
                raise DataError(f"cannot create {folder} ({error.strerror}).") from error
    return folder


def _is_whole(folder: Path) -> bool:
    return (folder / ABOUT).is_file()  # the last file to be written
