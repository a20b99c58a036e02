"""Ranks with ties against cases worked by hand, a slow oracle and what has to hold for every table."""

import itertools
import time

import numpy as np
import pytest

from facesr.evaluation.bootstrap import interval_of_mean
from facesr.leaderboard.ranking import Rank, ladder, order, ranks


def table_of(seed: int, entries: int = 12, faces: int = 40) -> np.ndarray:
    """Returns scores of entries that share hard and easy faces, some of them close together."""
    random = np.random.default_rng(seed)
    skill = np.round(random.normal(0.5, 0.03, (entries, 1)), 2)
    return skill + random.normal(0, 0.1, (1, faces)) + random.normal(0, 0.06, (entries, faces))


def places(table: np.ndarray, *, higher_is_better: bool = True, **options: int) -> list[tuple[int, int]]:
    found = ranks(np.array(table, np.float64), higher_is_better=higher_is_better, **options)
    return [(rank.first, rank.last) for rank in found]


def slow_places(table: np.ndarray, higher_is_better: bool, num_resamples: int, seed: int) -> list[tuple[int, int]]:
    """Returns the same by the definition, one comparison after another."""
    drawn = np.random.default_rng(seed).integers(0, table.shape[1], (num_resamples, table.shape[1]))
    count = len(table)
    better = [[False] * count for _ in range(count)]
    for a, b in itertools.permutations(range(count), 2):
        gain = (table[a] - table[b]) * (1 if higher_is_better else -1)
        doubts = sum(1 for faces in drawn if gain[faces].sum() <= 1e-9)
        better[a][b] = doubts / num_resamples <= 0.025
    return [
        (1 + sum(better[b][a] for b in range(count)), sum(not better[a][b] for b in range(count))) for a in range(count)
    ]


class TestByHand:
    def test_clear_differences_are_plain_places(self):
        rows = np.array([[0.1], [0.3], [0.2]]) + np.zeros((3, 10))
        assert places(rows) == [(3, 3), (1, 1), (2, 2)]
        assert places(rows, higher_is_better=False) == [(1, 1), (3, 3), (2, 2)]

    def test_a_difference_that_hangs_on_one_face_is_none(self):
        # 0.9^10 = 35 % of the draws leave the one face out, and then the two are equal.
        first, second = np.full(10, 0.5), np.full(10, 0.5)
        first[3] = 0.9
        assert places([first, second]) == [(1, 2), (1, 2)]

    def test_a_small_gain_on_every_face_counts_where_faces_differ_much(self):
        easy = np.linspace(0.0, 1.0, 30)
        assert places([easy, easy + 1e-6]) == [(2, 2), (1, 1)]
        # Two intervals of the means would overlap nearly wholly.
        assert ranks(np.stack([easy, easy + 1e-6]), higher_is_better=True)[0].high > 0.55

    def test_the_tail_is_two_and_a_half_percent(self):
        # 2 of 10 faces are lost by as much as each other one is won: where k of them are drawn, it wins by 10 - 2k.
        # P(k >= 5), k of Binomial(10, 0.2), is 3.3 %, too much. For 3 of 20 faces P(k >= 10) is 0.02 %.
        row = np.where(np.arange(10) < 2, -1.0, 1.0)
        assert places([row, np.zeros(10)], num_resamples=20_000) == [(1, 2), (1, 2)]
        row = np.where(np.arange(20) < 3, -1.0, 1.0)
        assert places([row, np.zeros(20)], num_resamples=20_000) == [(1, 1), (2, 2)]

    def test_two_pairs_of_ties(self):
        base = np.linspace(0.2, 0.8, 20)
        wobble = np.where(np.arange(20) % 2, 0.01, -0.01)
        rows = [base, base + wobble, base + 0.2, base + 0.2 - wobble]
        assert places(rows) == [(3, 4), (3, 4), (1, 2), (1, 2)]

    def test_score_and_interval_are_those_of_the_report(self):
        table = table_of(3, entries=4, faces=37)
        for row, rank in zip(table, ranks(table, higher_is_better=True), strict=True):
            assert rank.score == pytest.approx(row.mean(), abs=1e-15)
            assert (rank.low, rank.high) == pytest.approx(interval_of_mean(row, 2000, 0), abs=1e-9)

    def test_one_entry_and_one_face(self):
        assert ranks(np.array([[0.5]]), higher_is_better=True) == [Rank(1, 1, 0.5, 0.5, 0.5)]
        assert places([[0.5], [0.25], [0.5]]) == [(1, 2), (3, 3), (1, 2)]

    def test_no_entries(self):
        assert ranks(np.empty((0, 5)), higher_is_better=True) == []
        assert order(np.empty((0, 5)), higher_is_better=True) == []


@pytest.mark.parametrize("higher_is_better", [True, False])
def test_slow_oracle_says_the_same(higher_is_better):
    table = table_of(1, entries=7, faces=25)
    found = places(table, higher_is_better=higher_is_better, num_resamples=200, seed=5)
    assert found == slow_places(table, higher_is_better, 200, 5)
    assert len(set(found)) > 3


