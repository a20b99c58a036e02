"""The folder an evaluation writes: claimed for one question, so that no result is silently replaced by another's.

`question.json` is written first and says what was asked (paths, protocol, judges); the same question may be asked
again and replaces its own files, another one is refused. `summary.json` is written last: where it is, all is.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from facesr.errors import DataError
from facesr.files import whole_file
from facesr.names import is_left_behind

QUESTION = "question.json"
SUMMARY = "summary.json"


def check_free(folder: Path, question: Mapping[str, Any]) -> None:
    """Checks, before anything is loaded or written, that a folder can be claimed for the answers to `question`.

    Args:
        folder: where they shall go.
        question: what is known of it; keys that are missing here are compared by `claim`.

    Raises:
        DataError: the folder holds another evaluation or other files, or cannot be read.
    """
    asked = json.loads(json.dumps(question))
    if folder.exists() and not folder.is_dir():
        raise DataError(f"out={folder} is a file; give a folder that does not exist yet.")
    try:
        found = list(folder.iterdir()) if folder.exists() else []
    except OSError as error:
        raise DataError(f"out={folder} cannot be used: {error.strerror}.") from error
    entries = {entry.name for entry in found if not is_left_behind(entry.name)}
    if QUESTION in entries and len(entries) > 1:
        _require_same(folder, asked, set(asked))
    elif entries and QUESTION not in entries:
        raise DataError(f"out={folder} holds other files; give a folder that is empty or does not exist yet.")


def claim(folder: Path, question: Mapping[str, Any]) -> None:
    """Makes the folder ready for the answers to `question`; removes an earlier summary of the same question.

    Raises:
        DataError: the folder holds another evaluation or other files, or cannot be written.
    """
    asked = json.loads(json.dumps(question))
    if folder.exists() and not folder.is_dir():
        raise DataError(f"out={folder} is a file; give a folder that does not exist yet.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        entries = {entry.name for entry in folder.iterdir() if not is_left_behind(entry.name)}
        if entries == {QUESTION}:
            pass  # an evaluation that was refused before it wrote anything: its question binds nobody
        elif QUESTION in entries:
            _require_same(folder, asked, None)
        elif entries:
            raise DataError(f"out={folder} holds other files; give a folder that is empty or does not exist yet.")
        (folder / SUMMARY).unlink(missing_ok=True)
    except OSError as error:
        raise DataError(f"out={folder} cannot be used: {error.strerror}.") from error
    write_text(folder / QUESTION, json.dumps(asked, indent=2) + "\n")


def _require_same(folder: Path, asked: Mapping[str, Any], keys: set[str] | None) -> None:
    """Refuses where one of these keys, or any for None, differs from the earlier question's."""
    try:
        earlier = json.loads((folder / QUESTION).read_text(encoding="utf-8-sig"))
    except ValueError:
        earlier = {}
    if not isinstance(earlier, dict):
        earlier = {}
    compared = [key for key in {**earlier, **asked} if keys is None or key in keys]
    different = [key for key in compared if earlier.get(key) != asked.get(key)]
    if different:
        key = different[0]
        raise DataError(
            f"out={folder} holds another evaluation ({key} was {_brief(earlier.get(key))}, now "
            f"{_brief(asked.get(key))}); give another out=DIR or remove that folder."
        )


def _brief(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def write_text(path: Path, text: str) -> None:
    """Writes a text file so that it is either whole or as it was before.

    Raises:
        DataError: it cannot be written.
    """
    write_bytes(path, text.encode("utf-8"))


def write_bytes(path: Path, data: bytes) -> None:
    """Writes a file so that it is either whole or as it was before.

    Raises:
        DataError: it cannot be written.
    """
    try:
        with whole_file(path) as temporary:
            temporary.write_bytes(data)
    except OSError as error:
        raise DataError(f"{path} cannot be written: {error.strerror}.") from error
