"""The tables that migrations make are those that the code describes."""

from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import select, text

from facesr.errors import DataError
from facesr.leaderboard import entries
from facesr.leaderboard.competition import Phase, Place
from facesr.leaderboard.schema import config, upgrade
from facesr.leaderboard.storage import left_bytes, stored_bytes
from facesr.leaderboard.tables import Base, Submission, Team, Upload
from facesr.web.database import Database
from facesr.web.store import Stored
from tests.leaderboard.made import a_team, sha


def test_migrations_make_the_tables(database: Database) -> None:
    with database.write() as session:
        context = MigrationContext.configure(session.connection(), opts={"compare_type": True})
        assert compare_metadata(context, Base.metadata) == []
        command.downgrade(config(session.connection()), "base")
        command.upgrade(config(session.connection()), "head")
    upgrade(database)


def test_newer_database_is_refused(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'board.sqlite'}")
    upgrade(database)
    with database.write() as session:
        session.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(DataError, match="newer version"):
        upgrade(database)
    database.close()


def test_rows_of_the_first_version_stay(database: Database) -> None:
    with database.write() as session:
        connection = session.connection()
        command.downgrade(config(connection), "0001")
        moment = "'2026-01-01 00:00:00'"
        connection.execute(
            text(
                "INSERT INTO phases (name, starts, ends, planned_starts, planned_ends) "
                f"VALUES ('final', {moment}, {moment}, {moment}, {moment})"
            )
        )
        connection.execute(
            text(
                "INSERT INTO teams (id, name, key, members, created, is_baseline, disqualified, note) "
                f"VALUES (1, 'Alpha', 'alpha', '[]', {moment}, false, '', '')"
            )
        )
        connection.execute(
            text(
                "INSERT INTO submissions (code, team_id, phase, received, archive_sha256, num_bytes, state, attempts, "
                "worker, problem, facts, pixels_sha256, disqualified, note) "
                f"VALUES ('abc', 1, 'final', {moment}, 'd', 5, 'scored', 0, '', '', '{{}}', '', '', '')"
            )
        )
    upgrade(database)
    with database.read() as session:
        row = session.scalars(select(Submission)).one()
        assert (row.code, row.num_bytes, row.archive_removed) == ("abc", 5, None)
        assert session.scalars(select(Upload)).all() == []


def test_archives_above_2_gib_are_counted(database: Database, phase: Phase, place: Place) -> None:
    with database.write() as session:
        command.downgrade(config(session.connection()), "0003")
        team, _ = a_team(database, session, "Alpha")
        small = entries.receive(database, session, team, phase, Stored(sha(1), 2**31 - 1))
    upgrade(database)
    with database.write() as session:
        large = entries.receive(database, session, session.get_one(Team, team.id), phase, Stored(sha(2), 2**31))
        coming = {"code": "c", "archive_sha256": sha(3), "created": small.received, "expires": small.received}
        session.add(Upload(team_id=team.id, phase=phase.name, num_bytes=2**32, num_received=2**31, **coming))
    with database.read() as session:
        found = session.scalars(select(Submission).order_by(Submission.id)).all()
        assert [row.num_bytes for row in found] == [2**31 - 1, 2**31] and found[1].code == large.code
        assert stored_bytes(session, team) == 2**32 - 1 + 2**32
        assert left_bytes(session, team, place.competition) == (16_384 << 20) - 2**33 + 1
