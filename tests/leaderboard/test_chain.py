"""The log: lines follow from each other, and every change is found."""

import hashlib

import pytest
from sqlalchemy import select, update

from facesr.errors import DataError
from facesr.leaderboard import chain, phases
from facesr.leaderboard.command import main
from facesr.leaderboard.competition import Place
from facesr.leaderboard.operations import opened
from facesr.leaderboard.tables import Event
from facesr.web.database import Database


def lines(database: Database) -> list[Event]:
    with database.read() as session:
        return list(session.scalars(select(Event).order_by(Event.seq)))


def filled(database: Database) -> None:
    for number in range(4):
        with database.write() as session:
            chain.append(database, session, "organiser", "tried", {"number": number, "name": "Zo\u00eb"})


def test_hash_is_what_the_documentation_says(database: Database) -> None:
    filled(database)
    first = lines(database)[0]
    text = "\n".join(["0" * 64, "1", first.at, "organiser", "tried", '{"name":"Zo\\u00eb","number":0}'])
    assert first.hash == hashlib.sha256(text.encode()).hexdigest()
    with database.read() as session:
        assert chain.head(session) == chain.Head(4, lines(database)[3].hash)


@pytest.mark.parametrize("column", ["at", "actor", "kind", "data", "previous", "hash"])
def test_changed_line_is_found(database: Database, column: str) -> None:
    filled(database)
    assert chain.first_fault(lines(database)) is None
    with database.write() as session:
        session.execute(
            update(Event).where(Event.seq == 2).values({column: "f" * (64 if column in ("previous", "hash") else 4)})
        )
    fault = chain.first_fault(lines(database))
    assert fault is not None and ("line 2" in fault or "line 3" in fault)


def test_removed_line_is_found(database: Database) -> None:
    filled(database)
    rows = lines(database)
    assert chain.first_fault(rows[:1] + rows[2:]) == "line 2 is missing"
    # Whoever takes the newest lines away is found by the head that others have seen, not by the chain.
    assert chain.first_fault(rows[:3]) is None


def test_failed_writer_leaves_no_line(database: Database) -> None:
    filled(database)
    with pytest.raises(RuntimeError), database.write() as session:
        chain.append(database, session, "organiser", "tried", {})
        raise RuntimeError
    assert len(lines(database)) == 4


def test_texts_that_are_not_unicode_are_refused(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    folder = str(place.folder)
    for words in (
        ["phase", folder, "final", "--close", "--reason", "\udcff"],
        ["token", folder, "--team", "\udcff"],
        ["invite", folder, "--label", "\udcff"],
        ["worker-token", folder, "\udcff"],
    ):
        with pytest.raises(SystemExit) as ended:
            main(words)
        assert ended.value.code == 2 and "printable" in capsys.readouterr().err
    with (
        opened(place.folder) as (_, database),
        pytest.raises(DataError, match="Unicode"),
        database.write() as session,
    ):
        phases.close(database, session, "final", "\udcff")
