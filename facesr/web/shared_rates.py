"""Rate limits that all servers of a site share: one row for each key, in the site's database.

    shared = SharedBuckets(database, secret)
    failures = shared.limit("failures", Rate(burst=20, per_second=0.1))
    wait = failures.take("192.0.2.7")      # 0.0, or the seconds after which it may be tried again

A row holds one moment: when the bucket is full again, which says how much is left of it. So taking is one statement,
and a row whose moment has passed says nothing and is deleted. PostgreSQL has them in an unlogged table, SQLite in a
file beside the database's: there the writers of the site and the limits never wait for each other. Nothing of value is
lost with either. Addresses are kept as keyed digests.

Source: the generic cell rate algorithm of ITU-T I.371, in its form of virtual scheduling; it equals a token bucket.
"""

import functools
import hashlib
import hmac
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, TextClause, create_engine, event, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from facesr.web.database import Database
from facesr.web.faults import database_away
from facesr.web.rates import Rate

# A flood from many addresses makes so many rows at most, about 10 MiB; those that are limited least go first.
MAX_ROWS = 100_000
TIDY_SECONDS = 10.0
CONNECTIONS = 4
_LOCK_SECONDS = 2
# Moments are seconds since 1970 as float64, which are told apart down to a quarter of this.
_SLACK_SECONDS = 1e-6
# Beyond the longest wait by more than this a clock was put back; nobody waits for that.
_CLOCK_SECONDS = 60.0

_TABLE = "TABLE IF NOT EXISTS facesr_rates (name VARCHAR(32) PRIMARY KEY, until DOUBLE PRECISION NOT NULL)"
_TAKE = """
INSERT INTO facesr_rates (name, until) VALUES (:name, NOW + CAST(:interval AS DOUBLE PRECISION))
ON CONFLICT (name) DO UPDATE SET until = CAST(:interval AS DOUBLE PRECISION)
    + CASE WHEN facesr_rates.until > NOW THEN facesr_rates.until ELSE NOW END
WHERE facesr_rates.until <= NOW + CAST(:room AS DOUBLE PRECISION)
RETURNING until
"""
_WAIT = "SELECT until - NOW FROM facesr_rates WHERE name = :name"
_TIDY = """
DELETE FROM facesr_rates WHERE name IN (
    SELECT name FROM facesr_rates WHERE until <= NOW OR until > NOW + CAST(:longest AS DOUBLE PRECISION) LOCKING
)
"""
_COUNT = "SELECT COUNT(*) FROM facesr_rates"
_CROP = "DELETE FROM facesr_rates WHERE name IN (SELECT name FROM facesr_rates ORDER BY until LIMIT :count LOCKING)"


