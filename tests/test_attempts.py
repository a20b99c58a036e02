"""What ranks that are started again share, and with whom."""

import threading
from datetime import timedelta

import pytest

from facesr import dist
from facesr.attempts import word_of_attempt
from facesr.lost_rank import is_of_lost_rank


def test_ranks_that_are_started_again_share_nothing_with_the_dead() -> None:
    store = dist.td.HashStore()
    words = []
    for attempt in range(2):
        # Of a rank that died before it was answered, or while it waited.
        store.set("facesr/ask/1", f"dead{attempt}")
        found: dict[int, str] = {}

        def join(number: int, found: dict[int, str] = found) -> None:
            found[number] = word_of_attempt(store, number, 3, timedelta(seconds=30))

        ranks = [threading.Thread(target=join, args=(number,)) for number in range(3)]
        for rank in ranks:
            rank.start()
        for rank in ranks:
            rank.join()
        assert sorted(found) == [0, 1, 2] and len(set(found.values())) == 1
        words.append(found[0])
    assert words[0] != words[1]


def test_a_rank_that_never_comes_is_waited_for_in_vain() -> None:
    store = dist.td.HashStore()
    store.set("facesr/ask/1", "dead")
    with pytest.raises(RuntimeError, match="1 of 2 ranks") as raised:
        word_of_attempt(store, 0, 2, timedelta(seconds=0.05))
    assert is_of_lost_rank(raised.value)
