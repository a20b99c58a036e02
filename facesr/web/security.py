"""What stands between a site and its visitors: headers, limits, a log line and a count for every request.

`Guard` is the outermost layer of a site (ASGI). It lets a request in only within bounds, puts the security headers on
whatever comes back, errors included, and turns an exception that nobody foresaw into an answer.
"""

import ipaddress
import json
import logging
import re
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import anyio
import anyio.to_thread
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from facesr.errors import FaceSRError
from facesr.web.metrics import Metrics
from facesr.web.rates import Buckets, Limit, Rate

SMALL_BODY_BYTES = 64 * 1024
_SHARED_THREADS = 4
_METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"}
_MAX_ADDRESS_BYTES = 2048
_MAX_HEADERS, _MAX_HEADER_BYTES = 64, 16 * 1024
# A body has this long, and a second more for so many bytes: whoever sends a byte now and then is sent away.
_BODY_SECONDS, _SLOWEST_BYTES_PER_SECOND = 30.0, 4096
_CONTENT_SECURITY = (
    "default-src 'none'; img-src 'self' data:; style-src 'self'; script-src 'self'; form-action 'self'; "
    "frame-ancestors 'none'; base-uri 'none'; connect-src 'self'"
)
_HEADERS = {
    "content-security-policy": _CONTENT_SECURITY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}
_TRANSPORT_SECURITY = "max-age=31536000"
_requests = logging.getLogger("facesr.web.requests")
_log = logging.getLogger("facesr.web")
# What logs have for a client that has gone; HTTP itself has no number for it. Source: nginx.
_GONE = 499
_SECRET = re.compile(r"[A-Za-z0-9_-]{40,}")


class Refusal(FaceSRError):
    """A request that is not let in; the sentence is for the visitor.

    Attributes:
        status: of HTTP.
        kind: a word for programs.
        retry_after: seconds after which it may be tried again, None where that does not help.
    """

    def __init__(self, status: int, kind: str, sentence: str, retry_after: float | None = None) -> None:
        """Keeps what is answered."""
        super().__init__(sentence)
        self.status = status
        self.kind = kind
        self.retry_after = retry_after


@dataclass(frozen=True)
class Visit:
    """Who asks.

    Attributes:
        client: the address that limits count by; of IPv6 the network of a household (/64).
        is_https: whether the visitor's connection is encrypted.
    """

    client: str
    is_https: bool


@dataclass(frozen=True)
class Rates:
    """How much visitors may ask.

    Attributes:
        requests: by an address; many may share one.
        changes: POST, PUT, PATCH and DELETE by an address.
        failures: wrong tokens, invitations and form tokens by an address.
        by_token: requests with one token.
    """

    requests: Rate = field(default_factory=lambda: Rate(3000, 200))
    changes: Rate = field(default_factory=lambda: Rate(120, 4))
    failures: Rate = field(default_factory=lambda: Rate(20, 0.1))
    by_token: Rate = field(default_factory=lambda: Rate(600, 20))


def visit_of(scope: Scope) -> Visit:
    """Returns who asks, as `Guard` has found."""
    found = scope["state"]["facesr_visit"]
    assert isinstance(found, Visit)
    return found


def require(limit: Limit, key: str, what: str) -> None:
    """Takes one of a rate limit.

    Raises:
        Refusal: there is none left; 429.
    """
    wait = limit.take(key)
    if wait > 0:
        raise too_often(what, wait)


def too_often(what: str, wait: float) -> Refusal:
    """Returns the refusal of what came too often."""
    seconds = max(1, round(wait + 0.5))
    return Refusal(429, "rate", f"too many {what}; try again in {seconds} s.", seconds)


