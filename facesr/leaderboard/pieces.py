"""Uploads in pieces: announced with size and sha256, continued where they broke off, made a submission at the end.

Each piece is written to a file of its own, and counts when the row says so. So two who send the same piece at once do
no harm: the second one is told where the upload is by now. Nothing here needs a lock or a process that remembers.
"""

import contextlib
import os
import secrets
import shutil
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from pathlib import Path

from sqlalchemy import func, select
from sqlalchemy.orm import Session
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect

from facesr.errors import DataError
from facesr.leaderboard import entries
from facesr.leaderboard.access import Viewer, team_of
from facesr.leaderboard.board import Board
from facesr.leaderboard.competition import Phase
from facesr.leaderboard.faults import Elsewhere, NotFound, OverLimit
from facesr.leaderboard.phases import require_open, times_of
from facesr.leaderboard.storage import require_quota
from facesr.leaderboard.tables import Team, Upload
from facesr.leaderboard.uploads import Receipt, known_code, moment, require_may_send, require_room, take
from facesr.web.database import Database
from facesr.web.security import Refusal
from facesr.web.store import Store

MAX_PIECE_BYTES = 16 << 20
# Smaller ones only at the end: an archive of single bytes would be a million files.
MIN_PIECE_BYTES = 64 << 10
MAX_UNFINISHED = 2
KEPT_HOURS = 24
_TOO_SLOW = 408
_COPY_BYTES = 1 << 20


def announce(board: Board, viewer: Viewer, phase: Phase, sha256: str, num_bytes: int) -> tuple[Upload, bool]:
    """Returns a team's upload of an archive, and whether it is new; one that was begun before goes on.

    Args:
        board: the board.
        viewer: of the team.
        phase: that the archive is for.
        sha256: of the whole archive.
        num_bytes: of the whole archive.

    Raises:
        FaceSRError: the archive is too large or empty, or was withdrawn; a limit is reached, or there is no room.
    """
    if not 1 <= num_bytes <= board.max_archive_bytes:
        limit = board.competition.max_archive_mib
        raise Refusal(413, "too_large", f"an archive has 1 byte or more, and at most {limit} MiB.")
    expire(board.database, board.store)
    rule = (Upload.team_id == viewer.team_id, Upload.phase == phase.name, Upload.archive_sha256 == sha256)
    with board.database.read() as session:
        begun = session.scalar(select(Upload).where(*rule))
    if begun is not None and begun.num_received == begun.num_bytes == num_bytes:
        # It came in time, or did not: `finish` says so, perhaps when the phase is over.
        return begun, False
    require_may_send(board, viewer, phase, num_bytes, (phase.name, sha256))
    with board.database.write() as session:
        team = team_of(session, viewer)
        entries.same_archive(session, team, phase, sha256)
        found = session.scalar(select(Upload).where(*rule))
        if found is not None and found.num_bytes == num_bytes:
            return found, False
        if found is not None:
            raise Refusal(409, "not_now", f"an archive of this sha256 was announced with {found.num_bytes} bytes.")
        num_begun = session.scalar(select(func.count()).select_from(Upload).where(Upload.team_id == team.id)) or 0
        if num_begun >= MAX_UNFINISHED:
            raise OverLimit(
                f"{num_begun} uploads of your team are unfinished; finish or delete one, or wait {KEPT_HOURS} hours."
            )
        require_quota(session, team, board.competition, num_bytes)
        left = session.scalar(select(func.sum(Upload.num_bytes - Upload.num_received))) or 0
        # What others have announced, and this one twice: its pieces, and the archive that is made of them.
        require_room(board, int(left) + 2 * num_bytes)
        now = board.database.now(session)
        found = Upload(
            code=secrets.token_urlsafe(12),
            team_id=team.id,
            phase=phase.name,
            archive_sha256=sha256,
            num_bytes=num_bytes,
            num_received=0,
            created=now,
            expires=now + timedelta(hours=KEPT_HOURS),
        )
        session.add(found)
        session.flush()
        return found, True


