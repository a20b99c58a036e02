"""The VAE of faces: shapes, what its parts say to each other, components, and the divergence against torch's own."""

import pytest
import torch
from torch.distributions import Normal, kl_divergence

from facesr.errors import ConfigError
from facesr.models.face_vae import (
    FaceDecoder,
    FaceEncoder,
    FaceVae,
    ModulatedBlock,
    divergences,
    fit_prior,
    set_components,
)
from facesr.resample import downscale, upscale


def vae(latent_dim: int = 5, height: int = 8, width: int = 12) -> FaceVae:
    torch.manual_seed(0)
    decoder = FaceDecoder((6, 4), (2, 1), latent_dim, 3, height, width)
    network = FaceVae(decoder, FaceEncoder(decoder))
    for parameter in network.parameters():  # some begin at zero, and would hide what they do
        torch.nn.init.normal_(parameter, std=0.1)
    # Orthogonal, as principal components are, and of different lengths.
    orthogonal = torch.linalg.qr(torch.randn(3 * height * width, latent_dim)).Q.T
    lengths = torch.linspace(0.5, 2.0, latent_dim)[:, None]
    decoder.components.copy_((lengths * orthogonal).view_as(decoder.components))
    return network


def smooth_faces(num: int, height: int, width: int) -> torch.Tensor:
    """Returns random smooth pictures (num, 3, height, width) in [0, 1]."""
    coarse = torch.rand(num, 3, 3, 3, generator=torch.Generator().manual_seed(3))
    return torch.nn.functional.interpolate(coarse, size=(height, width), mode="bilinear")


def test_shapes_follow_from_the_small_picture() -> None:
    decoder = vae().decoder
    assert decoder.size == (48, 32) and decoder.latent_dim == 5 and decoder.noise_shapes == ((3, 8, 12),)
    drawn, *maps = decoder.draw(7, torch.Generator().manual_seed(0))
    assert drawn.shape == (7, 5) and [tuple(part.shape) for part in maps] == [(7, 3, 8, 12)]
    assert decoder(decoder.vector_of(drawn), maps).shape == (7, 3, 32, 48)


@pytest.mark.parametrize("random", [True, False])
def test_the_decoder_alone_makes_what_the_whole_made(random: bool) -> None:
    network = vae()
    pictures = torch.rand(2, 3, 32, 48)
    torch.manual_seed(5)
    found, posteriors = network(pictures, random=random)
    torch.manual_seed(5)  # the same numbers, drawn in the same order
    drawn = [mean + torch.randn_like(mean) * torch.exp(0.5 * spread) if random else mean for mean, spread in posteriors]
    torch.testing.assert_close(network.decoder(drawn[0], drawn[1:]), found)
    assert [tuple(mean.shape) for mean, _ in posteriors] == [(2, 5), (2, 3, 8, 12)]


def test_every_latent_moves_the_picture_and_a_map_moves_it_at_its_place() -> None:
    decoder = vae().decoder
    drawn, maps = decoder.draw(1, torch.Generator().manual_seed(1))
    vector = decoder.vector_of(drawn).requires_grad_()
    picture = decoder(vector, [maps])
    picture.sum().backward()
    assert vector.grad is not None and bool((vector.grad.abs() > 0).all())
    moved = maps.clone()
    moved[:, :, 0, 0] += 1.0
    change = (decoder(vector, [moved]) - picture).abs().amax(1)[0]
    assert change[:4, :4].amax() > 1e-3
    # Five convolutions reach 4 pixels each, two more 2, the last one 2.
    assert change[:, 4 + 20 + 4 + 2 :].amax() == 0
    assert change[:, : 4 + 20 + 4 + 2].amax() == change.amax()


def test_as_it_begins_a_decoder_is_eigenfaces_enlarged() -> None:
    faces = smooth_faces(40, 32, 48)
    decoder = FaceDecoder((6, 4), (2, 1), 60, 3, 8, 12)
    network = FaceVae(decoder, FaceEncoder(decoder))
    torch.nn.init.zeros_(decoder.last.weight)
    set_components(network, faces.split(16))
    with torch.no_grad():
        found, ((mean, _), (maps, _)) = network(faces, random=False)
    # 27 numbers make such a picture, so that 60 components know all of it; the maps have nothing to say.
    torch.testing.assert_close(found, upscale(downscale(faces)), atol=2e-4, rtol=0)
    assert float(maps.abs().max()) < 0.02
    assert float(mean.mean(0).abs().max()) < 0.5


