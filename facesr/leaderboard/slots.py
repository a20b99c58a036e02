"""How many archives are received at once: each takes room on the disk before its limits are counted."""

import contextlib
import threading
from collections import Counter
from collections.abc import Iterator

from facesr.web.security import Refusal

_MAX_PER_TEAM, _MAX_IN_ALL = 2, 24


class Slots:
    """How many archives are being received, by all and by a team."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._taken: Counter[int] = Counter()

    @contextlib.contextmanager
    def taken(self, team_id: int) -> Iterator[None]:
        """Holds a place while an archive is received.

        Raises:
            Refusal: too many are being received; 429 or 503.
        """
        with self._lock:
            if self._taken[team_id] >= _MAX_PER_TEAM:
                raise Refusal(429, "rate", f"{_MAX_PER_TEAM} archives of your team are on their way already.", 10)
            if self._taken.total() >= _MAX_IN_ALL:
                raise Refusal(503, "busy", "many archives are being received; try again in a minute.", 60)
            self._taken[team_id] += 1
        try:
            yield
        finally:
            with self._lock:
                self._taken[team_id] -= 1
