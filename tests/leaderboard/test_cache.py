"""Pages that are kept: made once, whoever asks at the same time."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from facesr.leaderboard.cache import Rendered


def test_page_is_made_once_for_all_who_ask_at_once() -> None:
    rendered, count, start = Rendered(), 0, threading.Barrier(8)

    def make() -> bytes:
        nonlocal count
        count += 1
        time.sleep(0.05)
        return b"page"

    def ask() -> bytes:
        start.wait()
        return rendered.made("key", make)

    with ThreadPoolExecutor(8) as pool:
        assert {future.result() for future in [pool.submit(ask) for _ in range(8)]} == {b"page"}
    assert count == 1


def test_page_that_cannot_be_made_is_tried_again() -> None:
    rendered = Rendered()

    def fail() -> bytes:
        raise ValueError("no page")

    with pytest.raises(ValueError, match="no page"):
        rendered.made("key", fail)
    assert rendered.made("key", lambda: b"page") == b"page"
