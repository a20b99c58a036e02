"""Lines between a client and a server on this machine: slow ones, ones that are cut, ones that change what is said."""

import contextlib
import socket
import threading
import time
from collections.abc import Iterator


class Between:
    """Stands between clients and a server; `carry` has each connection for itself, in a thread of its own.

    Attributes:
        port: where it listens.
        target: address of the server.
    """

    def __init__(self, url: str) -> None:
        """Takes the address of the server, and listens from now on."""
        self.target = ("127.0.0.1", int(url.rpartition(":")[2]))
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Takes no connections any more."""
        self._listening.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listening.accept()
                threading.Thread(target=self.carry, args=(near,), daemon=True).start()

    def carry(self, near: socket.socket) -> None:
        """Carries what a client says, and what it is answered."""
        raise NotImplementedError


class Line:
    """A line to a server, slow or cut.

    Attributes:
        url: its near end.
        cuts: numbers of bytes; the first connection that has sent more than the first of them is cut, and takes it.
        num_bytes: that went to the server.
        bytes_per_second: to the server by each connection, None for as many as it can.
        is_down: whether nobody answers, and connections are cut.
    """

    def __init__(self, url: str, listening: socket.socket) -> None:
        self.url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        self.cuts: list[int] = []
        self.num_bytes = 0
        self.bytes_per_second: float | None = None
        self.is_down = False
        self._target = ("127.0.0.1", int(url.rpartition(":")[2]))
        self._listening = listening
        self._threads: list[threading.Thread] = []

    def take(self) -> None:
        """Takes connections until the near end is closed."""
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listening.accept()
                thread = threading.Thread(target=self._join, args=(near,))
                thread.start()
                self._threads.append(thread)

    def end(self) -> None:
        """Cuts everything, and waits until that is done."""
        self.is_down = True
        for thread in self._threads:
            thread.join(30)

    def _join(self, near: socket.socket) -> None:
        with near, contextlib.suppress(OSError):
            if self.is_down:
                return
            with socket.create_connection(self._target) as far:
                near.settimeout(1.0)
                back = threading.Thread(target=self._down, args=(far, near))
                back.start()
                try:
                    self._up(near, far)
                finally:
                    for one in (near, far):
                        with contextlib.suppress(OSError):
                            one.shutdown(socket.SHUT_RDWR)
                    back.join()

    def _up(self, near: socket.socket, far: socket.socket) -> None:
        count = 0
        while not self.is_down and not (self.cuts and count > self.cuts[0]):
            try:
                data = near.recv(16_384)
            except TimeoutError:
                continue
            if not data:
                return
            far.sendall(data)
            count += len(data)
            self.num_bytes += len(data)
            if self.bytes_per_second:
                time.sleep(len(data) / self.bytes_per_second)
        if not self.is_down:
            self.cuts.pop(0)

    def _down(self, far: socket.socket, near: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := far.recv(65_536):
                near.sendall(data)
            near.shutdown(socket.SHUT_RDWR)


@contextlib.contextmanager
def line_to(url: str) -> Iterator[Line]:
    """Yields a line to the address of a server; all connections are over when the block ends."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        line = Line(url, listening)
        thread = threading.Thread(target=line.take)
        thread.start()
        try:
            yield line
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            thread.join(30)
            line.end()
