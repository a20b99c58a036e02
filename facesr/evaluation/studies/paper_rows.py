"""The rows of study=pulse_paper: each method's pictures at the generator's size, and how they are scored.

OUT/methods/NAME/ID.png   as `facesr opinion init folders=[...]` takes them
"""

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from facesr import dist
from facesr.config import EvaluateSettings
from facesr.errors import DataError, WeightsError
from facesr.evaluation.pairs import list_pictures, png_size, require_same_names
from facesr.evaluation.studies.paper_faces import PRISTINE, Faces, write_portraits
from facesr.evaluation.studies.study import Job
from facesr.evaluation.studies.tradeoff_entries import Entry, entries_of
from facesr.evaluation.subjects import restored_by
from facesr.files import make_empty
from facesr.image import round_to_grey_levels, to_float, to_uint8
from facesr.methods.method import INTERPOLATIONS, PULSE
from facesr.methods.pulse.operator import Competition
from facesr.methods.pulse.portraits import drawn_latents
from facesr.metrics.identity_similarity import cosine, embed
from facesr.metrics.perceptual.colour import COLOURS
from facesr.metrics.perceptual.niqe import FILE_NAME, PUBLISHED, NiqeModel, fit, niqe, read_grey, read_model
from facesr.metrics.perceptual.scene_statistics import num_blocks
from facesr.metrics.psnr import psnr_rgb
from facesr.photos.crop import REFERENCE_HEIGHT, REFERENCE_WIDTH
from facesr.png import file_of, read_png, write_png
from facesr.protocols import Embedder, LatentGenerator
from facesr.resample import resize
from facesr.task import SCALE
from facesr.weights import find_weights

CONSISTENCY = "consistency"
ORIGINAL = "original"
Values = dict[str, NDArray[np.float64]]


@dataclass(frozen=True)
class Row:
    """One way to the generator's size.

    Attributes:
        name: of the method, and of its folder.
        folder: its pictures.
    """

    name: str
    folder: Path


def interpolation_rows(faces: Faces, size: tuple[int, int], out: Path) -> list[Row]:
    """Writes and returns nearest and bicubic enlargements of the inputs to `size`, (width, height).

    Raises:
        FaceSRError: a picture cannot be read or written.
    """
    rows = [Row(name, out / name) for name in ("nearest", "bicubic")]
    for row in rows:
        make_empty(row.folder)
        for key, path in list_pictures(faces.low).items():
            write_png(row.folder / f"{key}.png", enlarged(row.name, read_png(path), size), faces.remark(key))
    return rows


