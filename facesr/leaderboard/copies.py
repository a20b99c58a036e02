"""A competition in one file: every row, every file of the store, settings, references and the secret key.

The rows are read in one transaction, so a backup that is made while the board runs is one state of it. They are kept
as JSON, so a board can move from SQLite to PostgreSQL and back.
"""

import argparse
import base64
import io
import json
import os
import shutil
import tarfile
from collections.abc import Iterator, Mapping
from contextlib import closing, suppress
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from sqlalchemy import Table, func, insert, select, text
from sqlalchemy.exc import CompileError, OperationalError, StatementError
from sqlalchemy.orm import Session

from facesr.errors import DataError
from facesr.files import require_new, whole_file, whole_folder
from facesr.leaderboard.checking import first_fault
from facesr.leaderboard.competition import KEY, SETTINGS, SQLITE, STORE, Phase, Place
from facesr.leaderboard.operations import opened
from facesr.leaderboard.schema import upgrade
from facesr.leaderboard.tables import Base, Event, Submission, Upload
from facesr.names import shown_path
from facesr.web.database import Database
from facesr.web.store import Store

ROWS = "rows.json"
FORMAT = "facesr-board-backup-1"
_MAX_ROWS_BYTES = 1 << 32
# What reading rows raises that nobody's backup has: no JSON, other types, missing keys, what a table does not take.
_NONSENSE = (
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    ArithmeticError,
    RecursionError,
    CompileError,
    StatementError,
)


def backup(options: argparse.Namespace) -> None:
    """Writes the competition into one file, readable by its owner alone: it holds the secret key."""
    path: Path = options.file
    if path.exists():
        raise DataError(f"{shown_path(path)} exists; give a new file.")
    with opened(options.folder) as (place, database):
        if path.resolve().is_relative_to(place.folder.resolve()):
            raise DataError(f"{shown_path(path)} lies in the competition's folder; give a file outside.")
        try:
            with whole_file(path, durably=True) as temporary:
                handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
                with os.fdopen(handle, "wb") as file, _tar(file) as tar:
                    num_rows, archives = _write_rows(tar, database)
                    num_files = _write_files(tar, place, archives)
            bare = _without_references(place)
        except OSError as error:
            raise DataError(f"{shown_path(path)} cannot be written ({error.strerror or error}).") from error
    print(f"{shown_path(path)}: {num_rows} rows and {num_files} files; keep it secret, it holds the competition's key")
    for phase in bare:
        print(f"it holds no references of phase {phase.name}: {phase.references}/ has none")


def restore(options: argparse.Namespace) -> None:
    """Makes a competition's folder from a backup, and checks it against its log."""
    folder: Path = options.folder
    require_new(folder)
    try:
        with whole_folder(folder) as made:
            made.chmod(0o750)
            rows = _unpack(options.file, made)
            place = Place(made, options.database)
            with closing(Database(place.url)) as database:
                num_rows = _load(database, rows, place.store(), options.file)
            bare = _without_references(place)
    except OperationalError as error:  # the database's own fault, such as a lost connection
        raise DataError(f"{shown_path(options.file)} cannot be brought back: {error.orig}.") from error
    except _NONSENSE as error:
        raise _no_backup(options.file) from error
    except (OSError, tarfile.TarError) as error:
        raise DataError(f"{shown_path(options.file)} cannot be brought back: {error}.") from error
    if options.database is not None:
        print(f"set database: in {folder}/{SETTINGS} to the new address")
    for phase in bare:
        where = f"{shown_path(folder)}/{phase.references}"
        print(f"put high/ and low/ of phase {phase.name} into {where}: the backup has none")
    print(f"{shown_path(folder)}: {num_rows} rows, the log is whole; next: facesr board serve {shown_path(folder)}")


def _no_backup(path: Path) -> DataError:
    return DataError(f"{shown_path(path)} is no backup of a board; give a file of facesr board backup.")


def _tar(file: BinaryIO) -> tarfile.TarFile:
    """Returns a new archive that holds files where there are links: `restore` takes no links, hard ones neither."""
    return tarfile.open(fileobj=file, mode="w", dereference=True)


def _tables() -> list[Table]:
    """Returns all tables but unfinished uploads, whose pieces are not kept; those that others refer to first."""
    return [table for table in Base.metadata.sorted_tables if table is not Upload.__table__]


def _write_rows(tar: tarfile.TarFile, database: Database) -> tuple[int, set[str]]:
    """Adds the rows; returns how many, and the digests of the archives that they need."""
    with database.read() as session:
        if not database.is_sqlite:  # one state for all tables; SQLite's readers have that anyway
            session.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"))
        tables = {table.name: list(_rows(session, table)) for table in _tables()}
    data = json.dumps({"format": FORMAT, "tables": tables}, allow_nan=False).encode()
    info = tarfile.TarInfo(ROWS)
    info.size, info.mode = len(data), 0o600
    tar.addfile(info, io.BytesIO(data))
    submissions = tables[Submission.__tablename__]
    archives = {row["archive_sha256"] for row in submissions if row["archive_removed"] is None}
    return sum(map(len, tables.values())), archives


