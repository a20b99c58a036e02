"""Sending an archive to a board: streamed, checked by its sha256, and sent again where the line breaks.

The board knows an archive by its sha256, so one that is sent twice is one submission.
"""

import contextlib
import http.client
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from facesr import __version__
from facesr.errors import ConfigError, DataError, SubmissionError
from facesr.names import shown_path
from facesr.web.tokens import is_token

ATTEMPTS = 5
_TIMEOUT_SECONDS = 60.0
_MAX_ANSWER_BYTES = 1 << 20
_MAX_WAIT_SECONDS = 60.0
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
        raise ConfigError(f"token={shown_path(path)} cannot be read; give the file with your team's token.") from error
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
        DataError: the board cannot be reached, or gives no answer that can be read.
    """
    address = f"{board}/api/v1/phases/{quote(phase, safe='')}/submissions"
    reason = ""
    for attempt in range(ATTEMPTS):
        if attempt:
            pause(min(_MAX_WAIT_SECONDS, 2.0**attempt))
        try:
            status, answer = _post(address, archive, sha256, token)
        except (OSError, http.client.HTTPException) as error:
            reason = str(error) or type(error).__name__
            say(f"attempt {attempt + 1} of {ATTEMPTS} failed: {reason}")
            continue
        if status in (200, 201):
            return _sent(answer, board, known=status == 200)
        # Too many requests at once is no refusal of the archive, unlike a limit of the phase.
        if status < 500 and not (status == 429 and isinstance(answer, dict) and answer.get("kind") == "rate"):
            raise SubmissionError(_sentence(answer, f"the board refused the archive (HTTP {status})."))
        reason = f"HTTP {status}"
        say(f"attempt {attempt + 1} of {ATTEMPTS} failed: {reason}")
    raise DataError(f"{board} cannot be reached ({reason}); try again later, the archive is kept.")


def _post(address: str, archive: Path, sha256: str, token: str) -> tuple[int, Any]:
    parts = urlsplit(address)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = kind(parts.hostname or "", parts.port, timeout=_TIMEOUT_SECONDS)
    headers = {
        "Authorization": f"Bearer {token}",
        "Content-Type": "application/zip",
        "Content-Length": str(archive.stat().st_size),
        "X-Content-SHA256": sha256,
        "Accept": "application/json",
        "User-Agent": f"facesr/{__version__}",
    }
    with contextlib.closing(connection), archive.open("rb") as file:
        # A board that refuses answers before it has read everything, and then listens no longer. No redirect is
        # followed: a token goes to the address that was given, and nowhere else.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            connection.request("POST", parts.path, file, headers)
        answer = connection.getresponse()
        return answer.status, _json(answer.read(_MAX_ANSWER_BYTES))


def _json(data: bytes) -> Any:
    try:
        return json.loads(data)
    except ValueError:
        return None


def _sentence(answer: Any, otherwise: str) -> str:
    sentence = answer.get("error") if isinstance(answer, dict) else None
    return sentence[:500] if isinstance(sentence, str) and sentence else otherwise


def _sent(answer: Any, board: str, *, known: bool) -> Sent:
    code = answer.get("code") if isinstance(answer, dict) else None
    state = answer.get("state") if isinstance(answer, dict) else None
    if not isinstance(code, str) or not isinstance(state, str):
        raise DataError(f"{board} gave an answer that is none of a board; check board=URL.")
    place = answer.get("place_in_queue")
    page = f"{board}/submissions/{quote(code, safe='')}"
    return Sent(code[:64], state[:32], place if isinstance(place, int) else None, page, known)