def enlarged(name: str, low: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Returns a picture, uint8 (h, w, 3), enlarged to (width, height) by ``nearest`` or ``bicubic``."""
    width, height = size
    if name == "nearest":
        return np.repeat(np.repeat(low, height // low.shape[0], 0), width // low.shape[1], 1)
    return np.asarray(to_uint8(resize(to_float(low[None]), height, width))[0], np.uint8)


def paper_entries(settings: EvaluateSettings) -> list[Entry]:
    """Returns the entries beside those that always are there.

    Raises:
        FaceSRError: see `entries_of`.
    """
    found = entries_of(settings.entries, None, None, (), with_low=True)
    return [entry for entry in found if entry.method not in (*INTERPOLATIONS, PULSE)]


def entry_rows(job: Job, faces: Faces, size: tuple[int, int], out: Path, left_out: list[str]) -> list[Row]:
    """Writes and returns the rows of `entries=`; what cannot reach `size` is told in `left_out`, a sentence each.

    Every rank has to call it.

    Raises:
        FaceSRError: an entry cannot be opened or read, or has other names than the inputs.
    """
    rows: list[Row] = []
    low = list_pictures(faces.low)
    width, height = (SCALE * side for side in faces.operator.low_size)
    for entry in paper_entries(job.settings):
        if entry.method is not None and (width, height) != size:
            left_out.append(
                f"{entry.name} is left out: it restores x{SCALE}, to {width}x{height}, and not to {size[0]}x{size[1]}."
            )
            continue
        if entry.method is not None:
            method = job.methods[entry.asked(job.settings)]()
            subject, _ = restored_by(method, faces.low, job.settings, job.options.device, job.out / "details")
            folder = subject.folder
        else:
            assert entry.folder is not None
            folder = entry.folder
            require_same_names(list_pictures(folder), folder, low, faces.low)
            found = {png_size(path) for path in list_pictures(folder).values()}
            if found != {size}:
                other = sorted(found - {size})[0]
                left_out.append(
                    f"{entry.name} is left out: its pictures have {other[0]}x{other[1]} and not {size[0]}x{size[1]}."
                )
                continue
        rows.append(Row(entry.name, out / entry.name))
        copy_pictures(folder, rows[-1].folder, faces)
    return rows


def copy_pictures(source: Path, folder: Path, faces: Faces) -> None:
    """Copies a picture for each face on rank 0, byte by byte, so that what a file says about itself stays.

    Raises:
        DataError: a picture is missing, or a folder cannot be read or written.
    """

    def copy() -> None:
        make_empty(folder)
        for key in faces.ids:
            try:
                shutil.copyfile(file_of(source, key), folder / f"{key}.png")
            except OSError as error:
                raise DataError(
                    f"{source / f'{key}.png'} cannot be copied: {error.strerror}; give reuse=false to make it anew."
                ) from error

    dist.once(copy)


def find_model(settings: EvaluateSettings, generator: LatentGenerator, out: Path) -> tuple[NiqeModel | None, str]:
    """Returns NIQE's pristine model and a sentence about it; None, and why, where NIQE cannot be had.

    Without the authors' file the model is fitted to other portraits of the generator itself, below `out`.

    Raises:
        WeightsError: the file that was asked for is missing or is no model.
    """
    width, height = generator.size
    if num_blocks(height, width) < 2:
        return None, f"NIQE is left out: it needs two blocks of 96x96, and generator={generator.name} is too small."
    configured = settings.niqe.model
    try:
        model = read_model(find_weights(FILE_NAME, key="niqe.model", configured=configured))
        how = "published pristine model" if model.name == PUBLISHED else f"pristine model {model.name}"
        return model, f"NIQE: {how}, whole pictures, {COLOURS['grey'].title}."
    except WeightsError:
        if configured is not None:
            raise
    num = settings.paper.num_pristine
    seeds = {f"seed_{number:07d}": number for number in range(PRISTINE, PRISTINE + num)}
    write_portraits(generator, drawn_latents(generator, list(seeds.values())), seeds, out)
    try:
        model = fit(sorted(out.glob("*.png")), "own_portraits")
    except DataError as error:
        return None, f"NIQE is left out: {error}"
    return model, (
        f"NIQE: without niqe.model=modelparameters.mat its model was fitted to {num} other portraits of the generator "
        "itself, so it favours this generator's pictures, and its values compare with no published ones."
    )


def judge_view(size: tuple[int, int]) -> Callable[[Tensor], Tensor]:
    """Returns what turns pictures of (width, height) into the framing that judges know: FFHQ's squares are cropped."""
    if size[0] != size[1]:
        return lambda batch: batch
    crop = Competition(size, (REFERENCE_WIDTH // SCALE, REFERENCE_HEIGHT // SCALE))
    return lambda batch: round_to_grey_levels(crop.frame(batch))


class Scorer:
    """Scores pictures at the generator's size, one at a time: a thousand lines squared take memory.

    Args:
        faces: inputs and originals.
        size: (width, height) of the pictures.
        judges: of identity; not asked without originals.
        model: of NIQE, or None.
        device: judges and downscalings run there.
        strip_blocks: of NIQE.
    """

    def __init__(
        self,
        faces: Faces,
        size: tuple[int, int],
        judges: Sequence[Embedder],
        model: NiqeModel | None,
        device: torch.device,
        strip_blocks: int,
    ) -> None:
        self._faces, self._judges, self._model, self._device = faces, judges, model, device
        self._view, self._strip_blocks = judge_view(size), strip_blocks
        self._originals: dict[tuple[str, str], NDArray[np.float32]] = {}

    @property
    def columns(self) -> list[str]:
        """What is scored, in the order of display."""
        names = [] if self._model is None else [self.niqe_name]
        judged = [] if self._faces.high is None else [f"is/{judge.name}" for judge in self._judges]
        return [*names, CONSISTENCY, *judged]

    @property
    def niqe_name(self) -> str:
        """NIQE's column: with another model than the published one it has another name."""
        assert self._model is not None
        return "niqe" if self._model.name == PUBLISHED else f"niqe/{self._model.name}"

    def __call__(self, folder: Path, low: Path, with_niqe: bool = True) -> Values:
        """Returns the values of a folder's pictures, column -> float64 (N,), in the order of the ids.

        Args:
            folder: pictures at the generator's size.
            low: the inputs that they have to be consistent with.
            with_niqe: whether NIQE is taken, where it can be had.

        Raises:
            FaceSRError: a picture cannot be read.
        """
        found: dict[str, list[float]] = {}
        for key in self._faces.ids:
            path = folder / f"{key}.png"
            picture = self._read(path)
            given = self._read(file_of(low, key))
            shrunk = round_to_grey_levels(self._faces.operator.downscale(picture))
            if with_niqe and self._model is not None:
                value = niqe(read_grey(path, "grey"), self._model, self._strip_blocks)[0]
                found.setdefault(self.niqe_name, []).append(float(value))
            found.setdefault(CONSISTENCY, []).append(float(psnr_rgb(shrunk, given)[0]))
            for judge in self._judges if self._faces.high is not None else ():
                original = self._original(judge, key)
                value = cosine(embed(judge, self._view(picture)), original)[0]
                found.setdefault(f"is/{judge.name}", []).append(float(value))
        return {column: np.array(values) for column, values in found.items()}

    def _original(self, judge: Embedder, key: str) -> NDArray[np.float32]:
        assert self._faces.high is not None
        if (judge.name, key) not in self._originals:
            self._originals[judge.name, key] = embed(judge, self._view(self._read(file_of(self._faces.high, key))))
        return self._originals[judge.name, key]

    def _read(self, path: Path) -> Tensor:
        return to_float(np.asarray(read_png(path))[None]).to(self._device)


def names_of(rows: Sequence[Row]) -> Mapping[str, Path]:
    """Returns name -> folder of rows.

    Raises:
        DataError: two have one name.
    """
    found: dict[str, Path] = {}
    for row in rows:
        if row.name in found:
            raise DataError(f"entries: two rows are called {row.name}; rename that folder.")
        found[row.name] = row.folder
    return found