def _rows(session: Session, table: Table) -> Iterator[dict[str, Any]]:
    for row in session.execute(select(table).order_by(*table.primary_key.columns)):
        yield {name: _plain(value) for name, value in row._mapping.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return {"moment": value.isoformat(timespec="microseconds")}
    if isinstance(value, bytes):
        return {"base64": base64.b64encode(value).decode()}
    return {"json": value} if isinstance(value, dict | list) else value


def _value(plain: Any) -> Any:
    if not isinstance(plain, dict):
        return plain
    ((kind, value),) = plain.items()
    if kind == "moment":
        return datetime.fromisoformat(value)
    return base64.b64decode(value, validate=True) if kind == "base64" else value


def _write_files(tar: tarfile.TarFile, place: Place, archives: set[str]) -> int:
    """Adds the settings, the key, the references and the store; what is being received belongs to no row yet.

    Raises:
        DataError: an archive that the rows need is not there; `tidy` may have deleted it since they were read.
    """
    files: dict[str, Path] = {}
    for path in sorted(place.folder.rglob("*")):
        name = path.relative_to(place.folder)
        if not path.is_file() or path.is_symlink() or name.parts[:2] == (STORE, "incoming") or name.name[0] == ".":
            continue
        if name.parts[0] in (SETTINGS, KEY, STORE, "references"):
            files[name.as_posix()] = path
    # A phase may have its references anywhere in the folder, and links to them: pictures are kept, not links.
    for folder in _references(place):
        for path in sorted(folder.glob("*")):
            if path.is_file():
                files[path.relative_to(place.folder).as_posix()] = path
    num_files = 0
    for target, path in files.items():
        # What `tidy` deletes meanwhile is looked for below.
        with suppress(FileNotFoundError):
            tar.add(path, f"files/{target}", recursive=False)
            num_files += 1
            archives = archives - {path.name}
    if archives:
        raise DataError(
            f"the archive {min(archives)} was deleted while the backup was made, or is lost; "
            "try again, and look by facesr board verify-log if it is so again."
        )
    return num_files


def _references(place: Place) -> list[Path]:
    return [folder(phase) for phase in place.competition.phases for folder in (place.high, place.low)]


def _without_references(place: Place) -> list[Phase]:
    """Returns the phases that lack originals or low-resolution pictures."""

    def has_pictures(folder: Path) -> bool:
        return any(path.suffix.lower() == ".png" for path in folder.glob("*"))

    phases = place.competition.phases
    return [phase for phase in phases if not (has_pictures(place.high(phase)) and has_pictures(place.low(phase)))]


def _unpack(path: Path, to: Path) -> Mapping[str, Any]:
    """Writes a backup's files below a folder and returns its rows.

    Raises:
        DataError: it is no backup, or a name in it leads elsewhere.
    """
    rows: Any = None
    with tarfile.open(path, "r:") as tar:
        for member in tar:
            name = PurePosixPath(member.name)
            if member.name == ROWS and member.isfile() and member.size <= _MAX_ROWS_BYTES:
                file = tar.extractfile(member)
                assert file is not None
                rows = json.load(file)
                continue
            if not member.isfile() or ".." in name.parts or name.parts[:1] != ("files",) or len(name.parts) < 2:
                raise _no_backup(path)
            target = to.joinpath(*name.parts[1:])
            target.parent.mkdir(parents=True, exist_ok=True)
            source = tar.extractfile(member)
            assert source is not None
            handle = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600 if target.name == KEY else 0o640)
            with os.fdopen(handle, "wb") as out:
                shutil.copyfileobj(source, out)
    if not isinstance(rows, dict) or rows.get("format") != FORMAT or not isinstance(rows.get("tables"), dict):
        raise _no_backup(path)
    tables: Mapping[str, Any] = rows["tables"]
    return tables


def _load(database: Database, tables: Mapping[str, Any], store: Store, path: Path) -> int:
    """Puts the rows of the backup `path` into an empty database, all or none of them, and returns how many.

    Raises:
        DataError: the database holds a competition already, or the rows do not fit the log in them.
    """
    upgrade(database)
    count = 0
    with database.write() as session:
        if session.scalar(select(func.count()).select_from(Event)):
            raise DataError(f"the database holds a competition already; give an empty one, or remove {SQLITE}.")
        for table in _tables():
            rows = [{name: _value(value) for name, value in row.items()} for row in tables.get(table.name, [])]
            if rows:
                session.execute(insert(table), rows)
                count += len(rows)
        if not database.is_sqlite:
            _advance_sequences(session)
        fault = first_fault(session, store)
        if fault is not None:
            raise DataError(f"{shown_path(path)} does not fit its own log: {fault}.")
    return count


def _advance_sequences(session: Session) -> None:
    """Has PostgreSQL number new rows behind those that were loaded with their numbers."""
    for table in _tables():
        if "id" in table.c:
            session.execute(
                text(
                    f"SELECT setval(pg_get_serial_sequence('{table.name}', 'id'), "
                    f"(SELECT COALESCE(MAX(id), 0) + 1 FROM {table.name}), false)"
                )
            )
