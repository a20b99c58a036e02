"""What single values of a manifest may be; nothing in an archive is trusted."""

import math
import re
from typing import Any

_MAX_TEXT_LENGTH = 200
_SHA256 = re.compile(r"[0-9a-f]{64}")


def is_text(value: Any) -> bool:
    """Returns whether a value is a text of 1 to 200 printable characters without ``<`` and ``>``."""
    # It will be shown on terminals and in HTML reports.
    if not isinstance(value, str) or not 0 < len(value) <= _MAX_TEXT_LENGTH:
        return False
    return value.isprintable() and not any(character in "<>" for character in value)


def is_sha256(value: Any) -> bool:
    """Returns whether a value is a sha256, 64 hexadecimal digits."""
    return isinstance(value, str) and _SHA256.fullmatch(value) is not None


def is_sha256_or_empty(value: Any) -> bool:
    """Returns whether a value is a sha256 or ""."""
    return value == "" or is_sha256(value)


def is_amount(value: Any) -> bool:
    """Returns whether a value is a finite number of 0 or more (JSON's true is none)."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return 0 <= value < 1e18 and math.isfinite(value)
