"""MobileStyleGAN: portraits of 1024x1024, with weights out of a package that pip and uv can install.

    uv run --extra portraits evaluate.py method=pulse generator=mobilestylegan low=DIR ...

The weights are those of the package random-face 2021.7.21.1 (PyPI), which holds them in OpenVINO's format. They were
distilled from StyleGAN2 FFHQ, whose weights and data are for non-commercial use. Nothing of the package is run.

Source: Belousov, MobileStyleGAN, arXiv 2104.04767; github.com/bes-dev/random_face.
"""

import hashlib
import importlib.util
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from facesr.errors import WeightsError
from facesr.methods.pulse.openvino_constants import read_constants
from facesr.methods.pulse.style_space import StyleLatentSpace, find_fit
from facesr.models.mobile_style_generator import MobileStyleGenerator
from facesr.models.style_layers import GAIN
from facesr.names import shown_path
from facesr.ranges import Range
from facesr.weights import find_weights

PACKAGE = "random_face"
WHEEL = "random_face-2021.7.21.1-py3-none-any.whl"
_WITHIN = f"{PACKAGE}/data"
# Files of the wheel: bytes and sha256. Nothing else is read, so nothing in them can surprise.
FILES = {
    "MappingNetwork.xml": (59865, "73e2096cad6e696e4af47df2477e048ab4c42c0e0dec83c7c66604822689e55b"),
    "MappingNetwork.bin": (8405040, "212dd716bdb556e18db603ea97300d4fa3c872b878c726b2402fea80820e7305"),
    "SynthesisNetwork.xml": (425183, "7918fce515243954d3e06628cb39a23902d6b1d5d02932cc0c2faee7a2aeeedd"),
    "SynthesisNetwork.bin": (32025440, "c7da15fa22d508c82e1c30dd6b4cdf67fe3ccdddaf85b310ee764dbf0c289645"),
}
# Features at 4x4 to 512x512.
CHANNELS = (512, 512, 512, 512, 512, 256, 128, 64)
LICENCE = (
    "the weights of generator=mobilestylegan come from the package random-face; they were distilled from StyleGAN2 "
    "FFHQ, whose licence allows non-commercial use only."
)
_HOW = "run it with uv run --extra portraits ..., or give generator.weights=WHEEL_OR_FOLDER of random-face 2021.7.21.1"


class MobileStyleGAN(StyleLatentSpace):
    """MobileStyleGAN's portraits; see `facesr.protocols.LatentGenerator`.

    Latents are mapped as StyleGAN2's are. The network was trained with noise maps that never change: `noise_constants`.
    """

    def __init__(
        self,
        weights: str | Path | None = None,
        gaussian_fit: str | Path | None = None,
        num_fit_samples: Annotated[int, Range(2, 10_000_000)] = 1_000_000,
        name: str = "mobilestylegan",
    ) -> None:
        """Loads the networks, and computes or reads the statistics of the mapping network.

        Args:
            weights: the wheel, or a folder with its files; None takes the installed package, else looks for the wheel
                in $FACESR_WEIGHTS and the cache.
            gaussian_fit: file with ``mean`` and ``std``, of mapping outputs before their last activation; None
                computes them, which takes minutes on a CPU, and keeps them in the cache.
            num_fit_samples: mapping outputs that the statistics are computed from, as many as PULSE took.
            name: the generator's name in reports.

        Raises:
            WeightsError: the package is not there, or a file is another one.
        """
        place = find_place(weights)
        files = read_files(place)
        network, identity = build_network(files), identity_of_files()
        space = (network.map, network.latent_dim, place)
        fit = find_fit(gaussian_fit, *space, gain=GAIN, num_samples=num_fit_samples, identity=identity)
        super().__init__(name, identity, network, fit, gain=GAIN)
        self.noise_constants = network.noise_constants
        self.licence = LICENCE


def identity_of_files() -> str:
    """Returns the digest by which the published weights are known in caches and reports."""
    return hashlib.sha256("".join(digest for _, digest in FILES.values()).encode()).hexdigest()


def find_place(weights: str | Path | None) -> Path:
    """Returns where the weights lie: what `weights` names, the installed package, or the wheel in $FACESR_WEIGHTS.

    Raises:
        WeightsError: they are nowhere.
    """
    if weights is not None:
        path = Path(weights).expanduser()
        if not path.exists():
            raise WeightsError(f"generator.weights={weights} does not exist; {_HOW}.")
        return path
    # Found, not imported: the package's own code wants OpenVINO.
    package = importlib.util.find_spec(PACKAGE)
    if package is not None and package.submodule_search_locations:
        return Path(next(iter(package.submodule_search_locations))) / "data"
    try:
        return find_weights(WHEEL, key="generator.weights")
    except WeightsError:
        raise WeightsError(f"generator=mobilestylegan needs the package random-face; {_HOW}.") from None