class Guard:
    """The outermost layer of a site."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        answer: Callable[[Scope, Refusal], Response],
        body_limit: Callable[[Scope], int],
        metrics: Metrics,
        rates: Rates,
        trusted_proxy: bool = False,
        logs_clients: bool = True,
        shared_changes: Limit | None = None,
    ) -> None:
        """Guards a site.

        Args:
            app: the site.
            answer: makes a refusal into a page or into what programs read.
            body_limit: the most bytes that a request's body may have.
            metrics: where answers are counted.
            rates: how much visitors may ask.
            trusted_proxy: whether a proxy before the site says who asks (the last X-Forwarded-For) and how
                (X-Forwarded-Proto); without one anybody could write these.
            logs_clients: whether the log says from which address a request came.
            shared_changes: counts changes by an address for several servers together. It may block, so it is asked in
                one of a few threads of its own, and only for what this server's own count lets through.
        """
        self._app = app
        self._answer = answer
        self._body_limit = body_limit
        self._metrics = metrics
        self._trusted_proxy = trusted_proxy
        self._logs_clients = logs_clients
        self._requests, self._changes = Buckets(rates.requests), Buckets(rates.changes)
        self._shared_changes = shared_changes
        # Other requests need the server's other threads, however many wait for these.
        self._shared_threads = anyio.CapacityLimiter(_SHARED_THREADS)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Lets a request in, or answers it."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return
        start = time.perf_counter()
        visit = _visit(scope, self._trusted_proxy)
        scope.setdefault("state", {})["facesr_visit"] = visit
        sending = _Sending(send, visit, scope["method"])
        try:
            self._require(scope, visit)
            await self._require_shared(scope, visit)
            body = sending.body = _Body(receive, self._body_limit(scope))
            await self._app(scope, body.receive, sending.send)
        except Refusal as error:
            await self._refuse(scope, receive, sending, error)
        except ClientDisconnect:
            # Nobody is there to be answered; lines break every day, so it is no fault.
            sending.status = sending.status or _GONE
        except Exception:
            _log.exception("a request failed")
            refusal = Refusal(500, "fault", "the server failed at this; the organiser can see why in its log.")
            await self._refuse(scope, receive, sending, refusal)
        finally:
            self._tell(scope, visit, sending, time.perf_counter() - start)

    async def _refuse(self, scope: Scope, receive: Receive, sending: "_Sending", refusal: Refusal) -> None:
        if sending.status:
            return  # the answer has begun; the server ends the connection
        await self._answer(scope, refusal)(scope, receive, sending.send)

    def _require(self, scope: Scope, visit: Visit) -> None:
        """Checks what can be told before the body.

        Raises:
            Refusal: something is out of bounds.
        """
        require(self._requests, visit.client, "requests")
        if len(scope.get("raw_path") or scope["path"].encode()) + len(scope["query_string"]) > _MAX_ADDRESS_BYTES:
            raise Refusal(414, "bad_address", f"the address is longer than {_MAX_ADDRESS_BYTES} bytes.")
        if "\0" in scope["path"]:
            raise Refusal(404, "not_found", "there is no such page.")
        headers = scope["headers"]
        if len(headers) > _MAX_HEADERS or sum(len(key) + len(value) for key, value in headers) > _MAX_HEADER_BYTES:
            raise Refusal(431, "bad_headers", f"the headers have more than {_MAX_HEADER_BYTES // 1024} KiB.")
        given = Headers(scope=scope)
        length = given.get("content-length")
        if length is not None and "transfer-encoding" in given:
            # A proxy may see another end of the body than this server does, and let a second request slip through.
            raise Refusal(400, "bad_headers", "Content-Length and Transfer-Encoding exclude each other; send one.")
        if length is not None and not re.fullmatch(r"[0-9]{1,18}", length):
            raise Refusal(400, "bad_headers", "Content-Length is no number.")
        if length is not None and int(length) > self._body_limit(scope):
            raise _too_large(self._body_limit(scope))
        if scope["method"] not in ("GET", "HEAD"):
            require(self._changes, visit.client, "changes")

    async def _require_shared(self, scope: Scope, visit: Visit) -> None:
        """Counts a change for all servers.

        Raises:
            Refusal: there were too many, or the count cannot be reached.
        """
        if self._shared_changes is not None and scope["method"] not in ("GET", "HEAD"):
            what = (self._shared_changes, visit.client, "changes")
            await anyio.to_thread.run_sync(require, *what, limiter=self._shared_threads)

    def _tell(self, scope: Scope, visit: Visit, sending: "_Sending", seconds: float) -> None:
        route = getattr(scope.get("route"), "path", "(none)")
        method = scope["method"] if scope["method"] in _METHODS else "(other)"
        self._metrics.observe(route, method, sending.status, seconds)
        line = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "method": method,
            "path": _SECRET.sub("...", scope["path"])[:200],
            "route": route,
            "status": sending.status,
            "bytes": sending.num_bytes,
            "seconds": round(seconds, 4),
        }
        if self._logs_clients:
            line["client"] = visit.client
        _requests.info("%s", json.dumps(line))


def log_requests_to_stderr() -> None:
    """Makes requests appear on stderr, a line of JSON each; a second call changes nothing."""
    if not any(isinstance(handler, _Stderr) for handler in _requests.handlers):
        _requests.addHandler(_Stderr())
        if _requests.level == logging.NOTSET:
            _requests.setLevel(logging.INFO)
        _requests.propagate = False


class _Stderr(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        """Writes the line to what stderr is now."""
        print(record.getMessage(), file=sys.stderr, flush=True)


class _Sending:
    """Sends an answer with the headers that every answer has."""

    def __init__(self, send: Send, visit: Visit, method: str) -> None:
        self._send = send
        self._visit = visit
        self._may_have_body = method not in ("GET", "HEAD")
        self.status = 0
        self.num_bytes = 0
        self.body: _Body | None = None

    async def send(self, message: Message) -> None:
        """Sends a part of the answer."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = MutableHeaders(scope=message)
            for key, value in _HEADERS.items():
                headers.setdefault(key, value)
            is_unread = self._may_have_body and not (self.body is not None and self.body.is_over)
            if self.status >= 400 and is_unread:
                headers["connection"] = "close"  # what is left of the body is not read
            if self._visit.is_https:
                headers["strict-transport-security"] = _TRANSPORT_SECURITY
        elif message["type"] == "http.response.body":
            self.num_bytes += len(message.get("body", b""))
        await self._send(message)


