"""Limits that several servers share: on SQLite and PostgreSQL, in several processes, under a flood."""

import json
import random
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx
import pytest
from sqlalchemy import text

from facesr.leaderboard.app import create_app
from facesr.web.database import Database
from facesr.web.rates import Both, Buckets, Rate
from facesr.web.security import Rates, Refusal
from facesr.web.shared_rates import SharedBuckets
from tests.leaderboard.site import Client, make_site
from tests.web.serving import served

SECRET = b"s" * 32
SLOW = Rate(3, 0.001)
_TAKER = """
import json, sys
from facesr.web.database import Database
from facesr.web.rates import Rate
from facesr.web.shared_rates import SharedBuckets
limit = SharedBuckets(Database(sys.argv[1]), b"s" * 32).limit("changes", Rate(60, 1e-4))
sys.stdin.readline()
print(json.dumps([limit.take("192.0.2.7") == 0 for _ in range(50)]))
"""


class Clock:
    """A clock that is turned by hand."""

    now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


def address_of(database: Database) -> str:
    return database.engine.url.render_as_string(hide_password=False)


def rows_of(shared: SharedBuckets) -> int:
    with shared._engine.connect() as connection:
        return int(connection.execute(text("SELECT COUNT(*) FROM facesr_rates")).scalar_one())


@pytest.fixture
def other(database: Database):
    """The same database, as another server has it open."""
    found = Database(address_of(database))
    yield found
    found.close()


def test_two_servers_count_together(database: Database, other: Database) -> None:
    first, second = (SharedBuckets(one, SECRET).limit("changes", SLOW) for one in (database, other))
    assert [first.take("a"), second.take("a"), first.take("a")] == [0, 0, 0]
    for limit in (first, second):
        assert 980 < limit.take("a") <= 1000 and 980 < limit.wait("a") <= 1000
        assert limit.wait("b") == 0
    assert [second.take("b") for _ in range(4)][:3] == [0, 0, 0] and second.wait("b") > 980
    assert SharedBuckets(other, SECRET).limit("failures", SLOW).take("a") == 0


def test_what_was_taken_comes_back(database: Database) -> None:
    limit = SharedBuckets(database, SECRET).limit("changes", Rate(2, 5))
    assert [limit.take("a") > 0 for _ in range(3)] == [False, False, True]
    time.sleep(0.21)
    assert limit.take("a") == 0


def test_processes_at_once_are_given_the_burst_and_no_more(database: Database) -> None:
    command = [sys.executable, "-c", _TAKER, address_of(database)]
    takers = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    for taker in takers:
        assert taker.stdin is not None
        taker.stdin.write("go\n")
        taker.stdin.flush()
    found = [json.loads(taker.communicate(timeout=120)[0]) for taker in takers]
    assert sum(map(sum, found)) == 60


def test_it_says_what_buckets_in_memory_say(tmp_path: Path) -> None:
    clock, draw = Clock(), random.Random(0)
    database = Database(f"sqlite:///{tmp_path / 'board.sqlite'}")
    rate = Rate(4, 0.5)
    shared = SharedBuckets(database, SECRET, clock=clock)
    limit, oracle = shared.limit("x", rate), Buckets(rate, clock=clock)
    refused = 0
    for number in range(600):
        clock.now += draw.choice([0, 0, 0, 0.25, 0.25, 1, 2, 4])
        key = draw.choice("ab")
        assert limit.wait(key) == pytest.approx(oracle.wait(key), abs=1e-5)
        wait = limit.take(key)
        assert wait == pytest.approx(oracle.take(key), abs=1e-5)
        refused += wait > 0
        if number % 7 == 0:
            shared.tidy()
    assert 80 < refused < 400
    database.close()


def test_rows_that_say_nothing_go(tmp_path: Path) -> None:
    clock = Clock()
    database = Database(f"sqlite:///{tmp_path / 'board.sqlite'}")
    shared = SharedBuckets(database, SECRET, clock=clock)
    limit = shared.limit("x", Rate(5, 1))
    limit.take("once")
    for _ in range(5):
        limit.take("often")
    clock.now += 2
    shared.tidy()
    assert rows_of(shared) == 1 and limit.wait("often") == 0 and limit.take("often") == 0
    clock.now -= 3600
    shared.tidy()
    assert rows_of(shared) == 0, "a clock that was put back shuts nobody out"
    database.close()


def test_a_flood_from_many_addresses_leaves_few_rows(database: Database) -> None:
    shared = SharedBuckets(database, SECRET, max_rows=50)
    limit = shared.limit("x", SLOW)
    for _ in range(3):
        limit.take("guesser")
    for number in range(300):
        limit.take(f"2001:db8:0:{number:x}::/64")
    shared.tidy()
    assert rows_of(shared) == 50
    assert limit.wait("guesser") > 980, "who is limited most is forgotten last"


