"""Rate limits: token buckets in memory, a bounded number of them.

buckets = Buckets(Rate(burst=10, per_second=0.5))
wait = buckets.take("192.0.2.7")      # 0.0, or the seconds after which it may be tried again
"""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class Rate:
    """How often something may happen.

    Attributes:
        burst: times at once.
        per_second: times in the long run.
    """

    burst: float
    per_second: float


class Limit(Protocol):
    """A limit with a count for each key."""

    def take(self, key: str) -> float:
        """Takes one of a key, and returns 0; or takes nothing, and returns the seconds until there is one."""
        ...

    def wait(self, key: str) -> float:
        """Returns the seconds until one of a key can be taken, 0 where that is now."""
        ...


class Both:
    """Two limits of which both have to be kept; the second one is not asked where the first one says no."""

    def __init__(self, first: Limit, second: Limit) -> None:
        self._first, self._second = first, second

    def take(self, key: str) -> float:
        """Takes one of a key of both, and returns 0; or returns the seconds until one says yes that says no now."""
        return self._first.take(key) or self._second.take(key)

    def wait(self, key: str) -> float:
        """Returns the seconds until one of a key can be taken, 0 where that is now."""
        return self._first.wait(key) or self._second.wait(key)


class Buckets:
    """A bucket of a rate for each key; the least recently used key is forgotten where there are too many."""

    def __init__(self, rate: Rate, max_keys: int = 20_000, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate = rate
        self._max_keys = max_keys
        self._clock = clock
        self._lock = threading.Lock()
        # key -> what is left, and when that was so
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, key: str) -> float:
        """Takes one of a key, and returns 0; or takes nothing, and returns the seconds until there is one."""
        with self._lock:
            left, now = self._now(key)
            if left < 1.0:
                return (1.0 - left) / self._rate.per_second
            self._left[key] = (left - 1.0, now)
            self._left.move_to_end(key)
            if len(self._left) > self._max_keys:
                self._left.popitem(last=False)
            return 0.0

    def wait(self, key: str) -> float:
        """Returns the seconds until one of a key can be taken, 0 where that is now."""
        with self._lock:
            return max(0.0, 1.0 - self._now(key)[0]) / self._rate.per_second

    def _now(self, key: str) -> tuple[float, float]:
        now = self._clock()
        left, then = self._left.get(key, (self._rate.burst, now))
        return min(self._rate.burst, left + (now - then) * self._rate.per_second), now
