"""An application on a real port, for tests that need a connection."""

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any


@contextlib.contextmanager
def served(app: Any, **more: Any) -> Iterator[str]:
    """Yields the address of an application that this process serves until the block ends.

    Args:
        app: the application.
        more: settings of uvicorn; with a certificate the address is https://localhost:PORT.
    """
    import uvicorn

    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(app, log_config=None, **more))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        until = time.monotonic() + 60
        while not server.started:
            assert time.monotonic() < until
            time.sleep(0.05)
        try:
            host = "https://localhost" if "ssl_certfile" in more else "http://127.0.0.1"
            yield f"{host}:{listening.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(60)
