"""What stands between a site and its visitors, on a site of a few lines."""

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from starlette.requests import ClientDisconnect
from starlette.responses import PlainTextResponse, Response

from facesr.web import security
from facesr.web.metrics import Metrics
from facesr.web.rates import Buckets, Rate
from facesr.web.security import Guard, Rates, Refusal, visit_of
from facesr.web.sessions import MAX_AGE_SECONDS, Sessions


class Clock:
    """A clock that is turned by hand."""

    now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


# Rates


def test_a_bucket_gives_its_burst_and_then_its_rate() -> None:
    clock = Clock()
    buckets = Buckets(Rate(3, 0.5), clock=clock)
    assert [buckets.take("a") for _ in range(4)] == [0, 0, 0, 2.0]
    assert buckets.take("b") == 0 and buckets.wait("a") == 2.0
    clock.now += 2
    assert buckets.wait("a") == 0 and buckets.take("a") == 0 and buckets.take("a") == 2.0
    clock.now += 1e6
    assert [buckets.take("a") for _ in range(4)][2:] == [0, 2.0]


def test_buckets_are_bounded_and_the_least_recently_used_goes() -> None:
    buckets = Buckets(Rate(1, 1e-9), max_keys=2, clock=Clock())
    for key in "abac":
        buckets.take(key)
    assert len(buckets._left) == 2 and buckets.take("c") > 0


# Sessions


def test_a_session_holds_until_it_ends_and_is_no_other_ones() -> None:
    clock = Clock()
    sessions = Sessions(b"k" * 32, clock)
    cookie = sessions.begin("ab" * 32)
    assert sessions.digest_of(cookie) == "ab" * 32
    assert Sessions(b"l" * 32, clock).digest_of(cookie) is None
    for index in range(0, len(cookie), 7):
        changed = cookie[:index] + ("0" if cookie[index] != "0" else "1") + cookie[index + 1 :]
        assert sessions.digest_of(changed) is None
    clock.now += MAX_AGE_SECONDS + 1
    assert sessions.digest_of(cookie) is None


def test_signing_out_ends_a_copied_cookie_too() -> None:
    sessions = Sessions(b"k" * 32)
    cookie, other = sessions.begin("ab" * 32), sessions.begin("ab" * 32)
    sessions.end(cookie)
    assert sessions.digest_of(cookie) is None and sessions.digest_of(other) is not None


def test_form_tokens_are_for_one_form_of_one_session() -> None:
    sessions = Sessions(b"k" * 32)
    token = sessions.form_token("cookie", "withdraw")
    assert sessions.is_form_token("cookie", "withdraw", token)
    assert not sessions.is_form_token("cookie", "choose", token)
    assert not sessions.is_form_token("other", "withdraw", token)
    assert not sessions.is_form_token("cookie", "withdraw", "\u00e4")
    assert not sessions.is_form_token("", "withdraw", sessions.form_token("", "withdraw"))


# Guard

Answer = tuple[int, dict[str, str], bytes]


async def site(scope: Any, receive: Any, send: Any) -> None:
    """Answers with the size of the body; /fault fails, /late fails after it has begun to answer."""
    if scope["path"] == "/fault":
        raise RuntimeError("secret reason")
    size = 0
    more = True
    while more:
        message = await receive()
        size += len(message.get("body", b""))
        more = message.get("more_body", False)
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
    visit = visit_of(scope)
    await PlainTextResponse(f"{size} {visit.client} {visit.is_https}")(scope, receive, send)


def guarded(rates: Rates | None = None, **more: Any) -> Guard:
    def answer(scope: Any, refusal: Refusal) -> Response:
        return PlainTextResponse(str(refusal), refusal.status)

    return Guard(site, answer=answer, body_limit=lambda scope: 100, metrics=Metrics(), rates=rates or Rates(), **more)


def ask(
    guard: Guard,
    method: str = "GET",
    path: str = "/",
    headers: dict[str, str] | None = None,
    body: Callable[[], Awaitable[dict[str, Any]]] | bytes = b"",
    query: bytes = b"",
    scheme: str = "http",
) -> Answer:
    """Returns what a guard answers; a body that is not bytes is asked for its messages."""
    sent: list[dict[str, Any]] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "query_string": query,
        "headers": [(key.encode(), value.encode()) for key, value in (headers or {}).items()],
        "client": ("192.0.2.9", 5),
        "scheme": scheme,
    }
    asyncio.run(guard(scope, receive if isinstance(body, bytes) else body, send))
    head = {key.decode(): value.decode() for key, value in sent[0]["headers"]}
    return sent[0]["status"], head, b"".join(message.get("body", b"") for message in sent[1:])


