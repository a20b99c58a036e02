"""StyleGAN2 in config F's layout, of any resolution, and this repository's own GAN of faces, which has its layers.

    uv run evaluate.py method=pulse generator=stylegan2 generator.weights=FILE ...
    uv run evaluate.py method=pulse generator=faces_gan generator.weights=FILE ...

Source: Karras et al., StyleGAN2, arXiv 1912.04958. The file is the averaged generator's state dict as PyTorch ports of
StyleGAN2 write it (names as in github.com/rosinality/stylegan2-pytorch), alone or as entry ``g_ema`` of a checkpoint;
its fixed noise maps are ignored, for the search brings its own. Resolution, channels and number of mapping layers are
read off the file.
"""

from pathlib import Path
from typing import Annotated

from torch import Tensor

from facesr.errors import WeightsError
from facesr.methods.pulse.style_space import StyleLatentSpace, dimension, find_fit, without_kernels
from facesr.models.style_generator import StyleGenerator
from facesr.models.style_layers import BLUR_TAPS, GAIN, Blur, SmoothDoubling
from facesr.ranges import Range
from facesr.weights import find_weights, load_into, read_state_dict, sha256_of

WHAT = "StyleGAN2's generator"


class StyleGAN2(StyleLatentSpace):
    """StyleGAN2 with the user's weights; see `facesr.protocols.LatentGenerator`.

    Latents are mapped by sqrt(2) * lrelu_0.2(latents * std + mean), the mapping network's own last activation, with
    the statistics of lrelu_5(w / sqrt(2)) over its outputs w.
    """

    def __init__(
        self,
        weights: str | Path | None = None,
        gaussian_fit: str | Path | None = None,
        num_fit_samples: Annotated[int, Range(2, 10_000_000)] = 100_000,
        name: str = "stylegan2",
        file_name: str = "stylegan2_ffhq.pt",
    ) -> None:
        """Finds and loads the generator, and computes or reads the statistics of its mapping network.

        Args:
            weights: the state dict's file; None looks for `file_name` in $FACESR_WEIGHTS and the cache.
            gaussian_fit: file with ``mean`` and ``std``, of mapping outputs before their last activation; None
                computes them.
            num_fit_samples: mapping outputs that the statistics are computed from.
            name: the generator's name in reports.
            file_name: name under which the weights are looked for.

        Raises:
            WeightsError: a file is missing, damaged or of another network.
            ConfigError: `num_fit_samples` is below 2.
        """
        path = find_weights(file_name, key="generator.weights", configured=weights)
        network, identity = load_generator(path), sha256_of(path)
        space = (network.map, network.latent_dim, path)
        fit = find_fit(gaussian_fit, *space, gain=GAIN, num_samples=num_fit_samples, identity=identity)
        super().__init__(name, identity, network, fit, gain=GAIN)


def load_generator(path: Path) -> StyleGenerator:
    """Returns the generator of a file, of whatever resolution, width and constant it holds.

    Raises:
        WeightsError: the file is damaged or of another network.
    """
    state = read_state_dict(path, entry="g_ema")
    # Fixed noise maps are there for repeatable pictures; they are no weights.
    state = {name: value for name, value in state.items() if not name.startswith("noises.")}
    kernels = {
        ".conv.blur.kernel": Blur(BLUR_TAPS, padding=1, gain=4.0).kernel,
        ".upsample.kernel": SmoothDoubling().kernel,
    }
    state = without_kernels(state, kernels, path, WHAT)
    network = _network_of(state, path)
    load_into(network, state, path)
    return network


def _network_of(state: dict[str, Tensor], path: Path) -> StyleGenerator:
    """Returns a generator of the shape that a state dict has."""
    height, width = (dimension(state, "input.input", axis, path, WHAT) for axis in (2, 3))
    channels = [dimension(state, "input.input", 1, path, WHAT)]
    while f"convs.{2 * len(channels) - 2}.conv.weight" in state:
        channels.append(dimension(state, f"convs.{2 * len(channels) - 2}.conv.weight", 1, path, WHAT))
    latent_dim = dimension(state, "style.1.weight", 1, path, WHAT)
    num_mapping_layers = 1
    while f"style.{num_mapping_layers + 1}.weight" in state:
        num_mapping_layers += 1
    if min(height, width, latent_dim, *channels) < 1:
        raise WeightsError(f"{path} does not fit {WHAT}: a layer has no channels.")
    return StyleGenerator(channels, height, width, latent_dim, num_mapping_layers)
