"""Where a search may begin: latents that are likely for the input, by a linear encoder.

The encoder is ridge regression from an input's pixels to the latent of the portrait that it was shrunk from, fitted to
portraits of the generator's own. Its strength is the one with the smallest leave-one-out error. An input leaves much
open, so a start is what the encoder says plus the error that it made, left out, on one of its portraits, which the seed
picks: for a joint normal distribution that is a draw of the latent given the input, and other seeds begin elsewhere.

A generator whose latents can be read off an input (`Guesses`) needs no such fit. Its seeds begin at inputs that would
have been rounded to the same grey levels.

Source: an encoder's guess that a search improves: Zhu et al., "Generative visual manipulation on the natural image
manifold", arXiv 1609.03552, section 3.1; leave-one-out error of ridge regression in closed form: Allen's PRESS, as in
Golub, Heath and Wahba, Technometrics 21 (1979).
"""

import contextlib
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from torch import Tensor

from facesr.errors import WeightsError
from facesr.log import Progress
from facesr.methods.pulse.covariance import check_mapping
from facesr.methods.pulse.operator import Operator
from facesr.methods.pulse.portraits import drawn_latents, portraits
from facesr.methods.pulse.style_space import StyleLatentSpace, keep_tensors, mapping_file
from facesr.protocols import LatentGenerator
from facesr.weights import read_state_dict

STARTS = ("random", "encoder")
_KEY, _ADVICE = "pulse.start=encoder", "give pulse.start=random"
# Larger inputs are averaged down to at most so many pixels a side: more tell a linear encoder nothing new.
MAX_SIDE = 32
# Far from the small seeds that portraits for studies are made of.
FIRST_SEED = 500_000
# Ridges to choose from, as shares of the mean variance of an input's leading directions.
RIDGES = tuple(10.0 ** (number / 2) for number in range(-12, 5))
# Portraits that are made at once.
AT_ONCE = 4

# Encoders of this process: a search asks once a batch.
_FITTED: dict[str, "Encoder"] = {}


