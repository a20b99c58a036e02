"""A study with its database, whose tables are up to date and which belongs to this plan."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from alembic.config import Config
from sqlalchemy import Connection, event

from facesr.errors import DataError
from facesr.opinion.study import Study
from facesr.opinion.tables import Fact
from facesr.web import schema
from facesr.web.database import Database

PLAN_FACT = "plan"
_MIGRATIONS = Path(__file__).parent / "migrations"


@contextmanager
def opened(folder: Path) -> Iterator[tuple[Study, Database]]:
    """Yields a study with its database.

    Raises:
        FaceSRError: the folder is no study's, or the database cannot be opened or holds another study.
    """
    study = Study(folder)
    with closing(open_database(study)) as database:
        yield study, database


def open_database(study: Study) -> Database:
    """Returns the database of a study; the caller closes it.

    Raises:
        DataError: it cannot be opened, was made by a newer version, or holds another study.
    """
    database = Database(study.url)
    try:
        if database.is_sqlite:
            event.listen(database.engine, "connect", _delete_for_good)
        schema.upgrade(database, _MIGRATIONS)
        with database.write() as session:
            known = session.get(Fact, PLAN_FACT)
            if known is None:
                session.add(Fact(name=PLAN_FACT, value=study.plan.sha256))
            elif known.value != study.plan.sha256:
                raise DataError(
                    "the database holds answers to another plan than the study's plan.json; bring that file back, or "
                    "give the study a database of its own."
                )
        # Of a process that was killed between a withdrawal and this.
        database.empty_log()
    except BaseException:
        database.close()
        raise
    return database


def config(connection: Connection) -> Config:
    """Returns Alembic's configuration for a connection."""
    return schema.config(connection, _MIGRATIONS)


def _delete_for_good(connection: Any, _: Any) -> None:
    # A rater's answers are gone from the file when they are deleted, not merely marked as free.
    connection.execute("PRAGMA secure_delete=ON")
