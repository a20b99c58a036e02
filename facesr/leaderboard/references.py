"""The references of a phase as one ZIP file: made for workers elsewhere, and unpacked there once.

The file holds originals, so it lies outside the store (whose files pages may show) and is readable by its owner alone.
"""

import hashlib
import os
import shutil
import threading
import unicodedata
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from facesr.errors import DataError
from facesr.files import whole_file, whole_folder
from facesr.leaderboard.competition import Phase, Place
from facesr.names import is_unsafe, shown
from facesr.png import list_png

KINDS = ("high", "low")
MAX_BYTES = 1 << 36
_FOLDER = "cache"
_DATE = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True)
class Packed:
    """The references of a phase in a file.

    Attributes:
        path: of the ZIP file.
        sha256: of it.
        num_bytes: its size.
    """

    path: Path
    sha256: str
    num_bytes: int


class References:
    """The ZIP files of all phases, each made when it is first asked for, and anew when a picture was changed."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._made: dict[str, tuple[str, Packed]] = {}
        self._lock = threading.Lock()

    def of(self, phase: Phase) -> Packed:
        """Returns the references of a phase.

        Raises:
            DataError: the pictures are missing, or the file cannot be written.
        """
        with self._lock:
            files = self._files(phase)
            state = state_of(files)
            known = self._made.get(phase.name)
            if known is None or known[0] != state or not known[1].path.is_file():
                known = self._made[phase.name] = state, self._pack(phase, files)
            return known[1]

    def _files(self, phase: Phase) -> dict[str, Path]:
        """Returns name in the ZIP file -> picture, sorted."""
        folders = {"high": self._place.high(phase), "low": self._place.low(phase)}
        return {
            unicodedata.normalize("NFC", f"{kind}/{key}.png"): path
            for kind in KINDS
            for key, path in sorted(list_png(folders[kind]).items())
        }

    def _pack(self, phase: Phase, files: dict[str, Path]) -> Packed:
        folder = self._place.folder / _FOLDER
        path = folder / f"references-{phase.name}.zip"
        try:
            folder.mkdir(mode=0o700, exist_ok=True)
            with whole_file(path) as temporary:
                handle = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
                with os.fdopen(handle, "wb") as file, zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
                    for name, picture in files.items():
                        archive.writestr(zipfile.ZipInfo(name, _DATE), picture.read_bytes())
                with temporary.open("rb") as made:
                    sha256 = hashlib.file_digest(made, "sha256").hexdigest()
                    num_bytes = made.seek(0, os.SEEK_END)
        except OSError as error:
            raise DataError(f"{path} cannot be written ({error.strerror}); make room or give rights.") from error
        return Packed(path, sha256, num_bytes)


def state_of(files: Mapping[str, Path]) -> str:
    """Returns a digest that is another one where a picture was added, removed or written again."""
    digest = hashlib.sha256()
    for name, path in files.items():
        found = path.stat()
        digest.update(f"{name}\0{found.st_size}\0{found.st_mtime_ns}\0".encode())
    return digest.hexdigest()


def unpack(path: Path, folder: Path) -> None:
    """Unpacks such a ZIP file into a new folder, which holds ``high/`` and ``low/``.

    Args:
        path: a file whose sha256 was checked.
        folder: it does not exist, and appears as a whole or not at all.

    Raises:
        DataError: it holds anything but pictures of these two folders, or cannot be unpacked.
    """
    try:
        with zipfile.ZipFile(path) as archive, whole_folder(folder) as made:
            made.chmod(0o700)
            entries = archive.infolist()
            _check(entries, path.stat().st_size)
            for kind in KINDS:
                (made / kind).mkdir()
            for entry in entries:
                with archive.open(entry) as source, (made / entry.filename).open("xb") as target:
                    shutil.copyfileobj(source, target)
    except (OSError, zipfile.BadZipFile, ValueError, RuntimeError) as error:
        raise DataError(f"the references cannot be unpacked into {folder}: {error}.") from error


def _check(entries: list[zipfile.ZipInfo], num_bytes: int) -> None:
    bad = [entry.filename for entry in entries if not _is_picture(entry)]
    if bad:
        raise DataError(f"the references hold {shown(bad)}, which is no picture; ask the organiser.")
    if sum(entry.file_size for entry in entries) > num_bytes:
        raise DataError("the references state more bytes than they have; ask the organiser.")


def _is_picture(entry: zipfile.ZipInfo) -> bool:
    kind, _, name = entry.filename.partition("/")
    is_plain = entry.compress_type == zipfile.ZIP_STORED and not entry.flag_bits & 1
    return is_plain and kind in KINDS and name.endswith(".png") and "/" not in name and not is_unsafe(name)
