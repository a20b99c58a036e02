"""A variational autoencoder (VAE) of faces whose latents lie at several resolutions: the network of `generator=faces`.

The decoder makes coarse features of a first latent vector, doubles them up to half the picture's size, and ends in a
pixel shuffle. At every resolution a latent vector scales and shifts the features, and at the coarser ones latent maps
are added to them: what only this face has at one place needs a latent at that place. All latents are trained to be
standard normal. What the vectors of real faces really are is fitted afterwards, a mean and a covariance, and used to
draw them. The encoder is there for the training and that fit.

Source: Kingma and Welling, "Auto-encoding variational Bayes", arXiv 1312.6114; latent maps at several resolutions,
whose posteriors see the decoder's features, after Vahdat and Kautz, "NVAE", arXiv 2007.03898; features scaled and
shifted by a vector after Perez et al., "FiLM", arXiv 1709.07871; the fit afterwards after Ghosh et al., "From
variational to deterministic autoencoders", arXiv 1903.12436, section 5.
"""

import itertools
import math
from collections.abc import Iterable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from facesr.models.sizes import check_counts
from facesr.ranges import Channels

# Mean and logarithm of the variance of each latent.
Posterior = tuple[Tensor, Tensor]
# Logarithms of variances stay between -6 and 6, so that no step overflows; they begin at about -2.
_REACH, _BEGIN = 6.0, 2.0


class ModulatedBlock(nn.Module):
    """A residual block whose inner features a latent vector scales and shifts.

    Where it has latent maps, they are added to the features before, each scaled at every place by 0 to 2, as the
    features expect.
    """

    def __init__(self, num_channels: int, latent_dim: int, num_maps: int) -> None:
        super().__init__()
        self.spread = nn.Conv2d(num_channels, num_maps, 1) if num_maps else None
        self.maps = nn.Conv2d(num_maps, num_channels, 1, bias=False) if num_maps else None
        self.style = nn.Linear(latent_dim, 2 * num_channels)
        self.first = nn.Conv2d(num_channels, num_channels, 3, padding=1)
        self.second = nn.Conv2d(num_channels, num_channels, 3, padding=1)
        if self.maps is not None:
            nn.init.normal_(self.maps.weight, std=0.3 / math.sqrt(num_maps))
        nn.init.normal_(self.style.weight, std=0.1)
        for layer in (self.spread, self.second):
            if layer is not None and layer.bias is not None:
                nn.init.zeros_(layer.weight)
                nn.init.zeros_(layer.bias)
        nn.init.zeros_(self.style.bias)

    def forward(self, features: Tensor, latent: Tensor, maps: Tensor | None) -> Tensor:
        """Returns (N, C, H, W) for features (N, C, H, W), latents (N, D) and maps (N, M, H, W), None without maps."""
        if self.maps is not None and self.spread is not None and maps is not None:
            spread = 2.0 * torch.sigmoid(self.spread(F.silu(features)))
            features = features + self.maps(spread * maps)
        scale, shift = self.style(latent)[:, :, None, None].chunk(2, dim=1)
        inner = torch.addcmul(shift, self.first(F.silu(features)), 1.0 + scale)
        result: Tensor = features + self.second(F.silu(inner))
        return result


