"""The tables that migrations make are those that the code describes."""

from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import text

from facesr.errors import DataError
from facesr.leaderboard.schema import config, upgrade
from facesr.leaderboard.tables import Base
from facesr.web.database import Database


def test_migrations_make_the_tables(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'board.sqlite'}")
    upgrade(database)
    with database.write() as session:
        context = MigrationContext.configure(session.connection(), opts={"compare_type": True})
        assert compare_metadata(context, Base.metadata) == []
        command.downgrade(config(session.connection()), "base")
        command.upgrade(config(session.connection()), "head")
    upgrade(database)
    database.close()


def test_newer_database_is_refused(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'board.sqlite'}")
    upgrade(database)
    with database.write() as session:
        session.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(DataError, match="newer version"):
        upgrade(database)
    database.close()
