"""Files that are whole or absent, and folders made ready for pictures."""

import contextlib
import os
import re
import shutil
import tempfile
import time
from collections.abc import Container, Iterator
from pathlib import Path

from facesr.errors import CheckpointError, DataError
from facesr.names import shown_path

try:
    import fcntl
except ImportError:  # Windows has no flock
    fcntl = None  # type: ignore[assignment]

# Where the file system has no locks, what nothing was written to for so long belongs to nobody.
ABANDONED_SECONDS = 24 * 3600.0
_UNFINISHED = ".unfinished-"
_LEFTOVER = re.compile(r"^\..+\.\d+\.tmp$", re.DOTALL)


@contextlib.contextmanager
def temporary_beside(path: Path) -> Iterator[Path]:
    """Yields a path beside `path` to write to; what is left there is removed at the end.

    What a kill leaves there is one of `leftovers_in`.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
    finally:
        # The folder itself may be what is missing or closed to us.
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def put_in_place(temporary: Path, path: Path, *, durably: bool) -> None:
    """Gives a closed file its name; `durably`, a power cut afterwards takes neither its bytes nor its name.

    Raises:
        OSError: the file could not be brought to the disk or moved to its place.
    """
    if durably:
        with temporary.open("r+b") as file:
            os.fsync(file.fileno())
    temporary.replace(path)
    if durably:
        _sync_folder(path.parent)


@contextlib.contextmanager
def whole_file(path: Path, *, durably: bool = False) -> Iterator[Path]:
    """Yields a path beside `path` to write to; what was written there takes its place at the end.

    When the block fails, or the process is killed, `path` is as it was before; `durably`, when the machine stops, too.

    Raises:
        OSError: see `put_in_place`.
    """
    with temporary_beside(path) as temporary:
        yield temporary
        put_in_place(temporary, path, durably=durably)


def leftovers_in(folder: Path) -> list[Path]:
    """Returns the temporary files that killed processes have left in a folder, and those of running ones."""
    return [path for path in folder.iterdir() if _LEFTOVER.match(path.name)]


def remove_leftovers(folder: Path, names: Container[str]) -> None:
    """Removes the temporary files that killed processes of this machine have left of files with these names."""
    for left in leftovers_in(folder):
        name, number, _ = left.name.removeprefix(".").rsplit(".", 2)
        if name in names and not _is_running(int(number)):
            with contextlib.suppress(OSError):
                left.unlink()


def _is_running(process: int) -> bool:
    if fcntl is None:  # on Windows the question would end the process
        return True
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:  # somebody else's
        return True
    return True


def write_bytes(path: Path, data: bytes) -> None:
    """Writes a file so that it is either whole or as it was before, even when the machine stops.

    Raises:
        CheckpointError: the folder cannot be written or the disk is full; the old file is intact.
    """
    with saving(path), whole_file(path, durably=True) as temporary:
        temporary.write_bytes(data)


@contextlib.contextmanager
def saving(path: Path) -> Iterator[None]:
    """Makes the folder of a file of a run, and says in one sentence why the file could not be written.

    Raises:
        CheckpointError: the folder cannot be written or the disk is full.
    """
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        yield


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Says in one sentence why something of a run could not be written.

    Raises:
        CheckpointError: the folder is gone or cannot be written, or the disk is full.
    """
    try:
        yield
    except OSError as error:
        raise CheckpointError(
            f"{path} could not be written ({error.strerror or error}); free some space or make the folder writable "
            "and start the same command again: what was saved before is intact."
        ) from error


def _sync_folder(folder: Path) -> None:
    # The rename itself must survive a power cut; not every file system lets a folder be opened for that.
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


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
        for path in [*folder.glob("*.png"), *leftovers_in(folder)]:
            path.unlink()
    except OSError as error:
        raise DataError(f"{folder} cannot be written: {error.strerror}.") from error


def lock_folder(folder: Path) -> int | None:
    """Returns a handle that keeps a folder to this process until it is closed, or the process ends in any way.

    None where the system or the file system has no such locks; close it with os.close.

    Raises:
        BlockingIOError: another process has the folder.
        OSError: there is no such folder.
    """
    if fcntl is None:
        return None
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        raise
    except OSError:
        os.close(handle)
        return None
    return handle


@contextlib.contextmanager
def unfinished_folder(parent: Path, name: str) -> Iterator[Path]:
    """Yields a new folder inside `parent` to fill and then to rename; what is left of it is removed at the end.

    What killed processes have left in `parent` is removed first.

    Raises:
        OSError: `parent` cannot be written.
    """
    for folder in parent.glob(f"{_UNFINISHED}*"):
        _remove_if_abandoned(folder)
    outer = Path(tempfile.mkdtemp(prefix=f"{_UNFINISHED}{name}-", dir=parent))
    handle = None
    try:
        handle = lock_folder(outer)
        inner = outer / "content"  # the lock stays behind when it is renamed
        inner.mkdir()
        yield inner
    finally:
        shutil.rmtree(outer, ignore_errors=True)
        if handle is not None:
            os.close(handle)


def require_new(folder: Path) -> None:
    """Checks that a folder may be made: nothing is there, or an empty folder.

    Raises:
        DataError: something is there.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise DataError(f"{shown_path(folder)} exists and is not empty; give a new folder.")


@contextlib.contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """Yields a folder to fill, which takes the place of a new one at the end.

    When the block fails, or the process is killed, `folder` is as it was before.

    Raises:
        OSError: nothing can be written there.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with unfinished_folder(folder.parent, folder.name) as unfinished:
        yield unfinished
        if folder.exists():
            folder.rmdir()  # an empty one; Windows renames onto nothing
        unfinished.rename(folder)


def _remove_if_abandoned(folder: Path) -> None:
    with contextlib.suppress(OSError):  # another process may be faster
        handle = lock_folder(folder)
        try:
            newest = max(path.stat().st_mtime for path in (folder, *folder.rglob("*")))
            # A folder that has just been made is not locked yet.
            if time.time() - newest > (ABANDONED_SECONDS if handle is None else 60.0):
                shutil.rmtree(folder, ignore_errors=True)
        finally:
            if handle is not None:
                os.close(handle)
