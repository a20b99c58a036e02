"""Which files are films, by their content, and whether what reads them is installed."""

import importlib.util
from pathlib import Path

from facesr.errors import ConfigError

# What a film's file may be called, for folders and for the name of what is written.
SUFFIXES = {
    "mp4": (".mp4", ".m4v"),
    "mov": (".mov", ".qt"),
    "matroska": (".mkv",),
    "webm": (".webm",),
    "avi": (".avi",),
}
INSTALL = "uv sync --extra video"
_EBML = b"\x1aE\xdf\xa3"
_PICTURES = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1", b"avif", b"avis")
_OLD_QUICKTIME = (b"moov", b"mdat", b"wide", b"free", b"skip")


def film_format(path: Path) -> str | None:
    """Returns ``mp4``, ``mov``, ``matroska``, ``webm`` or ``avi``, and None for a file that is no film.

    Source: ISO/IEC 14496-12 (ftyp), RFC 8794 (EBML), the RIFF header of AVI.
    """
    try:
        with path.open("rb") as file:
            data = file.read(4096)
    except OSError:
        return None
    if data.startswith(_EBML):
        return "webm" if b"webm" in data[:64] else "matroska"
    if data[:4] == b"RIFF" and data[8:12] == b"AVI ":
        return "avi"
    if data[4:8] == b"ftyp" and data[8:11] != b"crx" and data[8:12] not in _PICTURES:
        return "mov" if data[8:12] == b"qt  " else "mp4"
    return "mov" if data[4:8] in _OLD_QUICKTIME else None


def films_below(folder: Path) -> list[str]:
    """Returns the films below a folder by their names' endings, as sorted relative POSIX paths; no hidden ones."""
    endings = {ending for some in SUFFIXES.values() for ending in some}
    inner = [path.relative_to(folder) for path in folder.rglob("*") if path.suffix.lower() in endings]
    return sorted(path.as_posix() for path in inner if not any(part.startswith(".") for part in path.parts))


def require_reader() -> None:
    """Makes sure that PyAV is there.

    Raises:
        ConfigError: it is not; the sentence has the command that installs it.
    """
    if importlib.util.find_spec("av") is None:
        raise ConfigError(f"films need the package av, which is not installed; install it with: {INSTALL}")