@runtime_checkable
class Guesses(Protocol):
    """A generator that knows by itself which latents belong to an input."""

    def guess(self, low: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Returns latents (N, L, D) and all noise maps for inputs (N, 3, h, w) in [0, 1]."""
        ...


@dataclass(frozen=True)
class Encoder:
    """A linear map from inputs to latents, and the errors that it makes.

    Attributes:
        mean: of the inputs, as `features` gives them, float32 (P,).
        weights: float32 (P, D).
        errors: own latent minus the guess of the encoder fitted without it, float32 (M, D), of each of M portraits.
    """

    mean: Tensor
    weights: Tensor
    errors: Tensor

    def guess(self, low: Tensor) -> Tensor:
        """Returns the mean latents (N, D) of faces with the inputs (N, 3, h, w) in [0, 1]."""
        return (features(low) - self.mean.to(low)) @ self.weights.to(low)

    def start(self, low: Tensor, draws: Sequence[int]) -> Tensor:
        """Returns latents (N, D) that are likely for the inputs (N, 3, h, w), each decided by its whole number."""
        rows = [draw % len(self.errors) for draw in draws]
        return self.guess(low) + self.errors[rows].to(low)


def features(low: Tensor) -> Tensor:
    """Returns what the encoder sees of inputs (N, 3, h, w): their pixels, at most `MAX_SIDE` a side, (N, P)."""
    height, width = (min(side, MAX_SIDE) for side in low.shape[-2:])
    return F.adaptive_avg_pool2d(low.float(), (height, width)).flatten(1)


def check_start(generator: LatentGenerator) -> None:
    """Raises ConfigError where a search of the generator cannot begin at an encoder's guess."""
    if not isinstance(generator, Guesses):
        check_mapping(generator, _KEY, _ADVICE)


def unrounded(low: Tensor, draws: Sequence[int]) -> Tensor:
    """Returns inputs (N, 3, h, w) that round to the grey levels of `low`, each decided by its whole number."""
    noises = [torch.rand(low.shape[1:], generator=torch.Generator().manual_seed(draw)) - 0.5 for draw in draws]
    return low + torch.stack(noises).to(low) / 255.0


def encoder_for(generator: LatentGenerator, operator: Operator, num_pairs: int) -> Encoder:
    """Returns the encoder of a generator and a downscaling, fitted to `num_pairs` portraits; kept in the cache.

    Raises:
        ConfigError: the generator has no mapping network.
        WeightsError: its portraits or latents are not finite.
    """
    space = check_mapping(generator, _KEY, _ADVICE)
    digest = hashlib.sha256(operator.name.encode())
    for part in (space.mapped_mean, space.mapped_std):
        digest.update(part.detach().cpu().float().numpy().tobytes())
    name = f"{space.weights_sha256}-encoder-{digest.hexdigest()[:16]}-{num_pairs}"
    if name not in _FITTED:
        _FITTED[name] = _kept_or_fitted(space, operator, num_pairs, name)
    return _FITTED[name]


def _kept_or_fitted(space: StyleLatentSpace, operator: Operator, num_pairs: int, name: str) -> Encoder:
    path = mapping_file(name)
    with contextlib.suppress(WeightsError, KeyError):  # not there yet, or damaged
        kept = read_state_dict(path)
        return Encoder(kept["mean"], kept["weights"], kept["errors"])
    encoder = fitted(*_pairs(space, operator, num_pairs))
    if not all(bool(part.isfinite().all()) for part in (encoder.weights, encoder.errors)):
        raise WeightsError(f"generator={space.name} is damaged: its portraits or their latents are not finite.")
    keep_tensors(path, {"mean": encoder.mean, "weights": encoder.weights, "errors": encoder.errors})
    return encoder


def _pairs(space: StyleLatentSpace, operator: Operator, num_pairs: int) -> tuple[Tensor, Tensor]:
    """Returns the inputs, as `features` gives them, and the latents of the generator's own portraits."""
    latents = drawn_latents(space, range(FIRST_SEED, FIRST_SEED + num_pairs))
    inputs: list[Tensor] = []
    with contextlib.closing(Progress(num_pairs, 0, unit=" portraits for the encoder, once")) as bar:
        for part in torch.split(latents, AT_ONCE):
            low = operator.downscale(portraits(space, part))
            # An input is a file of whole grey levels.
            inputs.append(features((low.clamp(0.0, 1.0) * 255.0).round() / 255.0).cpu())
            bar.advance(len(part))
    return torch.cat(inputs), latents[:, 0]


def fitted(inputs: Tensor, latents: Tensor) -> Encoder:
    """Returns the ridge regression from inputs (M, P) to latents (M, D) with the smallest leave-one-out error.

    Latents have mean 0 as they are defined, so there is no intercept beside the inputs' mean.
    """
    mean = inputs.double().mean(dim=0)
    centred, wanted = inputs.double() - mean, latents.double()
    values, vectors = torch.linalg.eigh(centred @ centred.T)
    values, turned = values.clamp_min(0.0), vectors.T @ wanted
    best: tuple[float, float, Tensor] | None = None
    for share in RIDGES:
        ridge = share * float(values.mean())
        kept = values / (values + ridge)  # of each direction; the hat matrix is vectors * kept * vectors^T
        leverage = (vectors.square() * kept).sum(dim=1)
        errors = (wanted - vectors @ (kept[:, None] * turned)) / (1.0 - leverage)[:, None]
        error = float(errors.square().mean())
        if best is None or error < best[0]:
            best = (error, ridge, errors)
    assert best is not None
    _, ridge, errors = best
    weights = centred.T @ (vectors @ (turned / (values + ridge)[:, None]))
    return Encoder(mean.float(), weights.float().contiguous(), errors.float().contiguous())
