"""What is computed once for all readers: ranked tables, and pages as they were sent."""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from facesr.leaderboard.competition import Phase, Place
from facesr.leaderboard.standing import Standing, standing
from facesr.leaderboard.tables import Event
from facesr.web.database import Database

# Events after which every table is what it was before.
_IDLE = (
    "archive received",
    "archive refused",
    "invitation made",
    "phase closed",
    "phase moved",
    "scoring failed",
    "team registered",
    "token issued",
    "tokens revoked",
)
# A table that took less is waited for; with a slower one readers see the last table until the new one is there.
_QUICK_SECONDS = 0.5
_PATIENCE_SECONDS = 0.05
_LONGEST_SECONDS = 10.0
_MAX_PAGES_BYTES = 64 << 20


@dataclass(frozen=True)
class _Kept:
    mark: int
    table: Standing
    seconds: float


class Standings:
    """The tables of all phases, computed anew when something in the log may have changed them."""

    def __init__(self, place: Place, database: Database) -> None:
        self._place = place
        self._database = database
        self._lock = threading.Lock()
        self._kept: dict[tuple[str, str, bool], _Kept] = {}
        self._running: dict[tuple[str, str, bool], Future[_Kept]] = {}
        self._executor = ThreadPoolExecutor(1, "facesr-standing")

    def get(self, phase: Phase, view: str, *, is_over: bool) -> Standing:
        """Returns the table of a phase; the caller holds no connection to the database, and may show this view."""
        key = (phase.name, view, is_over)
        with self._database.read() as session:
            mark = _mark(session)
        while True:
            with self._lock:
                kept = self._kept.get(key)
                if kept is not None and kept.mark >= mark:
                    return kept.table
                future = self._running.get(key)
                if future is None:
                    future = self._running[key] = self._executor.submit(self._compute, phase, view, is_over)
            is_slow = kept is not None and kept.seconds > _QUICK_SECONDS
            try:
                found = future.result(_PATIENCE_SECONDS if is_slow else None)
            except TimeoutError:
                assert kept is not None
                return kept.table
            if is_slow or found.mark >= mark:
                return found.table

    def _compute(self, phase: Phase, view: str, is_over: bool) -> _Kept:
        key = (phase.name, view, is_over)
        try:
            start = time.perf_counter()
            with self._database.read() as session:
                mark = _mark(session)
                table = standing(self._place, session, phase, view, is_over=is_over)
            kept = _Kept(mark, table, time.perf_counter() - start)
            with self._lock:
                self._kept[key] = kept
            return kept
        finally:
            with self._lock:
                self._running.pop(key, None)

    def close(self) -> None:
        """Ends the thread that computes."""
        self._executor.shutdown(wait=False, cancel_futures=True)


def _mark(session: Session) -> int:
    """Returns the number of the last line of the log that may have changed a table."""
    last = select(Event.seq).where(Event.kind.not_in(_IDLE)).order_by(Event.seq.desc()).limit(1)
    return session.scalar(last) or 0


class Rendered:
    """Answers by what they were made of; the least recently used ones are forgotten where there are too many."""

    def __init__(self, max_bytes: int = _MAX_PAGES_BYTES) -> None:
        self._max_bytes = max_bytes
        self._num_bytes = 0
        self._lock = threading.Lock()
        self._pages: OrderedDict[Hashable, bytes] = OrderedDict()
        self._making: dict[Hashable, threading.Event] = {}

    def made(self, key: Hashable, make: Callable[[], bytes]) -> bytes:
        """Returns an answer that is kept; else it is made, once for all who ask for it meanwhile."""
        while True:
            found = self.get(key)
            if found is not None:
                return found
            with self._lock:
                other = self._making.get(key)
                if other is None:
                    mine = self._making[key] = threading.Event()
            if other is not None:
                if not other.wait(_LONGEST_SECONDS):
                    return make()
                continue
            try:
                return self.put(key, make())
            finally:
                with self._lock:
                    del self._making[key]
                mine.set()

    def get(self, key: Hashable) -> bytes | None:
        """Returns an answer, None where it is not kept."""
        with self._lock:
            if key in self._pages:
                self._pages.move_to_end(key)
            return self._pages.get(key)

    def put(self, key: Hashable, page: bytes) -> bytes:
        """Keeps an answer, and returns it."""
        with self._lock:
            self._num_bytes += len(page) - len(self._pages.pop(key, b""))
            self._pages[key] = page
            while self._num_bytes > self._max_bytes and self._pages:
                self._num_bytes -= len(self._pages.popitem(last=False)[1])
        return page
