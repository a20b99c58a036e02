"""A variational autoencoder (VAE) of faces that begins with eigenfaces: the network of `generator=faces`.

A latent vector gives a small picture as eigenfaces do, by principal components of downscaled faces; latent maps, one
number for each of its pixels and colours, are what the components leave over. What a face of that kind looks like at
four times the size is what the decoder learns: residual blocks, which the vector scales and shifts, change the enlarged
picture. All latents are trained to be standard normal. What the vectors of real faces really are is fitted afterwards,
a mean and a covariance, and used to draw them. The encoder is there for the training and that fit.

Source: Kingma and Welling, "Auto-encoding variational Bayes", arXiv 1312.6114; components of faces after Turk and
Pentland, "Eigenfaces for recognition", Journal of Cognitive Neuroscience 3, 1991; features scaled and shifted by a
vector after Perez et al., "FiLM", arXiv 1709.07871; the fit afterwards after Ghosh et al., "From variational to
deterministic autoencoders", arXiv 1903.12436, section 5.
"""

from collections.abc import Iterable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from facesr.models.sizes import check_counts
from facesr.ranges import Channels
from facesr.resample import downscale, upscale
from facesr.task import SCALE

# Mean and logarithm of the variance of each latent.
Posterior = tuple[Tensor, Tensor]
# Components that hardly vary have at least this standard deviation: two grey levels over the whole small picture.
_LEAST = 0.01
# What the encoder begins with as its uncertainty, along each component and of each pixel: a grey level.
_UNCERTAIN = 1.0 / 255.0


class ModulatedBlock(nn.Module):
    """A residual block whose inner features a style scales and shifts."""

    def __init__(self, num_channels: int, num_styles: int) -> None:
        super().__init__()
        self.style = nn.Linear(num_styles, 2 * num_channels)
        self.first = nn.Conv2d(num_channels, num_channels, 3, padding=1)
        self.second = nn.Conv2d(num_channels, num_channels, 3, padding=1)
        nn.init.normal_(self.style.weight, std=0.1)
        nn.init.zeros_(self.style.bias)
        nn.init.zeros_(self.second.weight)

    def forward(self, features: Tensor, style: Tensor) -> Tensor:
        """Returns (N, C, H, W) for features (N, C, H, W) and styles (N, S)."""
        scale, shift = self.style(style)[:, :, None, None].chunk(2, dim=1)
        inner = torch.addcmul(shift, self.first(F.silu(features)), 1.0 + scale)
        result: Tensor = features + self.second(F.silu(inner))
        return result


