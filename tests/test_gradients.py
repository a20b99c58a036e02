"""Gradients averaged over ranks, with a second rank that is played: when its share has come, every sum is doubled."""

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from facesr import dist
from facesr.errors import ConfigError
from facesr.gradients import GradientMean, check_gradient_sync

SYNCS = ("flat", "overlap")


class OtherRank:
    """Stands for facesr.dist with two ranks whose gradients are equal.

    Attributes:
        sent: sizes of the messages in the order in which they left.
        at: what `moment` was when each left.
        moment: set by a test.
    """

    def __init__(self) -> None:
        self.sent: list[int] = []
        self.at: list[str] = []
        self.moment = ""

    def sum_started(self, flat: Tensor, channel: Any) -> Callable[[], Any]:
        """Notes the message; only waiting makes the sum."""
        self.sent.append(flat.numel())
        self.at.append(self.moment)
        return lambda: flat.mul_(2.0)


@pytest.fixture
def other(monkeypatch: pytest.MonkeyPatch) -> Iterator[OtherRank]:
    """Yields the second rank, which is there."""
    played = OtherRank()
    monkeypatch.setattr(dist, "is_alone", lambda: False)
    monkeypatch.setattr(dist, "world_size", lambda: 2)
    monkeypatch.setattr(dist, "channel_apart", lambda: None)
    monkeypatch.setattr(dist, "sum_started", played.sum_started)
    yield played


def layers(num: int = 8) -> nn.Sequential:
    """Returns layers of 4 x 4 weights each, so that each fills a bucket of its own."""
    torch.manual_seed(1)
    return nn.Sequential(*(nn.Linear(4, 4, bias=False) for _ in range(num)))


def mean_gradients(network: nn.Module, sync: str, backward: Callable[[], Any]) -> list[Tensor | None]:
    network.zero_grad()
    mean = GradientMean(network.parameters(), sync)
    with mean.sending():
        backward()
    mean.wait()
    return [parameter.grad for parameter in network.parameters()]


@pytest.mark.parametrize("sync", SYNCS)
def test_the_mean_of_two_equal_ranks_is_what_each_has(other: OtherRank, sync: str) -> None:
    # A kernel in each memory layout, a matrix, biases, a single value: all come back where they belong.
    torch.manual_seed(2)
    network = nn.Sequential(
        nn.Conv2d(3, 5, 3), nn.Conv2d(5, 7, 3), nn.PReLU(), nn.Conv2d(7, 2, 1), nn.Flatten(), nn.Linear(32, 3)
    )
    network[1].to(memory_format=torch.channels_last)
    faces = torch.randn(2, 3, 8, 8)
    network(faces).square().sum().backward()
    own = [parameter.grad for parameter in network.parameters()]
    found = mean_gradients(network, sync, lambda: network(faces).square().sum().backward())
    for expected, gradient, parameter in zip(own, found, network.parameters(), strict=True):
        assert expected is not None and gradient is not None and torch.equal(gradient, expected)
        assert gradient.stride() == parameter.stride()
    assert len(other.sent) == 1 if sync == "flat" else len(other.sent) > 1


def test_buckets_leave_during_the_backward_pass_and_the_flat_message_after_it(other: OtherRank) -> None:
    network = layers()

    def backward() -> None:
        other.moment = "during"
        network(torch.ones(1, 4)).sum().backward()
        other.moment = "after"

    mean_gradients(network, "overlap", backward)
    # 16 values and a flag each.
    assert other.sent == [17] * 8 and other.at == ["during"] * 8
    other.sent, other.at = [], []
    mean_gradients(network, "flat", backward)
    assert other.sent == [8 * 17] and other.at == ["after"]


def test_buckets_leave_in_one_order_whatever_order_gradients_come_in(other: OtherRank) -> None:
    sizes = (3, 20, 40, 70)  # padded to 16, 32, 48 and 80, each a bucket
    weights = [nn.Parameter(torch.ones(size)) for size in sizes]
    orders = ([0, 1, 2, 3], [3, 2, 1, 0], [1, 3, 0, 2])
    sent = []
    for order in orders:
        other.sent = []
        mean = GradientMean(weights, "overlap")
        with mean.sending():
            for number in order:
                weights[number].grad = None
                (2.0 * weights[number].sum()).backward()
        mean.wait()
        sent.append(other.sent)
        assert all(weight.grad is not None and bool((weight.grad == 2.0).all()) for weight in weights)
    assert sent == [[81, 49, 33, 17]] * 3


def test_only_the_last_of_several_backward_passes_sends(other: OtherRank) -> None:
    network = layers()
    network.zero_grad()
    mean = GradientMean(network.parameters(), "overlap")
    parts = torch.randn(3, 4, generator=torch.Generator().manual_seed(3))
    for number, part in enumerate(parts):
        assert other.sent == []
        with mean.sending(last=number == 2):
            network(part).sum().backward()
    mean.wait()
    found = [parameter.grad for parameter in network.parameters()]
    network.zero_grad()
    for part in parts:
        network(part).sum().backward()
    for gradient, parameter in zip(found, network.parameters(), strict=True):
        assert gradient is not None and parameter.grad is not None and torch.equal(gradient, parameter.grad)


