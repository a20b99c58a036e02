"""Several prepared datasets as one: their pictures stay where they lie, and each has its share of what is shown."""

import bisect
import itertools
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facesr.errors import ConfigError, DataError

# Shares are written by hand, and thirds have no end.
_TOLERANCE = 1e-3


class JoinedPictures:
    """Pictures (N, H, W, 3) of several memory maps, one behind the other, without a copy of them.

    What a feed asks of an array is here: its shape, its bytes, single pictures and slices.
    """

    dtype = np.dtype(np.uint8)

    def __init__(self, parts: Sequence[NDArray[np.uint8]]) -> None:
        """Joins arrays uint8 (n, H, W, 3) of one H and W."""
        # Views, because a memory map's own indexing is slow.
        self._parts = [np.asarray(part) for part in parts]
        self._ends = list(itertools.accumulate(len(part) for part in parts))
        self.shape: tuple[int, ...] = (self._ends[-1], *parts[0].shape[1:])
        self.nbytes = sum(part.nbytes for part in parts)

    def __len__(self) -> int:
        return self._ends[-1]

    def __getitem__(self, wanted: int | np.integer | slice) -> NDArray[np.uint8]:
        """Returns one picture (H, W, 3), or the pictures (n, H, W, 3) of a slice without steps."""
        if isinstance(wanted, slice):
            first, last, step = wanted.indices(len(self))
            if step != 1:
                raise IndexError("joined pictures are sliced without steps")
            starts = [0, *self._ends[:-1]]
            cuts = [
                part[max(first - start, 0) : max(last - start, 0)]
                for start, part in zip(starts, self._parts, strict=True)
            ]
            found = [cut for cut in cuts if len(cut)] or [self._parts[0][:0]]
            return found[0] if len(found) == 1 else np.concatenate(found)
        place = int(wanted)
        if not 0 <= place < len(self):
            raise IndexError(f"picture {place} of {len(self)}")
        part = bisect.bisect_right(self._ends, place)
        picture: NDArray[np.uint8] = self._parts[part][place - self._ends[part]]  # counted from the part's end
        return picture


def weights_of_shares(sizes: Sequence[int], shares: Sequence[float], key: str) -> NDArray[np.float64]:
    """Returns how often each picture comes in an epoch on average, float64 (N,), of mean 1.

    Args:
        sizes: pictures of each set.
        shares: how much of what is shown comes from each set.
        key: what the user calls the shares, for errors.

    Raises:
        ConfigError: another number of shares, a negative one, or a sum that is not 1.
    """
    if len(shares) != len(sizes) or min(shares) < 0 or abs(sum(shares) - 1.0) > _TOLERANCE:
        raise ConfigError(
            f"{key}={list(shares)} must be {len(sizes)} numbers from 0 that add up to 1, one for each set, or null "
            "for every picture as often as any other."
        )
    each = [share * sum(sizes) / size for share, size in zip(shares, sizes, strict=True)]
    weights = np.repeat(each, sizes)
    found: NDArray[np.float64] = weights / weights.mean()
    return found


def joined(parts: Sequence[Any], weights: NDArray[np.float64] | None) -> Any:
    """Returns several `PackedDataset` as one, with the first one's framing; no person is in two of them.

    Raises:
        DataError: pictures or margins differ in size.
    """
    first = parts[0]
    for part in parts[1:]:
        if part.images.shape[1:] != first.images.shape[1:] or part.margin != first.margin:
            sizes = [f"{one.images.shape[2]}x{one.images.shape[1]}, margin {one.margin}" for one in (first, part)]
            raise DataError(
                f"{part.path} ({sizes[1]}) and {first.path} ({sizes[0]}) differ in size; prepare both with the same "
                "--width, --height and --margin."
            )
    persons, identity = 0, []
    for part in parts:
        identity.append(np.where(part.identity < 0, -1, part.identity + persons))
        persons += int(part.identity.max(initial=-1)) + 1
    pictures: Any = JoinedPictures([part.images for part in parts])  # as much of an array as a feed asks for
    return replace(
        first,
        images=pictures,
        identity=np.concatenate(identity),
        sources=tuple(source for part in parts for source in part.sources),
        landmarks=np.concatenate([part.landmarks for part in parts]),
        digests=tuple(digest for part in parts for digest in part.digests),
        weights=weights,
    )
