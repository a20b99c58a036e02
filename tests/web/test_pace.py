"""The pace of bodies: by hand on a clock that stands still, and on a real one with many senders."""

import time

import anyio
import pytest

from facesr.web.pace import Pace


def test_pauses_by_hand():
    now = [100.0]
    pace = Pace(1000.0, lambda: now[0])
    # 10 bytes are 10 ms, within the slack; with 90 more it is 100 ms, and 500 of another sender come behind them.
    assert pace.take(10) == 0.0
    assert pace.take(90) == pytest.approx(0.1)
    assert pace.take(500) == pytest.approx(0.6)
    # Half a second later 100 ms of that are left.
    now[0] += 0.5
    assert pace.take(100) == pytest.approx(0.2)
    # A long silence saves nothing up.
    now[0] += 1000.0
    assert pace.take(300) == pytest.approx(0.3)


def test_many_senders_share_the_rate_and_every_byte_comes():
    async def pieces(number):
        for count in range(5):
            yield bytes([number, count]) * 500

    async def main():
        pace, got = Pace(100_000.0), {}

        async def read(number):
            got[number] = b"".join([piece async for piece in pace.of(pieces(number))])

        start = time.monotonic()
        async with anyio.create_task_group() as group:
            for number in range(4):
                group.start_soon(read, number)
        return time.monotonic() - start, got

    seconds, got = anyio.run(main)
    # 4 senders of 5,000 bytes at 100,000 a second.
    assert seconds >= 0.19
    assert got == {n: b"".join(bytes([n, count]) * 500 for count in range(5)) for n in range(4)}


def test_a_single_small_body_does_not_wait():
    async def pieces():
        yield b"x" * 10

    async def main():
        pace = Pace(1000.0)
        return [piece async for piece in pace.of(pieces())]

    start = time.monotonic()
    assert anyio.run(main) == [b"x" * 10]
    assert time.monotonic() - start < 5.0