class SharedBuckets:
    """The shared limits of a site; the table is made when one is asked for the first time."""

    def __init__(
        self, database: Database, secret: bytes, *, max_rows: int = MAX_ROWS, clock: Callable[[], float] = time.time
    ) -> None:
        """Prepares the limits.

        Args:
            database: of the site; when it is closed, the connections of the limits are closed as well.
            secret: keys the digests of what is counted.
            max_rows: rows that stay when it is tidied.
            clock: seconds since 1970, for SQLite; PostgreSQL's servers go by its own clock.
        """
        self._database, self._secret = database, secret
        self._max_rows, self._clock = max_rows, clock
        self._longest = _CLOCK_SECONDS
        self._engine = _engine(database)
        self._lock = threading.Lock()
        self._is_made = False
        self._next_tidy = time.monotonic() + TIDY_SECONDS
        database.also_close(self._engine.dispose)

    def limit(self, name: str, rate: Rate) -> "SharedLimit":
        """Returns a limit; the same name is the same one in every server."""
        self._longest = max(self._longest, _CLOCK_SECONDS + rate.burst / rate.per_second)
        return SharedLimit(self, name, rate)

    def tidy(self) -> None:
        """Deletes rows that say nothing any more, and the least limited ones of too many."""
        self._run(_TIDY, longest=self._longest)
        rows = self._run(_COUNT)
        if rows is not None and rows > self._max_rows:
            self._run(_CROP, count=int(rows) - self._max_rows)

    def _take(self, key: str, rate: Rate) -> float:
        self._tidy_now_and_then()
        name, interval = self._name(key), 1.0 / rate.per_second
        room = (rate.burst - 1.0) * interval + _SLACK_SECONDS
        if self._run(_TAKE, name=name, interval=interval, room=room) is not None:
            return 0.0
        left = self._run(_WAIT, name=name)
        # Between the two statements the row may have been tidied, or the moment have come.
        return 0.0 if left is None else max(_SLACK_SECONDS, left - room)

    def _wait(self, key: str, rate: Rate) -> float:
        left = self._run(_WAIT, name=self._name(key))
        return 0.0 if left is None else max(0.0, left - (rate.burst - 1.0) / rate.per_second - _SLACK_SECONDS)

    def _name(self, key: str) -> str:
        return hmac.new(self._secret, key.encode(), hashlib.sha256).hexdigest()[:32]

    def _tidy_now_and_then(self) -> None:
        now = time.monotonic()
        with self._lock:
            if now < self._next_tidy:
                return
            self._next_tidy = now + TIDY_SECONDS
        self.tidy()

    def _run(self, statement: str, **values: Any) -> float | None:
        """Returns the first value of a statement's answer, None without one.

        Raises:
            Refusal: the database does not answer; 503.
        """
        try:
            self._make()
            if self._database.is_sqlite:
                values["now"] = self._clock()
            with self._engine.connect() as connection:
                answer = connection.execute(_made(statement, self._database.is_sqlite), values)
                row = answer.first() if answer.returns_rows else None
        except (DBAPIError, PoolTimeoutError) as error:
            raise database_away(error) from error
        return None if row is None else float(row[0])

    def _make(self) -> None:
        if self._is_made:
            return
        if self._database.is_sqlite:
            with self._engine.connect() as connection:
                connection.execute(text(f"CREATE {_TABLE} WITHOUT ROWID"))
        else:
            # PostgreSQL lets one of two that make the same table at once fail; writers take turns.
            with self._database.write() as session:
                session.execute(text(f"CREATE UNLOGGED {_TABLE}"))
        self._is_made = True


class SharedLimit:
    """One of the limits; it asks the database each time, and waits for the answer."""

    def __init__(self, shared: SharedBuckets, name: str, rate: Rate) -> None:
        self._shared, self._kind, self._rate = shared, name, rate

    def take(self, key: str) -> float:
        """Takes one of a key, and returns 0; or takes nothing, and returns the seconds until there is one.

        Raises:
            Refusal: the database does not answer; 503.
        """
        return self._shared._take(f"{self._kind}\0{key}", self._rate)

    def wait(self, key: str) -> float:
        """Returns the seconds until one of a key can be taken, 0 where that is now.

        Raises:
            Refusal: the database does not answer; 503.
        """
        return self._shared._wait(f"{self._kind}\0{key}", self._rate)


@functools.cache
def _made(statement: str, is_sqlite: bool) -> TextClause:
    if is_sqlite:
        moment, locking = "CAST(:now AS DOUBLE PRECISION)", ""
    else:
        moment = "CAST(EXTRACT(EPOCH FROM statement_timestamp()) AS DOUBLE PRECISION)"
        locking = "FOR UPDATE SKIP LOCKED"
    return text(statement.replace("NOW", moment).replace("LOCKING", locking))


def _engine(database: Database) -> Engine:
    url = database.engine.url
    if not database.is_sqlite:
        engine = create_engine(
            url,
            pool_size=CONNECTIONS,
            max_overflow=0,
            pool_pre_ping=True,
            pool_timeout=_LOCK_SECONDS,
            isolation_level="AUTOCOMMIT",
        )
        event.listen(engine, "connect", _prepare_postgresql)
        return engine
    file = Path(url.database or "")
    engine = create_engine(
        url.set(database=str(file.with_name(f"{file.stem}-rates{file.suffix}"))),
        pool_size=CONNECTIONS,
        max_overflow=0,
        pool_timeout=_LOCK_SECONDS,
        isolation_level="AUTOCOMMIT",
        connect_args={"timeout": _LOCK_SECONDS},
    )
    event.listen(engine, "connect", _prepare_sqlite)
    return engine


def _prepare_postgresql(connection: Any, _: Any) -> None:
    connection.execute(f"SET lock_timeout = '{_LOCK_SECONDS}s'")
    connection.execute(f"SET statement_timeout = '{2 * _LOCK_SECONDS}s'")
    connection.commit()


def _prepare_sqlite(connection: Any, _: Any) -> None:
    # NORMAL: whole after a crash, and no write waits for the disk; the last moments before it may be lost.
    for pragma in ("journal_mode=WAL", "synchronous=NORMAL"):
        connection.execute(f"PRAGMA {pragma}")
