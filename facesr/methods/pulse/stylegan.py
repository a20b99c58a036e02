"""StyleGAN (v1), as PULSE uses it: 18 latents and noise maps for faces of 1024 x 1024 pixels.

    uv run evaluate.py method=pulse generator=stylegan generator.synthesis=FILE generator.mapping=FILE ...

Source: Karras et al., StyleGAN, arXiv 1812.04948; Menon et al., PULSE, arXiv 2003.03808. Both weights files are those
that github.com/adamian98/pulse publishes (state dicts of its PyTorch port; one file of both networks, with the
prefixes ``g_synthesis.`` and ``g_mapping.``, is taken as well). Resolution and channels are read off the file.
"""

from collections.abc import Mapping as MappingType
from pathlib import Path
from typing import Annotated

from torch import Tensor

from facesr.errors import WeightsError
from facesr.methods.pulse.style_space import (
    GaussianFit,
    StyleLatentSpace,
    dimension,
    fit_mapping,
    read_fit,
    without_kernels,
)
from facesr.methods.pulse.stylegan_network import BLUR_TAPS, Mapping, Synthesis
from facesr.models.style_layers import Blur
from facesr.ranges import Range
from facesr.weights import find_weights, load_into, read_state_dict, sha256_of

SYNTHESIS_FILE = "stylegan_ffhq_synthesis.pt"
MAPPING_FILE = "stylegan_ffhq_mapping.pt"
FIT_FILE = "gaussian_fit.pt"
# PULSE's own file; another one found by chance might belong to another generator.
FIT_SHA256 = "6c638855d24ea56d40512cc6d8e7a6cac4c3db6fec232a0bf58e0f78d6336d16"


class StyleGAN(StyleLatentSpace):
    """StyleGAN with the user's weights; see `facesr.protocols.LatentGenerator`."""

    def __init__(
        self,
        synthesis: str | Path | None = None,
        mapping: str | Path | None = None,
        gaussian_fit: str | Path | None = None,
        num_fit_samples: Annotated[int, Range(2, 10_000_000)] = 100_000,
        name: str = "stylegan",
    ) -> None:
        """Finds and loads the synthesis network, and the statistics of the mapping network.

        The statistics are those of `gaussian_fit` where it is given, else of `mapping` where that is given; where
        neither is, PULSE's gaussian_fit.pt is looked for, and then the mapping network.

        Args:
            synthesis: state dict of the synthesis network; None looks for it in $FACESR_WEIGHTS and the cache.
            mapping: state dict of the mapping network, needed only to compute the statistics.
            gaussian_fit: file with ``mean`` and ``std`` of the mapping outputs.
            num_fit_samples: mapping outputs that the statistics are computed from (PULSE took a million).
            name: the generator's name in reports.

        Raises:
            WeightsError: a file is missing, damaged or of another network.
            ConfigError: `num_fit_samples` is below 2.
        """
        path = find_weights(SYNTHESIS_FILE, key="generator.synthesis", configured=synthesis)
        network = load_synthesis(path)
        fit = find_fit(mapping, gaussian_fit, network.latent_dim, num_fit_samples)
        super().__init__(name, sha256_of(path), network, fit, gain=1.0)


def find_fit(
    mapping: str | Path | None, gaussian_fit: str | Path | None, latent_dim: int, num_samples: int
) -> GaussianFit:
    """Returns the statistics of the mapping outputs, read or computed; see `StyleGAN`.

    Raises:
        WeightsError: there is neither file, or one is damaged or does not fit.
        ConfigError: `num_samples` is below 2.
    """
    if gaussian_fit is not None:
        return read_fit(find_weights(FIT_FILE, key="generator.gaussian_fit", configured=gaussian_fit), latent_dim)
    if mapping is None:
        try:
            path = find_weights(FIT_FILE, key="generator.gaussian_fit", known_sha256=FIT_SHA256)
        except WeightsError:
            path = None
        if path is not None:
            return read_fit(path, latent_dim)
    path = find_weights(MAPPING_FILE, key="generator.mapping", configured=mapping)
    network = load_mapping(path)
    found = network.latent_dim
    if found != latent_dim:
        raise WeightsError(f"{path} maps to {found} dimensions where the synthesis network takes {latent_dim}.")
    return fit_mapping(network, latent_dim, path, gain=1.0, num_samples=num_samples, identity=sha256_of(path))


def load_synthesis(path: Path) -> Synthesis:
    """Returns the synthesis network of a file, of whatever resolution it holds.

    Raises:
        WeightsError: the file is damaged or of another network.
    """
    state = _own_part(read_state_dict(path), "g_synthesis.")
    # The port's first version kept the noise inside the sequence of layers that follows it.
    state = {name.replace(".top_epi.noise.", ".noise."): value for name, value in state.items()}
    what = "StyleGAN's synthesis network"
    state = without_kernels(state, {".intermediate.kernel": Blur(BLUR_TAPS, padding=1).kernel}, path, what)
    latent_dim = dimension(state, "blocks.4x4.epi1.style_mod.lin.weight", 1, path, what)
    channels: list[int] = []
    while True:
        block = f"blocks.{4 << len(channels)}x{4 << len(channels)}"
        if channels and f"{block}.epi1.style_mod.lin.bias" not in state:
            break
        channels.append(dimension(state, f"{block}.epi1.style_mod.lin.bias", 0, path, what) // 2)
    if min(channels) < 1 or latent_dim < 1:
        raise WeightsError(f"{path} does not fit {what}: a layer has no channels.")
    network = Synthesis(channels, latent_dim)
    load_into(network, state, path)
    return network


def load_mapping(path: Path) -> Mapping:
    """Returns the mapping network of a file.

    Raises:
        WeightsError: the file is damaged or of another network.
    """
    state = _own_part(read_state_dict(path), "g_mapping.")
    network = Mapping(dimension(state, "dense0.weight", 1, path, "StyleGAN's mapping network"))
    load_into(network, state, path)
    return network


def _own_part(state: MappingType[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Returns the entries of one network, without its prefix; all of them where no name has the prefix."""
    own = {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
    return own or dict(state)
