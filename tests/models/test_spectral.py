"""Spectral normalisation: the largest singular value, its gradient, and what a forward pass may change."""

import pytest
import torch
import torch.nn.functional as F

from facesr.models.spectral import SpectralConv2d


def layer_with_random_weight() -> SpectralConv2d:
    torch.manual_seed(0)
    layer = SpectralConv2d(3, 4, 3, stride=2, padding=1)
    with torch.no_grad():
        layer.weight.copy_(5.0 * torch.randn_like(layer.weight))
    return layer


def singular_values(weight: torch.Tensor) -> torch.Tensor:
    return torch.linalg.svdvals(weight.detach().flatten(1))


def test_largest_singular_value_becomes_one() -> None:
    layer = layer_with_random_weight()
    assert singular_values(layer.weight)[0] > 10
    for _ in range(100):
        layer.normalized_weight()
    assert singular_values(layer.normalized_weight())[0].item() == pytest.approx(1.0, abs=1e-5)


def test_a_new_layer_is_normalised_at_once() -> None:
    torch.manual_seed(0)
    assert torch.allclose(singular_values(SpectralConv2d(8, 6, 3).normalized_weight()), torch.ones(6), atol=1e-5)


def test_is_a_convolution_with_the_normalised_weight() -> None:
    layer = layer_with_random_weight().eval()
    assert layer.bias is not None
    torch.nn.init.normal_(layer.bias)
    features = torch.randn(2, 3, 7, 9)
    sigma = layer.left @ layer.weight.flatten(1) @ layer.right
    expected = F.conv2d(features, layer.weight / sigma, layer.bias, stride=2, padding=1)
    assert torch.allclose(layer(features), expected, atol=1e-6)


def test_eval_mode_changes_nothing_and_training_mode_follows_the_weight() -> None:
    layer = layer_with_random_weight()
    features = torch.randn(1, 3, 6, 6)
    before = layer.left.clone()
    layer.eval()(features)
    assert torch.equal(layer.left, before)
    layer.train()(features)
    assert not torch.equal(layer.left, before)


def test_two_forward_passes_before_one_backward() -> None:
    # A discriminator judges real and restored faces in turn; the second pass must not spoil the first's graph.
    layer = layer_with_random_weight()
    features = torch.randn(1, 3, 6, 6)
    first, second = layer(features), layer(2 * features)
    (first.sum() + second.square().sum()).backward()
    assert layer.weight.grad is not None
    assert layer.weight.grad.isfinite().all()


def test_gradient_is_exact_and_blind_to_the_weights_scale() -> None:
    layer = layer_with_random_weight().double().eval()
    features = torch.randn(1, 3, 5, 5, dtype=torch.float64)

    layer(features).square().sum().backward()
    assert layer.weight.grad is not None
    # Growing the weight changes nothing, so no gradient may point along it.
    along = (layer.weight.grad * layer.weight).sum() / (layer.weight.grad.norm() * layer.weight.norm())
    assert abs(along) < 1e-10
    direction = torch.randn_like(layer.weight)
    around = []
    for step in (1e-6, -2e-6):
        with torch.no_grad():
            layer.weight.add_(step * direction)
            around.append(layer(features).square().sum().item())
    slope = (around[0] - around[1]) / 2e-6
    assert (layer.weight.grad * direction).sum().item() == pytest.approx(slope, rel=1e-6)


def test_gradient_penalty_reaches_the_weight() -> None:
    layer = layer_with_random_weight()
    features = torch.randn(2, 3, 6, 6, requires_grad=True)
    (gradient,) = torch.autograd.grad(layer(features).square().sum(), features, create_graph=True)
    gradient.square().sum().backward()
    assert layer.weight.grad is not None
    assert layer.weight.grad.abs().sum() > 0


def test_autocast_does_not_coarsen_the_normalisation() -> None:
    exact, rounded = layer_with_random_weight(), layer_with_random_weight()
    expected = exact.normalized_weight()
    with torch.autocast("cpu", torch.bfloat16):
        weight = rounded.normalized_weight()
    assert weight.dtype == torch.float32
    assert torch.equal(weight, expected)
    assert torch.equal(rounded.left, exact.left)


def test_state_is_restored_exactly() -> None:
    layer = layer_with_random_weight()
    layer(torch.randn(1, 3, 6, 6))
    other = SpectralConv2d(3, 4, 3, stride=2, padding=1)
    other.load_state_dict(layer.state_dict())
    features = torch.randn(1, 3, 6, 6)
    assert torch.equal(layer(features), other(features))
    assert set(layer.state_dict()) == {"weight", "bias", "left", "right"}
