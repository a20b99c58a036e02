"""Receiving archives: checked before they are read, streamed into the store, taken in one step or not at all."""

import re
import shutil
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import datetime

from fastapi import Request
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from sqlalchemy import select
from starlette.concurrency import run_in_threadpool

from facesr.leaderboard import entries
from facesr.leaderboard.access import Viewer, team_of
from facesr.leaderboard.board import Board
from facesr.leaderboard.competition import Phase
from facesr.leaderboard.entries import FAILED
from facesr.leaderboard.storage import require_quota
from facesr.leaderboard.tables import Submission
from facesr.web.security import Refusal
from facesr.web.store import Incoming, Stored

# What the other parts of a form and the lines between them may have beside the archive.
FORM_BYTES = 64 * 1024
_MAX_PARTS = 10
_MAX_FIELD_BYTES = 4096
_PIECE_BYTES = 1 << 20
_SPARE_BYTES = 256 << 20
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Receipt:
    """What became of an archive.

    Attributes:
        code: of the submission.
        is_new: whether it was not known before.
    """

    code: str
    is_new: bool


def known_code(board: Board, viewer: Viewer, phase: Phase, sha256: str) -> str | None:
    """Returns the code of the submission that a team made of an archive before, None where there is none to repeat."""
    with board.database.read() as session:
        found = session.scalar(
            select(Submission).where(
                Submission.team_id == viewer.team_id,
                Submission.phase == phase.name,
                Submission.archive_sha256 == sha256,
                Submission.withdrawn.is_(None),
                Submission.state != FAILED,
            )
        )
        return None if found is None else found.code


def require_may_send(
    board: Board, viewer: Viewer, phase: Phase, num_bytes: int = 1, but: tuple[str, str] | None = None
) -> None:
    """Checks, before an archive is read, that it would be taken.

    Args:
        board: the board.
        viewer: of the team.
        phase: that the archive is for.
        num_bytes: of the archive, at least.
        but: an upload that the archive itself was announced as (see `facesr.leaderboard.storage`).

    Raises:
        BoardError: the phase is not open, the team is none or disqualified, or a limit is reached.
        Refusal: the disk is nearly full.
    """
    with board.database.read() as session:
        team = team_of(session, viewer)
        entries.require_allowance(board.database, session, team, phase)
        require_quota(session, team, board.competition, num_bytes, but)
    require_room(board, board.max_archive_bytes)


def require_room(board: Board, num_bytes: int) -> None:
    """Checks that the disk has room for so many bytes, and some to spare.

    Raises:
        Refusal: it has not; 503.
    """
    if shutil.disk_usage(board.store.folder).free < num_bytes + _SPARE_BYTES:
        raise Refusal(503, "no_room", "there is no room for archives now; the organiser has to make some.", 600)


def expected_digest(header: str | None) -> str | None:
    """Returns the sha256 that a client says its archive has.

    Raises:
        Refusal: it is none.
    """
    if header is None:
        return None
    text = header.strip().lower()
    if _SHA256.fullmatch(text) is None:
        raise Refusal(400, "bad_digest", "X-Content-SHA256 has to be 64 hexadecimal digits.")
    return text


async def receive_archive(
    board: Board, viewer: Viewer, phase: Phase, pieces: AsyncIterator[bytes], sha256: str | None = None
) -> Receipt:
    """Streams an archive into the store and makes a submission of it; on a refusal nothing of it stays.

    Raises:
        FaceSRError: it is too large, empty, not what the client says, or `facesr.leaderboard.entries` refuses it.
    """
    assert viewer.team_id is not None
    with board.slots.taken(viewer.team_id), board.store.incoming(board.max_archive_bytes) as part:
        buffer, num_bytes = bytearray(), 0
        async for piece in board.pace.of(pieces):
            buffer += piece
            num_bytes += len(piece)
            if len(buffer) >= _PIECE_BYTES:
                await run_in_threadpool(part.write, bytes(buffer))
                buffer.clear()
        if num_bytes == 0:
            raise Refusal(400, "empty", "no archive came; choose a file.")
        received = await run_in_threadpool(moment, board)
        await run_in_threadpool(part.write, bytes(buffer))
        if sha256 is not None and sha256 != part.sha256:
            raise Refusal(400, "bad_digest", "what came has another sha256 than X-Content-SHA256 says; send it again.")
        # The disk is slow; no other writer has to wait for it.
        await run_in_threadpool(part.settle)
        return await run_in_threadpool(take, board, viewer, phase, part, num_bytes, received)