@pytest.mark.parametrize("num", [30, 300])
def test_components_are_those_of_the_small_faces_and_their_mirrored_ones(num: int) -> None:
    network = vae(latent_dim=4)
    faces = torch.rand(num, 3, 32, 48, generator=torch.Generator().manual_seed(4))
    faces[:, 0] *= torch.linspace(0.2, 1.0, num)[:, None, None]
    set_components(network, faces.split(7))
    decoder, encoder = network.decoder, network.encoder
    small = downscale(faces)
    rows = torch.cat([small, small.flip(3)]).flatten(1).double()
    centred = rows - rows.mean(0)
    values = torch.linalg.eigvalsh(torch.cov(centred.T, correction=0)).flip(0)[:4]
    scaled = decoder.components.flatten(1).double()
    torch.testing.assert_close(scaled @ scaled.T, values.diag(), atol=1e-5, rtol=1e-4)
    # The numbers of these faces have variance 1.
    numbers = torch.linalg.lstsq(scaled.T, centred.T).solution.T
    torch.testing.assert_close(torch.cov(numbers.T, correction=0), torch.eye(4).double(), atol=1e-4, rtol=0)
    torch.testing.assert_close(
        decoder.projected(torch.cat([small, small.flip(3)])).double(), numbers, atol=1e-4, rtol=0
    )
    lacking = (centred - numbers @ scaled).square().mean(0).sqrt()
    torch.testing.assert_close(decoder.leftover.flatten().double(), lacking, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(decoder.mean.flatten().double(), rows.mean(0), atol=1e-6, rtol=0)
    # As it begins the encoder is uncertain by a grey level along each component and of each pixel.
    uncertain = (0.5 * encoder.vector_spread).exp() * decoder.components.flatten(1).norm(dim=1)
    torch.testing.assert_close(uncertain, torch.full((4,), 1 / 255), atol=1e-6, rtol=1e-4)
    pixels = (0.5 * encoder.map_spread).exp() * decoder.leftover
    torch.testing.assert_close(pixels, torch.full((3, 8, 12), 1 / 255), atol=1e-6, rtol=1e-4)


def test_the_latents_of_a_small_picture_give_it_back() -> None:
    decoder = vae().decoder
    decoder.leftover.uniform_(0.02, 0.1)
    decoder.prior_mean.normal_()
    decoder.prior_factor.copy_(torch.eye(5) + 0.3 * torch.ones(5, 5).tril())
    small = torch.rand(2, 3, 8, 12)
    numbers, maps = decoder.latents_of(small)
    vector = decoder.vector_of(numbers)
    rebuilt = decoder.small(vector) + decoder.leftover * maps[0]
    torch.testing.assert_close(rebuilt, small, atol=1e-5, rtol=0)
    # The vector is the least-squares one: the maps hold nothing that components could.
    scaled = decoder.components.flatten(1)
    nearest = torch.linalg.lstsq(scaled.T, (small - decoder.mean).flatten(1).T).solution.T
    torch.testing.assert_close(vector, nearest, atol=1e-4, rtol=1e-4)
    decoder.components[2] = 0.0  # as where there are fewer faces than numbers
    assert float(decoder.projected(small)[:, 2].abs().max()) == 0.0


def test_directions_without_variance_do_not_blow_up() -> None:
    network = vae(latent_dim=20)
    set_components(network, [torch.full((3, 3, 32, 48), 0.25)])
    decoder = network.decoder
    assert all(bool(part.isfinite().all()) for part in (decoder.components, decoder.leftover))
    # Of three faces and their mirrored ones there are at most six components; none is shorter than the least deviation.
    lengths = decoder.components.flatten(1).norm(dim=1)
    torch.testing.assert_close(lengths[:6], torch.full((6,), 0.01), atol=0, rtol=1e-4)
    assert float(decoder.leftover.min()) == pytest.approx(0.01)


def test_the_maps_are_what_the_drawn_vector_lacks() -> None:
    network = vae()
    network.decoder.leftover.fill_(0.05)
    pictures = torch.rand(2, 3, 32, 48)
    torch.manual_seed(8)
    _, ((mean, spread), (maps, _)) = network(pictures)
    torch.manual_seed(8)
    vector = mean + torch.randn_like(mean) * torch.exp(0.5 * spread)
    torch.testing.assert_close(0.05 * maps, downscale(pictures) - network.decoder.small(vector))
    torch.testing.assert_close(mean, network.decoder.projected(downscale(pictures)))


def test_the_fit_has_mean_and_covariance_of_what_the_encoder_draws() -> None:
    network = vae()
    batches = [torch.rand(3, 3, 32, 48), torch.rand(5, 3, 32, 48) ** 3]
    fit_prior(network, batches)
    with torch.no_grad():
        mean, spread = (part.double() for part in network(torch.cat(batches))[1][0])
    # Drawn anew again and again: E[x x^T] - E[x] E[x]^T with E[x x^T] = m m^T + diag(v) of each face.
    second = sum(torch.outer(m, m) + s.exp().diag() for m, s in zip(mean, spread, strict=True)) / 8
    centre = mean.mean(0)
    factor = network.decoder.prior_factor.double()
    torch.testing.assert_close(factor @ factor.T, second - torch.outer(centre, centre), atol=1e-6, rtol=1e-4)
    numbers = torch.randn(2, 5)
    torch.testing.assert_close(network.decoder.vector_of(numbers), centre.float() + numbers @ factor.float().T)


def test_the_blocks_see_the_small_picture_around_middle_grey() -> None:
    decoder = vae().decoder
    grey, vector = torch.full((1, 3, 8, 12), 0.5), torch.randn(1, 5)
    before = decoder.enlarged(grey, vector)
    torch.nn.init.constant_(decoder.enter.weight, 3.0)
    assert torch.equal(decoder.enlarged(grey, vector), before)
    assert not torch.allclose(decoder.enlarged(grey + 0.1, vector), before + 0.1, atol=1e-3)


def test_as_it_begins_the_vector_is_the_numbers_drawn() -> None:
    numbers = torch.randn(2, 5)
    assert torch.equal(vae().decoder.vector_of(numbers), numbers)


def test_a_block_scales_and_shifts_as_the_style_says() -> None:
    block = ModulatedBlock(3, 2)
    features, style = torch.randn(1, 3, 4, 4), torch.zeros(1, 2)
    torch.nn.init.zeros_(block.second.bias)
    assert torch.equal(block(features, style), features), "as it begins a block changes nothing"
    torch.nn.init.normal_(block.second.weight)
    silu = torch.nn.functional.silu
    torch.testing.assert_close(block(features, style), features + block.second(silu(block.first(silu(features)))))
    with torch.no_grad():
        block.style.bias.copy_(torch.tensor([-1.0, -1.0, -1.0, 0.5, 1.0, 2.0]))
    # Nothing is left of the features, the shift alone goes on.
    constant = silu(torch.tensor([0.5, 1.0, 2.0])).view(1, 3, 1, 1).expand(1, 3, 4, 4)
    torch.testing.assert_close(block(features, style), features + block.second(constant))


def test_the_divergence_is_that_of_normal_distributions() -> None:
    torch.manual_seed(2)
    posteriors = [(torch.randn(3, 5), torch.randn(3, 5)), (torch.randn(3, 2, 6, 7), torch.randn(3, 2, 6, 7))]
    found = divergences(posteriors)
    assert found.shape == (3, 2)
    for column, (mean, spread) in enumerate(posteriors):
        known = kl_divergence(Normal(mean, (0.5 * spread).exp()), Normal(0.0, 1.0)).flatten(1).sum(1)
        torch.testing.assert_close(found[:, column], known)
    zero = torch.zeros(1, 2)
    assert divergences([(zero, zero)]).item() == 0.0


@pytest.mark.parametrize(
    "counts",
    [
        {"channels": (0, 4)},
        {"num_blocks": (1, 0)},
        {"latent_dim": 0},
        {"num_styles": 0},
        {"small_height": 0},
        {"small_width": 0},
    ],
)
def test_counts_below_one_are_refused(counts: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match=f"{next(iter(counts))}=0 is too small"):
        FaceDecoder(**{"channels": (4, 4), "num_blocks": (1, 1), **counts})  # type: ignore[arg-type]
