"""The Mahalanobis term: by hand, on a mapping network whose covariance is known, and in a search."""

from dataclasses import replace

import pytest
import torch

from facesr.errors import ConfigError
from facesr.methods.pulse import covariance as module
from facesr.methods.pulse.covariance import inverse_covariance, mahalanobis
from facesr.methods.pulse.objective import Objective
from facesr.methods.pulse.operator import operator_for
from facesr.methods.pulse.search import search
from facesr.methods.pulse.style_space import GaussianFit, StyleLatentSpace


class Network(torch.nn.Module):
    """Maps z to leaky_relu(mixing z) and draws pictures of 16x16 from two vectors of four numbers."""

    num_latents, latent_dim, size, noise_shapes = 2, 4, (16, 16), ()

    def __init__(self):
        super().__init__()
        self.mixing = torch.tensor([[1.0, 0, 0, 0], [0.8, 0.6, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
        self.basis = torch.randn(8, 3 * 16 * 16, generator=torch.Generator().manual_seed(1)) * 0.1
        self.num_calls = 0

    def map(self, latents):
        self.num_calls += 1
        return torch.nn.functional.leaky_relu(latents @ self.mixing.T, 0.2)

    def forward(self, mapped, noises):
        return (mapped.flatten(1) @ self.basis).view(-1, 3, 16, 16)


@pytest.fixture
def space(tmp_path, monkeypatch):
    monkeypatch.setenv("FACESR_CACHE", str(tmp_path))
    return StyleLatentSpace("small", "c" * 64, Network(), GaussianFit(torch.zeros(4), torch.ones(4)), gain=1.0)


def test_the_distance_by_hand():
    inverse = torch.tensor([[2.0, -1.0], [-1.0, 3.0]])
    latents = torch.tensor([[[1.0, 2.0], [0.0, 0.0]], [[1.0, 0.0], [0.0, 1.0]]])
    # 2 - 4 + 12 = 10, over two coordinates 5, mean with 0; 2 and 3 over two, mean 1.25.
    torch.testing.assert_close(mahalanobis(latents, inverse), torch.tensor([2.5, 1.25]))


def test_the_covariance_is_that_of_the_mapping_network_and_kept(space):
    mixing = space.network.mixing
    wanted = torch.linalg.inv(0.99 * mixing @ mixing.T + 0.01 * torch.eye(4))
    found = inverse_covariance(space)
    torch.testing.assert_close(found, wanted, atol=0.05, rtol=0.02)
    calls = space.network.num_calls
    torch.testing.assert_close(inverse_covariance(space), found)
    fit = GaussianFit(space.mapped_mean, space.mapped_std)
    # Another generator of the same weights reads what the cache holds.
    torch.testing.assert_close(
        inverse_covariance(StyleLatentSpace("small", "c" * 64, space.network, fit, gain=1.0)), found
    )
    assert space.network.num_calls == calls
    # The network's own outputs are at distance 1 on average; those of a sphere are farther.
    sample = torch.randn(20_000, 1, 4, generator=torch.Generator().manual_seed(9))
    assert float(mahalanobis(sample @ mixing.T, found).mean()) == pytest.approx(1.0, abs=0.03)
    assert float(mahalanobis(sample, found).mean()) > 1.5


def test_the_loss_has_it_with_its_weight():
    low, latents = torch.full((2, 3, 4, 4), 0.5), torch.tensor([[[1.0, 1.0]], [[2.0, 0.0]]])
    plain = Objective(100, 0, 0, eps=1e-3)(low, low, latents)[0]
    loss, square = Objective(100, 0, 0, 1e-3, 0.5, 3.0 * torch.eye(2))(low, low, latents, [latents])
    torch.testing.assert_close(loss, plain + 0.5 * torch.tensor([3.0, 6.0]))
    assert square.tolist() == [0.0, 0.0]


def test_a_search_with_it_ends_at_likelier_latents(space, pulse_settings):
    low = torch.rand(3, 3, 4, 4, generator=torch.Generator().manual_seed(4))
    operator = operator_for("auto", space.size, (4, 4))
    settings = replace(pulse_settings, eps=1e-12, geocross_weight=0.0, steps=30)
    ends = []
    for weight in (0.0, 50.0):
        search(
            space,
            operator,
            low,
            replace(settings, covariance_weight=weight),
            lambda *told: ends.append(told[1].latents.detach().clone()),
        )
    distance = [float(mahalanobis(ends[number], inverse_covariance(space)).mean()) for number in (29, 59)]
    assert distance[1] < 0.8 * distance[0]


def test_a_generator_without_mapping_network_is_refused(toy, low, pulse_settings):
    with pytest.raises(ConfigError, match=r"pulse\.covariance_weight needs a mapping network, which generator=toy"):
        search(toy, operator_for("auto", toy.size, (4, 4)), low, replace(pulse_settings, covariance_weight=1.0))


def test_it_is_fitted_only_where_it_counts(space, pulse_settings, monkeypatch):
    monkeypatch.setattr(module, "_covariance", lambda _: pytest.fail("fitted"))
    search(space, operator_for("auto", space.size, (4, 4)), torch.rand(1, 3, 4, 4), replace(pulse_settings, steps=1))
