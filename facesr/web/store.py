"""Files named by their content: written once, found by their sha256, never changed.

stored = store.put(request_body, max_bytes=1 << 28)
store.path(stored.sha256)
"""

import contextlib
import hashlib
import os
import re
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from facesr.errors import DataError

_SHA256 = re.compile(r"[0-9a-f]{64}")
_INCOMING = "incoming"


@dataclass(frozen=True)
class Stored:
    """A file in the store.

    Attributes:
        sha256: of its content, which is its name.
        num_bytes: its size.
    """

    sha256: str
    num_bytes: int


class TooLarge(DataError):
    """What was sent has more bytes than are taken."""


class Incoming:
    """A file that is being received: `write` pieces of it, then `keep` it; otherwise nothing of it stays."""

    def __init__(self, store: "Store", max_bytes: int) -> None:
        self._store = store
        self._max_bytes = max_bytes
        self._digest = hashlib.sha256()
        self._num_bytes = 0
        handle, name = tempfile.mkstemp(dir=store.folder / _INCOMING, suffix=".part")
        self._file = os.fdopen(handle, "wb")
        self._path = Path(name)

    @property
    def sha256(self) -> str:
        """Digest of what has come so far."""
        return self._digest.hexdigest()

    def write(self, piece: bytes) -> None:
        """Takes the next bytes.

        Raises:
            TooLarge: they would be more than are taken.
            DataError: the disk is full, or cannot be written.
        """
        self._num_bytes += len(piece)
        if self._num_bytes > self._max_bytes:
            raise TooLarge(f"more than {self._max_bytes / 2**20:,.0f} MiB were sent; that is the limit.")
        self._digest.update(piece)
        try:
            self._file.write(piece)
        except OSError as error:
            raise DataError(f"the store cannot be written ({error.strerror}); make room or give rights.") from error

    def settle(self) -> None:
        """Has the disk take all that was written; `keep` is quick after it, and nothing can be written any more.

        Raises:
            DataError: the disk is full, or cannot be written.
        """
        if self._file.closed:
            return
        try:
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
        except OSError as error:
            raise DataError(f"the store cannot be written ({error.strerror}); make room or give rights.") from error

    def keep(self) -> Stored:
        """Gives the file its name, durably, and returns it; the same content twice is one file.

        Raises:
            DataError: the disk is full, or cannot be written.
        """
        self.settle()
        try:
            target = self._store.path(self.sha256)
            target.parent.mkdir(parents=True, exist_ok=True)
            self._path.replace(target)
            _sync(target.parent)
        except OSError as error:
            raise DataError(f"the store cannot be written ({error.strerror}); make room or give rights.") from error
        return Stored(self.sha256, self._num_bytes)

    def drop(self) -> None:
        """Removes what was not kept."""
        self._file.close()
        with contextlib.suppress(OSError):
            self._path.unlink(missing_ok=True)


class Store:
    """A folder of such files.

    Attributes:
        folder: it holds ``ab/abcd...``, the files, and ``incoming/``, what is being received.
    """

    def __init__(self, folder: Path) -> None:
        """Opens or makes the store.

        Raises:
            DataError: the folder cannot be made.
        """
        self.folder = folder
        try:
            (folder / _INCOMING).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DataError(f"{folder} cannot be made ({error.strerror}); choose another place.") from error

    @property
    def incoming_folder(self) -> Path:
        """Where files lie that are being received."""
        return self.folder / _INCOMING

    def path(self, sha256: str) -> Path:
        """Returns where the file of a digest lies, or would lie.

        Raises:
            ValueError: it is no sha256 in lower-case hexadecimal digits.
        """
        if not _SHA256.fullmatch(sha256):
            raise ValueError("not a sha256")
        return self.folder / sha256[:2] / sha256

    def holds(self, sha256: str) -> bool:
        """Returns whether the file of a digest is there."""
        return self.path(sha256).is_file()

    @contextlib.contextmanager
    def incoming(self, max_bytes: int) -> Iterator[Incoming]:
        """Yields a file to write to; what was not kept is removed at the end."""
        part = Incoming(self, max_bytes)
        try:
            yield part
        finally:
            part.drop()

    def put(self, pieces: Iterable[bytes], max_bytes: int) -> Stored:
        """Returns a file with the content of the pieces.

        Raises:
            TooLarge: there are more bytes than `max_bytes`.
            DataError: the disk is full, or cannot be written.
        """
        with self.incoming(max_bytes) as part:
            for piece in pieces:
                part.write(piece)
            return part.keep()

    def is_intact(self, sha256: str) -> bool:
        """Returns whether the file of a digest is there and still has that digest."""
        try:
            with self.path(sha256).open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest() == sha256
        except OSError:
            return False

    def remove(self, sha256: str) -> None:
        """Removes a file; one that is not there is no mistake."""
        self.path(sha256).unlink(missing_ok=True)

    def sweep(self, older_than_seconds: float) -> int:
        """Removes what killed processes left half received, and returns how many files that were."""
        count = 0
        for path in self.incoming_folder.glob("*.part"):
            with contextlib.suppress(OSError):
                if time.time() - path.stat().st_mtime > older_than_seconds:
                    path.unlink()
                    count += 1
        return count


def _sync(folder: Path) -> None:
    if os.name == "nt":  # Windows opens no folder
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
