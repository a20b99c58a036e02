"""The two generators without parameters against their plain definitions."""

import numpy as np
import torch

from facesr.models.interpolation import Bicubic, Nearest


def keys_weight(distance: float) -> float:
    """Keys' cubic kernel, a = -0.5, written as in the paper's equation 4."""
    x = abs(distance)
    if x <= 1:
        return 1.5 * x**3 - 2.5 * x**2 + 1
    return -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2 if x < 2 else 0.0


def test_bicubic_is_the_cubic_interpolation_with_mirrored_border() -> None:
    row = np.array([0.1, 0.9, 0.4, 0.6, 0.2])
    mirrored = np.concatenate([row[1::-1], row, row[:-3:-1]])
    expected = []
    for position in range(20):
        centre = (position + 0.5) / 4 - 0.5
        expected.append(sum(mirrored[tap + 2] * keys_weight(centre - tap) for tap in range(-2, 7)))
    low = torch.tensor(row, dtype=torch.float32).expand(1, 3, 4, 5)
    restored = Bicubic()(low)
    assert restored.shape == (1, 3, 16, 20)
    assert torch.allclose(restored, torch.tensor(expected, dtype=torch.float32).expand(1, 3, 16, 20), atol=1e-6)


def test_bicubic_keeps_straight_lines_and_overshoots_at_edges() -> None:
    ramp = torch.linspace(0.2, 0.8, 12).expand(1, 3, 3, 12)
    inner = Bicubic()(ramp)[0, 0, 0, 8:-8]
    steps = inner.diff()
    assert torch.allclose(steps, torch.full_like(steps, 0.6 / 11 / 4), atol=1e-6)
    edge = torch.cat([torch.zeros(1, 3, 4, 6), torch.ones(1, 3, 4, 6)], dim=-1)
    # The generator leaves clamping to the rounding step, so that losses see what it draws.
    assert Bicubic()(edge).max() > 1.01
    assert Bicubic()(edge).min() < -0.01


def test_bicubic_moves_with_the_picture() -> None:
    low = torch.rand(1, 3, 20, 20, generator=torch.Generator().manual_seed(0))
    restored = Bicubic()(low)
    moved = Bicubic()(low.roll((1, -2), dims=(2, 3)))
    expected = restored.roll((4, -8), dims=(2, 3))
    assert torch.allclose(moved[..., 16:-16, 16:-16], expected[..., 16:-16, 16:-16], atol=1e-6)


def test_nearest_repeats_every_pixel() -> None:
    low = torch.arange(24.0).reshape(1, 3, 2, 4) / 24
    expected = np.kron(low.numpy(), np.ones((1, 1, 4, 4), np.float32))
    assert np.array_equal(Nearest()(low).numpy(), expected)


def test_neither_has_anything_to_train() -> None:
    assert not list(Bicubic().parameters())
    assert not list(Nearest().parameters())
    assert not Bicubic().state_dict()
    assert not Nearest().state_dict()
