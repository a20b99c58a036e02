"""The latent space that style-based generators share, and the statistics of their mapping network.

PULSE searches where the mapping network's outputs lie without running it: passed through the inverse of their last
activation they are nearly normal, so a standard normal latent times their standard deviation plus their mean, and
then the activation, is a plausible w.

Source: Menon et al., "PULSE", arXiv 2003.03808, section 3.3 and its code github.com/adamian98/pulse, whose
gaussian_fit.pt holds ``mean`` and ``std`` of one million outputs of StyleGAN FFHQ.
"""

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn

from facesr.errors import ConfigError, WeightsError
from facesr.files import whole_file
from facesr.log import Progress
from facesr.models.style_layers import SLOPE
from facesr.weights import cache_dir, find_weights, read_state_dict

CHUNK = 10_000
SEED = 0


class StyleNetwork(Protocol):
    """A synthesis network; see `facesr.models.style_generator.StyleGenerator` for the attributes."""

    num_latents: int
    latent_dim: int
    size: tuple[int, int]
    noise_shapes: tuple[tuple[int, int, int], ...]

    def __call__(self, mapped: Tensor, noises: Sequence[Tensor]) -> Tensor:
        """Returns pictures (N, 3, height, width) in about [-1, 1]."""
        ...


@dataclass(frozen=True)
class GaussianFit:
    """Mean and standard deviation, float32 (D,), of mapping outputs before their last activation."""

    mean: Tensor
    std: Tensor


# Fits of this process, so that building a generator twice runs its mapping network once.
_FITS: dict[tuple[str, int], GaussianFit] = {}


def fit_mapping(
    mapping: Callable[[Tensor], Tensor], latent_dim: int, path: Path, *, gain: float, num_samples: int, identity: str
) -> GaussianFit:
    """Returns the statistics of `num_samples` mapping outputs w, passed through the inverse of gain * lrelu_0.2.

    The inverse is lrelu_5(w / gain). The latents are seeded, so the fit is the same each time. Its mean is known to
    std / sqrt(num_samples), 0.3 % of a standard deviation for 100,000.

    Args:
        mapping: z (N, D) to w (N, D), on the CPU.
        latent_dim: D.
        path: file of the mapping's weights, for errors.
        gain: factor of the last activation: 1 in StyleGAN, sqrt(2) in StyleGAN2.
        num_samples: outputs to take, at least 2.
        identity: sha256 of the mapping's weights; the fit is kept under it in the cache.

    Raises:
        ConfigError: fewer than two samples.
        WeightsError: outputs are not finite.
    """
    if num_samples < 2:
        raise ConfigError(f"generator.num_fit_samples={num_samples} is too small; a deviation needs at least 2.")
    if (identity, num_samples) in _FITS:
        return _FITS[identity, num_samples]
    keep = mapping_file(f"{identity}-{num_samples}")
    try:
        fit = read_fit(keep, latent_dim)
    except WeightsError:  # not there yet, or damaged
        fit = _computed(mapping, latent_dim, path, gain, num_samples)
        keep_tensors(keep, {"mean": fit.mean, "std": fit.std})
    _FITS[identity, num_samples] = fit
    return fit


def mapping_file(name: str) -> Path:
    """Returns where the cache keeps what was computed from a mapping network's outputs."""
    return cache_dir() / "mapping" / f"{name}.safetensors"


def keep_tensors(path: Path, tensors: dict[str, Tensor]) -> None:
    """Keeps tensors in a file of the cache. A cache that cannot be written costs time, not the result."""
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(path) as temporary:
            save_file(tensors, temporary)


def _computed(
    mapping: Callable[[Tensor], Tensor], latent_dim: int, path: Path, gain: float, num_samples: int
) -> GaussianFit:
    random = torch.Generator().manual_seed(SEED)
    total, total_square = (torch.zeros(latent_dim, dtype=torch.float64) for _ in range(2))
    bar = Progress(num_samples, 0, unit=" outputs of the mapping network, once")
    with torch.no_grad():
        for start in range(0, num_samples, CHUNK):
            latents = torch.randn(min(CHUNK, num_samples - start), latent_dim, generator=random)
            outputs = F.leaky_relu(mapping(latents) / gain, 1.0 / SLOPE).double()
            total += outputs.sum(0)
            total_square += outputs.square().sum(0)
            bar.advance(len(latents))
    bar.close()
    mean = total / num_samples
    variance = (total_square - num_samples * mean.square()).clamp(min=0.0) / (num_samples - 1)
    fit = GaussianFit(mean.float(), variance.sqrt().float())
    if not (fit.mean.isfinite().all() and fit.std.isfinite().all()):
        raise WeightsError(f"{path} is damaged: the outputs of its mapping network are not finite.")
    return fit