def moment(board: Board) -> datetime:
    """Returns the time by the database's clock, in UTC."""
    with board.database.read() as session:
        return board.database.now(session)


def take(board: Board, viewer: Viewer, phase: Phase, part: Incoming, num_bytes: int, received: datetime) -> Receipt:
    """Makes a submission of an archive that has come whole; `received` is when its last byte came.

    Raises:
        BoardError: `facesr.leaderboard.entries` refuses it.
    """
    stored = Stored(part.sha256, num_bytes)
    with board.database.write() as session:
        team = team_of(session, viewer)
        known = entries.same_archive(session, team, phase, stored.sha256)
        if known is None:
            require_quota(session, team, board.competition, num_bytes, (phase.name, part.sha256))
        submission = entries.receive(board.database, session, team, phase, stored, received=received)
        # Before the row is committed: a submission has its archive, until that is deleted for good.
        if submission.archive_removed is None:
            part.keep()
        return Receipt(submission.code, known is None)


async def archive_of_form(request: Request, check: Callable[[dict[str, str]], None]) -> AsyncIterator[bytes]:
    """Yields the bytes of the file ``archive`` in a form as they come.

    Args:
        request: whose body has not been read.
        check: is called with the fields before the file, and may raise.

    Raises:
        Refusal: the body is no such form.
    """
    kind, options = parse_options_header(request.headers.get("content-type", ""))
    boundary = options.get(b"boundary", b"")
    if kind != b"multipart/form-data" or not 1 <= len(boundary) <= 70:
        raise Refusal(415, "bad_form", "this is not the form of a page.")
    parts = _Parts(check)
    parser = MultipartParser(
        boundary,
        {
            "on_part_begin": parts.begin,
            "on_header_field": parts.header_field,
            "on_header_value": parts.header_value,
            "on_header_end": parts.header_end,
            "on_headers_finished": parts.headers_finished,
            "on_part_data": parts.data,
            "on_part_end": parts.end,
        },
    )
    try:
        async for chunk in request.stream():
            parser.write(chunk)
            for piece in parts.pieces:
                yield piece
            parts.pieces.clear()
        parser.finalize()
    except FormParserError as error:
        raise Refusal(400, "bad_form", "the form cannot be read; send it again.") from error
    if not parts.is_complete:
        raise Refusal(400, "bad_form", "the archive did not come in full; send it again.")


class _Parts:
    """Takes the parts of a form apart while they come."""

    def __init__(self, check: Callable[[dict[str, str]], None]) -> None:
        self._check = check
        self._count = 0
        self._fields: dict[str, str] = {}
        self._header, self._value = b"", b""
        self._name = ""
        self._text = bytearray()
        self._is_file = False
        self.is_complete = False
        self.pieces: list[bytes] = []

    def begin(self) -> None:
        """Begins a part."""
        self._count += 1
        if self._count > _MAX_PARTS:
            raise Refusal(400, "bad_form", "the form has too many parts.")
        self._header, self._value, self._name, self._is_file = b"", b"", "", False
        self._text.clear()

    def header_field(self, data: bytes, start: int, end: int) -> None:
        """Takes a piece of a header's name."""
        self._header += data[start:end]

    def header_value(self, data: bytes, start: int, end: int) -> None:
        """Takes a piece of a header's value."""
        self._value += data[start:end]

    def header_end(self) -> None:
        """Ends a header."""
        if self._header.lower() == b"content-disposition":
            options = parse_options_header(self._value)[1]
            self._name = options.get(b"name", b"").decode("utf-8", "replace")
            # What the file is called on the sender's machine is of no use here.
            self._is_file = self._name == "archive" and not self.is_complete
        self._header, self._value = b"", b""

    def headers_finished(self) -> None:
        """Begins the content of a part."""
        if self._is_file:
            self._check(self._fields)

    def data(self, data: bytes, start: int, end: int) -> None:
        """Takes a piece of a part's content."""
        if self._is_file:
            self.pieces.append(data[start:end])
            return
        self._text += data[start:end]
        if len(self._text) > _MAX_FIELD_BYTES:
            raise Refusal(400, "bad_form", "a field of the form is too long.")

    def end(self) -> None:
        """Ends a part."""
        if self._is_file:
            self.is_complete = True
        else:
            self._fields[self._name] = self._text.decode("utf-8", "replace")
