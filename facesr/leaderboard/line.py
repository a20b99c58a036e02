"""A worker's line to a board: requests with its token, files that go on where they broke off, pauses in between.

The board is believed no more than it has to be: answers and files are bounded, and a file has to have its sha256.
"""

import contextlib
import hashlib
import http.client
import json
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from facesr import __version__
from facesr.errors import ConfigError, DataError
from facesr.leaderboard.desk import Away
from facesr.leaderboard.faults import NotAllowed
from facesr.names import one_line
from facesr.submission.exchange import Answer, NotTrusted, connected, exchange, object_of
from facesr.submission.send import check_board, is_in_the_clear

# Longer than any lease lasts: whoever comes back later begins with another job.
GIVE_UP_SECONDS = 600.0
_FIRST_PAUSE_SECONDS, _MOST_PAUSE_SECONDS = 1.0, 60.0
_PIECE_BYTES = 1 << 20
_LEASE = "Facesr-Lease"


class Line:
    """The line to one board.

    Attributes:
        board: its address, without a slash at the end.
    """

    def __init__(self, board: str, token: str, stop: threading.Event | None = None) -> None:
        """Opens nothing yet.

        Args:
            board: address.
            token: of the worker.
            stop: ends waiting.

        Raises:
            ConfigError: the address is none, or the token would travel in the clear.
        """
        self.board = check_board(board)
        if is_in_the_clear(self.board):
            raise ConfigError(
                f"{self.board} is not encrypted, and originals come from there; give an https:// address."
            )
        self._token = token
        self._stop = stop or threading.Event()

    def once(self, method: str, path: str, data: Mapping[str, Any] | None = None, lease: str = "") -> Answer:
        """Returns the answer to a request.

        Raises:
            Away: there is none now.
            NotAllowed: the board does not take the token.
        """
        body = b"" if data is None else json.dumps(data, allow_nan=False).encode()
        headers = {"Content-Type": "application/json", **({_LEASE: lease} if lease else {})}
        try:
            answer = exchange(method, self._address(path), self._token, body, len(body), headers)
        except NotTrusted as error:
            raise Away(str(error)) from error  # a new certificate may come while the worker runs
        except (OSError, http.client.HTTPException) as error:
            raise self._away(str(error) or type(error).__name__) from error
        self._require(answer)
        return answer

    def patiently(self, method: str, path: str, data: Mapping[str, Any], lease: str) -> Answer:
        """Returns the same, after as many attempts as it takes.

        Raises:
            Away: there was none for `GIVE_UP_SECONDS`, or the worker is stopped.
            NotAllowed: the board does not take the token.
        """
        until, pause = time.monotonic() + GIVE_UP_SECONDS, _FIRST_PAUSE_SECONDS
        while True:
            try:
                return self.once(method, path, data, lease)
            except Away:
                pause = self._wait(pause, until)

    def fetch(self, path: str, target: Path, sha256: str, num_bytes: int, lease: str = "") -> None:
        """Writes a file of the board's, which goes on where it broke off.

        Args:
            path: of the API.
            target: what is there already is its beginning.
            sha256: that it has to have.
            num_bytes: that it has to have.
            lease: of the job that it belongs to.

        Raises:
            Away: nothing came for `GIVE_UP_SECONDS`, or the worker is stopped.
            NotAllowed: the board does not take the token.
            DataError: the board refuses it, or it is another file; or the disk is full.
        """
        until, pause = time.monotonic() + GIVE_UP_SECONDS, _FIRST_PAUSE_SECONDS
        while (before := _size(target)) < num_bytes:
            try:
                self._append(path, target, before, num_bytes, lease)
            except Away:
                if _size(target) > before:  # whoever comes on is not given up
                    until, pause = time.monotonic() + GIVE_UP_SECONDS, _FIRST_PAUSE_SECONDS
                pause = self._wait(pause, until)
        with target.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != sha256 or _size(target) != num_bytes:
            target.unlink()
            raise DataError(f"{self.board}{path} came as another file than was announced; it is fetched anew.")

    def _append(self, path: str, target: Path, start: int, num_bytes: int, lease: str) -> None:
        parts = urlsplit(self._address(path))
        headers = {"Authorization": f"Bearer {self._token}", "User-Agent": f"facesr/{__version__}"}
        headers |= {_LEASE: lease} if lease else {}
        headers |= {"Range": f"bytes={start}-"} if start else {}
        try:
            with connected(parts) as connection:
                connection.request("GET", parts.path, headers=headers)
                answer = connection.getresponse()
                if answer.status not in (200, 206):
                    self._refuse(Answer(answer.status, object_of(answer.read(_PIECE_BYTES))))
                # One byte more tells that there is too much.
                left = num_bytes + 1 - (start if answer.status == 206 else 0)
                with _Kept(target, append=answer.status == 206) as kept:
                    while left > 0 and (piece := answer.read(min(_PIECE_BYTES, left))):
                        kept.write(piece)
                        left -= len(piece)
        except NotTrusted as error:
            raise Away(str(error)) from error
        except (OSError, http.client.HTTPException) as error:
            raise self._away(str(error) or type(error).__name__) from error
        if left > 1:
            raise self._away("the line broke")

    def _refuse(self, answer: Answer) -> None:
        self._require(answer)
        raise DataError(f"{self.board}: {one_line(answer.sentence())}")

    def _require(self, answer: Answer) -> None:
        if answer.status == 401:
            raise NotAllowed(f"{self.board} does not take this worker's token; ask the organiser for a new one.")
        if answer.status >= 500 or answer.status == 429:
            raise self._away(f"HTTP {answer.status}")

    def _wait(self, pause: float, until: float) -> float:
        """Waits, and returns how long the next pause is.

        Raises:
            Away: it is time to give up.
        """
        if time.monotonic() + pause > until or self._stop.wait(pause):
            raise self._away("it was waited for")
        return min(2 * pause, _MOST_PAUSE_SECONDS)

    def _away(self, reason: str) -> Away:
        return Away(f"{self.board} cannot be reached ({one_line(reason)[:200]}).")

    def _address(self, path: str) -> str:
        return f"{self.board}/api/v1/worker{path}"


class _Kept:
    """A file of this machine, whose faults are not those of the line."""

    def __init__(self, path: Path, *, append: bool) -> None:
        self._path = path
        self._mode = "ab" if append else "wb"

    def __enter__(self) -> "_Kept":
        with self._told():
            self._file = self._path.open(self._mode)
        return self

    def write(self, data: bytes) -> None:
        with self._told():
            self._file.write(data)

    def __exit__(self, *_: object) -> None:
        with self._told():
            self._file.close()

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise DataError(f"{self._path} cannot be written ({error.strerror}); make room or give rights.") from error


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
