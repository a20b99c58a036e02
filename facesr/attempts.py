"""Attempts of ranks that torchrun starts again and again: a word by which those of one attempt know each other."""

import time
import uuid
from datetime import timedelta
from typing import Any


def word_of_attempt(store: Any, number: int, count: int, timeout: timedelta) -> str:
    """Returns a word that the living ranks share, and none of those before them had; all of them have to ask.

    torchrun keeps one store while it starts the ranks anew. A rank that finds the address of a dead one there cannot
    join, and costs the run another of its `--max-restarts`. So rank 0 chooses a word, and tells it only to ranks that
    live: each asks under a word of its own.

    Args:
        store: where the ranks meet; a store of torch.distributed.
        number: this rank.
        count: number of ranks.
        timeout: how long ranks wait for each other.

    Raises:
        RuntimeError: not all of them came in that time.
    """
    own = uuid.uuid4().hex
    if number:
        store.set(f"facesr/ask/{number}", own)
        store.wait([f"facesr/attempt/{own}"], timeout)
        word: str = store.get(f"facesr/attempt/{own}").decode()
        store.set(f"facesr/joined/{word}/{number}", "yes")
        return word
    missing, end = set(range(1, count)), time.monotonic() + timeout.total_seconds()
    while missing:
        if time.monotonic() > end:
            raise RuntimeError(f"timed out waiting for {len(missing)} of {count} ranks")
        for other in sorted(missing):
            if store.check([f"facesr/joined/{own}/{other}"]):
                missing.remove(other)
            elif store.check([f"facesr/ask/{other}"]):  # perhaps a dead one's still, so it is answered again and again
                store.set(f"facesr/attempt/{store.get(f'facesr/ask/{other}').decode()}", own)
        time.sleep(0.02)
    return own
