"""Which faces of a phase are public: a keyed hash of the id decides, so that nobody without the key can tell.

A phase's scores over the public faces are shown at once, those over the others when it has ended. The split depends on
the key, the phase and the ids alone; no entry moves it.
"""

import hashlib
import hmac
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_HASH_BITS = 256


def is_public(key: bytes, phase: str, face: str, share: float) -> bool:
    """Returns whether a face's scores may be seen before the phase ends, by its own hash alone.

    `public_mask` is the rule for a whole set: it differs only where otherwise all faces would be on one side.

    Args:
        key: the competition's secret.
        phase: name of the phase; the split of another phase is another one.
        face: id of the face.
        share: of the faces that is public, above 0, at most 1; 1 makes all of them public.
    """
    return share >= 1 or _hash(key, phase, face) < _limit(share)


def public_mask(key: bytes, phase: str, faces: Sequence[str], share: float) -> NDArray[np.bool_]:
    """Returns which of a set's faces are public, (N,); where `share` is below 1, at least one is on each side.

    With a single face and a share below 1, the face is public.
    """
    mask = np.array([is_public(key, phase, face, share) for face in faces], np.bool_)
    by_hash = sorted(range(len(faces)), key=lambda place: _hash(key, phase, faces[place]))
    if share < 1 and len(faces) > 1 and mask.all():
        mask[by_hash[-1]] = False
    if len(faces) and not mask.any():
        mask[by_hash[0]] = True
    return mask


def example_ids(key: bytes, phase: str, faces: Sequence[str], share: float, count: int) -> list[str]:
    """Returns at most `count` public faces whose pictures are shown to everybody, the same for every entry, sorted."""
    mask = public_mask(key, phase, faces, share)
    seen = [face for face, is_seen in zip(faces, mask, strict=True) if is_seen]
    # By another hash than the split's: the lowest one of that would tell something of the share's limit.
    seen.sort(key=lambda face: _hash(key, f"{phase}\0example", face))
    return sorted(seen[:count])


def _hash(key: bytes, phase: str, face: str) -> int:
    return int.from_bytes(hmac.digest(key, f"{phase}\0{face}".encode(), hashlib.sha256))


def _limit(share: float) -> int:
    """Returns the hash below which a face is public; exact, as floats of 256 bits are not."""
    numerator, denominator = share.as_integer_ratio()
    return (numerator << _HASH_BITS) // denominator