@pytest.mark.parametrize("seed", range(4))
class TestWhatAlwaysHolds:
    def test_order_of_rows_changes_nothing(self, seed):
        table = table_of(seed)
        shuffled = np.random.default_rng(seed).permutation(len(table))
        found = ranks(table, higher_is_better=True)
        assert ranks(table[shuffled], higher_is_better=True) == [found[row] for row in shuffled]

    def test_equal_rows_have_equal_ranks(self, seed):
        table = table_of(seed)
        found = ranks(np.concatenate([table, table[2:3]]), higher_is_better=True)
        assert found[2] == found[-1]
        assert found[2].last > found[2].first

    def test_a_further_entry_moves_no_pair(self, seed):
        table = table_of(seed)
        before = places(table)
        # One that is better than all: everybody moves down by one, and nothing else happens.
        assert places(np.concatenate([table, table.max(axis=0, keepdims=True) + 1])) == [
            *((first + 1, last + 1) for first, last in before),
            (1, 1),
        ]

    def test_place_by_the_mean_lies_in_the_range(self, seed):
        table = table_of(seed)
        found = places(table)
        for place, row in enumerate(order(table, higher_is_better=True), start=1):
            assert found[row][0] <= place <= found[row][1]

    def test_the_direction_is_a_sign(self, seed):
        table = table_of(seed)
        assert places(-table, higher_is_better=False) == places(table)

    def test_unit_and_zero_change_nothing(self, seed):
        table = np.rint(table_of(seed) * 1024) / 1024
        assert places(table * 64 - 3) == places(table)


def test_large_values_stay_exact():
    table = np.rint(table_of(0) * 1000) * 2.0**40
    assert places(table) == places(table * 2.0**-40)


def test_order_of_equal_means_is_that_of_time():
    table = np.array([[0.1, 0.3], [0.2, 0.2], [0.3, 0.1], [0.5, 0.5]])
    assert order(table, higher_is_better=True) == [3, 0, 1, 2]
    assert order(table, higher_is_better=False) == [0, 1, 2, 3]


def test_a_full_board_takes_a_moment():
    table = table_of(2, entries=500, faces=300)
    start = time.process_time()
    found = places(table)
    assert time.process_time() - start < 10
    assert found[order(table, higher_is_better=True)[0]][0] == 1


@pytest.mark.parametrize("table", [np.zeros(3), np.zeros((2, 0)), np.array([[np.nan]]), np.array([[np.inf, 1.0]])])
def test_what_cannot_be_ranked_is_refused(table):
    with pytest.raises(ValueError, match="ranks need a table"):
        ranks(table, higher_is_better=True)


def test_too_few_resamples_are_refused():
    with pytest.raises(ValueError, match="at least 40"):
        ranks(np.zeros((1, 1)), higher_is_better=True, num_resamples=39)


class TestLadder:
    def test_by_hand(self):
        # 0.62 is shown as 0.6; 0.69 is 0.09 above it; 0.71 is 0.11 above it; 0.8 is exactly a step above 0.7; ...
        assert ladder([0.62, 0.69, 0.71, 0.8, 0.1, 0.86], 0.1, True) == [0.6, 0.6, 0.7, 0.7, 0.7, 0.9]

    def test_lower_is_better(self):
        assert ladder([3.04, 2.9, 2.91, 2.5], 0.1, False) == [3.0, 3.0, 3.0, 2.5]

    def test_numbers_are_decimal_ones(self):
        # In binary 0.7 + 0.1 is less than 0.8, and 3 * 0.1 more than 0.3.
        assert ladder([0.7, 0.8], 0.1, True) == [0.7, 0.7]
        assert ladder([0.3], 0.1, True) == [0.3]

    def test_no_scores(self):
        assert ladder([], 0.1, True) == []

    def test_taken_off_the_board_it_stays_the_one_to_beat(self):
        # 0.7 is not shown for others any more, and 0.79 is still only 0.09 above it; 0.81 is 0.11 above it.
        assert ladder([0.62, 0.7, 0.79, 0.81], 0.1, True, [True, True, True, True]) == [0.6, 0.6, 0.8, 0.8]
        scores, off = [0.62, 0.71, 0.79, 0.82], [True, False, True, True]
        assert ladder(scores, 0.1, True) == [0.6, 0.7, 0.7, 0.8]
        assert ladder(scores, 0.1, True, off) == [0.6, 0.7, 0.6, 0.8]

    def test_without_a_step_that_stands_there_is_none(self):
        assert ladder([0.99, 0.5, 0.97], 0.1, True, [False, True, True]) == [1.0, None, None]
        assert ladder([0.6, 0.62, 0.61], 0.1, True, [False, False, True]) == [0.6, None, None]

    def test_taken_off_where_lower_is_better(self):
        assert ladder([3.0, 2.5, 2.45, 2.38], 0.1, False, [True, False, True, True]) == [3.0, 2.5, 3.0, 2.4]

    def test_who_stands_has_to_be_said_of_all(self):
        with pytest.raises(ValueError, match="shorter"):
            ladder([0.1, 0.2], 0.1, True, [True])

    @pytest.mark.parametrize(("scores", "step"), [([0.1], 0.0), ([0.1], -1.0), ([float("nan")], 0.1)])
    def test_nonsense_is_refused(self, scores, step):
        with pytest.raises(ValueError, match="a ladder needs"):
            ladder(scores, step, True)
