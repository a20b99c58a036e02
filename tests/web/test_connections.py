"""A real server on a socket: connections that send or read next to nothing are ended, others are answered."""

import contextlib
import http.client
import socket
import threading
import time
from collections.abc import Iterator

import pytest
import uvicorn
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from facesr.web import connections

_PAGE = b"x" * (1 << 26)


async def _app(scope: Scope, receive: Receive, send: Send) -> None:
    await Response(_PAGE if scope["path"] == "/large" else b"ok")(scope, receive, send)


@pytest.fixture
def port(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    monkeypatch.setattr(connections.BoundedProtocol, "head_seconds", 0.3)
    monkeypatch.setattr(connections.BoundedProtocol, "read_seconds", 0.3)
    monkeypatch.setattr(connections, "MAX_PER_ADDRESS", 4)
    listening = socket.create_server(("127.0.0.1", 0))
    kind = connections.protocol(trusted_proxy=False)
    server = uvicorn.Server(uvicorn.Config(_app, http=kind, ws="none", lifespan="off", log_config=None))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    yield listening.getsockname()[1]
    server.should_exit = True
    thread.join()
    listening.close()


def _status(port: int) -> int:
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=5)) as connection:
        connection.request("GET", "/")
        return connection.getresponse().status


def _is_ended(connection: socket.socket) -> bool:
    connection.settimeout(3)
    try:
        while connection.recv(1 << 16):
            pass
    except ConnectionResetError:
        pass
    except TimeoutError:
        return False
    return True


@pytest.mark.parametrize(
    "begin",
    [
        b"",
        b"GET / HTTP/1.1\r\nHost: x\r\nX-A: ",
        # An answer that came before the body did: what follows is thrown away, but not for ever.
        b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 60000\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\nGET / HTTP/1.1\r\n",
    ],
)
def test_who_sends_a_byte_now_and_then_is_sent_away(port: int, begin: bytes) -> None:
    with contextlib.closing(socket.create_connection(("127.0.0.1", port), timeout=5)) as slow:
        slow.sendall(begin)
        is_over = threading.Event()

        def drip() -> None:
            while not is_over.wait(0.05):
                with contextlib.suppress(OSError):
                    slow.send(b"a")

        thread = threading.Thread(target=drip)
        thread.start()
        try:
            assert _is_ended(slow)
        finally:
            is_over.set()
            thread.join()


def test_too_many_of_an_address(port: int) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(4):
            stack.enter_context(contextlib.closing(socket.create_connection(("127.0.0.1", port), timeout=5)))
        with contextlib.suppress(OSError):
            assert _status(port) == 0, "it was answered"
        time.sleep(0.6)
        assert _status(port) == 200


def test_who_does_not_read_is_sent_away(port: int) -> None:
    with contextlib.closing(socket.create_connection(("127.0.0.1", port), timeout=5)) as slow:
        slow.sendall(b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n")
        time.sleep(0.8)
        received = 0
        with contextlib.suppress(ConnectionResetError):
            while piece := slow.recv(1 << 20):
                received += len(piece)
        assert received < len(_PAGE)


def test_quick_ones_keep_their_connection(port: int) -> None:
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=5)) as connection:
        for _ in range(4):
            connection.request("POST", "/", b"1" * 1000)
            answer = connection.getresponse()
            assert (answer.status, answer.read()) == (200, b"ok")
            used = connection.sock
            time.sleep(0.15)
        assert connection.sock is used
