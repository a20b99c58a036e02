"""Muon: orthogonal steps for kernels between features, Adam for the rest."""

import copy
from pathlib import Path

import pytest
import torch
from torch import nn

from facesr import dist
from facesr.training.muon import Muon, orthogonal
from tests.ranks import run_as_ranks


def _network() -> nn.Sequential:
    torch.manual_seed(1)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 16, 3), nn.ReLU(), nn.Flatten(), nn.Linear(16 * 4, 4, bias=False)
    )


def _with_gradients(network: nn.Module, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    network.zero_grad()
    network(torch.randn(5, 3, 6, 6, generator=generator)).square().mean().backward()


@pytest.mark.parametrize("shape", [(3, 16, 40), (2, 40, 16), (1, 12, 12)])
def test_keeps_the_directions_and_levels_the_sizes(shape: tuple[int, int, int]) -> None:
    """Singular vectors stay, singular values above a hundredth of the norm come to 0.6 .. 1.3."""
    torch.manual_seed(2)
    matrices = torch.randn(shape)
    left, values, right = torch.linalg.svd(matrices, full_matrices=False)
    found = left.mT @ orthogonal(matrices) @ right.mT
    levels = found.diagonal(dim1=1, dim2=2)
    large = values > 0.01 * values.square().sum(1, keepdim=True).sqrt()
    assert levels[large].min() > 0.6 and levels[large].max() < 1.3
    assert (found - torch.diag_embed(levels)).abs().max() < 1e-4


def test_gram_steps_agree_with_the_published_ones_on_the_whole_matrix() -> None:
    """Plain Newton-Schulz on the large matrix in double precision gives the same."""
    torch.manual_seed(3)
    matrix = torch.randn(24, 100) * torch.logspace(0, -3, 24)[:, None]
    wide = matrix.double() / matrix.double().norm()
    for _ in range(5):
        gram = wide @ wide.T
        wide = 3.4445 * wide + (-4.7750 * gram + 2.0315 * gram @ gram) @ wide
    assert (orthogonal(matrix[None])[0] - wide).abs().max() < 1e-4


def test_matrices_of_zeros_stay() -> None:
    """A layer without gradient is not moved, and nothing becomes NaN."""
    assert torch.equal(orthogonal(torch.zeros(1, 8, 9)), torch.zeros(1, 8, 9))


def test_moves_kernels_by_orthogonal_steps_of_adams_size_and_the_rest_as_adam() -> None:
    """The first step against each rule written out; layers from colours and biases are Adam's."""
    network = _network()
    before = copy.deepcopy(network)
    twin = copy.deepcopy(network)
    optimizer = Muon(network.parameters(), lr=1e-2)
    _with_gradients(network, 1)
    _with_gradients(twin, 1)
    optimizer.step()
    torch.optim.Adam(twin.parameters(), 1e-2, betas=(0.9, 0.99)).step()
    for (name, weight), old, adams in zip(
        network.named_parameters(), before.parameters(), twin.parameters(), strict=True
    ):
        if name not in ("2.weight", "5.weight"):
            assert torch.equal(weight, adams), name
            continue
        step = (old - weight).flatten(1)
        levels = torch.linalg.svdvals(step / (1e-2 * 0.2 * max(step.shape) ** 0.5))
        assert levels.max() < 1.3 and levels.mean() > 0.5, name
        # Adam's first step has the root mean square of its rate; this one a fifth of it times the matrix's aspect.
        assert 0.1e-2 < step.square().mean().sqrt() < 0.5e-2, name


def test_the_order_of_a_kernel_in_memory_changes_no_step() -> None:
    random = torch.Generator().manual_seed(4)
    start = torch.randn(8, 6, 3, 5, generator=random)
    gradients = torch.randn(3, 8, 6, 3, 5, generator=random)
    moved = []
    for memory_format in (torch.contiguous_format, torch.channels_last):
        weight = torch.nn.Parameter(start.clone(memory_format=memory_format))
        optimizer = Muon([weight], lr=0.1)
        for gradient in gradients:
            weight.grad = gradient.clone(memory_format=memory_format)
            optimizer.step()
        assert weight.is_contiguous(memory_format=memory_format)
        moved.append(weight.detach())
    torch.testing.assert_close(moved[0], moved[1], rtol=0, atol=1e-5)
    assert (moved[0] - start).abs().max() > 0.05


def test_goes_on_from_a_saved_state_exactly() -> None:
    """Three steps at once are two, a copy through state_dict, and one."""
    whole = _network()
    optimizer = Muon(whole.parameters(), lr=1e-2)
    for seed in (1, 2):
        _with_gradients(whole, seed)
        optimizer.step()
    resumed = copy.deepcopy(whole)
    other = Muon(resumed.parameters(), lr=1.0)
    other.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for network, moved in ((whole, optimizer), (resumed, other)):
        _with_gradients(network, 3)
        moved.step()
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), resumed.parameters(), strict=True))


