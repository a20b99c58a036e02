"""Prepared sets that are drawn on this machine: made once below the cache folder, found by later calls."""

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from facesr.errors import DataError


def cached_set(cache_dir: Path, name: str, write: Callable[[Path], None]) -> Path:
    """Returns the folder `name` below `cache_dir`, filled by `write` if it is not there yet.

    It is written under another name and renamed when complete, so a folder of this name is always whole; of
    several processes that race, one wins and the others use its folder.

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
    try:
        cache_dir.mkdir(parents=True, exist_ok=True)
        unfinished = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=cache_dir))
    except OSError as error:
        raise DataError(
            f"cannot write to {cache_dir} ({error.strerror}); set FACESR_CACHE to a writable folder."
        ) from error
    try:
        write(unfinished)
        unfinished.chmod(0o755)
        if folder.exists() and not _is_whole(folder):
            shutil.rmtree(folder)  # nothing here leaves such a folder, but a copy or a clean-up may
        try:
            unfinished.rename(folder)
        except OSError as error:
            if not _is_whole(folder):
                raise DataError(f"cannot create {folder} ({error.strerror}).") from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return folder


def _is_whole(folder: Path) -> bool:
    return (folder / "set.json").is_file()  # the last file to be written
