"""In which order a rater sees what: Williams squares, and trials in blocks in which no face comes twice in a row.

Everything is a function of its arguments: chance comes from SHA-256 of the seed and a label, so that a plan is the
same on every machine and under every version of Python.
"""

import hashlib
import itertools
from collections.abc import Collection, Sequence
from typing import TypeVar

from facesr.errors import ConfigError

Item = TypeVar("Item")
# Orders that are tried until no face comes twice in a row; a handful suffices wherever one exists.
_MAX_TRIES = 2000


class Chance:
    """Draws that depend on a seed and a label alone."""

    def __init__(self, seed: int, *labels: object) -> None:
        self._text = "\0".join(map(str, (seed, *labels)))

    def of(self, *labels: object) -> "Chance":
        """Returns the draws of another label below this one."""
        made = Chance(0)
        made._text = "\0".join((self._text, *map(str, labels)))
        return made

    def shuffled(self, items: Sequence[Item]) -> list[Item]:
        """Returns the items in an order of its own."""
        digests = [hashlib.sha256(f"{self._text}\0{place}".encode()).digest() for place in range(len(items))]
        return [items[place] for place in sorted(range(len(items)), key=digests.__getitem__)]

    def below(self, limit: int) -> int:
        """Returns a whole number from 0 to `limit` - 1; 256 bits leave no bias that anybody could find."""
        return int.from_bytes(hashlib.sha256(self._text.encode()).digest()) % limit


def williams(count: int) -> list[list[int]]:
    """Returns orders of 0 ... `count` - 1 that are balanced for places and for neighbours.

    Over all orders every number stands at every place equally often, and directly behind every other one equally
    often: once with an even count (`count` orders), twice with an odd one (twice as many).

    Source: E. J. Williams, "Experimental designs balanced for the estimation of residual effects of treatments",
    Australian Journal of Scientific Research A2, 1949.

    Raises:
        ValueError: there is nothing to order.
    """
    if count < 1:
        raise ValueError("nothing to order")
    first = [0]
    for step in range(1, count):
        first.append((step + 1) // 2 if step % 2 else count - step // 2)
    orders = [[(number + shift) % count for number in first] for shift in range(count)]
    return orders if count % 2 == 0 or count == 1 else orders + [order[::-1] for order in orders]


def blocks(
    count: int, faces: Sequence[str], slot: int, chance: Chance, before: Collection[str] = ()
) -> list[list[tuple[str, int]]]:
    """Returns what a rater sees: every face by every one of `count` versions, as blocks of (face, version).

    There are as many blocks as faces, and each holds every version once, in one of the orders of `williams`: over
    raters whose `slot` counts up from 0, all orders are used equally often, up to one. The views of one face lie as far
    apart as they can, and all of its versions come first, second, ... equally often where the number of faces is a
    multiple of `count`.

    Args:
        count: versions of each face.
        faces: at least as many, and at least 2.
        slot: number of the rater.
        chance: of this rater.
        before: the faces that are seen just before.

    Raises:
        ConfigError: there are fewer faces than versions, or no such order exists.
    """
    num_faces = len(faces)
    if num_faces < max(2, count):
        raise ConfigError(
            f"{num_faces} faces are too few for {count} versions of each: no face may come twice in a row, and every "
            f"order has to come equally often; give at least {max(2, count)} faces, or fewer versions."
        )
    orders = williams(count)
    own = [orders[(slot * num_faces + place) % len(orders)] for place in range(num_faces)]
    # By how many blocks the faces of a version lag behind: the versions in a Williams order, evenly spaced.
    lag = [0] * count
    for rank, version in enumerate(orders[slot % len(orders)]):
        lag[version] = rank * num_faces // count
    for attempt in range(_MAX_TRIES):
        drawn = chance.of(attempt)
        seen, rows = drawn.of("faces").shuffled(faces), drawn.of("orders").shuffled(own)
        found = [
            [(seen[(place - lag[version]) % num_faces], version) for version in row] for place, row in enumerate(rows)
        ]
        line = [face for block in found for face, _ in block]
        if line[0] not in before and all(one != other for one, other in itertools.pairwise(line)):
            return found
    raise ConfigError(
        f"{num_faces} faces by {count} versions have no order in which no face comes twice in a row; "
        "give one face more, or another seed."
    )
