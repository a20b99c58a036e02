"""Serving a web application in this process, within bounds, until it is stopped."""

import logging
import sys

from starlette.types import ASGIApp

from facesr.web import connections


def run_server(app: ASGIApp, host: str, port: int, *, trusted_proxy: bool) -> None:
    """Serves an application until SIGINT or SIGTERM; answers that have begun are finished.

    Args:
        app: the application.
        host: address to listen on.
        port: of that address.
        trusted_proxy: whether all connections come from a proxy, so that none is counted by its address.
    """
    import uvicorn

    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,  # the application takes the last address, which the proxy itself wrote
        # Against clients that hold connections open and send next to nothing.
        http=connections.protocol(trusted_proxy=trusted_proxy),
        ws="none",
        timeout_keep_alive=10,
        h11_max_incomplete_event_size=32 * 1024,
        limit_concurrency=connections.MAX_CONNECTIONS,
        timeout_graceful_shutdown=10,
    )
    uvicorn.Server(config).run()


def log_to_stderr() -> None:
    """Makes the program's log appear on stderr."""
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(name)s %(levelname)s %(message)s")
    logging.getLogger("alembic").setLevel(logging.WARNING)