def upload_of(database: Database, session: Session, code: str, viewer: Viewer) -> Upload:
    """Returns an unfinished upload of a team's.

    Raises:
        NotFound: there is none; the sentence is the same for another team's and for one that has expired.
    """
    found = session.scalar(select(Upload).where(Upload.code == code, Upload.team_id == viewer.team_id))
    if found is None or found.expires <= database.now(session):
        raise NotFound("there is no such upload; it is finished, was deleted or has expired. Announce it again.")
    return found


async def append(board: Board, viewer: Viewer, code: str, offset: int, pieces: AsyncIterator[bytes]) -> Upload:
    """Returns an upload with the next bytes; of a request that breaks off what has come is kept.

    Args:
        board: the board.
        viewer: of the team.
        code: of the upload.
        offset: where the bytes belong; it has to be where the upload is.
        pieces: of a request's body.

    Raises:
        FaceSRError: there is no such upload, it is elsewhere by now, its phase is over, or there are more bytes than
            were announced.
        Refusal: it came too slowly.
    """
    assert viewer.team_id is not None
    with board.slots.taken(viewer.team_id):
        upload = await run_in_threadpool(_at, board, viewer, code, offset)
        path = _folder(board.store, code) / f"{secrets.token_hex(8)}.new"
        try:
            num_bytes, broken, received = await _write(board, path, board.pace.of(pieces), upload.num_bytes - offset)
            is_enough = num_bytes >= MIN_PIECE_BYTES or offset + num_bytes == upload.num_bytes
            if num_bytes and is_enough:
                upload = await run_in_threadpool(_count, board, viewer, code, offset, path, num_bytes, received)
            elif broken is None and not is_enough:
                least = MIN_PIECE_BYTES // 1024
                raise Refusal(400, "small_piece", f"a piece has at least {least} KiB, unless it is the last one.")
            if isinstance(broken, Refusal):
                raise broken
            return upload
        finally:
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)


def _at(board: Board, viewer: Viewer, code: str, offset: int) -> Upload:
    with board.database.read() as session:
        upload = upload_of(board.database, session, code, viewer)
        is_complete = upload.num_received == upload.num_bytes
        came = _last_byte(upload) if is_complete else board.database.now(session)
        require_open(times_of(session, upload.phase), came)
    if upload.num_received != offset:
        raise _elsewhere(upload)
    require_room(board, 2 * (upload.num_bytes - offset))
    try:
        _folder(board.store, code).mkdir(exist_ok=True)
    except OSError as error:
        raise _unwritable(error) from error
    return upload


def _elsewhere(upload: Upload) -> Elsewhere:
    return Elsewhere(f"this upload goes on at byte {upload.num_received}; send from there.")


def _last_byte(upload: Upload) -> datetime:
    """Returns when the last piece of an upload had come, in UTC."""
    return upload.expires - timedelta(hours=KEPT_HOURS)


async def _write(
    board: Board, path: Path, pieces: AsyncIterator[bytes], most: int
) -> tuple[int, ClientDisconnect | Refusal | None, datetime]:
    """Writes a piece durably; returns how many bytes it has, what broke it off, and when its last byte had come.

    Raises:
        Refusal: there are more bytes than `most`; nothing of them counts.
        DataError: the disk is full, or cannot be written.
    """
    num_bytes = 0
    broken: ClientDisconnect | Refusal | None = None
    try:
        with path.open("xb") as file:
            try:
                async for piece in pieces:
                    num_bytes += len(piece)
                    if num_bytes > most:
                        raise Refusal(413, "too_large", f"{most} bytes of this archive are missing, and more came.")
                    await run_in_threadpool(file.write, piece)
            except ClientDisconnect as error:
                broken = error
            except Refusal as error:
                if error.status != _TOO_SLOW:
                    raise
                broken = error
            received = await run_in_threadpool(moment, board)
            file.flush()
            await run_in_threadpool(os.fsync, file.fileno())
    except OSError as error:
        raise _unwritable(error) from error
    return num_bytes, broken, received


