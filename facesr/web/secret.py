"""The secret of a site: 256 random bits in a file that only its owner may read."""

import os
import secrets
from pathlib import Path

from facesr.errors import DataError


def write_secret(path: Path) -> None:
    """Writes a new secret.

    Raises:
        OSError: the file is there already, or cannot be written.
    """
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w", encoding="ascii") as file:
        file.write(secrets.token_hex(32) + "\n")


def read_secret(path: Path) -> bytes:
    """Returns a secret, 32 bytes.

    Raises:
        DataError: it is missing or damaged.
    """
    try:
        key = bytes.fromhex(path.read_text(encoding="ascii").strip())
    except (OSError, ValueError) as error:
        raise DataError(f"{path} is missing or damaged; bring it back from a backup.") from error
    if len(key) != 32:
        raise DataError(f"{path} is damaged; bring it back from a backup.")
    return key
