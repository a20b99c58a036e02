"""Backup, restore, the check against the log, and export: nothing lost, nothing changed unseen, nothing private."""

import argparse
import csv
import io
import json
import tarfile
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import delete, select, update

from facesr.errors import DataError, FaceSRError
from facesr.leaderboard import copies, entries, exporting, phases
from facesr.leaderboard.checking import first_fault
from facesr.leaderboard.competition import Phase, Place
from facesr.leaderboard.operations import opened
from facesr.leaderboard.split import public_mask
from facesr.leaderboard.tables import Base, Evaluation, Event, Submission, Team
from facesr.png import write_png
from facesr.web.database import Database
from tests.leaderboard.made import RANKING, a_round, a_team, scored, sha

IDS = [f"{number:02d}" for number in range(8)]
PRIVATE_SCORE = 0.8123456789


@pytest.fixture
def filled(place: Place) -> Place:
    """A competition in its folder, with two teams, scores and an archive each."""
    for key in IDS:
        for folder, side in (
            (place.low(place.competition.phases[0]), 4),
            (place.high(place.competition.phases[0]), 16),
        ):
            folder.mkdir(parents=True, exist_ok=True)
            write_png(folder / f"{key}.png", np.zeros((side, side, 3), np.uint8))
    with opened(place.folder) as (_, database), database.write() as session:
        phase = place.competition.phases[0]
        this = a_round(database, session, phase.name, IDS)
        seen = public_mask(place.key, phase.name, IDS, phase.public_share)
        for number, name in enumerate(["Alpha", "Beta"]):
            team, _ = a_team(database, session, name)
            stored = place.store().put([name.encode()], 100)
            row = scored(database, session, team, phase, number, this, np.where(seen, 0.25 + number / 8, PRIVATE_SCORE))
            # The rows that `scored` makes have no file in the store; these have.
            row.archive_sha256 = stored.sha256
            event = session.scalars(select(Event).where(Event.kind == "archive received")).all()[-1]
            rewrite(session, event, sha(number), stored.sha256)
    return place


def rewrite(session, event: Event, old: str, new: str) -> None:  # type: ignore[no-untyped-def]
    """Changes a line's data and every hash behind it, as nobody could who has shown the head to others."""
    from facesr.leaderboard.chain import BEGINNING, hash_of

    event.data = event.data.replace(old, new)
    session.flush()
    previous = BEGINNING
    for line in session.scalars(select(Event).order_by(Event.seq)).all():
        line.previous = previous
        line.hash = previous = hash_of(previous, line.seq, line.at, line.actor, line.kind, line.data)
    session.flush()


def rows_of(database: Database) -> dict[str, list[tuple[object, ...]]]:
    with database.read() as session:
        return {
            table.name: [tuple(row) for row in session.execute(select(table).order_by(*table.primary_key.columns))]
            for table in Base.metadata.sorted_tables
        }


def call(function, **options: object) -> None:  # type: ignore[no-untyped-def]
    function(argparse.Namespace(**options))


def fault_of(folder: Path) -> str | None:
    with opened(folder) as (place, database), database.read() as session:
        return first_fault(session, place.store())