def _count(
    board: Board, viewer: Viewer, code: str, offset: int, path: Path, num_bytes: int, received: datetime
) -> Upload:
    with board.database.write() as session:
        upload = upload_of(board.database, session, code, viewer)
        if upload.num_received != offset:
            raise _elsewhere(upload)
        try:
            # A file without its row counts for nothing, and the next piece from here replaces it.
            path.replace(_piece(board.store, code, offset))
        except OSError as error:
            raise _unwritable(error) from error
        upload.num_received = offset + num_bytes
        # The moment is kept so, too: an upload that is complete has come in time when its last piece has.
        upload.expires = received + timedelta(hours=KEPT_HOURS)
        return upload


def finish(board: Board, viewer: Viewer, phase: Phase, upload: Upload) -> Receipt:
    """Makes a submission of an upload that has all its bytes, which is gone then.

    It counts for the moment and the day at which its last byte came. Where the limits of that day were reached, it
    counts for today, while the phase is open.

    Raises:
        Refusal: its sha256 is not the announced one; it has to be sent again from the beginning.
        BoardError: a limit was reached meanwhile; the upload stays, and can be finished when it ends.
    """
    assert viewer.team_id is not None
    received = _received(board, viewer, phase, upload)
    with board.slots.taken(viewer.team_id), board.store.incoming(board.max_archive_bytes) as part:
        offset = 0
        try:
            while offset < upload.num_bytes:
                with _piece(board.store, upload.code, offset).open("rb") as file:
                    while data := file.read(_COPY_BYTES):
                        part.write(data)
                        offset += len(data)
        except FileNotFoundError as error:
            # Two who send the same archive may both finish it: the quicker one has taken the pieces.
            known = known_code(board, viewer, phase, upload.archive_sha256)
            if known is not None:
                return Receipt(known, False)
            delete(board, upload)
            raise Refusal(409, "not_now", "a piece of this upload is gone; send the archive again.") from error
        if part.sha256 != upload.archive_sha256:
            delete(board, upload)
            raise Refusal(400, "bad_digest", "what came has another sha256 than was announced; send it again.")
        part.settle()
        receipt = take(board, viewer, phase, part, upload.num_bytes, received)
    delete(board, upload)
    return receipt


def _received(board: Board, viewer: Viewer, phase: Phase, upload: Upload) -> datetime:
    """Returns the moment that an upload counts for; what would be refused is refused before it is copied."""
    received = _last_byte(upload)
    with board.database.read() as session:
        team = team_of(session, viewer)
        known = entries.same_archive(session, team, phase, upload.archive_sha256)
        if known is not None and known.state != entries.FAILED:
            return received
        try:
            entries.require_allowance(board.database, session, team, phase, received)
        except OverLimit:
            received = board.database.now(session)
            entries.require_allowance(board.database, session, team, phase, received)
    return received


def delete(board: Board, upload: Upload) -> None:
    """Removes an upload and its pieces."""
    _delete(board.database, board.store, [upload.code])


def unfinished(database: Database, session: Session, team: Team, phase: Phase) -> list[Upload]:
    """Returns the uploads of a team to a phase that can be finished yet, oldest first."""
    rule = (Upload.team_id == team.id, Upload.phase == phase.name, Upload.expires > database.now(session))
    return list(session.scalars(select(Upload).where(*rule).order_by(Upload.id)))


def expire(database: Database, store: Store) -> int:
    """Removes the uploads whose time is over, and what is left of others; returns how many uploads those were."""
    with database.read() as session:
        now = database.now(session)
        over = list(session.scalars(select(Upload.code).where(Upload.expires <= now)))
    if over:
        _delete(database, store, over)
    return len(over)


def _delete(database: Database, store: Store, codes: list[str]) -> None:
    with database.write() as session:
        for upload in session.scalars(select(Upload).where(Upload.code.in_(codes))):
            session.delete(upload)
    for code in codes:
        shutil.rmtree(_folder(store, code), ignore_errors=True)


def _folder(store: Store, code: str) -> Path:
    return store.incoming_folder / f"pieces-{code}"


def _piece(store: Store, code: str, offset: int) -> Path:
    return _folder(store, code) / f"{offset:012d}.part"


def _unwritable(error: OSError) -> DataError:
    return DataError(f"the store cannot be written ({error.strerror}); make room or give rights.")
