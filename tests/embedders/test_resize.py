"""The one way in which pictures are brought to an embedder's size."""

import torch
from torch import Tensor

from facesr.embedders.resize import resize_to


def test_right_size_passes_untouched(faces: Tensor) -> None:
    assert resize_to(faces, 96, 112) is faces


def test_stretches_to_width_and_height(faces: Tensor) -> None:
    assert resize_to(faces, 160, 128).shape == (3, 3, 128, 160)


def test_shrinking_is_antialiased() -> None:
    stripes = torch.zeros(1, 3, 112, 96)
    stripes[..., ::2] = 1.0
    shrunk = resize_to(stripes, 24, 28)
    assert (shrunk[..., 2:-2] - 0.5).abs().max() < 0.02


def test_enlarging_keeps_a_ramp() -> None:
    ramp = torch.linspace(0, 1, 96).expand(1, 3, 112, 96)
    grown = resize_to(ramp, 192, 224)
    steps = grown[0, 0, 100, 8:-8].diff()
    torch.testing.assert_close(steps, torch.full_like(steps, 0.5 / 95), rtol=0, atol=1e-5)


def test_gradient_of_the_mean_is_spread_over_all_pixels() -> None:
    batch = torch.rand(1, 3, 20, 20, generator=torch.Generator().manual_seed(0)).requires_grad_()
    resize_to(batch, 10, 10).sum().backward()
    assert batch.grad is not None
    torch.testing.assert_close(batch.grad.sum(), torch.tensor(300.0), rtol=1e-4, atol=0)
    assert batch.grad.min() > 0
