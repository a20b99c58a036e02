"""Boards to test on: SQLite everywhere, PostgreSQL where it is installed (marker `postgres`)."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import text

from facesr.leaderboard import phases
from facesr.leaderboard.app import create_app
from facesr.leaderboard.competition import KEY, SETTINGS, Phase, Place
from facesr.leaderboard.schema import upgrade
from facesr.leaderboard.tables import Base
from facesr.web.database import Database
from tests.leaderboard.site import Made, make_site

YAML = """
title: A test
phases:
  - name: final
    title: ID similarity
    protocol: asc19_final
    starts: {starts}
    ends: {ends}
    references: references/final
    limits: {{scored_per_day: 3, refused_per_day: 2, scored_in_all: 5, waiting: 2}}
"""


def postgres_programs() -> Path | None:
    """Returns the folder of PostgreSQL's programs, the newest version, or None."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    return found[-1].parent if found else None


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """Address of a PostgreSQL database of this process's own, which listens on no network."""
    programs = postgres_programs()
    assert programs is not None
    with tempfile.TemporaryDirectory(prefix="facesr-pg-") as name:
        folder = Path(name)
        # PostgreSQL refuses to run as root.
        prefix: list[str] = []
        if os.geteuid() == 0:
            prefix = ["setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups"]
            shutil.chown(folder, "postgres")

        def run(program: str, *arguments: str) -> None:
            command = [*prefix, str(programs / program), *arguments]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd="/")

        options = f"-c listen_addresses='' -c unix_socket_directories={folder} -c fsync=off"
        run("initdb", "-D", f"{folder}/data", "--auth=trust", "--no-locale", "-E", "UTF8", "-U", "facesr")
        run("pg_ctl", "-D", f"{folder}/data", "-w", "-l", f"{folder}/log", "-o", options, "start")
        try:
            run("createdb", "-h", str(folder), "-U", "facesr", "board")
            yield f"postgresql+psycopg://facesr@/board?host={folder}"
        finally:
            run("pg_ctl", "-D", f"{folder}/data", "-m", "immediate", "stop")


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=[pytest.mark.postgres, pytest.mark.slow])])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """An empty board's database."""
    if request.param == "sqlite":
        database = Database(f"sqlite:///{tmp_path / 'board.sqlite'}")
    else:
        database = Database(request.getfixturevalue("postgres"))
        with database.write() as session:
            session.execute(text("DROP SCHEMA public CASCADE"))
            session.execute(text("CREATE SCHEMA public"))
    upgrade(database)
    assert Base.metadata.tables
    yield database
    database.close()


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """The folder of a competition whose phase `final` is open; it has no references."""
    now = datetime.now(UTC)
    folder = tmp_path / "competition"
    folder.mkdir()
    span = {
        "starts": f"{now - timedelta(days=2):%Y-%m-%dT%H:%M:%SZ}",
        "ends": f"{now + timedelta(days=2):%Y-%m-%dT%H:%M:%SZ}",
    }
    (folder / SETTINGS).write_text(YAML.format(**span), encoding="utf-8")
    (folder / KEY).write_text("07" * 32, encoding="ascii")
    return Place(folder)


@pytest.fixture
def phase(place: Place, database: Database) -> Phase:
    """That phase, which the database knows."""
    with database.write() as session:
        phases.sync(database, session, place.competition)
    return place.competition.phases[0]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Made]:
    """A board on which two teams and a baseline have scores; tests add to it and do not count on numbers."""
    site = make_site(tmp_path_factory.mktemp("pages") / "board", "rank_rule: chosen\n    num_chosen: 1")
    first, second, base = (
        site.team("First"),
        site.team("\u0645\u062c\u0645\u0648\u0639\u0629"),
        site.team("bicubic", is_baseline=True),
    )
    codes = {
        "old": site.scored(
            first, 1, 0.60, loss_judges=["builtin"], mean_watts=4000.0, model="<script>alert(2)</script>"
        ),
        "best": site.scored(first, 2, 0.66, guard_on=True, guard_replaced=7, num_parameters=1_544_000),
        "other": site.scored(second, 1, 0.50, num_parameters=987),
        "base": site.scored(base, 1, 0.70),
    }
    yield site, create_app(site.place, site.database), codes
    site.database.close()
