"""Names of files as people and other programs make them: which are passed over, and how they are shown.

A name may hold anything, line feeds and terminal commands included; whatever is printed goes through one of these
functions.
"""

import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence

_LEFT_BEHIND = frozenset({".ds_store", "thumbs.db", "desktop.ini", "__macosx"})
MAX_NAME_BYTES = 200
# Names that Windows keeps for devices, with any extension.
_DEVICES = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)
# Characters of a name that are shown, half from its beginning and half from its end.
_MAX_SHOWN = 60


def is_left_behind(name: str) -> bool:
    """Returns whether a file manager left this file or folder behind (``__MACOSX``, ``._a.png``, ``Thumbs.db``)."""
    return name.startswith("._") or name.lower() in _LEFT_BEHIND


def is_passed_over(name: str) -> bool:
    """Returns whether a folder of pictures may hold this file or folder although it is none of them.

    These are hidden ones and what file managers leave behind; a folder that holds one is still a folder of pictures.
    """
    return name.startswith(".") or is_left_behind(name)


def shown(names: Iterable[str], most: int = 3) -> str:
    """Returns the first names, quoted, in ASCII and cut to a readable length, and how many more there are."""
    listed = list(names)
    quoted = [ascii(_cut(name)) for name in listed[:most]]
    if len(listed) > most:
        quoted.append(f"{len(listed) - most} more")
    return quoted[0] if len(quoted) == 1 else f"{', '.join(quoted[:-1])} and {quoted[-1]}"


def _cut(name: str) -> str:
    return name if len(name) <= _MAX_SHOWN else f"{name[: _MAX_SHOWN // 2 - 2]}...{name[2 - _MAX_SHOWN // 2 :]}"


def shown_path(path: str | os.PathLike[str]) -> str:
    """Returns a path as it is, or quoted and in ASCII like a name where it holds what a terminal would act upon."""
    text = os.fspath(path)
    return text if text.isprintable() else ascii(text)


def shown_cell(text: str) -> str:
    """Returns a stranger's text for a CSV file, so that no spreadsheet takes it for a formula."""
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text


def plain_cell(cell: str) -> str:
    """Returns a text as its file has it, where `shown_cell` has written it."""
    return cell[1:] if cell.startswith("'") and shown_cell(cell[1:]) == cell else cell


def one_line(text: str) -> str:
    """Returns text for people with every character that cannot be printed, line feeds too, as its escape."""
    if text.isprintable():
        return text
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)


def is_unsafe(name: str) -> bool:
    """Returns whether a name could lead out of a folder, or means different files on different systems."""
    parts = name.removesuffix("/").split("/")
    return (
        not name.isprintable()
        or any(character in name for character in '\\:*?"<>|')
        or any(part in ("", ".", "..") or part.endswith((" ", ".")) or _DEVICES.fullmatch(part) for part in parts)
        or len(name.encode("utf-8", "surrogatepass")) > MAX_NAME_BYTES
        or unicodedata.normalize("NFC", name) != name
    )


def folded(name: str) -> str:
    """Returns the name as a file system that ignores case and Unicode form sees it."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def duplicates(names: Sequence[str]) -> list[str]:
    """Returns the names of which another one exists that some file system takes for the same."""
    counts = Counter(folded(name) for name in names)
    return [name for name in names if counts[folded(name)] > 1]
