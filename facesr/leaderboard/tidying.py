"""Making room: archives of withdrawn and refused submissions are deleted some days after; scores and digests stay."""

import argparse
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import and_, func, or_, select
from sqlalchemy.orm import Session

from facesr.errors import ConfigError
from facesr.leaderboard import chain
from facesr.leaderboard.competition import SETTINGS, Place
from facesr.leaderboard.entries import REFUSED
from facesr.leaderboard.handout import Handouts
from facesr.leaderboard.operations import opened
from facesr.leaderboard.pieces import expire
from facesr.leaderboard.tables import Evaluation, Submission
from facesr.names import shown_path
from facesr.web.database import Database

_ABANDONED_SECONDS = 24 * 3600.0


@dataclass(frozen=True)
class Tidied:
    """What was deleted, or would be.

    Attributes:
        codes: submissions whose archive goes.
        num_files: files of the store; an archive that somebody else sent as well stays.
        num_bytes: of these files.
    """

    codes: list[str]
    num_files: int
    num_bytes: int


def tidy(options: argparse.Namespace) -> None:
    """Deletes what is over, or tells what would be."""
    with opened(options.folder) as (place, database):
        days = place.competition.keep_days
        if days is None:
            raise ConfigError(
                f"keep_days in {shown_path(options.folder / SETTINGS)} is not set, so archives are kept; "
                "give the days after which those of withdrawn and refused submissions may go."
            )
        found = tidied(place, database, days, is_dry=options.dry_run)
        if not options.dry_run:
            num_uploads = expire(database, place.store())
            place.store().sweep(_ABANDONED_SECONDS)
            print(f"{num_uploads} unfinished uploads were removed")
    for code in found.codes:
        print(f"  {code}")
    verb = "would be" if options.dry_run else "were"
    print(f"archives of {len(found.codes)} submissions {verb} deleted: {found.num_files} files, {_mib(found)} MiB")


def _mib(found: Tidied) -> str:
    return f"{found.num_bytes / 2**20:,.1f}"


def tidied(place: Place, database: Database, days: int, *, is_dry: bool = False) -> Tidied:
    """Returns what was deleted, each archive with a line in the log; with `is_dry` what would be.

    The row and the log come first, the file after them: whoever is stopped between has the file deleted by the next
    call, and no submission of which the log says that its archive is there ever lacks it.

    Args:
        place: the competition.
        database: of the board.
        days: that an archive is kept after it was withdrawn or refused.
        is_dry: whether nothing is changed.
    """
    if is_dry:
        with database.read() as session:
            rows = _over(database, session, days)
            # As if they were gone.
            return _files(place, session, rows, is_dry=True)
    with database.write() as session:
        rows = _over(database, session, days)
        for row in rows:
            row.archive_removed = database.now(session)
            data = {"submission": row.code, "archive": row.archive_sha256, "bytes": row.num_bytes}
            chain.append(database, session, "organiser", "archive deleted", data)
    # A writer again: nobody takes an equal archive between the look at the rows and the deletion.
    with database.write() as session:
        return _files(place, session, rows, is_dry=False)


def _over(database: Database, session: Session, days: int) -> list[Submission]:
    before = database.now(session) - timedelta(days=days)
    refused = and_(Submission.state == REFUSED, func.coalesce(Submission.finished, Submission.received) < before)
    is_over = or_(Submission.withdrawn < before, refused)
    return list(
        session.scalars(select(Submission).where(Submission.archive_removed.is_(None), is_over).order_by(Submission.id))
    )


def _files(place: Place, session: Session, rows: list[Submission], *, is_dry: bool) -> Tidied:
    """Deletes the files of archives that no submission has any more, or counts them."""
    store, going = place.store(), {row.id for row in rows}
    kept: set[str] = set()
    gone: set[str] = set()
    for number, digest, removed in session.execute(
        select(Submission.id, Submission.archive_sha256, Submission.archive_removed)
    ):
        (gone if removed is not None or number in going else kept).add(digest)
    files = [digest for digest in sorted(gone - kept) if store.holds(digest)]
    if files:
        # Somebody may have sent a file that the board has for another reason.
        others = {handout.sha256 for handout in map(Handouts(place).of, place.competition.phases)}
        for examples in session.scalars(select(Evaluation.examples)):
            others |= set(examples.values())
        files = [digest for digest in files if digest not in others]
    num_bytes = sum(store.path(digest).stat().st_size for digest in files)
    if not is_dry:
        for digest in files:
            store.remove(digest)
    return Tidied([row.code for row in rows], len(files), num_bytes)
