"""The version of a board's tables: brought up to date when a board is opened."""

from pathlib import Path

from alembic.config import Config
from sqlalchemy import Connection

from facesr.web import schema
from facesr.web.database import Database

_MIGRATIONS = Path(__file__).parent / "migrations"


def upgrade(database: Database) -> None:
    """Brings the tables to this package's version; processes that begin together take turns.

    Raises:
        DataError: the database was made by a newer version, or cannot be opened.
    """
    schema.upgrade(database, _MIGRATIONS)


def config(connection: Connection) -> Config:
    """Returns Alembic's configuration for a connection."""
    return schema.config(connection, _MIGRATIONS)