def test_backup_comes_back_whole(filled: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    call(copies.backup, folder=filled.folder, file=tmp_path / "b.tar")
    assert (tmp_path / "b.tar").stat().st_mode & 0o077 == 0
    call(copies.restore, file=tmp_path / "b.tar", folder=tmp_path / "again", database=None)
    with opened(filled.folder) as (_, one), opened(tmp_path / "again") as (place, two):
        assert rows_of(one) == rows_of(two)
        assert place.key == filled.key
        with two.write() as session:  # numbers of new rows go on behind the old ones
            a_team(two, session, "Gamma")
    assert fault_of(tmp_path / "again") is None


def pictures_of(place: Place) -> dict[str, bytes]:
    phase = place.competition.phases[0]
    return {
        f"{folder.name}/{path.name}": path.read_bytes()
        for folder in (place.high(phase), place.low(phase))
        for path in folder.iterdir()
    }


def test_references_come_back_wherever_they_lie(
    filled: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In a folder of another name, and as links out of the competition's."""
    wanted = pictures_of(filled)
    assert len(wanted) == 2 * len(IDS)
    (filled.folder / "references" / "final").rename(filled.folder / "faces")
    (filled.folder / "faces" / "high").rename(tmp_path / "high elsewhere")
    (filled.folder / "faces" / "high").symlink_to(tmp_path / "high elsewhere")
    one = filled.folder / "faces" / "low" / f"{IDS[0]}.png"
    one.rename(tmp_path / "one.png")
    one.symlink_to(tmp_path / "one.png")
    hard = filled.folder / "faces" / "low" / f"{IDS[1]}.png"
    hard.unlink()
    hard.hardlink_to(filled.folder / "faces" / "low" / f"{IDS[2]}.png")
    settings = filled.folder / "competition.yaml"
    settings.write_text(settings.read_text().replace("references/final", "faces"))
    call(copies.backup, folder=filled.folder, file=tmp_path / "b.tar")
    call(copies.restore, file=tmp_path / "b.tar", folder=tmp_path / "again", database=None)
    assert pictures_of(Place(tmp_path / "again")) == wanted
    assert not [path for path in (tmp_path / "again").rglob("*") if path.is_symlink()]
    assert "of phase" not in capsys.readouterr().out


def test_a_backup_without_references_says_so(filled: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path in filled.low(filled.competition.phases[0]).iterdir():
        path.unlink()
    call(copies.backup, folder=filled.folder, file=tmp_path / "b.tar")
    assert "it holds no references of phase final: references/final/ has none" in capsys.readouterr().out
    call(copies.restore, file=tmp_path / "b.tar", folder=tmp_path / "again", database=None)
    assert "put high/ and low/ of phase final into" in capsys.readouterr().out


@pytest.mark.postgres
@pytest.mark.slow
def test_backup_moves_to_postgresql_and_back(filled: Place, tmp_path: Path, postgres: str) -> None:
    from sqlalchemy import text

    emptied = Database(postgres)
    with emptied.write() as session:
        session.execute(text("DROP SCHEMA public CASCADE"))
        session.execute(text("CREATE SCHEMA public"))
    emptied.close()
    call(copies.backup, folder=filled.folder, file=tmp_path / "b.tar")
    call(copies.restore, file=tmp_path / "b.tar", folder=tmp_path / "there", database=postgres)
    moved = Database(postgres)
    with opened(filled.folder) as (_, one):
        assert rows_of(one) == rows_of(moved)
    with moved.write() as session:
        a_team(moved, session, "Gamma")
    moved.close()
    with pytest.raises(DataError, match="holds a competition already"):
        call(copies.restore, file=tmp_path / "b.tar", folder=tmp_path / "twice", database=postgres)


@pytest.mark.parametrize("name", ["files/../../evil", "/etc/evil", "other/evil"])
def test_hostile_backup_writes_nothing_outside(tmp_path: Path, name: str) -> None:
    path = tmp_path / "b.tar"
    with tarfile.open(path, "w") as tar:
        info = tarfile.TarInfo(name)
        tar.addfile(info)
    with pytest.raises(DataError, match="no backup"):
        call(copies.restore, file=path, folder=tmp_path / "in" / "new", database=None)
    assert sorted(item.name for item in tmp_path.rglob("*")) == ["b.tar", "in"]


def test_link_in_a_backup_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "b.tar"
    with tarfile.open(path, "w") as tar:
        info = tarfile.TarInfo("files/store")
        info.type, info.linkname = tarfile.SYMTYPE, "/etc"
        tar.addfile(info)
    with pytest.raises(DataError, match="no backup"):
        call(copies.restore, file=path, folder=tmp_path / "new", database=None)


def test_no_backup_at_all(tmp_path: Path) -> None:
    (tmp_path / "b.tar").write_bytes(b"not a tar" * 200)
    with pytest.raises(FaceSRError):
        call(copies.restore, file=tmp_path / "b.tar", folder=tmp_path / "new", database=None)
    assert not (tmp_path / "new").exists()


def test_check_finds_what_was_changed(filled: Place) -> None:
    """Each change of the database or the store behind the log's back is found."""
    assert fault_of(filled.folder) is None
    with opened(filled.folder) as (_, database), database.read() as session:
        code = session.scalars(select(Submission)).first().code  # type: ignore[union-attr]
        values = session.scalars(select(Evaluation)).first().values  # type: ignore[union-attr]
    changes = {
        "scores": update(Evaluation).where(Evaluation.id == 1).values(values=values[:-1] + b"\x00"),
        "nowhere else": delete(Evaluation).where(Evaluation.id == 1),
        "another archive": update(Submission).where(Submission.code == code).values(archive_sha256=sha(7)),
        "line 3": update(Event).where(Event.seq == 3).values(actor="organiser of another"),
    }
    for words, change in changes.items():
        with opened(filled.folder) as (_, database), database.write() as session:
            session.execute(change)
            found = first_fault(session, filled.store())
            assert found is not None and words in found, words
            session.rollback()
    assert fault_of(filled.folder) is None
    path = next(path for path in (filled.folder / "store").rglob("*") if path.is_file())
    path.write_bytes(b"another archive")
    found = fault_of(filled.folder)
    assert found is not None and "missing or damaged" in found


def everything_in(folder: Path) -> str:
    return "\n".join(path.read_bytes().decode("latin-1") for path in folder.rglob("*") if path.is_file())


def test_export_holds_no_private_score_before_the_end(filled: Place, tmp_path: Path) -> None:
    phase: Phase = filled.competition.phases[0]
    call(exporting.export, folder=filled.folder, out=tmp_path / "open", all=False)
    text = everything_in(tmp_path / "open")
    assert "0.8123" not in text and "0.2500" in text
    assert not (tmp_path / "open" / "final-faces.csv").exists()
    call(exporting.export, folder=filled.folder, out=tmp_path / "all", all=True)
    assert "0.8123" in everything_in(tmp_path / "all")
    assert "0.8123" not in everything_in(tmp_path / "all" / "site")
    with opened(filled.folder) as (_, database), database.write() as session:
        phases.close(database, session, phase.name, "over")
    call(exporting.export, folder=filled.folder, out=tmp_path / "closed", all=False)
    assert "0.8123" in everything_in(tmp_path / "closed" / "site")
    faces = list(csv.DictReader((tmp_path / "closed" / "final-faces.csv").read_text().splitlines()))
    assert len(faces) == 2 * len(IDS) and {row["face"] for row in faces} == set(IDS)
    about = json.loads((tmp_path / "closed" / "board.json").read_text())
    assert [row["num_parameters"] for row in about["phases"][0]["standings"]["private"]] == [None, None]
    assert [row["score"] for row in about["phases"][0]["standings"]["private"]] == pytest.approx([PRIVATE_SCORE] * 2)


def test_exported_pages_lead_to_files_only(filled: Place, tmp_path: Path) -> None:
    import re

    call(exporting.export, folder=filled.folder, out=tmp_path / "out", all=False)
    site = tmp_path / "out" / "site"
    pages = list(site.rglob("*.html"))
    assert len(pages) >= 5
    for page in pages:
        for link in re.findall(r'(?:href|src)="([^"#]*)', page.read_text()):
            if link and not link.startswith("data:"):
                assert (page.parent / link).is_file(), (page, link)


def test_log_of_an_export_can_be_verified_alone(filled: Place, tmp_path: Path) -> None:
    from facesr.leaderboard.chain import first_fault as chain_fault

    call(exporting.export, folder=filled.folder, out=tmp_path / "out", all=False)
    lines = [Event(**json.loads(line)) for line in (tmp_path / "out" / "log.jsonl").read_text().splitlines()]
    assert chain_fault(lines) is None and len(lines) > 5
    assert RANKING and Team and entries


def test_export_of_a_log_with_a_text_that_is_not_unicode(filled: Place, tmp_path: Path) -> None:
    """Older versions took such a text; its line is told with the escape."""
    with opened(filled.folder) as (_, database), database.write() as session:
        phases.close(database, session, "final", "REASON")
        rewrite(session, session.scalars(select(Event).order_by(Event.seq.desc())).first(), "REASON", "\\udcff")
    call(exporting.export, folder=filled.folder, out=tmp_path / "out", all=False)
    assert "\\udcff" in (tmp_path / "out" / "site" / "log.html").read_text(encoding="utf-8")


def test_export_fails_where_a_page_fails(filled: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def failed(app: object, address: str) -> exporting._Answer:
        return exporting._Answer(500, {}, b"")

    monkeypatch.setattr(exporting, "_get", failed)
    with pytest.raises(DataError, match="page / cannot be made"):
        call(exporting.export, folder=filled.folder, out=tmp_path / "out", all=False)
    assert not (tmp_path / "out").exists()


def test_backup_fails_where_an_archive_was_deleted_meanwhile(
    filled: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows first, files after them: what `tidy` deletes between is missed before anybody relies on the backup."""
    write_files = copies._write_files

    def tidied_between(tar: tarfile.TarFile, place: Place, archives: set[str]) -> int:
        place.store().remove(min(archives))
        return write_files(tar, place, archives)

    monkeypatch.setattr(copies, "_write_files", tidied_between)
    with pytest.raises(DataError, match="try again"):
        call(copies.backup, folder=filled.folder, file=tmp_path / "b.tar")
    assert not (tmp_path / "b.tar").exists()


def with_rows(source: Path, target: Path, rows: bytes, kind: bytes = tarfile.REGTYPE) -> None:
    """Writes a backup with other rows."""
    with tarfile.open(source) as old, tarfile.open(target, "w") as new:
        for member in old:
            data = rows if member.name == copies.ROWS else old.extractfile(member).read()  # type: ignore[union-attr]
            if member.name == copies.ROWS:
                member.type, member.size = kind, len(data)
            new.addfile(member, io.BytesIO(data))


def test_damaged_rows_are_no_backup(filled: Place, tmp_path: Path) -> None:
    call(copies.backup, folder=filled.folder, file=tmp_path / "b.tar")
    with tarfile.open(tmp_path / "b.tar") as tar:
        text = tar.extractfile(copies.ROWS).read().decode()  # type: ignore[union-attr]
    tables = json.loads(text)["tables"]

    def changed(table: str, **values: object) -> str:
        rows = [{**tables[table][0], **values}, *tables[table][1:]]
        return json.dumps({"format": copies.FORMAT, "tables": {**tables, table: rows}})

    event, team = Event.__tablename__, Team.__tablename__
    bad = [
        "{",
        "[" * 100_000,
        json.dumps({"format": copies.FORMAT}),
        json.dumps({"format": copies.FORMAT, "tables": []}),
        json.dumps({"format": copies.FORMAT, "tables": {**tables, event: 5}}),
        json.dumps({"format": copies.FORMAT, "tables": {**tables, event: [5]}}),
        changed(team, created={"moment": "soon"}),
        changed(team, created={"moment": "0001-01-01T00:00:00+14:00"}),
        changed(team, name=None),
        changed(team, name="\udcff"),
        changed(event, seq=2),
        changed(event, data="\udcff"),
    ]
    for number, rows in enumerate(bad):
        with_rows(tmp_path / "b.tar", tmp_path / "bad.tar", rows.encode())
        with pytest.raises(DataError, match="is no backup"):
            call(copies.restore, file=tmp_path / "bad.tar", folder=tmp_path / "again", database=None)
            pytest.fail(f"{number}: {rows[:200]}")
        assert not (tmp_path / "again").exists()
    with_rows(tmp_path / "b.tar", tmp_path / "bad.tar", b"", tarfile.DIRTYPE)
    with pytest.raises(DataError, match="is no backup"):
        call(copies.restore, file=tmp_path / "bad.tar", folder=tmp_path / "again", database=None)


def test_rows_that_do_not_fit_their_log_leave_a_given_database_empty(filled: Place, tmp_path: Path) -> None:
    call(copies.backup, folder=filled.folder, file=tmp_path / "b.tar")
    with tarfile.open(tmp_path / "b.tar") as tar:
        rows = tar.extractfile(copies.ROWS).read()  # type: ignore[union-attr]
    with_rows(tmp_path / "b.tar", tmp_path / "bad.tar", rows.replace(b'"actor": "organiser"', b'"actor": "x"', 1))
    address = f"sqlite:///{tmp_path / 'given.sqlite'}"
    with pytest.raises(DataError, match="does not fit its own log"):
        call(copies.restore, file=tmp_path / "bad.tar", folder=tmp_path / "again", database=address)
    with closing(Database(address)) as database, database.read() as session:
        assert session.scalars(select(Event)).all() == []