class _Body:
    """A request's body, which may neither be too long nor come too slowly."""

    def __init__(self, receive: Receive, max_bytes: int) -> None:
        self._receive = receive
        self._max_bytes = max_bytes
        self._num_bytes = 0
        self._start = time.monotonic()
        self.is_over = False

    async def receive(self) -> Message:
        """Returns the next part.

        Raises:
            Refusal: there is too much of it, or it comes too slowly.
        """
        if self.is_over:
            return await self._receive()
        until = self._start + _BODY_SECONDS + self._num_bytes / _SLOWEST_BYTES_PER_SECOND
        try:
            with anyio.fail_after(max(0.0, until - time.monotonic())):
                message = await self._receive()
        except TimeoutError as error:
            raise Refusal(408, "too_slow", "the request came too slowly.") from error
        self._num_bytes += len(message.get("body", b""))
        self.is_over = not message.get("more_body", False)
        if self._num_bytes > self._max_bytes:
            raise _too_large(self._max_bytes)
        return message


def _too_large(limit: int) -> Refusal:
    text = f"{limit // 2**20} MiB" if limit >= 2**20 else f"{limit // 1024} KiB"
    return Refusal(413, "too_large", f"at most {text} are taken here.")


def _visit(scope: Scope, trusted_proxy: bool) -> Visit:
    client = scope.get("client")
    address, scheme = ("" if client is None else str(client[0])), scope.get("scheme", "http")
    if trusted_proxy:
        headers = Headers(scope=scope)
        # The last one is what the proxy saw; what stands before it is the client's own word.
        forwarded = ",".join(headers.getlist("x-forwarded-for")).rpartition(",")[2].strip()
        address, scheme = forwarded or address, headers.get("x-forwarded-proto", scheme).strip().lower()
    return Visit(counted_address(address), scheme == "https")


def counted_address(address: str) -> str:
    """Returns by what limits count an address: itself, of IPv6 the network of a household (/64)."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return address[:64]
    if isinstance(found, ipaddress.IPv6Address):
        if found.ipv4_mapped is not None:
            return str(found.ipv4_mapped)
        return str(ipaddress.ip_network((found, 64), strict=False))
    return str(found)
