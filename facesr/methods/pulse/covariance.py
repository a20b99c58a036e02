"""How likely a latent is by the covariance of what the mapping network gives, where the sphere sees lengths alone.

The search's latents are mapping outputs before their last activation, each coordinate brought to mean 0 and variance 1.
Coordinates are not independent: most directions of the sphere are ones in which the mapping network hardly varies. The
squared Mahalanobis distance, over the number of coordinates, is 1 on average for the network's own outputs, and below
that with `SHRINKAGE`.

Source: Zhu et al., "Improved StyleGAN embedding: where are the good latents?", arXiv 2012.09036, section 3.2, whose
space P_N whitens the outputs so, and section 3.3, whose loss is this distance.
"""

import contextlib
from collections.abc import Callable
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from facesr.errors import ConfigError, WeightsError
from facesr.log import Progress
from facesr.methods.pulse.portraits import searched_of
from facesr.methods.pulse.style_space import CHUNK, SEED, StyleLatentSpace, keep_tensors, mapping_file
from facesr.protocols import LatentGenerator
from facesr.weights import read_state_dict

NUM_SAMPLES = 100_000
# Share of the identity: directions in which 100,000 outputs do not vary must not count without bound.
SHRINKAGE = 0.01

_NAME = "inverse_covariance"
# Of the generators of this process: a search asks once a batch.
_INVERSES: WeakKeyDictionary[StyleLatentSpace, Tensor] = WeakKeyDictionary()


def mahalanobis(latents: Tensor, inverse_covariance: Tensor) -> Tensor:
    """Returns the squared Mahalanobis distance over D, mean of a face's vectors, (N,), at least 0, for (N, L, D)."""
    distances = ((latents @ inverse_covariance) * latents).mean(dim=-1)
    return distances.mean(dim=1)


def inverse_covariance(generator: LatentGenerator) -> Tensor:
    """Returns the inverse covariance of a generator's latents, float32 (D, D), on its device; kept in the cache.

    That of 100,000 seeded outputs of its mapping network, 1 % of the identity mixed in.

    Raises:
        ConfigError: the generator has no mapping network.
        WeightsError: its outputs are not finite.
    """
    space = check_mapping(generator, "pulse.covariance_weight", "leave it 0")
    if space in _INVERSES:
        return _INVERSES[space].to(generator.mapped_mean)
    result = _kept_or_computed(space)
    _INVERSES[space] = result
    return result.to(generator.mapped_mean)


def _kept_or_computed(generator: StyleLatentSpace) -> Tensor:
    path = mapping_file(f"{generator.weights_sha256}-covariance-{NUM_SAMPLES}")
    shape = (generator.latent_dim, generator.latent_dim)
    with contextlib.suppress(WeightsError):  # not there yet, or damaged
        kept = read_state_dict(path).get(_NAME)
        if kept is not None and kept.shape == shape:
            return kept
    result: Tensor = torch.linalg.inv(_covariance(generator))
    if not bool(result.isfinite().all()):
        raise WeightsError(f"generator={generator.name} is damaged: outputs of its mapping network are not finite.")
    result = result.float().cpu().contiguous()
    keep_tensors(path, {_NAME: result})
    return result


def check_mapping(generator: LatentGenerator, key: str, advice: str) -> StyleLatentSpace:
    """Returns the generator, which has a mapping network.

    Args:
        generator: what is searched.
        key: the setting that needs the network, for the error.
        advice: what to do without, for the error.

    Raises:
        ConfigError: it has none.
    """
    if isinstance(generator, StyleLatentSpace) and callable(getattr(generator.network, "map", None)):
        return generator
    raise ConfigError(f"{key} needs a mapping network, which generator={generator.name} does not hold; {advice}.")


@torch.no_grad()
def _covariance(generator: StyleLatentSpace) -> Tensor:
    """Returns the covariance, float64 (D, D): second moments, because the latents' means are 0 as they are defined."""
    draw = torch.Generator().manual_seed(SEED)
    mean = generator.mapped_mean
    # Not every synthesis network holds its mapping network; `check_mapping` has seen that this one does.
    mapping: Callable[[Tensor], Tensor] = getattr(generator.network, "map")  # noqa: B009
    total = torch.zeros(len(mean), len(mean), dtype=torch.float64, device=mean.device)
    with contextlib.closing(Progress(NUM_SAMPLES, 0, unit=" outputs of the mapping network, once")) as bar:
        for _ in range(0, NUM_SAMPLES, CHUNK):
            drawn = torch.randn(CHUNK, generator.latent_dim, generator=draw).to(mean.device)
            latents = searched_of(generator, mapping(drawn)).double()
            total += latents.T @ latents
            bar.advance(CHUNK)
    identity = torch.eye(len(mean), dtype=torch.float64, device=mean.device)
    return (1.0 - SHRINKAGE) * total / NUM_SAMPLES + SHRINKAGE * identity
