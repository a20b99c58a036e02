"""How fast bodies are read, all together: many who send at once must not keep those waiting who only read pages.

`Pace.of` stands between a request's stream and whoever writes it down.
"""

import time
from collections.abc import AsyncIterator, Callable

import anyio

# As far as that, what comes is read at once: a pause has to be long enough for a clock to measure.
_SLACK_SECONDS = 0.02


class Pace:
    """Shares a number of bytes per second among all bodies that are read, in the order in which their parts come.

    For one event loop; every server process has its own.
    """

    def __init__(self, bytes_per_second: float, clock: Callable[[], float] = time.monotonic) -> None:
        """Takes the rate, above 0, and a clock in seconds."""
        self._rate, self._clock = bytes_per_second, clock
        self._free = clock()

    def take(self, num_bytes: int) -> float:
        """Counts bytes that have come, and returns for how many seconds no more of that body should be read."""
        now = self._clock()
        self._free = max(self._free, now) + num_bytes / self._rate
        wait = self._free - now
        return wait if wait > _SLACK_SECONDS else 0.0

    async def of(self, pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """Yields the same pieces, each after its pause, so that the sender's line fills up and it sends no faster."""
        async for piece in pieces:
            wait = self.take(len(piece))
            if wait:
                await anyio.sleep(wait)
            yield piece