class FaceDecoder(nn.Module):
    """Faces from latents.

    Attributes:
        num_latents: latent vectors of one picture, one for each resolution.
        latent_dim: D of a vector.
        size: (width, height) of a picture.
        noise_shapes: (M, h, w) of the latent maps, from the coarsest.
    """

    prior_mean: Tensor
    prior_factor: Tensor

    def __init__(
        self,
        channels: Sequence[Channels],
        num_maps: Sequence[Channels],
        latent_dim: Channels = 64,
        constant_height: Channels = 7,
        constant_width: Channels = 6,
    ) -> None:
        """Makes a decoder with first weights.

        Args:
            channels: features at each resolution, the coarsest one's first; pictures are 2^len(channels) times as high
                and wide as the constant.
            num_maps: latent maps of the first so many resolutions.
            latent_dim: D.
            constant_height: rows of the learned constant.
            constant_width: its columns.

        Raises:
            ConfigError: a count is below 1.
        """
        super().__init__()
        check_counts(
            channels=min(channels, default=0),
            num_maps=min(num_maps, default=0),
            latent_dim=latent_dim,
            constant_height=constant_height,
            constant_width=constant_width,
        )
        self.channels, self.num_latents, self.latent_dim = tuple(channels), len(channels), latent_dim
        self.size = (constant_width << len(channels), constant_height << len(channels))
        self.noise_shapes = tuple(
            (count, constant_height << level, constant_width << level) for level, count in enumerate(num_maps)
        )
        self.constant = nn.Parameter(torch.randn(1, channels[0], constant_height, constant_width) * 0.3)
        self.begin = nn.Linear(latent_dim, self.constant.numel(), bias=False)
        nn.init.normal_(self.begin.weight, std=0.3 / math.sqrt(latent_dim))
        self.blocks = nn.ModuleList(
            ModulatedBlock(width, latent_dim, count)
            for width, count in itertools.zip_longest(channels, num_maps, fillvalue=0)
        )
        self.ups = nn.ModuleList(nn.Conv2d(below, here, 1) for below, here in itertools.pairwise(channels))
        self.last = nn.Conv2d(channels[-1], 12, 3, padding=1)
        nn.init.normal_(self.last.weight, std=0.02)
        num_numbers = self.num_latents * latent_dim
        self.register_buffer("prior_mean", torch.zeros(num_numbers))
        self.register_buffer("prior_factor", torch.eye(num_numbers))

    def vectors_of(self, drawn: Tensor) -> Tensor:
        """Returns the latent vectors (N, num_latents, D) of faces for standard normal numbers (N, num_latents * D)."""
        vectors: Tensor = F.linear(drawn, self.prior_factor, self.prior_mean)
        return vectors.view(len(drawn), self.num_latents, self.latent_dim)

    def features_at(self, level: int, before: Tensor | None, latents: Tensor) -> Tensor:
        """Returns the features (N, C, h, w) that a level begins with; `before` is what the one below gave."""
        if before is None:
            first: Tensor = self.begin(latents[:, 0])
            return self.constant + first.view(-1, *self.constant.shape[1:])
        return F.interpolate(self.ups[level - 1](before), scale_factor=2, mode="nearest")

    def picture(self, features: Tensor) -> Tensor:
        """Returns pictures (N, 3, height, width), about [0, 1], for what the last level gave."""
        return F.pixel_shuffle(self.last(F.silu(features)), 2) + 0.5

    def forward(self, latents: Tensor, maps: Sequence[Tensor]) -> Tensor:
        """Returns pictures (N, 3, height, width), about [0, 1] and not clamped.

        Args:
            latents: (N, num_latents, D).
            maps: (N, M, h, w) for each of `noise_shapes`.
        """
        features: Tensor | None = None
        for level, block in enumerate(self.blocks):
            features = self.features_at(level, features, latents)
            features = block(features, latents[:, level], maps[level] if level < len(maps) else None)
        assert features is not None
        return self.picture(features)

    def draw(self, count: int, generator: torch.Generator | None = None) -> list[Tensor]:
        """Returns standard normal numbers of `count` faces, on the CPU: what `vectors_of` takes, then the maps."""
        shapes = [(self.num_latents * self.latent_dim,), *self.noise_shapes]
        return [torch.randn(count, *shape, generator=generator) for shape in shapes]


