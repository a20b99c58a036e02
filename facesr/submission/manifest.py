"""The manifest of a submission: the record of its restoration with the team, the protocol and the attachments.

`manifest.json` in the archive has exactly the keys of `facesr.methods.record` and those below; docs/submission.md is
the schema for readers. Formats 1 and 2 differ as they do there.
"""

import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from facesr.methods.record import RESTORATION_CHECKS, Restoration, is_digests, parsed, record_bytes, restoration_of
from facesr.methods.values import is_text
from facesr.submission.attachment_rules import is_attachment_name

# Without and with optional keys.
MANIFEST_FORMATS = ("facesr-submission-1", "facesr-submission-2")
MAX_TEAM_LENGTH = 64
# First and last character of what programs show as nothing, although some of it are letters and marks.
# Source: Default_Ignorable_Code_Point in https://www.unicode.org/Public/UCD/latest/ucd/DerivedCoreProperties.txt
_IGNORABLE = (
    (0x00AD, 0x00AD),
    (0x034F, 0x034F),
    (0x061C, 0x061C),
    (0x115F, 0x1160),
    (0x17B4, 0x17B5),
    (0x180B, 0x180F),
    (0x200B, 0x200F),
    (0x202A, 0x202E),
    (0x2060, 0x206F),
    (0x3164, 0x3164),
    (0xFE00, 0xFE0F),
    (0xFEFF, 0xFEFF),
    (0xFFA0, 0xFFA0),
    (0xFFF0, 0xFFF8),
    (0x1BCA0, 0x1BCA3),
    (0x1D173, 0x1D17A),
    (0xE0000, 0xE0FFF),
)


@dataclass(frozen=True)
class Manifest:
    """What an archive says about itself: claims, until verified.

    Attributes:
        team: who sends it.
        protocol: the protocol that it was packed for.
        restoration: how the pictures were made.
        attachments: member in model/ or script/ -> sha256 of the file; None for an archive without folders, whose
            manifest lacks the key.
    """

    team: str
    protocol: str
    restoration: Restoration
    attachments: Mapping[str, str] | None = None

    @property
    def ids(self) -> tuple[str, ...]:
        """Ids of the pictures, sorted."""
        return tuple(sorted(name.removesuffix(".png") for name in self.restoration.files))


def max_manifest_bytes(num_pictures: int, num_attachments: int = 0) -> int:
    """Returns the size in bytes above which a manifest of so many pictures and attachments is not read."""
    # A name of 200 bytes takes up to 600 characters of ASCII JSON, and its digest 64; a guard may name it again.
    return 64 * 1024 + (704 + 768) * num_pictures + 704 * num_attachments


def manifest_bytes(manifest: Manifest) -> bytes:
    """Returns manifest.json; equal manifests give equal bytes."""
    head = {"team": manifest.team, "protocol": manifest.protocol}
    tail = {} if manifest.attachments is None else {"attachments": manifest.attachments}
    return record_bytes(MANIFEST_FORMATS, head, manifest.restoration, tail)


def parse_manifest(data: bytes, label: str, *, has_attachments: bool = False) -> Manifest:
    """Returns the manifest in the bytes of a manifest.json.

    Args:
        data: the bytes.
        label: how the file is called in errors.
        has_attachments: whether the key `attachments` has to be there (otherwise it must not).

    Raises:
        SubmissionError: it is not exactly such a manifest; the sentence begins with `label`.
    """
    checks: dict[str, Callable[[Any], bool]] = {"team": is_team, "protocol": is_text, **RESTORATION_CHECKS}
    if has_attachments:
        checks["attachments"] = _is_attachments
    record = parsed(data, label, MANIFEST_FORMATS, checks)
    return Manifest(record["team"], record["protocol"], restoration_of(record, label), record.get("attachments"))


def is_team(value: Any) -> bool:
    """Returns whether a value is a team name: 1 to 64 letters and digits of any script, spaces and ``._-`` between.

    None of them is invisible.
    """
    return (
        isinstance(value, str)
        and 0 < len(value) <= MAX_TEAM_LENGTH
        and value == unicodedata.normalize("NFC", value).strip()
        and value[0].isalnum()
        and all(character in " ._-" or unicodedata.category(character)[0] in "LMN" for character in value)
        and value == without_unseen(value)
    )


def without_unseen(text: str) -> str:
    """Returns a text without the characters that are shown as nothing, such as variation selectors and fillers."""
    return "".join(one for one in text if not any(first <= ord(one) <= last for first, last in _IGNORABLE))


def _is_attachments(value: Any) -> bool:
    return is_digests(value, is_attachment_name)
