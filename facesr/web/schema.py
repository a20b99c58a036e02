"""The version of a site's tables: brought up to date when its database is opened.

Each site has a folder of migrations of its own; Alembic runs them.
"""

from pathlib import Path

from alembic import command, context
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, MetaData
from sqlalchemy.exc import DBAPIError

from facesr.errors import DataError
from facesr.web.database import Database


def upgrade(database: Database, migrations: Path) -> None:
    """Brings the tables to this package's version; processes that begin together take turns.

    Args:
        database: of the site.
        migrations: Alembic's folder, which holds ``env.py`` and ``versions/``.

    Raises:
        DataError: the database was made by a newer version, or cannot be opened.
    """
    database.check()
    try:
        with database.write() as session:
            connection = session.connection()
            if not _is_known(connection, migrations):
                raise DataError("the database was made by a newer version of facesr; update facesr on this machine.")
            command.upgrade(config(connection, migrations), "head")
    except DBAPIError as error:
        raise DataError(f"the tables of the database cannot be brought up to date ({error.orig}).") from error


def run_migrations(tables: MetaData) -> None:
    """Runs migrations where Alembic asks a site's ``env.py`` for it, and does nothing elsewhere."""
    # Outside of Alembic there is no context, as for what imports every module of the package.
    if not hasattr(context, "config"):
        return
    context.configure(
        connection=context.config.attributes["connection"],
        target_metadata=tables,
        render_as_batch=True,  # SQLite changes a table only by making it anew
    )
    with context.begin_transaction():
        context.run_migrations()


def config(connection: Connection, migrations: Path) -> Config:
    """Returns Alembic's configuration for a connection."""
    found = Config()
    found.set_main_option("script_location", str(migrations))
    found.attributes["connection"] = connection
    return found


def _is_known(connection: Connection, migrations: Path) -> bool:
    current = MigrationContext.configure(connection).get_current_revision()
    script = ScriptDirectory.from_config(config(connection, migrations))
    return current is None or current in {revision.revision for revision in script.walk_revisions()}
