"""Checkerboard artifacts: found where they are, forgiven where chance or the truth has it, and descended."""

import pytest
import torch
from torch import Tensor

from facesr.losses.checkerboard import Checkerboard, checkerboard
from facesr.losses.term import LossInputs
from facesr.resample import downscale


def noise(seed: int) -> Tensor:
    """Returns fine detail that knows of no cells, grey, (2, 3, 48, 56)."""
    grey = torch.randn(2, 1, 48, 56, generator=torch.Generator().manual_seed(seed))
    return (0.5 + 0.05 * grey).clamp(0, 1).expand(-1, 3, -1, -1).contiguous()


def pattern_of(period: int, amplitude: float) -> Tensor:
    """Returns what to add for a pattern of `period` pixels each way, of mean 0, (1, 1, 48, 56)."""
    cell = torch.zeros(period, period)
    cell[0, :], cell[1, 1] = -1.0, 1.0
    cell = amplitude * (cell - cell.mean())
    return cell.repeat(-(-48 // period), -(-56 // period))[None, None, :48, :56]


def inputs_of(restored: Tensor, high: Tensor) -> LossInputs:
    return LossInputs(downscale(high), high, restored)


def test_a_pattern_on_plain_grey_has_the_variance_of_its_cell() -> None:
    pattern = pattern_of(4, 0.02)
    strength, chance = checkerboard(torch.full((1, 3, 48, 56), 0.5) + pattern)
    assert strength.shape == (1, 4, 5)  # 12 x 14 cells, windows of 6, two apart
    # Columns and rows at the border lose a little to the mirrored margin.
    inner = strength[:, 1:-1, 1:-1]
    torch.testing.assert_close(inner, torch.full_like(inner, pattern.var(correction=0).item()), rtol=1e-3, atol=0)
    torch.testing.assert_close(chance[:, 1:-1, 1:-1], inner / 36, rtol=1e-3, atol=0)


def test_detail_that_knows_of_no_cells_is_what_chance_gives() -> None:
    strength, chance = (
        torch.stack([part.mean() for part in parts])
        for parts in zip(*(checkerboard(noise(seed)) for seed in range(20)), strict=True)
    )
    assert (strength.mean() / chance.mean()).item() == pytest.approx(1.0, abs=0.1)


@pytest.mark.parametrize("period", [3, 5, 7])
def test_patterns_of_other_periods_are_no_checkerboard(period: int) -> None:
    high = noise(0)
    ours, other = (Checkerboard(1, 0)(inputs_of(high + pattern_of(p, 0.05), high)).item() for p in (4, period))
    assert ours > 0.01
    assert other < 0.1 * ours


def test_the_truth_and_a_smoother_picture_cost_nothing_and_its_own_edges_are_forgiven() -> None:
    high = noise(1)
    high[..., 20:, :] *= 0.5  # an edge along the rows, which is the same in every cell beside it
    assert Checkerboard(1, 0)(inputs_of(high, high)).item() == 0.0
    assert Checkerboard(1, 0)(inputs_of(0.5 + 0.5 * (high - 0.5), high)).item() == 0.0
    flat = noise(1)
    assert Checkerboard(1, 0)(inputs_of(high, flat)).item() > 1e-3  # but not edges that the truth has not


def test_descending_it_takes_the_pattern_and_leaves_the_detail() -> None:
    high = noise(2)
    restored = (high + pattern_of(4, 0.03)).requires_grad_()
    before = Checkerboard(1, 0)(inputs_of(restored, high)).item()
    optimizer = torch.optim.SGD([restored], lr=2.0)  # Adam would move every pixel alike
    for _ in range(200):
        optimizer.zero_grad()
        Checkerboard(1, 0)(inputs_of(restored, high)).backward()
        optimizer.step()
    assert Checkerboard(1, 0)(inputs_of(restored, high)).item() < 0.02 * before
    # What chance allows stays, and the margin; nothing else moves, so the picture comes nearer to the truth.
    left = (restored.detach() - high).square().mean()
    assert left < 0.6 * pattern_of(4, 0.03).square().mean()


def test_its_gradient_is_finite_where_nothing_varies() -> None:
    plain = torch.full((1, 3, 48, 56), 0.3, requires_grad=True)
    Checkerboard(1, 0)(inputs_of(plain, plain.detach())).backward()
    assert plain.grad is not None and torch.isfinite(plain.grad).all()


def test_pictures_smaller_than_a_window_are_refused() -> None:
    with pytest.raises(ValueError, match="20x48"):
        checkerboard(torch.zeros(1, 3, 48, 20))
