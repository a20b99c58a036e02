"""Sending archives to a board over a real connection that breaks, and to boards of another age."""

import hashlib
import http.client
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from facesr.errors import DataError, SubmissionError
from facesr.submission import send as sending
from facesr.submission.send import ATTEMPTS, Sent, send

TOKEN = "t" * 43
DATA = bytes(range(256)) * 400


class Board:
    """A stand-in for a board that follows the API's description and may be told to fail.

    Attributes:
        fails: what becomes of the next pieces: ``cut`` before it counts, ``lost`` answer after it counted, a status.
        asked: method, path, and offset of a piece.
    """

    def __init__(self) -> None:
        self.fails: list[Any] = []
        self.asked: list[tuple[str, str, str]] = []
        self.received = b""
        self.is_old = self.is_done = False
        self.refusal = (429, {"error": "the limit of 5 is reached.", "kind": "limit"})

    def answer(self, method: str, path: str, offset: str, body: bytes) -> tuple[int, dict[str, Any]] | None:
        self.asked.append((method, path, offset))
        if path.endswith("/submissions"):
            self.received, self.is_done = body, True
            return 201, self.submission
        if self.is_old:
            return 404, {"error": "there is no such page.", "kind": "not_found"}
        if method == "POST":
            return 200, self.upload
        fault = self.fails.pop(0) if self.fails else None
        if fault == "cut":
            return None
        if isinstance(fault, int):
            return fault, {"error": "no.", "kind": "limit" if fault == 429 else "fault"}
        if int(offset) != len(self.received):
            return 409, {"error": f"goes on at {len(self.received)}", "kind": "elsewhere"}
        self.received += body
        self.is_done = len(self.received) == len(DATA)
        return None if fault == "lost" else (200, self.upload)

    @property
    def submission(self) -> dict[str, Any]:
        return {"code": "abc", "state": "queued", "place_in_queue": 1}

    @property
    def upload(self) -> dict[str, Any]:
        found = {"code": "u1", "offset": len(self.received), "max_piece_bytes": 16 << 20}
        return {**found, "submission": self.submission if self.is_done else None}


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Board, str]]:
    board = Board()

    class Handler(BaseHTTPRequestHandler):
        def _any(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            assert self.headers["Authorization"] == f"Bearer {TOKEN}"
            found = board.answer(self.command, self.path, self.headers.get("Upload-Offset", ""), body)
            if found is None:
                self.close_connection = True
                return
            data = json.dumps(found[1]).encode()
            self.send_response(found[0])
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_POST = do_PATCH = _any

        def log_message(self, *_: Any) -> None:
            """Says nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    monkeypatch.setattr(sending, "PIECE_BYTES", 30_000)
    yield board, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def sent(tmp_path: Path, url: str, data: bytes = DATA, told: list[str] | None = None) -> Sent:
    path = tmp_path / "a.zip"
    path.write_bytes(data)
    say = [].append if told is None else told.append
    return send(path, hashlib.sha256(data).hexdigest(), url, TOKEN, "final", say=say, pause=lambda _: None)


def offsets(board: Board) -> list[int]:
    return [int(offset) for method, _, offset in board.asked if method == "PATCH"]


def test_a_large_archive_goes_in_pieces_and_a_small_one_in_one_request(
    served: tuple[Board, str], tmp_path: Path
) -> None:
    board, url = served
    found = sent(tmp_path, url)
    assert (found.code, found.state, found.place, found.known) == ("abc", "queued", 1, False)
    assert board.received == DATA and offsets(board) == [0, 30_000, 60_000, 90_000]
    board.asked.clear()
    assert sent(tmp_path, url, DATA[:30_000]).code == "abc" and board.received == DATA[:30_000]
    assert [path for _, path, _ in board.asked] == ["/api/v1/phases/final/submissions"]


def test_what_breaks_off_goes_on_where_it_was(served: tuple[Board, str], tmp_path: Path) -> None:
    board, url = served
    board.fails = [None, "cut", 503, None, "lost"]
    told: list[str] = []
    assert sent(tmp_path, url, told=told).code == "abc" and board.received == DATA
    assert offsets(board) == [0, 30_000, 30_000, 30_000, 60_000, 90_000] and len(told) == 3
    assert "HTTP 503" in told[1]


def test_whoever_comes_on_is_not_given_up_and_who_does_not_is(served: tuple[Board, str], tmp_path: Path) -> None:
    board, url = served
    board.fails = [*(["cut"] * (ATTEMPTS - 1) + [None]) * 3]
    assert sent(tmp_path, url).code == "abc" and board.received == DATA
    board.received, board.is_done, board.fails = b"", False, ["cut"] * (ATTEMPTS + 1)
    with pytest.raises(DataError, match="the archive is kept"):
        sent(tmp_path, url)
    assert len(board.fails) == 1
    board.fails.clear()
    before = len(board.asked)
    board.received = DATA[:60_000]
    assert sent(tmp_path, url).code == "abc" and offsets_after(board, before) == [60_000, 90_000]


def offsets_after(board: Board, before: int) -> list[int]:
    return [int(offset) for method, _, offset in board.asked[before:] if method == "PATCH"]


def test_a_limit_is_told_at_once_and_a_known_archive_not_sent(served: tuple[Board, str], tmp_path: Path) -> None:
    board, url = served
    board.fails = [429]
    with pytest.raises(SubmissionError, match="no\\."):
        sent(tmp_path, url)
    assert len(board.asked) == 2
    board.is_done = True
    board.asked.clear()
    assert sent(tmp_path, url).known and len(board.asked) == 1


def test_an_older_board_gets_it_in_one_request(served: tuple[Board, str], tmp_path: Path) -> None:
    board, url = served
    board.is_old = True
    assert sent(tmp_path, url).code == "abc" and board.received == DATA


@pytest.mark.parametrize("wrong", [{"code": 1}, {"offset": "0"}, {"max_piece_bytes": None}])
def test_what_is_no_board_is_told(
    served: tuple[Board, str], tmp_path: Path, wrong: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, url = served
    good = Board().upload
    monkeypatch.setattr(Board, "upload", {**good, **wrong})
    with pytest.raises(DataError, match="none of a board"):
        sent(tmp_path, url)


def test_lines_that_are_no_http(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> Any:
        raise http.client.BadStatusLine("x")

    monkeypatch.setattr(sending, "exchange", broken)
    told: list[str] = []
    with pytest.raises(DataError, match="cannot be reached"):
        sent(tmp_path, "http://127.0.0.1:1", told=told)
    assert len(told) == ATTEMPTS
