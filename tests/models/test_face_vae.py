"""The VAE of faces: shapes, what its parts say to each other, and the divergence against torch's own."""

import pytest
import torch
from torch.distributions import Normal, kl_divergence

from facesr.errors import ConfigError
from facesr.models.face_vae import FaceDecoder, FaceEncoder, FaceVae, ModulatedBlock, divergences, fit_prior


def vae(height: int = 2, width: int = 3) -> FaceVae:
    torch.manual_seed(0)
    decoder = FaceDecoder((12, 8, 6, 4), (3, 2), latent_dim=5, constant_height=height, constant_width=width)
    network = FaceVae(decoder, FaceEncoder(decoder, (4, 6, 8, 12)))
    for parameter in network.parameters():  # some begin at zero, and would hide what they do
        torch.nn.init.normal_(parameter, std=0.2)
    return network


def test_shapes_follow_from_the_constant() -> None:
    decoder = vae().decoder
    assert decoder.size == (48, 32) and decoder.num_latents == 4 and decoder.latent_dim == 5
    assert decoder.noise_shapes == ((3, 2, 3), (2, 4, 6))
    drawn = decoder.draw(7, torch.Generator().manual_seed(0))
    assert [tuple(part.shape) for part in drawn] == [(7, 20), (7, 3, 2, 3), (7, 2, 4, 6)]
    assert decoder(decoder.vectors_of(drawn[0]), drawn[1:]).shape == (7, 3, 32, 48)


@pytest.mark.parametrize("random", [True, False])
def test_the_decoder_alone_makes_what_the_whole_made(random: bool) -> None:
    network = vae()
    pictures = torch.rand(2, 3, 32, 48)
    torch.manual_seed(5)
    found, posteriors = network(pictures, random=random)
    torch.manual_seed(5)  # the same numbers, drawn in the same order
    drawn = [mean + torch.randn_like(mean) * torch.exp(0.5 * spread) if random else mean for mean, spread in posteriors]
    torch.testing.assert_close(network.decoder(drawn[0], drawn[1:]), found)
    assert [tuple(mean.shape) for mean, _ in posteriors] == [(2, 4, 5), (2, 3, 2, 3), (2, 2, 4, 6)]
    assert all(bool((spread.abs() < 6).all()) for _, spread in posteriors)


def test_without_maps_the_vectors_say_everything() -> None:
    network = vae()
    pictures = torch.rand(2, 3, 32, 48)
    found, posteriors = network(pictures, random=False, with_maps=False)
    assert len(posteriors) == 1
    torch.testing.assert_close(found, network.decoder(posteriors[0][0], []))
    assert not torch.allclose(found, network(pictures, random=False)[0], atol=1e-3)


def test_the_maps_of_a_level_are_told_the_coarser_latents() -> None:
    network = vae()
    torch.nn.init.zeros_(network.encoder.squeeze.weight)  # the vectors no longer depend on the picture
    pictures = torch.rand(1, 3, 32, 48)
    _, before = network(pictures, random=False)
    bias = network.encoder.vectors.bias
    assert bias is not None
    torch.nn.init.constant_(bias, 1.0)
    _, after = network(pictures, random=False)
    for (mean, _), (moved, _) in zip(before[1:], after[1:], strict=True):
        assert not torch.allclose(mean, moved, atol=1e-4), "the posterior sees the decoder's features"


def test_every_latent_moves_the_picture_and_a_map_moves_it_at_its_place() -> None:
    decoder = vae(7, 6).decoder
    drawn, *maps = decoder.draw(1, torch.Generator().manual_seed(1))
    latents = decoder.vectors_of(drawn).requires_grad_()
    picture = decoder(latents, maps)
    picture.sum().backward()
    assert latents.grad is not None and bool((latents.grad.abs().amax(2) > 0).all())
    moved = [part.clone() for part in maps]
    moved[1][:, :, :2, :2] += 1.0
    change = (decoder(latents, moved) - picture).abs().amax(1)[0]
    assert change[:16, :16].amax() > 1e-3
    # Three blocks of two convolutions reach 2 * (8 + 4 + 2) pixels, the last convolution 2 more.
    assert change[:46, :46].amax() == change.amax()
    assert change[46:].amax() == 0 and change[:, 46:].amax() == 0


def test_the_fit_has_mean_and_covariance_of_what_the_encoder_draws() -> None:
    network = vae()
    batches = [torch.rand(3, 3, 32, 48), torch.rand(5, 3, 32, 48) ** 3]
    fit_prior(network, batches)
    with torch.no_grad():
        mean, spread = (part.flatten(1).double() for part in network(torch.cat(batches))[1][0])
    # Drawn anew again and again: E[x x^T] - E[x] E[x]^T with E[x x^T] = m m^T + diag(v) of each face.
    second = sum(torch.outer(m, m) + s.exp().diag() for m, s in zip(mean, spread, strict=True)) / 8
    centre = mean.mean(0)
    factor = network.decoder.prior_factor.double()
    torch.testing.assert_close(factor @ factor.T, second - torch.outer(centre, centre), atol=1e-6, rtol=1e-4)
    numbers = torch.randn(2, 20)
    expected = centre.float() + numbers @ factor.float().T
    torch.testing.assert_close(network.decoder.vectors_of(numbers), expected.view(2, 4, 5))


def test_as_it_begins_the_vectors_are_the_numbers_drawn() -> None:
    decoder = vae().decoder
    numbers = torch.randn(2, 20)
    assert torch.equal(decoder.vectors_of(numbers), numbers.view(2, 4, 5))


def test_a_block_scales_its_maps_as_the_features_say() -> None:
    block = ModulatedBlock(3, 2, 1)
    features, maps = torch.randn(1, 3, 4, 4), torch.ones(1, 1, 4, 4)
    assert block.maps is not None and block.spread is not None and block.spread.bias is not None
    latent = torch.zeros(1, 2)
    # As it begins the block adds the maps alone, once.
    expected = features + block.maps.weight.view(1, 3, 1, 1)
    torch.testing.assert_close(block(features, latent, maps), expected)
    torch.nn.init.constant_(block.spread.bias, 50.0)
    torch.testing.assert_close(block(features, latent, maps), expected + block.maps.weight.view(1, 3, 1, 1))
    torch.nn.init.constant_(block.spread.bias, -50.0)
    torch.testing.assert_close(block(features, latent, maps), features)


def test_the_divergence_is_that_of_normal_distributions() -> None:
    torch.manual_seed(2)
    posteriors = [(torch.randn(3, 4, 5), torch.randn(3, 4, 5)), (torch.randn(3, 2, 6, 7), torch.randn(3, 2, 6, 7))]
    found = divergences(posteriors)
    assert found.shape == (3, 2)
    for column, (mean, spread) in enumerate(posteriors):
        known = kl_divergence(Normal(mean, (0.5 * spread).exp()), Normal(0.0, 1.0)).flatten(1).sum(1)
        torch.testing.assert_close(found[:, column], known)
    zero = torch.zeros(1, 2, 3)
    assert divergences([(zero, zero)]).item() == 0.0


@pytest.mark.parametrize(
    "counts",
    [
        {"channels": (0, 4)},
        {"num_maps": (0,)},
        {"latent_dim": 0},
        {"constant_height": 0},
        {"constant_width": 0},
    ],
)
def test_counts_below_one_are_refused(counts: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match=f"{next(iter(counts))}=0 is too small"):
        FaceDecoder(**{"channels": (4, 4), "num_maps": (1,), **counts})  # type: ignore[arg-type]
