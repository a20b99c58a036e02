"""Whose picture is it? A CSV file says which person each face shows.

The file's first line is ``id,identity``; each further line is a face's file name without ``.png``, and a name of the
person, which means nothing but that equal names are one person. Every face needs a line; an empty name says that the
person is not known.
"""

from collections.abc import Sequence
from pathlib import Path

from facesr.errors import DataError
from facesr.evaluation.attributes import id_of, rows_of
from facesr.names import shown

HEAD = ("id", "identity")


def read_identities(path: Path, ids: Sequence[str]) -> list[str]:
    """Returns the person of each of `ids`, "" where it is not known.

    Raises:
        DataError: the file is missing, is no such table, lacks an id or names one twice.
    """
    rows = rows_of(path, "identities")
    if not rows or tuple(rows[0]) != HEAD:
        raise DataError(f"identities={path} needs the first line {','.join(HEAD)}.")
    persons: dict[str, str] = {}
    for number, row in enumerate(rows[1:], start=2):
        if len(row) != len(HEAD):
            raise DataError(f"identities={path}: line {number} has {len(row)} cells instead of {len(HEAD)}.")
        key = id_of(row[0])
        if key in persons:
            raise DataError(f"identities={path} names id {shown([key])} twice; keep one line.")
        persons[key] = row[1].strip()
    lacking = [key for key in ids if key not in persons]
    if lacking:
        raise DataError(f"identities={path} has no line for id {shown(lacking)}; every face of high needs one.")
    return [persons[key] for key in ids]