def test_a_backward_pass_after_the_last_one_is_an_error(other: OtherRank) -> None:
    network = layers()
    mean = GradientMean(network.parameters(), "overlap")
    with pytest.raises(RuntimeError, match="after it had been sent"), mean.sending():
        network(torch.ones(1, 4)).sum().backward()
        network(torch.ones(1, 4)).sum().backward()


@pytest.mark.parametrize("sync", SYNCS)
def test_a_gradient_that_all_ranks_lack_stays_none(other: OtherRank, sync: str) -> None:
    network = layers()
    network[2].requires_grad_(False)
    found = mean_gradients(network, sync, lambda: network[4:](torch.ones(1, 4)).sum().backward())
    assert [gradient is None for gradient in found] == [True] * 4 + [False] * 4
    # The frozen layer's 16 values are not sent.
    assert sum(other.sent) == 7 * 17


def test_all_has_left_by_the_end_of_the_pass_even_behind_a_gradient_that_does_not_come(other: OtherRank) -> None:
    # The next network's buckets must not get in between on the ranks that lack it.
    network = layers()
    mean = GradientMean(network.parameters(), "overlap")
    with mean.sending():
        network[:7](torch.ones(1, 4)).sum().backward()
        assert other.sent == []
    assert other.sent == [17] * 8


@pytest.mark.parametrize("sync", SYNCS)
def test_a_gradient_that_only_this_rank_lacks_is_the_others_share(
    other: OtherRank, sync: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = layers(2)

    def with_ones(flat: Tensor, channel: Any) -> Callable[[], Any]:
        return lambda: flat.add_(1.0)

    monkeypatch.setattr(dist, "sum_started", with_ones)
    first, second = mean_gradients(network, sync, lambda: network[1](torch.full((1, 4), 3.0)).sum().backward())
    assert first is not None and bool((first == 0.5).all())
    assert second is not None and bool((second == 2.0).all())


def test_values_that_are_not_finite_reach_all(other: OtherRank) -> None:
    network = layers()
    found = mean_gradients(network, "overlap", lambda: network(torch.full((1, 4), torch.inf)).sum().backward())
    assert any(gradient is not None and not bool(torch.isfinite(gradient).all()) for gradient in found)


@pytest.mark.parametrize("sync", SYNCS)
def test_one_rank_keeps_its_gradients_and_hooks_nothing(sync: str) -> None:
    network = layers()
    mean = GradientMean(network.parameters(), sync)
    network(torch.ones(1, 4)).sum().backward()
    own = [parameter.grad for parameter in network.parameters()]
    with mean.sending():
        assert not any(parameter._post_accumulate_grad_hooks for parameter in network.parameters())
    mean.wait()
    assert all(parameter.grad is gradient for parameter, gradient in zip(network.parameters(), own, strict=True))


def test_hooks_are_gone_after_the_pass_and_after_an_error_in_it(other: OtherRank) -> None:
    network = layers()
    for trouble in (nullcontext(), pytest.raises(ZeroDivisionError)):
        with trouble, GradientMean(network.parameters(), "overlap").sending():
            network(torch.ones(1, 4)).sum().backward()
            if not isinstance(trouble, nullcontext):
                raise ZeroDivisionError
        assert not any(parameter._post_accumulate_grad_hooks for parameter in network.parameters())


def test_bf16_halves_the_bytes_and_is_off_by_no_more_than_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three ranks whose gradients are known: sums in bf16 against those in double precision."""
    torch.manual_seed(4)
    shares = torch.randn(3, 4000) * torch.logspace(-6, 2, 4000)
    weight = nn.Parameter(torch.zeros(4000))
    bytes_sent: dict[str, int] = {}

    def sum_started(flat: Tensor, channel: Any) -> Callable[[], Any]:
        bytes_sent[precision] = flat.numel() * flat.element_size()

        def add() -> None:
            for share in shares[1:]:
                flat[:4000] += share.to(flat.dtype)

        return add

    monkeypatch.setattr(dist, "is_alone", lambda: False)
    monkeypatch.setattr(dist, "world_size", lambda: 3)
    monkeypatch.setattr(dist, "sum_started", sum_started)
    off = {}
    for precision in ("fp32", "bf16"):
        weight.grad = shares[0].clone()
        GradientMean([weight], "flat", precision).wait()
        assert weight.grad.dtype == torch.float32
        off[precision] = (weight.grad - shares.double().mean(0)).abs() / shares.double().abs().mean(0)
    assert bytes_sent["fp32"] == 2 * bytes_sent["bf16"]
    assert off["fp32"].max() < 1e-6 and 1e-3 < off["bf16"].max() < 3 / 2**8


def test_an_unknown_way_or_precision_is_refused() -> None:
    for sync in SYNCS:
        for precision in ("fp32", "bf16"):
            check_gradient_sync(sync, precision)
    with pytest.raises(ConfigError, match="gradient_sync=ddp is unknown; choose flat or overlap"):
        check_gradient_sync("ddp", "fp32")
    with pytest.raises(ConfigError, match="gradient_precision=fp8 is unknown; choose fp32 or bf16"):
        check_gradient_sync("flat", "fp8")