async def never() -> dict[str, Any]:
    raise AssertionError("the body was read")


@pytest.mark.parametrize(
    ("asked", "status"),
    [
        ({"method": "POST", "headers": {"content-length": str(50 << 30)}, "body": never}, 413),
        ({"method": "POST", "headers": {"content-length": "-5"}, "body": never}, 400),
        ({"method": "POST", "headers": {"content-length": "5", "transfer-encoding": "chunked"}, "body": never}, 400),
        ({"path": "/" + "a" * 3000}, 414),
        ({"query": b"q" * 3000}, 414),
        ({"path": "/a\0b"}, 404),
        ({"headers": {f"x-{number}": "" for number in range(70)}}, 431),
        ({"headers": {"x-long": "a" * 20_000}}, 431),
        ({"method": "POST", "body": b"a" * 101}, 413),
        ({"path": "/fault"}, 500),
        ({}, 200),
    ],
)
def test_every_answer_has_the_headers_and_what_is_out_of_bounds_is_not_let_in(asked: Any, status: int) -> None:
    found, headers, body = ask(guarded(), **asked)
    assert found == status and b"secret reason" not in body
    assert headers["content-security-policy"].startswith("default-src 'none'")
    assert headers["x-content-type-options"] == "nosniff" and headers["cache-control"] == "no-store"
    assert "strict-transport-security" not in headers
    assert (headers.get("connection") == "close") == (asked.get("body") is never or asked.get("method") == "TRACE")


def test_a_body_that_comes_too_slowly_is_sent_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(security, "_BODY_SECONDS", 0.05)

    async def drop() -> dict[str, Any]:
        await asyncio.sleep(0.02)
        return {"type": "http.request", "body": b"a", "more_body": True}

    assert ask(guarded(), "POST", body=drop)[0] == 408


def test_a_line_that_breaks_is_no_fault_and_gets_no_answer(caplog: pytest.LogCaptureFixture) -> None:
    guard = guarded()

    async def gone() -> dict[str, Any]:
        return {"type": "http.disconnect"}

    with pytest.raises(IndexError):  # nothing was sent
        ask(guard, "POST", body=gone)
    assert caplog.records == []
    assert 'method="POST",status="499"} 1' in guard._metrics.text({})


def test_requests_and_changes_have_their_own_limits() -> None:
    guard = guarded(Rates(requests=Rate(6, 1e-6), changes=Rate(2, 1e-6)))
    assert [ask(guard, "POST")[0] for _ in range(3)] == [200, 200, 429]
    assert [ask(guard)[0] for _ in range(4)] == [200, 200, 200, 429]


@pytest.mark.parametrize(
    ("forwarded", "client"),
    [
        ("10.0.0.1, 198.51.100.7", "198.51.100.7"),
        ("2001:db8:1:2:3::4", "2001:db8:1:2::/64"),
        ("::ffff:1.2.3.4", "1.2.3.4"),
    ],
)
def test_a_proxy_is_believed_only_where_there_is_one(forwarded: str, client: str) -> None:
    headers = {"x-forwarded-for": forwarded, "x-forwarded-proto": "https"}
    _, found, body = ask(guarded(trusted_proxy=True), headers=headers)
    assert body.decode() == f"0 {client} True" and "strict-transport-security" in found
    assert ask(guarded(), headers=headers)[2] == b"0 192.0.2.9 False"


def test_a_line_of_the_log_has_neither_query_nor_what_looks_like_a_token() -> None:
    lines: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())  # type: ignore[method-assign]
    logger = logging.getLogger("facesr.web.requests")
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        ask(guarded(), path=f"/signin/{'T0ken-_' * 7}\n", query=b"token=abc")
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
    line = json.loads(lines[0])
    assert line["path"] == "/signin/...\n" and "abc" not in lines[0] and "\n" not in lines[0]
    assert line["status"] == 200 and line["client"] == "192.0.2.9"


def test_metrics_count_by_route_and_status() -> None:
    metrics = Metrics()
    metrics.observe("/a", "GET", 200, 0.003)
    metrics.observe("/a", "GET", 404, 7.0)
    text = metrics.text({"gauge": ("About.", [((("state", 'q"\n'),), 3)])})
    assert 'facesr_requests_total{route="/a",method="GET",status="404"} 1' in text
    assert 'facesr_request_seconds_bucket{route="/a",le="0.005"} 1' in text
    assert 'facesr_request_seconds_bucket{route="/a",le="+Inf"} 2' in text
    assert 'facesr_request_seconds_sum{route="/a"} 7.003' in text and 'gauge{state="q\\"\\n"} 3' in text
