"""The loss: the geodesic term against a float64 reference, the clamp at eps, one value per face."""

import math

import pytest
import torch

from facesr.methods.pulse.objective import Objective, geocross, mean_square


def reference(mapped: torch.Tensor) -> list[float]:
    """Returns the geodesic term of each face in plain float64 loops."""
    values = []
    for face in mapped.double().tolist():
        total, dim = 0.0, len(face[0])
        for x in face:
            for y in face:
                apart = math.sqrt(sum((a - b) ** 2 for a, b in zip(x, y, strict=True)))
                along = math.sqrt(sum((a + b) ** 2 for a, b in zip(x, y, strict=True)))
                total += (2.0 * math.atan2(apart, along)) ** 2 * dim / 8.0
        values.append(total / len(face) ** 2)
    return values


@pytest.mark.parametrize("num_vectors", [1, 2, 18])
def test_the_geodesic_term_equals_a_float64_reference(num_vectors: int) -> None:
    mapped = torch.randn(3, num_vectors, 512, generator=torch.Generator().manual_seed(0))
    found, wanted = geocross(mapped), torch.tensor(reference(mapped))
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)
    assert num_vectors == 1 or float(found.min()) > 50.0  # right angles: (pi / 2)^2 * 512 / 8 for all but the diagonal


def test_the_geodesic_term_has_a_finite_slope_where_vectors_are_equal_and_opposite() -> None:
    vector = torch.ones(1, 1, 8)
    mapped = torch.cat([vector, vector, -vector], 1).requires_grad_()
    geocross(mapped).sum().backward()
    assert bool(torch.isfinite(mapped.grad).all())
    assert float(geocross(torch.ones(1, 5, 8))) == 0.0


def test_the_mean_square_counts_as_eps_below_it_and_is_told_as_it_is() -> None:
    low = torch.zeros(2, 3, 4, 4)
    downscaled = torch.stack([torch.full((3, 4, 4), 0.1), torch.full((3, 4, 4), 0.01)]).requires_grad_()
    mapped = torch.randn(2, 1, 8)
    loss, square = Objective(100.0, 0.0, 0.05, eps=2e-3)(downscaled, low, mapped)
    torch.testing.assert_close(square, torch.tensor([0.01, 0.0001]))
    torch.testing.assert_close(loss.detach(), torch.tensor([1.0, 0.2]))
    loss.sum().backward()
    assert float(downscaled.grad[0].abs().min()) > 0 and float(downscaled.grad[1].abs().max()) == 0


def test_terms_are_weighted_and_added() -> None:
    draw = torch.Generator().manual_seed(0)
    low, downscaled = torch.rand(2, 3, 4, 4, generator=draw), torch.rand(2, 3, 4, 4, generator=draw)
    mapped = torch.randn(2, 3, 8, generator=draw)
    loss, square = Objective(2.0, 3.0, 0.5, eps=1e-9)(downscaled, low, mapped)
    absolute = (downscaled - low).abs().flatten(1).mean(1)
    torch.testing.assert_close(loss, 2.0 * square + 3.0 * absolute + 0.5 * geocross(mapped))
    torch.testing.assert_close(square, mean_square(downscaled, low))
