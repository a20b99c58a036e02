"""What is known about source pictures beside their pixels: whose they are, and where the landmarks lie."""

import csv
import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from facesr.errors import DataError

# FFHQ keeps its pictures in blocks of a thousand: 00000/, 01000/, ... 69000/.
FFHQ_BLOCK = re.compile(r"\d{2}000")
# Folder names that say what pictures are for, not who is on them.
GENERIC_FOLDERS = frozenset(
    {
        *("train", "training", "val", "valid", "validation", "dev", "test", "testing", "eval"),
        *("images", "image", "img", "imgs", "pictures", "photos", "faces", "crops", "data", "raw"),
        *("png", "jpg", "jpeg", "hr", "lr", "high", "low", "thumbnails128x128", "images1024x1024"),
    }
)


@dataclass(frozen=True)
class Annotation:
    """One line of an annotation table.

    Attributes:
        identity: name of the person, "" if unknown.
        landmarks: 10 numbers, x and y of the 5 points in pixels of the source picture, or empty.
    """

    identity: str = ""
    landmarks: tuple[float, ...] = ()


def identities_from_folders(sources: Sequence[str], rule: str) -> list[str]:
    """Returns the name of each source's person, "" where unknown.

    With the rule ``folder`` it is the name of the folder that holds the picture, "" at the top level. With
    ``auto`` likewise, if at least two folders below the top hold pictures and one of them several; FFHQ's blocks
    (00000, 01000, ...) and names such as train or images are no persons. With ``none`` it is always "".
    """
    folders = [PurePosixPath(source).parent.name for source in sources]
    if rule == "auto":
        folders = [
            "" if FFHQ_BLOCK.fullmatch(folder) or folder.lower() in GENERIC_FOLDERS else folder for folder in folders
        ]
        sizes = Counter(folder for folder in folders if folder)
        if len(sizes) < 2 or max(sizes.values()) < 2:
            rule = "none"
    return [""] * len(sources) if rule == "none" else folders


def read_annotations(path: Path) -> dict[str, Annotation]:
    """Returns the lines of a CSV table by file: a POSIX path, without `.` and empty parts.

    The columns ``file`` and at least one of ``identity`` and ``landmarks`` are needed; others are ignored.

    Raises:
        DataError: the table is missing or malformed, or tells different things of one file.
    """
    found: dict[str, Annotation] = {}
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            table = csv.DictReader(file)
            columns = set(table.fieldnames or ())
            if "file" not in columns or not columns & {"identity", "landmarks"}:
                raise DataError(f"{path} needs a column 'file' and one of 'identity' and 'landmarks'.")
            for line in table:
                name = "/".join(PurePosixPath((line["file"] or "").replace("\\", "/").strip("/")).parts)
                annotation = _annotation(line, path, table.line_num)
                if found.setdefault(name, annotation) != annotation and name:
                    raise DataError(f"{path} line {table.line_num}: {name} is there twice and differs; keep one line.")
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}.") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} is no CSV table in UTF-8.") from error
    return found


def _annotation(line: dict[str, str | None], path: Path, number: int) -> Annotation:
    text = (line.get("landmarks") or "").split()
    try:
        landmarks = tuple(float(word) for word in text)
    except ValueError:
        landmarks = (0.0,)
    if len(landmarks) not in (0, 10) or not all(math.isfinite(value) for value in landmarks):
        raise DataError(f"{path} line {number}: landmarks must be 10 numbers 'x y x y ...' or empty.")
    return Annotation((line.get("identity") or "").strip(), landmarks)


def match_annotations(
    sources: Sequence[str], source_folder: Path, annotations: dict[str, Annotation]
) -> list[Annotation | None]:
    """Returns the annotation of each source, or None.

    A table names files relative to some folder above or below SOURCE, so the longest common end of both paths
    decides: ``train/a.jpg`` in the table is the source ``a.jpg`` of a folder ``train``.
    """
    above = PurePosixPath(source_folder.resolve().as_posix()).parts
    by_name: dict[str, list[tuple[str, ...]]] = {}
    for name in annotations:
        parts = PurePosixPath(name).parts
        if parts:
            by_name.setdefault(parts[-1], []).append(parts)
    matched: list[Annotation | None] = []
    for source in sources:
        own = (*above, *PurePosixPath(source).parts)
        fitting = [parts for parts in by_name.get(own[-1], ()) if own[-len(parts) :] == parts]
        best = max(fitting, key=len, default=None)
        matched.append(annotations["/".join(best)] if best else None)
    return matched