class FaceDecoder(nn.Module):
    """Faces from latents.

    Attributes:
        latent_dim: D of the vector.
        size: (width, height) of a picture.
        noise_shapes: (3, h, w) of the latent maps, in a tuple.
    """

    mean: Tensor
    components: Tensor
    leftover: Tensor
    prior_mean: Tensor
    prior_factor: Tensor

    def __init__(
        self,
        channels: tuple[Channels, Channels] = (64, 32),
        num_blocks: tuple[Channels, Channels] = (5, 2),
        latent_dim: Channels = 512,
        num_styles: Channels = 64,
        small_height: Channels = 28,
        small_width: Channels = 24,
    ) -> None:
        """Makes a decoder with first weights, and without components: `set_components`.

        Args:
            channels: features at the small picture's size, and at twice its size.
            num_blocks: blocks there.
            latent_dim: D.
            num_styles: numbers that the vector is reduced to for the blocks.
            small_height: rows of the small picture, a quarter of the face's.
            small_width: its columns.

        Raises:
            ConfigError: a count is below 1.
        """
        super().__init__()
        check_counts(
            channels=min(channels),
            num_blocks=min(num_blocks),
            latent_dim=latent_dim,
            num_styles=num_styles,
            small_height=small_height,
            small_width=small_width,
        )
        self.latent_dim = latent_dim
        self.size = (SCALE * small_width, SCALE * small_height)
        self.noise_shapes = ((3, small_height, small_width),)
        self.style = nn.Linear(latent_dim, num_styles)
        self.enter = nn.Conv2d(3, channels[0], 3, padding=1)
        self.blocks = nn.ModuleList(ModulatedBlock(channels[0], num_styles) for _ in range(num_blocks[0]))
        self.up = nn.Conv2d(channels[0], channels[1], 1)
        self.fine_blocks = nn.ModuleList(ModulatedBlock(channels[1], num_styles) for _ in range(num_blocks[1]))
        self.last = nn.Conv2d(channels[1], 12, 3, padding=1)
        nn.init.normal_(self.last.weight, std=0.01)
        assert self.last.bias is not None
        nn.init.zeros_(self.last.bias)
        self.register_buffer("mean", torch.full((3, small_height, small_width), 0.5))
        self.register_buffer("components", torch.zeros(latent_dim, 3, small_height, small_width))
        self.register_buffer("leftover", torch.ones(3, small_height, small_width))
        self.register_buffer("prior_mean", torch.zeros(latent_dim))
        self.register_buffer("prior_factor", torch.eye(latent_dim))

    def vector_of(self, drawn: Tensor) -> Tensor:
        """Returns the vectors (N, D) of faces for standard normal numbers (N, D)."""
        return F.linear(drawn, self.prior_factor, self.prior_mean)

    def small(self, vector: Tensor) -> Tensor:
        """Returns small pictures (N, 3, h, w), about [0, 1], by the components alone."""
        return self.mean + (vector @ self.components.flatten(1)).view(-1, *self.mean.shape)

    def projected(self, small: Tensor) -> Tensor:
        """Returns the vectors (N, D) whose components alone are nearest to small pictures (N, 3, h, w).

        The components are taken to be orthogonal, as `set_components` sets them; one that is zero takes no part.
        """
        components = self.components.flatten(1)
        squares = components.square().sum(1).clamp_min(torch.finfo(torch.float32).tiny)
        return F.linear((small - self.mean).flatten(1), components) / squares

    def latents_of(self, small: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Returns numbers (N, D) for `vector_of`, and maps, whose small pictures are the given (N, 3, h, w)."""
        vector = self.projected(small)
        numbers = torch.linalg.solve_triangular(self.prior_factor, (vector - self.prior_mean).T, upper=False).T
        return numbers, [(small - self.small(vector)) / self.leftover]

    def enlarged(self, small: Tensor, vector: Tensor) -> Tensor:
        """Returns pictures (N, 3, 4h, 4w), about [0, 1] and not clamped, for small ones, maps included."""
        style = self.style(vector)
        features = self.enter(small - 0.5)
        for block in self.blocks:
            features = block(features, style)
        features = F.interpolate(self.up(features), scale_factor=2, mode="nearest")
        for block in self.fine_blocks:
            features = block(features, style)
        return upscale(small) + F.pixel_shuffle(self.last(F.silu(features)), 2)

    def forward(self, vector: Tensor, maps: Sequence[Tensor]) -> Tensor:
        """Returns pictures (N, 3, height, width), about [0, 1] and not clamped.

        Args:
            vector: (N, D).
            maps: one tensor (N, 3, h, w), or none.
        """
        small = self.small(vector)
        for one in maps:
            small = small + self.leftover * one
        return self.enlarged(small, vector)

    def draw(self, count: int, generator: torch.Generator | None = None) -> list[Tensor]:
        """Returns standard normal numbers of `count` faces, on the CPU: what `vector_of` takes, then the maps."""
        shapes = [(self.latent_dim,), *self.noise_shapes]
        return [torch.randn(count, *shape, generator=generator) for shape in shapes]


class FaceEncoder(nn.Module):
    """What is likely of each latent of a face's picture, told by the downscaled picture alone.

    The vector's mean is its projection on the components, the maps' mean what they leave over; how certain each number
    is, is learned. An encoder that saw the whole picture would write into the latents what the downscaled one does not
    show, and a search, which sees no more than that, could not find it.
    """

    def __init__(self, decoder: FaceDecoder) -> None:
        """Makes an encoder of a decoder's latents, which is sure of nothing: `set_components`."""
        super().__init__()
        (shape,) = decoder.noise_shapes
        self.vector_spread = nn.Parameter(torch.zeros(decoder.latent_dim))
        self.map_spread = nn.Parameter(torch.zeros(shape))

    def of_vector(self, projected: Tensor) -> Posterior:
        """Returns the posterior of the vector, (N, D), for the downscaled pictures' projections (N, D)."""
        return projected, self.vector_spread.expand_as(projected)

    def of_maps(self, leftover: Tensor) -> Posterior:
        """Returns the posterior of the maps for what the decoder's small picture lacks in their units, (N, 3, h, w)."""
        return leftover, self.map_spread.expand_as(leftover)


class FaceVae(nn.Module):
    """Decoder and encoder, as they are trained together.

    Args:
        decoder: what is kept of it.
        encoder: of the decoder's latents.
    """

    def __init__(self, decoder: FaceDecoder, encoder: FaceEncoder) -> None:
        super().__init__()
        self.decoder, self.encoder = decoder, encoder

    def forward(self, pictures: Tensor, *, random: bool = True) -> tuple[Tensor, list[Posterior]]:
        """Returns pictures (N, 3, H, W) and the posteriors, of the vectors and then of the maps.

        Args:
            pictures: (N, 3, H, W) in [0, 1].
            random: whether latents are drawn from their posteriors; else they are the means.
        """
        wanted = downscale(pictures)
        of_vector = self.encoder.of_vector(self.decoder.projected(wanted))
        vector = _drawn(of_vector, random)
        small = self.decoder.small(vector)
        of_maps = self.encoder.of_maps((wanted - small) / self.decoder.leftover)
        small = small + self.decoder.leftover * _drawn(of_maps, random)
        return self.decoder.enlarged(small, vector), [of_vector, of_maps]


@torch.no_grad()
def set_components(network: FaceVae, batches: Iterable[Tensor]) -> None:
    """Sets the components to those of the downscaled faces and their mirrored ones, each times its standard deviation.

    What the encoder thinks of its latents is set as well: that they are right to a grey level.

    Args:
        network: changed in place.
        batches: pictures (N, 3, H, W) in [0, 1].
    """
    decoder, encoder = network.decoder, network.encoder
    small = torch.cat([downscale(pictures) for pictures in batches])
    rows = torch.cat([small, small.flip(3)]).flatten(1).double()
    mean = rows.mean(0)
    directions, deviations = _principal(rows - mean, decoder.latent_dim)
    lacking = rows - mean - (rows - mean) @ directions.T @ directions
    count = len(directions)  # few faces, or few pixels, have fewer; the rest of the vector stays without effect here
    decoder.mean.copy_(mean.view_as(decoder.mean))
    decoder.components[:count] = (directions * deviations[:, None]).view(count, *decoder.mean.shape)
    decoder.leftover.copy_(lacking.square().mean(0).sqrt().clamp_min(_LEAST).view_as(decoder.mean))
    encoder.vector_spread[:count] = 2.0 * (_UNCERTAIN / deviations).log().clamp_max(0.0)
    encoder.map_spread.copy_(2.0 * (_UNCERTAIN / decoder.leftover).log())


def _principal(rows: Tensor, at_most: int) -> tuple[Tensor, Tensor]:
    """Returns principal directions (K, M) and standard deviations (K,), the largest first, of centred rows (N, M)."""
    if len(rows) < rows.shape[1]:
        _, singular, directions = torch.linalg.svd(rows, full_matrices=False)
        deviations = singular / len(rows) ** 0.5
    else:
        values, vectors = torch.linalg.eigh(rows.T @ rows / len(rows))
        directions, deviations = vectors.T.flip(0), values.clamp_min(0.0).sqrt().flip(0)
    return directions[:at_most], deviations[:at_most].clamp_min(_LEAST)


@torch.no_grad()
def fit_prior(network: FaceVae, batches: Iterable[Tensor]) -> None:
    """Fits the decoder's `vector_of` to the vectors of faces: their mean and covariance, drawn ones included.

    Args:
        network: changed in place.
        batches: pictures (N, 3, H, W) in [0, 1].
    """
    means, variances = [], []
    for pictures in batches:
        mean, spread = network.encoder.of_vector(network.decoder.projected(downscale(pictures)))
        means.append(mean.double())
        variances.append(spread.double().exp())
    every = torch.cat(means)
    centre = every.mean(0)
    covariance = (every - centre).T @ (every - centre) / len(every) + torch.cat(variances).mean(0).diag()
    network.decoder.prior_mean.copy_(centre)
    network.decoder.prior_factor.copy_(torch.linalg.cholesky(covariance))


def divergences(posteriors: Sequence[Posterior]) -> Tensor:
    """Returns the Kullback-Leibler divergence of each posterior from the standard normal in nats, (N, posteriors).

    Source: Kingma and Welling, appendix B.
    """
    parts = [0.5 * (mean.square() + spread.exp() - 1.0 - spread) for mean, spread in posteriors]
    return torch.stack([part.flatten(1).sum(1) for part in parts], dim=1)


def _drawn(posterior: Posterior, random: bool) -> Tensor:
    mean, spread = posterior
    return mean + torch.randn_like(mean) * torch.exp(0.5 * spread) if random else mean