def test_learns() -> None:
    """The loss of a small regression that it can solve falls to a hundredth."""
    torch.manual_seed(4)
    network = nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 4))
    inputs = torch.randn(64, 6)
    wanted = copy.deepcopy(network).requires_grad_(False)(inputs)
    for weight in network.parameters():
        nn.init.normal_(weight, std=0.3)
    optimizer = Muon(network.parameters(), lr=1e-2)
    losses = []
    for step in range(600):
        for group in optimizer.param_groups:
            group["lr"] = 1e-2 * (1 - step / 600)
        loss = (network(inputs) - wanted).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 100


def test_weights_without_a_gradient_stay_and_networks_without_matrices_train() -> None:
    """A frozen layer is left alone; a network of biases alone is Adam's."""
    network = _network()
    optimizer = Muon(network.parameters(), lr=1e-2)
    old = [weight.clone() for weight in network.parameters()]
    optimizer.step()
    assert all(torch.equal(a, b) for a, b in zip(network.parameters(), old, strict=True))
    bias = nn.Parameter(torch.ones(3))
    alone = Muon([bias], lr=0.5)
    bias.grad = torch.ones(3)
    alone.step()
    assert torch.allclose(bias, torch.full((3,), 0.5))
    square = nn.Parameter(torch.ones(8, 8))
    only = Muon([square], lr=0.1)
    square.grad = torch.eye(8)
    only.step()
    assert not torch.equal(square, torch.ones(8, 8))


@pytest.mark.parametrize("wrong", [{"momentum": 1.0}, {"momentum": -0.1}, {"lr": -1.0}])
def test_refuses_rates_out_of_range(wrong: dict[str, float]) -> None:
    """A wrong number is refused where it is given."""
    with pytest.raises(ValueError):
        Muon(_network().parameters(), **wrong)


def three_steps() -> tuple[nn.Module, Muon]:
    network = _network()
    optimizer = Muon(network.parameters(), lr=1e-2)
    for seed in range(3):
        _with_gradients(network, seed)
        optimizer.step()
    return network, optimizer


@pytest.mark.slow
def test_ranks_share_the_matrices_and_move_as_one(tmp_path: Path) -> None:
    """Each of two ranks computes one of the two matrices; weights and states are those of one rank, to the bit."""
    ranks = run_as_ranks(2, "tests/training/shared_matrices.py", [str(tmp_path)])
    assert [rank.returncode for rank in ranks] == [0, 0], [rank.stderr for rank in ranks]
    network, optimizer = three_steps()
    for rank in range(2):
        weights, state, computed = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        assert computed == 3
        torch.testing.assert_close(weights, network.state_dict(), rtol=0.0, atol=0.0)
        torch.testing.assert_close(state["state"], optimizer.state_dict()["state"], rtol=0.0, atol=0.0)


def test_shares_work_out_evenly(monkeypatch: pytest.MonkeyPatch) -> None:
    """The largest first, each to the rank with the least; one process does all."""
    assert dist.share_out([3.0, 1.0]) == [0, 0]
    monkeypatch.setattr("facesr.dist.td.is_initialized", lambda: True)
    monkeypatch.setattr("facesr.dist.td.get_world_size", lambda: 2)
    assert dist.share_out([1.0, 5.0, 2.0, 4.0, 2.0]) == [1, 0, 1, 1, 0]
    assert dist.share_out([]) == []
