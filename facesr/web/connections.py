"""Connections of a web server that cannot be held open by whoever sends or reads next to nothing.

uvicorn waits for the head of a request for as long as a byte comes now and then, and for as long for a reader of an
answer; a few hundred such connections from one machine would shut everybody else out.
"""

import asyncio
from collections import Counter
from typing import Any, ClassVar

from uvicorn.protocols.http.h11_impl import H11Protocol

from facesr.web.security import counted_address

# The head of a request has to be there so soon, counted from the connection or from the end of the answer before.
HEAD_SECONDS = 20.0
# A reader has this long for what fills the server's buffer (64 KiB).
READ_SECONDS = 60.0
MAX_CONNECTIONS = 800
# Many people share an address; a class of 60 with a few connections each does.
MAX_PER_ADDRESS = 200
# Beyond `MAX_CONNECTIONS` uvicorn answers 503; this many connections may wait for that answer.
_MAX_REFUSED = 64


class BoundedProtocol(H11Protocol):
    """HTTP/1.1 by uvicorn and h11, within bounds of time and number."""

    head_seconds: ClassVar[float] = HEAD_SECONDS
    read_seconds: ClassVar[float] = READ_SECONDS
    max_per_address: ClassVar[int | None] = MAX_PER_ADDRESS
    _num_open: ClassVar[Counter[str]] = Counter()

    _address = ""
    _head_timer: asyncio.TimerHandle | None = None
    _read_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Takes a connection, or ends it where there are too many."""
        super().connection_made(transport)
        self._address = counted_address(self.client[0] if self.client else "")
        self._num_open[self._address] += 1
        is_over = self.max_per_address is not None and self._num_open[self._address] > self.max_per_address
        if is_over or len(self.connections) > MAX_CONNECTIONS + _MAX_REFUSED:
            transport.abort()
            return
        self._head_timer = self.loop.call_later(self.head_seconds, self._end_idle)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forgets the connection."""
        self._stop_timers()
        self._num_open[self._address] -= 1
        if not self._num_open[self._address]:
            del self._num_open[self._address]
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Takes what has come."""
        super().data_received(data)
        is_answering = self.cycle is not None and not self.cycle.response_complete
        if is_answering and self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def on_response_complete(self) -> None:
        """Waits for the next request."""
        if self._head_timer is not None:
            self._head_timer.cancel()
        self._head_timer = self.loop.call_later(self.head_seconds, self._end_idle)
        super().on_response_complete()
        if not self.cycle.response_complete and self._head_timer is not None:  # the next one was there already
            self._head_timer.cancel()
            self._head_timer = None

    def pause_writing(self) -> None:
        """Waits for a reader."""
        super().pause_writing()
        if self._read_timer is None:
            self._read_timer = self.loop.call_later(self.read_seconds, self.transport.abort)

    def resume_writing(self) -> None:
        """Goes on, because the reader has read."""
        super().resume_writing()
        if self._read_timer is not None:
            self._read_timer.cancel()
            self._read_timer = None

    def _end_idle(self) -> None:
        self._head_timer = None
        if self.transport.get_write_buffer_size():
            if self._read_timer is None:
                self._read_timer = self.loop.call_later(self.read_seconds, self.transport.abort)
        else:
            self.transport.close()

    def _stop_timers(self) -> None:
        for timer in (self._head_timer, self._read_timer):
            if timer is not None:
                timer.cancel()
        self._head_timer = self._read_timer = None


def protocol(*, trusted_proxy: bool) -> type[Any]:
    """Returns the protocol of a server; behind a proxy all connections have the proxy's address, so none is counted."""
    limit = None if trusted_proxy else MAX_PER_ADDRESS
    return type("Protocol", (BoundedProtocol,), {"max_per_address": limit, "_num_open": Counter()})
