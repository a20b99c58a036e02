"""Sending an archive to a board: checked by its sha256, and where the line breaks continued from there.

A small archive goes in one request, a larger one in pieces; a piece that was lost is sent again, and whoever was
stopped goes on by sending the same file again. The board knows an archive by its sha256, so one that is sent twice is
one submission.
"""

import http.client
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote, urlsplit

from facesr.errors import ConfigError, DataError, SubmissionError
from facesr.names import shown_path
from facesr.submission.exchange import Answer, exchange
from facesr.web.tokens import is_token

ATTEMPTS = 5
# An archive up to this size, and every piece of a larger one.
PIECE_BYTES = 8 << 20
_MAX_WAIT_SECONDS = 60.0
_T = TypeVar("_T")
_HERE = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True)
class Sent:
    """What a board answered.

    Attributes:
        code: of the submission.
        state: ``queued``, or what became of the same archive before.
        place: in the queue, None where it does not wait.
        page: address of its page.
        known: whether the board had this archive already.
    """

    code: str
    state: str
    place: int | None
    page: str
    known: bool


def read_token(path: Path) -> str:
    """Returns the token in a file.

    Raises:
        ConfigError: the file cannot be read, or holds none.
    """
    try:
        text = path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"token={shown_path(path)} cannot be read; give the file with your token.") from error
    if not is_token(text):
        raise ConfigError(f"token={shown_path(path)} holds no token; it is one line of 43 characters.")
    return text


def check_board(board: str) -> str:
    """Returns the address of a board, without a slash at its end.

    Raises:
        ConfigError: it is none.
    """
    try:
        parts = urlsplit(board)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and not (parts.query or parts.fragment)
        good = good and parts.username is None and (parts.port is None or parts.port > 0)
    except ValueError:
        good = False
    if not good:
        raise ConfigError(f"board={board} is no address of a board; give one such as https://board.example.org.")
    return board.rstrip("/")


def is_in_the_clear(board: str) -> bool:
    """Returns whether a token would travel to a board where others may read it."""
    parts = urlsplit(board)
    return parts.scheme == "http" and parts.hostname not in _HERE


def send(
    archive: Path,
    sha256: str,
    board: str,
    token: str,
    phase: str,
    *,
    say: Callable[[str], None] = lambda line: None,
    pause: Callable[[float], None] = time.sleep,
) -> Sent:
    """Returns what a board answered to an archive.

    Args:
        archive: a verified one.
        sha256: of the archive.
        board: address, as `check_board` returns it.
        token: of the team.
        phase: name of the phase.
        say: told of every attempt that failed.
        pause: waits for so many seconds between attempts.

    Raises:
        SubmissionError: the board refuses it; the sentence is the board's.
        DataError: the board cannot be reached, its certificate is not accepted, or it gives no answer that can be read.
    """
    sending = _Sending(archive, sha256, board, token, f"{board}/api/v1/phases/{quote(phase, safe='')}")
    reason, failures = "", 0
    while failures < ATTEMPTS:
        if failures:
            pause(min(_MAX_WAIT_SECONDS, 2.0**failures))
        before = sending.num_accepted
        try:
            answer = sending.attempt()
        except (OSError, http.client.HTTPException) as error:
            reason = str(error) or type(error).__name__
        else:
            if answer.status in (200, 201):
                return _sent(answer.body, board, known=answer.status == 200)
            if answer.is_refusal:
                raise SubmissionError(answer.sentence())
            reason = f"HTTP {answer.status}"
        # Whoever comes on, however often the line breaks, is not given up.
        failures = 1 if sending.num_accepted > before else failures + 1
        say(f"attempt {failures} of {ATTEMPTS} failed: {reason}")
    raise DataError(f"{board} cannot be reached ({reason}); try again later, the archive is kept.")


class _Sending:
    """An archive on its way.

    Attributes:
        num_accepted: pieces that the board has taken from this process.
    """

    def __init__(self, archive: Path, sha256: str, board: str, token: str, phase: str) -> None:
        self.num_accepted = 0
        self._archive = archive
        self._sha256 = sha256
        self._board = board
        self._token = token
        self._phase = phase
        self._num_bytes = archive.stat().st_size
        self._in_pieces = self._num_bytes > PIECE_BYTES

    def attempt(self) -> Answer:
        """Returns the board's answer: 201, or 200 where it had the archive before, with the submission; or why not.

        Raises:
            OSError: the line broke.
            http.client.HTTPException: likewise.
        """
        if not self._in_pieces:
            return self._whole()
        asked = {"sha256": self._sha256, "num_bytes": self._num_bytes}
        data = json.dumps(asked).encode()
        headers = {"Content-Type": "application/json"}
        answer = exchange("POST", f"{self._phase}/uploads", self._token, data, len(data), headers)
        if answer.status in (404, 405):
            # A board of an older version takes archives in one request alone; one without this phase says so then.
            self._in_pieces = False
            return self._whole()
        if answer.status not in (200, 201):
            return answer
        if answer.body.get("submission") is not None:
            return Answer(200, _part(answer.body, "submission", dict, self._board))
        return self._rest(answer.body)

    def _rest(self, upload: Mapping[str, Any]) -> Answer:
        """Sends the pieces that are missing, and returns the last answer."""
        code, offset = _part(upload, "code", str, self._board), _part(upload, "offset", int, self._board)
        most = min(PIECE_BYTES, _part(upload, "max_piece_bytes", int, self._board))
        address = f"{self._board}/api/v1/uploads/{quote(code, safe='')}"
        with self._archive.open("rb") as file:
            while True:
                file.seek(offset)
                data = file.read(most)
                headers = {"Content-Type": "application/offset+octet-stream", "Upload-Offset": str(offset)}
                answer = exchange("PATCH", address, self._token, data, len(data), headers)
                if answer.status == 404 or (answer.status == 409 and answer.body.get("kind") == "elsewhere"):
                    # Somebody else sends it, too, or its time was over: the next announcement says where it goes on.
                    return Answer(503, answer.body)
                if answer.status != 200:
                    return answer
                self.num_accepted += 1
                if answer.body.get("submission") is not None:
                    return Answer(201, _part(answer.body, "submission", dict, self._board))
                offset = _part(answer.body, "offset", int, self._board)

    def _whole(self) -> Answer:
        headers = {"Content-Type": "application/zip", "X-Content-SHA256": self._sha256}
        with self._archive.open("rb") as file:
            return exchange("POST", f"{self._phase}/submissions", self._token, file, self._num_bytes, headers)


def _part(answer: Mapping[str, Any], key: str, kind: type[_T], board: str) -> _T:
    found = answer.get(key)
    if not isinstance(found, kind):
        raise _no_board(board)
    return found


def _no_board(board: str) -> DataError:
    return DataError(f"{board} gave an answer that is none of a board; check board=URL.")


def _sent(answer: Mapping[str, Any], board: str, *, known: bool) -> Sent:
    code, state = _part(answer, "code", str, board), _part(answer, "state", str, board)
    place = answer.get("place_in_queue")
    page = f"{board}/submissions/{quote(code, safe='')}"
    return Sent(code[:64], state[:32], place if isinstance(place, int) else None, page, known)