def read_files(place: Path) -> dict[str, bytes]:
    """Returns the contents of `FILES` out of the wheel, or out of a folder that holds them or the unpacked wheel.

    Raises:
        WeightsError: a file is missing or another one.
    """
    try:
        if place.is_dir():
            folder = place / _WITHIN if (place / _WITHIN).is_dir() else place
            return {name: _read(folder / name) for name in FILES}
        with zipfile.ZipFile(place) as wheel:
            return {name: _read(zipfile.Path(wheel, f"{_WITHIN}/{name}")) for name in FILES}
    except (OSError, zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
        raise WeightsError(f"{shown_path(place)} does not hold the weights of random-face; {_HOW}.") from error


def _read(path: Path | zipfile.Path) -> bytes:
    num_bytes, sha256 = FILES[path.name]
    with path.open("rb") as file:
        content: bytes = file.read(num_bytes + 1)
    if hashlib.sha256(content).hexdigest() != sha256:
        raise WeightsError(f"{path.name} is damaged or of another version than random-face 2021.7.21.1; {_HOW}.")
    return content


def build_network(files: Mapping[str, bytes]) -> MobileStyleGenerator:
    """Returns the generator with the weights of `FILES`."""
    mapping = {name: key for key, name in _mapping_names().items()}
    synthesis = {name: key for key, name in _synthesis_names().items()}
    network = MobileStyleGenerator(CHANNELS)
    state = network.state_dict()
    for part, names in (("MappingNetwork", mapping), ("SynthesisNetwork", synthesis)):
        constants = read_constants(files[f"{part}.xml"], files[f"{part}.bin"], names)
        state |= {key: constants[name].reshape(state[key].shape) for name, key in names.items()}
    for number, layer in enumerate(_layers()):
        # The file holds maps times their strength. Apart, a map is like one that is drawn anew.
        strength = state[f"noise_{number}"].std()
        state[f"{layer}.strength"], state[f"noise_{number}"] = strength, state[f"noise_{number}"] / strength
    network.load_state_dict(state)
    return network


def _layers() -> list[str]:
    blocks = [f"blocks.{number}.{part}" for number in range(len(CHANNELS) - 1) for part in ("first", "second")]
    return ["first", *blocks]


def _mapping_names() -> dict[str, str]:
    """Returns parameters of the mapping network -> layers of the file."""
    first, step = 173, 4
    names = {f"mapping.{number}.weight": str(first + step * number) for number in range(8)}
    return names | {f"mapping.{number}.bias": str(first + 1 + step * number) for number in range(8)}


def _synthesis_names() -> dict[str, str]:
    """Returns parameters of the synthesis network -> layers of the file.

    Where the export has folded something into a constant, its name is a number that counts up from block to block.
    """
    names = {
        "input.input": "m.input.input",
        "first.mixing.weight": "Mul_39_copy",
        "noise_0": "1531",
        "picture.weight": "m.layers.6.to_img.conv.weight",
        "picture.bias": "m.layers.6.to_img.bias",
    }
    theirs = {"first": "m.conv1"}
    for block in range(len(CHANNELS) - 1):
        names[f"blocks.{block}.scale"] = f"m.layers.{block}.up.modulation"
        names[f"blocks.{block}.first.mixing.weight"] = f"Mul_{106 + 100 * block}_copy"
        names[f"blocks.{block}.second.mixing.weight"] = f"Mul_{139 + 100 * block}_copy"
        names[f"noise_{2 * block + 1}"] = str(1560 + 41 * block)
        names[f"noise_{2 * block + 2}"] = str(1572 + 41 * block)
        theirs[f"blocks.{block}.first"] = f"m.layers.{block}.conv1"
        theirs[f"blocks.{block}.second"] = f"m.layers.{block}.conv2"
    scales = {key: names.pop(key) for key in list(names) if key.endswith(".scale")}
    scales["picture_scale"] = "m.layers.6.to_img.conv.modulation"
    for layer, name in theirs.items():
        names[f"{layer}.mixing.bias"] = f"{name}.bias"
        scales[f"{layer}.scale"] = f"{name}.conv.modulation"
        if layer != "first":
            names[f"{layer}.depthwise.weight"] = f"{name}.conv.weight_dw"
    for key, name in scales.items():
        names |= {f"{key}.weight": f"{name}.weight", f"{key}.bias": f"{name}.bias"}
    return names
