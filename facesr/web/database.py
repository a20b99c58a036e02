"""A database behind a web service: SQLite or PostgreSQL, one writer at a time on both.

    database = Database("sqlite:////srv/contest/board.sqlite")
    with database.write() as session:      # committed at the end, or nothing of it
        session.add(row)
    with database.read() as session:
        rows = session.scalars(select(Row)).all()

Writers take turns (BEGIN IMMEDIATE on SQLite, an advisory lock on PostgreSQL). So what a writer has read stays true
until it commits: limits, queues and chained logs need no thought about two writers at once.
"""

import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import URL, DateTime, Engine, MetaData, create_engine, event, func, make_url, select, text
from sqlalchemy.engine import Dialect
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError
from sqlalchemy.orm import Session
from sqlalchemy.types import TypeDecorator

from facesr.errors import ConfigError, DataError

# Any number will do, as long as every writer of this program takes the same.
_WRITER_LOCK = 0x66616365
_BUSY_SECONDS = 30.0


def named_metadata() -> MetaData:
    """Returns what a site's tables belong to; constraints get names, so that migrations can change them everywhere."""
    return MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s",
            "pk": "pk_%(table_name)s",
        }
    )


class UtcDateTime(TypeDecorator[datetime]):
    """A moment with its time zone, kept in UTC; SQLite itself would forget the zone."""

    impl = DateTime
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Returns what is stored.

        Raises:
            ValueError: the moment has no time zone.
        """
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a moment without a time zone cannot be stored")
        return value.astimezone(UTC).replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Returns what was stored, in UTC."""
        return None if value is None else value.replace(tzinfo=UTC)


def sqlite_url(path: Path) -> URL:
    """Returns the address of an SQLite file; as a text it would end at a ``?`` in the file's name."""
    return URL.create("sqlite", database=str(path.absolute()))


class Database:
    """An SQLite file or a PostgreSQL database.

    Attributes:
        engine: of SQLAlchemy.
    """

    def __init__(self, url: str | URL, *, pool_size: int = 16) -> None:
        """Opens a database.

        Args:
            url: as SQLAlchemy writes it: ``sqlite:////FILE`` or ``postgresql+psycopg://USER@HOST/NAME``, or
                what `sqlite_url` returns.
            pool_size: connections that are held open; as many threads can be served at once.

        Raises:
            ConfigError: the address is none, or of another kind of database.
        """
        try:
            parsed = make_url(url)
            if parsed.get_backend_name() not in ("sqlite", "postgresql"):
                raise ConfigError(
                    f"database={parsed.get_backend_name()}... is not supported; "
                    "give sqlite:////FILE or postgresql+psycopg://USER@HOST/NAME."
                )
            self.engine = _engine(url, pool_size)
        except (ArgumentError, NoSuchModuleError, ValueError) as error:
            # The address itself may hold a password, so it is not repeated.
            raise ConfigError(
                "database has an address that cannot be read; give sqlite:////FILE or "
                "postgresql+psycopg://USER@HOST/NAME."
            ) from error
        self._writing = self.engine.execution_options(facesr_writes=True)
        self._turn = threading.Lock()
        self._also_closed: list[Callable[[], None]] = []
        # Whether something deleted may lie in SQLite's write-ahead log yet.
        self._is_log_due = False
        if self.is_sqlite:
            event.listen(self.engine, "checkin", self._empty_due_log)

    @property
    def is_sqlite(self) -> bool:
        """Whether it is a file of SQLite."""
        return self.engine.dialect.name == "sqlite"

    @contextmanager
    def read(self) -> Iterator[Session]:
        """Yields a session that sees one state of the database and changes nothing."""
        # No rollback at the end: it would empty the rows, which may be read after the session.
        with Session(self.engine, expire_on_commit=False) as session:
            yield session

    @contextmanager
    def write(self) -> Iterator[Session]:
        """Yields a session; at the end everything is committed, or nothing of it if the block fails."""
        # Writers of this process wait here, without a connection: those are for readers. Whoever waits for too long
        # goes on to the database's own lock, which says so.
        is_turn = self._turn.acquire(timeout=_BUSY_SECONDS)
        try:
            with Session(self._writing, expire_on_commit=False) as session, session.begin():
                if not self.is_sqlite:
                    session.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _WRITER_LOCK})
                yield session
        finally:
            if is_turn:
                self._turn.release()

    def now(self, session: Session) -> datetime:
        """Returns the time by the database's clock: workers on other machines may have other ones."""
        if self.is_sqlite:
            return datetime.now(UTC)
        moment = session.scalar(select(func.clock_timestamp()))
        assert isinstance(moment, datetime)
        return moment.astimezone(UTC)

    def check(self) -> None:
        """Connects once.

        Raises:
            DataError: the database cannot be reached.
        """
        try:
            with self.read() as session:
                session.execute(text("SELECT 1"))
        except DBAPIError as error:
            where = self.engine.url.render_as_string(hide_password=True)
            raise DataError(f"database {where} cannot be opened ({_reason(error)}); check its address.") from error

    def empty_log(self) -> None:
        """Brings what was deleted out of SQLite's write-ahead log, too; elsewhere there is nothing to do.

        Nobody waits for it: as long as somebody reads an older state the log is in use, and it is tried again whenever
        this process has read or written, and at the end.
        """
        if self.is_sqlite:
            self._is_log_due = True
            # It is tried with every connection that goes back to the pool.
            self.engine.raw_connection().close()

    def _empty_due_log(self, connection: sqlite3.Connection | None, _: Any) -> None:
        if not self._is_log_due or connection is None:
            return
        # Before it is tried: what another thread deletes meanwhile is due again.
        self._is_log_due = False
        is_busy = True
        with suppress(sqlite3.OperationalError):
            connection.execute("PRAGMA busy_timeout=0")
            is_busy = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] != 0
        connection.execute(f"PRAGMA busy_timeout={int(_BUSY_SECONDS * 1000)}")
        if is_busy:
            self._is_log_due = True

    def also_close(self, close: Callable[[], None]) -> None:
        """Has something called when the database is closed."""
        self._also_closed.append(close)

    def close(self) -> None:
        """Closes all connections."""
        for close in self._also_closed:
            close()
        if self._is_log_due:
            with suppress(DBAPIError):
                self.empty_log()
        self.engine.dispose()


def _engine(url: str | URL, pool_size: int) -> Engine:
    if make_url(url).get_backend_name() != "sqlite":
        return create_engine(url, pool_size=pool_size, max_overflow=0, pool_pre_ping=True)
    engine = create_engine(url, pool_size=pool_size, max_overflow=0, connect_args={"timeout": _BUSY_SECONDS})
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _prepare_sqlite(connection: Any, _: Any) -> None:
    # The driver's own transactions begin too late for a writer that reads first; ours begin in _begin_sqlite.
    connection.isolation_level = None
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}")


def _begin_sqlite(connection: Any) -> None:
    writes = connection.get_execution_options().get("facesr_writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _reason(error: DBAPIError) -> str:
    return str(error.orig).strip().splitlines()[0] if str(error.orig).strip() else type(error.orig).__name__
