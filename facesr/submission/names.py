"""Names inside an archive: which are allowed.

A member's name comes from a stranger. It is compared and printed, but never used as a path: pictures are written
under the ids that the organiser's own folder (or, without one, the checked manifest) gives.
"""

from collections.abc import Collection, Sequence

from facesr.errors import SubmissionError
from facesr.names import is_left_behind, shown

MANIFEST_NAME = "manifest.json"
_ARCHIVES = (
    *(".zip", ".tar", ".tgz", ".gz", ".tbz2", ".bz2", ".txz", ".xz", ".lzma", ".lz4", ".zst", ".7z", ".rar"),
    *(".cab", ".iso", ".jar", ".apk", ".whl", ".egg", ".deb", ".rpm"),
)


def is_junk(name: str) -> bool:
    """Returns whether a file manager left this behind (``__MACOSX``, ``.DS_Store``, ``Thumbs.db``, ...)."""
    return any(map(is_left_behind, name.removesuffix("/").split("/")))


def is_archive(name: str) -> bool:
    """Returns whether a name is that of an archive."""
    return name.lower().endswith(_ARCHIVES)


def with_folders(names: Sequence[str]) -> list[str]:
    """Returns every name and, once each, every folder on the way to one, without slashes at the end.

    Two spellings of one folder, or a file that is a folder too, are then `duplicates`.
    """
    members = [name.removesuffix("/") for name in names]
    parents = {member[:place] for member in members for place, letter in enumerate(member) if letter == "/"}
    entries = {name.removesuffix("/") for name in names if name.endswith("/")}
    return [*members, *sorted(parents - entries)]


def check_ids(have: Collection[str], want: Collection[str], label: str, source: str, what: str = "pictures") -> None:
    """Checks that two collections of file names are the same.

    Raises:
        SubmissionError: names are extra or missing.
    """
    extra = sorted(set(have) - set(want))
    if extra:
        raise SubmissionError(f"{label} holds {shown(extra)}, which {source} does not name; leave extra files out.")
    missing = sorted(set(want) - set(have))
    if missing:
        raise SubmissionError(f"{label} lacks {shown(missing)}; {source} asks for {len(want)} {what}.")
