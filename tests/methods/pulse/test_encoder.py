"""The encoder of starts: ridge regression against its definition, a joint normal distribution, and a search."""

from dataclasses import replace

import pytest
import torch

from facesr.errors import ConfigError
from facesr.methods.pulse import encoder as module
from facesr.methods.pulse.encoder import Encoder, encoder_for, features, fitted
from facesr.methods.pulse.operator import operator_for
from facesr.methods.pulse.search import search
from tests.methods.pulse.test_covariance import space  # noqa: F401

NUM_PAIRS = 200


@pytest.fixture(autouse=True)
def unfitted(monkeypatch):
    monkeypatch.setattr(module, "_FITTED", {})


def test_errors_are_those_of_fits_without_the_one(monkeypatch):
    draw = torch.Generator().manual_seed(2)
    inputs = torch.randn(12, 5, generator=draw)
    latents = inputs @ torch.randn(5, 3, generator=draw) + 0.3 * torch.randn(12, 3, generator=draw)
    monkeypatch.setattr(module, "RIDGES", (0.5,))
    found = fitted(inputs, latents)
    centred = (inputs - inputs.mean(dim=0)).double()
    ridge = 0.5 * float((centred @ centred.T).diagonal().mean())

    def weights(rows):
        some, wanted = centred[rows], latents[rows].double()
        return torch.linalg.solve(some.T @ some + ridge * torch.eye(5), some.T @ wanted)

    everything = torch.arange(12)
    torch.testing.assert_close(found.weights, weights(everything).float(), rtol=1e-4, atol=1e-5)
    for number in (0, 7):
        without = everything[everything != number]
        expected = latents[number] - (centred[number] @ weights(without)).float()
        torch.testing.assert_close(found.errors[number], expected, rtol=1e-4, atol=1e-5)


def test_the_ridge_follows_the_noise():
    draw = torch.Generator().manual_seed(3)
    inputs, mixing = torch.randn(60, 20, generator=draw), torch.randn(20, 4, generator=draw)
    inputs -= inputs.mean(dim=0)
    clear = fitted(inputs, inputs @ mixing)
    torch.testing.assert_close(clear.weights, mixing, rtol=1e-3, atol=1e-3)
    # Of latents that inputs say nothing about the best guess is their mean, 0.
    blind = fitted(inputs, torch.randn(60, 4, generator=draw))
    assert float(blind.weights.norm()) < 0.3 * float(mixing.norm())


def test_large_inputs_are_averaged_down_to_32():
    low = torch.arange(2 * 3 * 64 * 64, dtype=torch.float32).reshape(2, 3, 64, 64)
    assert features(low).shape == (2, 3 * 32 * 32)
    assert float(features(low)[0, 0]) == (0 + 1 + 64 + 65) / 4
    assert torch.equal(features(low[..., :28, :24]), low[..., :28, :24].flatten(1))


def test_a_start_is_the_guess_and_an_error_of_the_seed():
    errors = torch.tensor([[1.0, 0.0], [0.0, 2.0], [-1.0, -2.0]])
    encoder = Encoder(torch.full((3,), 0.5), torch.ones(3, 2), errors)
    low = torch.tensor([0.5, 0.75, 0.75]).reshape(1, 3, 1, 1).repeat(2, 1, 1, 1)
    assert encoder.start(low, [4, 2]).tolist() == [[0.5, 2.5], [-0.5, -1.5]]


def test_starts_of_a_linear_generator_fit_the_input(space, pulse_settings):  # noqa: F811
    """Its pictures decide its latents, nearly linearly, so starts fit far better than random ones."""
    operator = operator_for("auto", space.size, (4, 4))
    latents = module.drawn_latents(space, [5, 6, 7])
    low = operator.downscale(module.portraits(space, latents))
    settings = replace(pulse_settings, eps=1e-12, encoder_pairs=NUM_PAIRS)
    squares = {}
    for start in ("random", "encoder"):
        results = search(space, operator, low, replace(settings, start=start, steps=1))
        squares[start] = sum(found.best_l2 for found in results)
    assert squares["encoder"] < 0.2 * squares["random"]


def test_it_is_fitted_once_and_kept(space, pulse_settings, monkeypatch):  # noqa: F811
    operator = operator_for("auto", space.size, (4, 4))
    first = encoder_for(space, operator, NUM_PAIRS)
    monkeypatch.setattr(module, "_FITTED", {})
    monkeypatch.setattr(module, "_pairs", lambda *_: pytest.fail("fitted again"))
    kept = encoder_for(space, operator, NUM_PAIRS)
    assert torch.equal(first.weights, kept.weights) and torch.equal(first.errors, kept.errors)
    with pytest.raises(pytest.fail.Exception, match="fitted again"):
        encoder_for(space, operator_for("auto", space.size, (8, 8)), NUM_PAIRS)


def test_seeds_begin_elsewhere_and_each_again_where_it_was(space, pulse_settings):  # noqa: F811
    operator = operator_for("auto", space.size, (4, 4))
    low = torch.rand(2, 3, 4, 4, generator=torch.Generator().manual_seed(1))
    begun = []
    for seed in (0, 0, 1):
        settings = replace(pulse_settings, start="encoder", encoder_pairs=NUM_PAIRS, seed=seed, steps=1, eps=1e-12)
        search(space, operator, low, settings, lambda *told: begun.append(told[1].latents.detach().clone()))
    assert torch.equal(begun[0], begun[1])
    assert not torch.allclose(begun[0], begun[2])
    # All vectors of a face are one, as of the portraits that the fit has seen.
    assert torch.equal(begun[0][:, 0], begun[0][:, 1])


def test_a_generator_without_mapping_network_is_refused(toy, low, pulse_settings):
    with pytest.raises(ConfigError, match=r"pulse\.start=encoder needs a mapping network.*give pulse\.start=random"):
        search(toy, operator_for("auto", toy.size, (4, 4)), low, replace(pulse_settings, start="encoder"))