def test_it_is_tidied_while_it_is_used(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("facesr.web.shared_rates.TIDY_SECONDS", 0.05)
    shared = SharedBuckets(database, SECRET)
    limit = shared.limit("x", Rate(1000, 1000))
    for number in range(30):
        limit.take(str(number))
    time.sleep(0.1)
    limit.take("last")
    assert rows_of(shared) == 1


@pytest.mark.slow
def test_limits_and_writers_do_not_wait_for_each_other(database: Database) -> None:
    shared = SharedBuckets(database, SECRET)
    limit = shared.limit("x", SLOW)
    limit.take("a")
    with database.write() as session:
        session.execute(text("UPDATE alembic_version SET version_num = version_num"))
        start = time.monotonic()
        assert limit.take("a") == 0 and limit.take("b") == 0
        assert time.monotonic() - start < 1
    with shared._engine.connect() as connection:
        if database.is_sqlite:
            connection.execute(text("BEGIN IMMEDIATE"))
        else:
            connection.execute(text("BEGIN"))
            connection.execute(text("SELECT * FROM facesr_rates FOR UPDATE"))
        start = time.monotonic()
        with database.write() as session:
            session.execute(text("UPDATE alembic_version SET version_num = version_num"))
        assert time.monotonic() - start < 1
        with pytest.raises(Refusal, match="cannot be reached") as caught:
            limit.take("a")
        assert caught.value.status == 503 and 1 < time.monotonic() - start < 8
        connection.execute(text("ROLLBACK"))
    assert limit.take("a") == 0


def test_no_address_is_kept(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'board.sqlite'}")
    SharedBuckets(database, SECRET).limit("x", SLOW).take("203.0.113.5")
    database.close()
    kept = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert b"facesr_rates" in kept and b"203.0.113" not in kept


def test_both_asks_the_second_only_where_the_first_says_yes() -> None:
    clock = Clock()
    first, second = Buckets(Rate(2, 1), clock=clock), Buckets(Rate(3, 0.25), clock=clock)
    both = Both(first, second)
    assert [both.take("a") for _ in range(3)] == [0, 0, 1]
    clock.now += 1
    assert both.take("a") == 0 and second.wait("a") == 3 and both.wait("a") == 1
    clock.now += 1
    assert both.take("a") == 2 and both.wait("a") == 1


# The board


def test_servers_of_a_board_share_what_matters(tmp_path: Path) -> None:
    site = make_site(tmp_path / "board")
    site.team("First")
    rates = Rates(changes=Rate(30, 0.001), failures=Rate(4, 0.001), by_token=Rate(6, 0.001))
    again = Database(site.place.url)
    apps = [create_app(site.place, one, rates=rates) for one in (site.database, again)]
    known = {"Authorization": f"Bearer {site.tokens['First']}"}
    allowance, sending = "/api/v1/phases/final/allowance", "/api/v1/phases/final/uploads"

    def statuses(address: str, method: str, path: str, count: int, **more: object) -> list[int]:
        pair = [Client(app, address) for app in apps]
        return [pair[number % 2].request(method, path, **more).status_code for number in range(count)]

    # Wrong tokens of an address.
    wrong = {"Authorization": f"Bearer {'x' * 43}"}
    assert statuses("203.0.113.1", "GET", allowance, 8, headers=wrong) == [401] * 4 + [429] * 4
    # Changes of an address; plain reads go on.
    assert statuses("203.0.113.2", "POST", "/signin", 34, data={"token": "x"}) == [403] * 30 + [429] * 4
    assert statuses("203.0.113.2", "GET", "/", 8) == [200] * 8
    # Changes with one token, from whatever address; reads with it are counted by each server alone.
    found = [statuses(f"203.0.113.{number}", "POST", sending, 2, headers=known, json=[]) for number in range(10, 15)]
    assert found == [[400, 400]] * 3 + [[429, 429]] * 2
    site.database.close()
    again.close()


def test_reads_with_a_token_are_no_writes(tmp_path: Path) -> None:
    site = make_site(tmp_path / "board")
    site.team("First")
    app = create_app(site.place, site.database)
    known = {"Authorization": f"Bearer {site.tokens['First']}"}
    for path in ("/", "/phases/final", "/api/v1/phases/final/allowance"):
        assert Client(app).get(path, headers=known).status_code == 200
    assert rows_of(app.state.board.limits) == 0
    site.database.close()


@pytest.mark.slow
def test_reads_are_answered_while_changes_wait_for_their_count(tmp_path: Path, monkeypatch) -> None:
    """More changes than there are threads for their count, and none of them is answered."""
    site = make_site(tmp_path / "board")
    app = create_app(site.place, site.database)
    go, asked = threading.Event(), threading.Semaphore(0)

    def take(self: object, key: str) -> float:
        asked.release()
        go.wait(20)
        return 0.0

    monkeypatch.setattr("facesr.web.shared_rates.SharedLimit.take", take)
    with served(app) as url:
        posts = [
            threading.Thread(target=httpx.post, args=(f"{url}/signin",), kwargs={"timeout": 30}) for _ in range(60)
        ]
        for thread in posts:
            thread.start()
        for _ in range(4):
            assert asked.acquire(timeout=10)
        try:
            start = time.monotonic()
            assert [httpx.get(f"{url}/phases/final", timeout=10).status_code for _ in range(5)] == [200] * 5
            assert time.monotonic() - start < 5 and not asked.acquire(blocking=False)
        finally:
            go.set()
            for thread in posts:
                thread.join(30)
    site.database.close()