def find_fit(
    configured: str | Path | None,
    mapping: Callable[[Tensor], Tensor],
    latent_dim: int,
    path: Path,
    *,
    gain: float,
    num_samples: int,
    identity: str,
) -> GaussianFit:
    """Returns the fit of the file that ``generator.gaussian_fit`` names, or without one that of `fit_mapping`.

    Raises:
        WeightsError: see `find_weights`, `read_fit` and `fit_mapping`.
        ConfigError: see `fit_mapping`.
    """
    if configured is None:
        return fit_mapping(mapping, latent_dim, path, gain=gain, num_samples=num_samples, identity=identity)
    return read_fit(find_weights("gaussian_fit.pt", key="generator.gaussian_fit", configured=configured), latent_dim)


def read_fit(path: Path, latent_dim: int) -> GaussianFit:
    """Returns the fit in a file with ``mean`` and ``std``, as PULSE's gaussian_fit.pt.

    Raises:
        WeightsError: it is no such file, or of another number of dimensions.
    """
    state = read_state_dict(path)
    mean, std = state.get("mean"), state.get("std")
    if mean is None or std is None:
        raise WeightsError(f"{path} is no Gaussian fit: it lacks 'mean' or 'std'; leave generator.gaussian_fit out.")
    shape = (latent_dim,)
    if mean.shape != shape or std.shape != shape:
        raise WeightsError(
            f"{path} does not fit the generator: mean is {tuple(mean.shape)} and std {tuple(std.shape)} where "
            f"{shape} is needed."
        )
    if not (mean.isfinite().all() and std.isfinite().all() and (std >= 0).all()):
        raise WeightsError(f"{path} is damaged: a mean or standard deviation is negative or not finite.")
    return GaussianFit(mean, std)


class StyleLatentSpace(nn.Module):
    """A style-based generator as a `facesr.protocols.LatentGenerator`; ``to(device)`` moves all of it.

    Args:
        name: the configuration's name.
        weights_sha256: of the weights file.
        network: the synthesis network; its weights are frozen.
        fit: statistics of the mapping outputs.
        gain: factor of the mapping's last activation.
    """

    mapped_mean: Tensor
    mapped_std: Tensor

    def __init__(self, name: str, weights_sha256: str, network: StyleNetwork, fit: GaussianFit, gain: float) -> None:
        super().__init__()
        self.name, self.weights_sha256, self.gain = name, weights_sha256, gain
        self.num_latents, self.latent_dim = network.num_latents, network.latent_dim
        self.size, self.noise_shapes = network.size, network.noise_shapes
        self.noise_constants: tuple[Tensor, ...] = ()
        self.network = network
        self.register_buffer("mapped_mean", fit.mean.clone())
        self.register_buffer("mapped_std", fit.std.clone())
        self.eval().requires_grad_(False)

    def map(self, latents: Tensor) -> Tensor:
        """Returns w (N, L, D) = gain * lrelu_0.2(latents * std + mean) for standard normal latents (N, L, D)."""
        return self.gain * F.leaky_relu(latents * self.mapped_std + self.mapped_mean, SLOPE)

    def synthesise(self, mapped: Tensor, noises: Sequence[Tensor]) -> Tensor:
        """Returns pictures (N, 3, height, width), about [0, 1] and not clamped, differentiable in both arguments.

        Args:
            mapped: w of each layer, (N, L, D).
            noises: one map (N, 1, h, w) for each of `noise_shapes`.
        """
        return (self.network(mapped, noises) + 1.0) / 2.0


def dimension(state: Mapping[str, Tensor], name: str, axis: int, path: Path, network: str) -> int:
    """Returns the length of a weight along an axis, from which an architecture is read off its file.

    Raises:
        WeightsError: the file lacks the weight, or it has fewer axes.
    """
    if name not in state:
        raise WeightsError(f"{path} is not a weights file of {network}: it lacks {name!r}.")
    if state[name].ndim <= axis:
        raise WeightsError(f"{path} does not fit {network}: {name!r} is {tuple(state[name].shape)}.")
    return state[name].shape[axis]


def without_kernels(
    state: Mapping[str, Tensor], kernels: Mapping[str, Tensor], path: Path, network: str
) -> dict[str, Tensor]:
    """Returns a state dict without its filter kernels, which are no weights but part of the architecture.

    Args:
        state: names to tensors; names that end in ``.kernel`` are filters.
        kernels: endings of such names to the filter that is expected, e.g. ``.upsample.kernel``; any leading axes
            of length 1 may be there or not.
        path: the file, for errors.
        network: what it should hold, for errors.

    Raises:
        WeightsError: a filter is another one, so the pictures would be wrong.
    """
    for name, value in state.items():
        expected = next((kernel for ending, kernel in kernels.items() if name.endswith(ending)), None)
        same = expected is None or (
            value.numel() == expected.numel() and torch.allclose(value.flatten(), expected.flatten(), atol=1e-6)
        )
        if not same:
            raise WeightsError(f"{path} is a {network} with another low-pass filter ({name!r}); it is not supported.")
    return {name: value for name, value in state.items() if not name.endswith(tuple(kernels))}
