"""What the robustness study does to the originals: operators, their strengths, and the folders that they write."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from facesr import dist
from facesr.build import build, load_group
from facesr.config import EvaluationProtocol
from facesr.degradation import (
    Chain,
    Degradation,
    GaussianBlur,
    GaussianNoise,
    Jpeg,
    MotionBlur,
    Official,
    PoissonNoise,
)
from facesr.dist import together
from facesr.errors import ConfigError, ImageError
from facesr.evaluation.pairs import Pair, Pairs, batches, list_pictures, png_size
from facesr.files import make_empty
from facesr.image import to_float, to_uint8
from facesr.places import Place
from facesr.png import read_png, write_png
from facesr.task import SCALE

OFFICIAL = "official"


@dataclass(frozen=True)
class Operator:
    """A way to degrade.

    Attributes:
        what: its strength's meaning and unit; empty for a downscaler, which has none.
        strengths: from mild to harsh.
    """

    what: str = ""
    strengths: tuple[float, ...] = ()


# Downscalers stand in for the official one. What has strengths is done to the high-resolution picture (the blurs, in
# its pixels) or to the low-resolution one (noise, JPEG), beside the official downscaling; strengths reach from hardly
# visible to hardly a face.
OPERATORS: dict[str, Operator] = {
    OFFICIAL: Operator(),
    "bicubic": Operator(),
    "nearest": Operator(),
    "bilinear": Operator(),
    "area": Operator(),
    "lanczos": Operator(),
    "gaussian_blur": Operator("standard deviation, pixels of the original", (1, 2, 3, 4)),
    "motion_blur": Operator("pixels of the original, any direction", (5, 9, 13, 17)),
    "gaussian_noise": Operator("standard deviation, grey levels", (2, 5, 10, 20)),
    "poisson_noise": Operator("photons of a white pixel", (2000, 500, 200, 80)),
    "jpeg": Operator("quality", (95, 80, 60, 40)),
    "second_order": Operator("strength of degradation=random", (0.25, 0.5, 0.75, 1)),
}


@dataclass(frozen=True)
class Case:
    """An operator at a strength.

    Attributes:
        operator: a name in `OPERATORS`.
        strength: one of its strengths, None for an operator without.
        level: place of the strength among the operator's, from 1; 0 without.
    """

    operator: str
    strength: float | None = None
    level: int = 0

    @property
    def label(self) -> str:
        """The operator and its strength."""
        return self.operator if self.strength is None else f"{self.operator} {self.strength:g}"


def cases_of(operators: Sequence[str]) -> list[Case]:
    """Returns the cases of the operators, of all where none is named; the official downscaling comes first.

    Raises:
        ConfigError: an operator is unknown.
    """
    unknown = [name for name in operators if name not in OPERATORS]
    if unknown:
        raise ConfigError(f"operators: {unknown[0]} is unknown; choose from {', '.join(OPERATORS)}.")
    cases = [Case(OFFICIAL)]
    for name, operator in OPERATORS.items():
        if name == OFFICIAL or (operators and name not in operators):
            continue
        cases += [Case(name, strength, level) for level, strength in enumerate(operator.strengths, start=1)]
        cases += [] if operator.strengths else [Case(name)]
    return cases


def degradation_of(case: Case) -> Degradation:
    """Returns the degradation of a case."""
    strength = 0.0 if case.strength is None else case.strength
    match case.operator:
        case "official":
            return Official()
        case "gaussian_blur":
            return Chain(before=(GaussianBlur(strength),))
        case "motion_blur":
            return Chain(before=(MotionBlur(round(strength)),))
        case "gaussian_noise":
            return Chain(after=(GaussianNoise(strength),))
        case "poisson_noise":
            return Chain(after=(PoissonNoise(strength),))
        case "jpeg":
            return Chain(after=(Jpeg(round(strength)),))
        case "second_order":
            found: Degradation = build(
                load_group("degradation", "random", [f"strength={strength:g}"]), Place.DEGRADATION
            )
            return found
    return Chain(downscaler=case.operator)


def require_originals(high: Path, protocol: EvaluationProtocol) -> None:
    """Raises where a folder's pictures cannot be degraded and scored under the protocol.

    Raises:
        DataError: the folder is missing or empty.
        ImageError: a picture is no PNG, has another size than the protocol's, or does not divide by 4.
    """
    for path in list_pictures(high).values():
        width, height = png_size(path)
        if (width, height) != (protocol.width or width, protocol.height or height):
            raise ImageError(
                f"{path} is {width}x{height} where originals of protocol {protocol.name} have "
                f"{protocol.width}x{protocol.height}; give those, or use protocol=open for other sizes."
            )
        if width % SCALE or height % SCALE:
            raise ImageError(f"{path} is {width}x{height}; crop it to multiples of {SCALE}.")


def write_low(
    high: Path, folder: Path, degradation: Degradation, seed: int, device: torch.device, batch_size: int
) -> None:
    """Writes <folder>/<id>.png for every picture of `high`; batches are shared among ranks, all wait for all files.

    A picture's place among the sorted names and the seed decide what is drawn for it.

    Raises:
        DataError: a folder is missing, empty or not writable.
        ImageError: a picture cannot be read or written.
    """
    pairs = Pairs(tuple(Pair(key, path, path, None, png_size(path)) for key, path in list_pictures(high).items()))
    together(lambda: make_empty(folder) if dist.is_main() else None)
    places = {pair.id: place for place, pair in enumerate(pairs.items)}

    def work() -> None:
        for batch in batches(pairs, batch_size)[dist.rank() :: dist.world_size()]:
            pictures = to_float(np.stack([read_png(pair.high) for pair in batch])).to(device)
            low = to_uint8(degradation(pictures, seed, places[batch[0].id]))
            for pair, picture in zip(batch, low, strict=True):
                write_png(folder / f"{pair.id}.png", picture)

    together(work)