class FaceEncoder(nn.Module):
    """What is likely of each latent of a face's picture.

    The vectors are read off the coarsest features. The maps of a level are read off the picture's features there and
    those of the decoder, which hold all coarser latents: only what these do not say has to stand in the map.
    """

    def __init__(self, decoder: FaceDecoder, channels: Sequence[Channels]) -> None:
        """Makes an encoder with first weights.

        Args:
            decoder: whose latents it gives.
            channels: features at half the picture's size, a quarter, and so on, down to the decoder's constant.
        """
        super().__init__()
        check_counts(channels=min(channels, default=0))
        self.num_latents, self.latent_dim = decoder.num_latents, decoder.latent_dim
        self.first = nn.Conv2d(12, channels[0], 3, padding=1)
        self.downs = nn.ModuleList(_halving(above, below) for above, below in itertools.pairwise(channels))
        widths = zip(reversed(channels), decoder.channels, decoder.noise_shapes, strict=False)
        self.heads = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(own + others, own, 3, padding=1), nn.SiLU(), nn.Conv2d(own, 2 * count, 3, padding=1)
            )
            for own, others, (count, _, _) in widths
        )
        _, height, width = decoder.noise_shapes[0]
        squeezed = max(1, channels[-1] // 4)
        self.squeeze = nn.Conv2d(channels[-1], squeezed, 1)
        self.vectors = nn.Linear(squeezed * height * width, 2 * self.num_latents * self.latent_dim)

    def levels(self, pictures: Tensor) -> list[Tensor]:
        """Returns features of pictures (N, 3, H, W) in [0, 1], the coarsest first."""
        found = [F.silu(self.first(F.pixel_unshuffle(2.0 * pictures - 1.0, 2)))]
        for down in self.downs:
            found.append(down(found[-1]))
        return found[::-1]

    def of_vectors(self, coarsest: Tensor) -> Posterior:
        """Returns the posterior of the latent vectors, (N, num_latents, D), for the coarsest of `levels`."""
        vectors = self.vectors(self.squeeze(coarsest).flatten(1))
        mean, spread = vectors.view(len(coarsest), 2, self.num_latents, self.latent_dim).unbind(1)
        return mean, _bounded(spread)

    def of_maps(self, level: int, own: Tensor, others: Tensor) -> Posterior:
        """Returns the posterior of a level's maps, (N, M, h, w), for its `levels` and the decoder's features there."""
        mean, spread = self.heads[level](torch.cat([own, others], dim=1)).chunk(2, dim=1)
        return mean, _bounded(spread)


class FaceVae(nn.Module):
    """Decoder and encoder, as they are trained together.

    Args:
        decoder: what is kept of it.
        encoder: of the decoder's latents.
    """

    def __init__(self, decoder: FaceDecoder, encoder: FaceEncoder) -> None:
        super().__init__()
        self.decoder, self.encoder = decoder, encoder

    def forward(
        self, pictures: Tensor, *, random: bool = True, with_maps: bool = True
    ) -> tuple[Tensor, list[Posterior]]:
        """Returns pictures (N, 3, H, W) and the posteriors, of the vectors and then of each level's maps.

        Args:
            pictures: (N, 3, H, W) in [0, 1].
            random: whether latents are drawn from their posteriors; else they are the means.
            with_maps: False leaves the maps out: the vectors have to say what they can.
        """
        levels = self.encoder.levels(pictures)
        posteriors = [self.encoder.of_vectors(levels[0])]
        latents = _drawn(posteriors[0], random)
        features: Tensor | None = None
        for level, block in enumerate(self.decoder.blocks):
            features = self.decoder.features_at(level, features, latents)
            maps: Tensor | None = None
            if with_maps and level < len(self.encoder.heads):
                posteriors.append(self.encoder.of_maps(level, levels[level], features))
                maps = _drawn(posteriors[-1], random)
            features = block(features, latents[:, level], maps)
        assert features is not None
        return self.decoder.picture(features), posteriors


@torch.no_grad()
def fit_prior(network: FaceVae, batches: Iterable[Tensor]) -> None:
    """Fits the decoder's `vectors_of` to the latent vectors of faces: their mean and covariance, drawn ones included.

    Args:
        network: changed in place.
        batches: pictures (N, 3, H, W) in [0, 1].
    """
    means, variances = [], []
    for pictures in batches:
        mean, spread = network.encoder.of_vectors(network.encoder.levels(pictures)[0])
        means.append(mean.flatten(1).double())
        variances.append(spread.flatten(1).double().exp())
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


def _bounded(spread: Tensor) -> Tensor:
    return _REACH * torch.tanh((spread - _BEGIN) / _REACH)


def _halving(num_in: int, num_out: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(num_in, num_out, 4, stride=2, padding=1),
        nn.SiLU(),
        nn.Conv2d(num_out, num_out, 3, padding=1),
        nn.SiLU(),
    )
