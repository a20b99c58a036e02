"""Both ways of sending gradients, between ranks that are there (`tests/training/synced_gradients.py`)."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.ranks import run_as_ranks

pytestmark = pytest.mark.slow


def left_by(num_ranks: int, folder: Path) -> list[dict[str, Any]]:
    """Returns what each rank has left."""
    ranks = run_as_ranks(num_ranks, "tests/training/synced_gradients.py", [str(folder)])
    assert [rank.returncode for rank in ranks] == [0] * num_ranks, [rank.stderr for rank in ranks]
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(num_ranks)]


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """Returns what each of two ranks has left."""
    return left_by(2, tmp_path_factory.mktemp("two"))


def tensors(left: Any, name: str = "") -> Iterator[tuple[str, Tensor]]:
    """Yields every tensor with its place."""
    if isinstance(left, Tensor):
        yield name, left
    elif isinstance(left, dict):
        for key, value in left.items():
            yield from tensors(value, f"{name}.{key}")


@pytest.mark.parametrize("how", ["whole", "in parts"])
def test_two_ranks_have_the_same_bits_by_either_way(two: list[dict[str, Any]], how: str) -> None:
    expected = dict(tensors(two[0]["flat"][how]))
    assert len(expected) > 50
    for rank in two:
        for sync in ("flat", "overlap"):
            found = dict(tensors(rank[sync][how]))
            assert found.keys() == expected.keys()
            assert [name for name, tensor in found.items() if not torch.equal(tensor, expected[name])] == []


def test_ranks_send_the_same_messages_in_the_same_order(two: list[dict[str, Any]]) -> None:
    for sync, least in (("flat", 1), ("overlap", 4)):
        first, second = (rank[sync]["sizes"] for rank in two)
        assert first == second
        # Four steps of two networks, twice, and the uneven network once.
        assert len(first) == 17 if sync == "flat" else len(first) >= 17 * least


@pytest.mark.parametrize("sync", ["flat", "overlap"])
def test_gradients_that_a_rank_lacks_count_as_zero_and_none_waits_for_ever(
    two: list[dict[str, Any]], sync: str
) -> None:
    own = [rank["own"] for rank in two]
    assert [[gradient is None for gradient in rank] for rank in own] == [
        [number in (4,) for number in range(10)],
        [number in (3, 4, 9) for number in range(10)],
    ]
    for rank in two:
        for number, (gradient, first, second) in enumerate(zip(rank[sync]["uneven"], *own, strict=True)):
            if number == 4:
                assert gradient is None
                continue
            expected = (first + (0.0 if second is None else second)) / 2.0
            assert torch.equal(gradient, expected), number


def test_bf16_is_off_by_no_more_than_it_says(two: list[dict[str, Any]]) -> None:
    worst = 0.0
    for rank in two:
        for gradient, again, first, second in zip(
            rank["bf16"], two[0]["bf16"], *(one["own"] for one in two), strict=True
        ):
            if first is None:
                assert gradient is None
                continue
            assert torch.equal(gradient, again)
            second = torch.zeros_like(first) if second is None else second
            off = (gradient - (first + second) / 2.0).abs() / ((first.abs() + second.abs()) / 2.0)
            worst = max(worst, float(off.max()))
    assert 1e-3 < worst < 2 / 2**8


def test_three_ranks_agree_and_differ_from_the_flat_message_by_rounding_alone(tmp_path: Path) -> None:
    ranks = left_by(3, tmp_path)
    for how in ("whole", "in parts"):
        flat, expected = (dict(tensors(ranks[0][sync][how])) for sync in ("flat", "overlap"))
        for rank in ranks[1:]:
            found = dict(tensors(rank["overlap"][how]))
            assert [name for name, tensor in found.items() if not torch.equal(tensor, expected[name])] == []
        for name, tensor in flat.items():
            if "generator_optimizer" not in name and "discriminator_optimizer" not in name:
                torch.testing.assert_close(expected[name], tensor, rtol=1e-3, atol=1e-4, msg=name)
