"""StyleGAN2's generator: its layout, its noise and latents, and what decides a picture."""

import pytest
import torch

from facesr.errors import ConfigError
from facesr.models.style_generator import StyleGenerator, config_f_channels


def small(seed: int = 0) -> StyleGenerator:
    """Returns a 28x24 generator whose noise strengths and biases are not zero."""
    torch.manual_seed(seed)
    network = StyleGenerator((6, 5, 4), constant_height=7, constant_width=6, latent_dim=8, num_mapping_layers=2)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if name.endswith(("noise.weight", "bias")) and "style" not in name:
                parameter.add_(0.3 * torch.randn_like(parameter))
    return network


def test_config_f_is_the_published_network() -> None:
    channels = config_f_channels(1024)
    assert channels == (512, 512, 512, 512, 512, 256, 128, 64, 32)
    assert config_f_channels(256, multiplier=1) == (512, 512, 512, 512, 256, 128, 64)
    with torch.device("meta"):
        network = StyleGenerator(channels)
    # StyleGAN2, table of config F: 30.37 M parameters (mapping network and trained constants included).
    assert sum(parameter.numel() for parameter in network.parameters()) == 30_370_060
    assert network.num_latents == 18 and network.size == (1024, 1024)
    sides = [4, 8, 8, 16, 16, 32, 32, 64, 64, 128, 128, 256, 256, 512, 512, 1024, 1024]
    assert network.noise_shapes == tuple((1, side, side) for side in sides)


def test_the_competitions_size() -> None:
    with torch.device("meta"):
        network = StyleGenerator((256, 256, 192, 96, 48), 7, 6, num_mapping_layers=2)
    assert network.size == (96, 112) and network.num_latents == 10
    assert network.noise_shapes[0] == (1, 7, 6) and network.noise_shapes[-1] == (1, 112, 96)
    assert 3e6 < sum(parameter.numel() for parameter in network.parameters()) < 5e6


def test_every_latent_and_noise_map_counts_and_gets_a_gradient() -> None:
    network = small()
    mapped = torch.randn(2, network.num_latents, 8, requires_grad=True)
    noises = [noise.requires_grad_() for noise in network.draw_noises(2)]
    pictures = network(mapped, noises)
    assert pictures.shape == (2, 3, 28, 24)
    pictures.square().mean().backward()
    assert mapped.grad is not None and (mapped.grad.abs().sum((0, 2)) > 0).all()
    assert all(noise.grad is not None and noise.grad.abs().sum() > 0 for noise in noises)
    assert all(p.grad is not None for name, p in network.named_parameters() if not name.startswith("style."))


def test_a_picture_does_not_depend_on_its_batch() -> None:
    network, mapped = small().eval(), torch.randn(5, 6, 8)
    noises = network.draw_noises(5)
    together = network(mapped, noises)
    alone = [network(mapped[i : i + 1], [noise[i : i + 1] for noise in noises]) for i in range(5)]
    assert torch.allclose(together, torch.cat(alone), atol=1e-5)


def test_only_the_direction_of_z_counts() -> None:
    network, latents = small(), torch.randn(3, 8)
    assert torch.allclose(network.map(latents), network.map(7.0 * latents), atol=1e-5)


def test_half_precision_stays_close() -> None:
    network, mapped = small(), torch.randn(2, 6, 8)
    noises = network.draw_noises(2)
    exact = network(mapped, noises)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = network(mapped, noises)
    assert rounded.dtype == torch.float32, "the resolutions are summed in float32"
    assert (rounded - exact).abs().max() < 0.1 * exact.abs().max()


def test_first_pictures_have_a_sensible_spread() -> None:
    torch.manual_seed(1)
    network = StyleGenerator((32, 32, 32), latent_dim=32)
    mapped = network.map(torch.randn(16, 32))[:, None].expand(-1, 6, -1)
    assert 0.2 < float(network(mapped, network.draw_noises(16)).std().detach()) < 5.0


@pytest.mark.parametrize("wrong", [{"channels": ()}, {"channels": (4, 0)}, {"latent_dim": 0}])
def test_counts_below_one_are_told_to_the_user(wrong: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match="too small"):
        StyleGenerator(**{"channels": (4, 4), **wrong})


def test_noise_is_drawn_where_the_network_is() -> None:
    # `meta` stands for an accelerator.
    noises = small().to("meta").draw_noises(3)
    assert [(noise.device.type, *noise.shape) for noise in noises] == [
        ("meta", 3, 1, 7 << level, 6 << level) for level in (0, 1, 1, 2, 2)
    ]


def test_the_mapping_learns_a_hundred_times_slower() -> None:
    mapping = StyleGenerator((4, 4), latent_dim=8, num_mapping_layers=3).style[1:]
    assert [(layer.rate, tuple(layer.weight.shape)) for layer in mapping] == [(0.01, (8, 8))] * 3  # type: ignore[union-attr, operator]
