"""The faces of study=pulse_paper: originals at the generator's size, given or made by it, and their inputs.

OUT/originals/ID.png   portraits that the generator made of fixed seeds, where no high= is given
OUT/low/ID.png         the inputs, shrunk as the search shrinks
OUT/framed/ID.png      the originals at four times the input's size, which other degradations begin from
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from facesr.config import EvaluateSettings
from facesr.errors import ConfigError, ImageError
from facesr.evaluation.pairs import list_pictures, png_size
from facesr.files import make_empty
from facesr.image import to_float, to_uint8
from facesr.methods.pulse.operator import Operator, operator_for
from facesr.methods.pulse.portraits import drawn_latents, portrait_remark, portraits
from facesr.methods.record import SYNTHETIC
from facesr.names import shown_path
from facesr.png import read_png, write_png
from facesr.protocols import LatentGenerator
from facesr.task import SCALE

INPUT_PX = 16  # the published protocol
# Seeds of portraits that a NIQE model is fitted to lie so far behind those of the faces.
PRISTINE = 1_000_000


@dataclass(frozen=True)
class Faces:
    """What is searched for.

    Attributes:
        ids: of the faces, sorted.
        high: folder of the originals, None where only inputs were given.
        low: folder of the inputs.
        operator: from the originals' size to the inputs'.
        seeds: id -> seed of a portrait that the generator made; empty for given pictures.
        latents: float32 (N, L, D) of these portraits, None for given pictures.
    """

    ids: tuple[str, ...]
    high: Path | None
    low: Path
    operator: Operator
    seeds: Mapping[str, int]
    latents: Tensor | None

    def remark(self, key: str) -> str:
        """Returns what a picture that was made from a face has to say about itself; "" for given pictures."""
        return f"{SYNTHETIC}: enlarged by facesr from a generated portrait; nobody" if key in self.seeds else ""


def make_faces(settings: EvaluateSettings, generator: LatentGenerator, out: Path) -> Faces:
    """Returns the faces that the settings ask for; writes the portraits and the inputs that have to be made.

    Raises:
        ConfigError: `paper.input_px` does not fit the generator.
        FaceSRError: a given picture is not as it has to be, or a folder cannot be written.
    """
    if settings.low is not None:
        return _inputs(settings, generator, Path(settings.low))
    operator = _operator(settings, generator, _low_size(settings, generator))
    if settings.high is not None:
        high, seeds, latents = Path(settings.high), {}, None
        _require_size(high, generator.size, f"generator={generator.name} makes")
    else:
        high = out / "originals"
        numbers = range(settings.seed, settings.seed + settings.paper.num_faces)
        seeds = {f"seed_{number:07d}": number for number in numbers}
        latents = drawn_latents(generator, list(numbers))
        write_portraits(generator, latents, seeds, high)
    pictures = list_pictures(high)
    low = out / "low"
    make_empty(low)
    for key, picture in _as_batches(pictures, generator.mapped_mean.device):
        remark = portrait_remark(generator.name, seeds[key]) if key in seeds else ""
        write_png(low / f"{key}.png", to_uint8(operator.downscale(picture))[0], remark)
    return Faces(tuple(pictures), high, low, operator, seeds, latents)


def write_portraits(generator: LatentGenerator, latents: Tensor, seeds: Mapping[str, int], folder: Path) -> None:
    """Writes the portraits of latents (N, L, D) as <folder>/<id>.png, one after the other; each says what it is.

    Raises:
        DataError: the folder cannot be written.
    """
    make_empty(folder)
    for number, (key, seed) in enumerate(seeds.items()):
        picture = to_uint8(portraits(generator, latents[number : number + 1]))[0]
        write_png(folder / f"{key}.png", picture, portrait_remark(generator.name, seed))


def write_framed(faces: Faces, folder: Path, device: torch.device) -> None:
    """Writes the originals at four times the input's size, framed as the search frames what it restores.

    Raises:
        FaceSRError: a picture cannot be read, or the folder cannot be written.
    """
    assert faces.high is not None
    make_empty(folder)
    for key, picture in _as_batches(list_pictures(faces.high), device):
        write_png(folder / f"{key}.png", to_uint8(faces.operator.frame(picture))[0], faces.remark(key))


def _as_batches(pictures: Mapping[str, Path], device: torch.device) -> Iterator[tuple[str, Tensor]]:
    for key, path in pictures.items():
        yield key, to_float(np.asarray(read_png(path))[None]).to(device)


def _inputs(settings: EvaluateSettings, generator: LatentGenerator, low: Path) -> Faces:
    if settings.paper.input_px is not None:
        raise ConfigError("paper.input_px shrinks originals, and low=DIR holds the inputs; leave one of them out.")
    pictures = list_pictures(low)
    size = png_size(next(iter(pictures.values())))
    _require_size(low, size, "the first one has")
    return Faces(tuple(pictures), None, low, _operator(settings, generator, size), {}, None)


def _low_size(settings: EvaluateSettings, generator: LatentGenerator) -> tuple[int, int]:
    width, height = generator.size
    side = settings.paper.input_px
    if width == height:
        return (side or INPUT_PX,) * 2
    if side is not None:
        raise ConfigError(
            f"paper.input_px={side} makes squares, and generator={generator.name} makes {width}x{height}; leave it out."
        )
    return width // SCALE, height // SCALE


def _operator(settings: EvaluateSettings, generator: LatentGenerator, low_size: tuple[int, int]) -> Operator:
    try:
        return operator_for(settings.pulse.operator, generator.size, low_size)
    except ImageError as error:
        raise ConfigError(f"study=pulse_paper: {error}") from error


def _require_size(folder: Path, size: tuple[int, int], whose: str) -> None:
    for path in list_pictures(folder).values():
        found = png_size(path)
        if found != size:
            raise ImageError(
                f"{shown_path(path)} is {found[0]}x{found[1]} where {whose} {size[0]}x{size[1]}; give pictures of "
                "that size."
            )
