"""NIQE, the natural image quality evaluator: how far a picture's statistics lie from those of pristine pictures.

    facesr niqe score DIR --model FILE       each picture of a folder
    facesr niqe fit DIR --out FILE.npz       a pristine model from a folder of good pictures

No original is needed. 0 would be the pristine pictures' own statistics; natural pictures lie near 3; lower is better.
The model is a file: the authors' modelparameters.mat, or one of `fit`, whose scores have their own name because
another pristine set gives other numbers.

Source: A. Mittal, R. Soundararajan, A. Bovik, "Making a completely blind image quality analyzer", IEEE SPL 2013,
equations 9 and 10; NaN and the pseudo-inverse as in the authors' MATLAB program.
"""

import argparse
import hashlib
import io
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from facesr.arguments import Parser, number
from facesr.errors import ConfigError, DataError, ImageError, WeightsError, exit_code_of
from facesr.files import write_bytes
from facesr.metrics.perceptual.colour import COLOURS
from facesr.metrics.perceptual.scene_statistics import BLOCK, NUM_FEATURES, block_features, num_blocks
from facesr.ranges import Count

# Blocks of a pristine picture that are less sharp than this share of its sharpest one say little.
_SHARP_SHARE = 0.75
PUBLISHED = "published"  # name of the authors' model
FILE_NAME = "modelparameters.mat"
# What a fitted model may be called: it is part of its scores' names, and never that of the authors' model.
_NAME = re.compile(r"(?!published$)[A-Za-z0-9._-]{1,40}")
SUFFIXES = {".png", ".bmp", ".jpg", ".jpeg", ".tif", ".tiff", ".webp"}


@dataclass(frozen=True)
class NiqeModel:
    """Statistics of pristine pictures.

    Attributes:
        name: `PUBLISHED` for the authors' file, else what `fit` called it.
        mean: of the features, float64 (36,).
        covariance: float64 (36, 36).
        sha256: of the file, empty if there is none.
    """

    name: str
    mean: NDArray[np.float64]
    covariance: NDArray[np.float64]
    sha256: str = ""


def read_model(path: Path) -> NiqeModel:
    """Returns the model of a .mat file (the authors') or an .npz file (`fit`'s); nothing is unpickled.

    Raises:
        WeightsError: the file is missing, damaged, or holds no such model.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise WeightsError(f"niqe.model={path} cannot be read: {error.strerror}.") from error
    try:
        name, mean, covariance = _npz_model(data) if path.suffix == ".npz" else _mat_model(data)
        mean, covariance = mean.astype(np.float64).reshape(-1), covariance.astype(np.float64)
    except Exception as error:
        # Readers of foreign formats raise whatever comes to their mind.
        raise WeightsError(
            f"niqe.model={path} is no NIQE model; give the authors' modelparameters.mat (mu_prisparam and "
            "cov_prisparam) or a file of `facesr niqe fit`."
        ) from error
    if path.suffix == ".npz" and not _NAME.fullmatch(name):
        raise WeightsError(f"niqe.model={path} calls itself {name!r}; fit it again under another --name.")
    if mean.shape != (NUM_FEATURES,) or covariance.shape != (NUM_FEATURES, NUM_FEATURES):
        raise WeightsError(
            f"niqe.model={path} describes {mean.size} features where NIQE has {NUM_FEATURES}; give another file."
        )
    if not (np.isfinite(mean).all() and np.isfinite(covariance).all()):
        raise WeightsError(f"niqe.model={path} holds numbers that are not finite; give another file.")
    return NiqeModel(name, mean, covariance, hashlib.sha256(data).hexdigest())


def _mat_model(data: bytes) -> tuple[str, NDArray[np.float64], NDArray[np.float64]]:
    from scipy.io import loadmat

    found = loadmat(io.BytesIO(data), variable_names=["mu_prisparam", "cov_prisparam"])
    return PUBLISHED, found["mu_prisparam"], found["cov_prisparam"]


def _npz_model(data: bytes) -> tuple[str, NDArray[np.float64], NDArray[np.float64]]:
    with np.load(io.BytesIO(data), allow_pickle=False) as found:
        return str(found["name"]), found["mean"], found["covariance"]


def write_model(model: NiqeModel, path: Path) -> None:
    """Writes an .npz file that `read_model` reads.

    Raises:
        CheckpointError: it cannot be written.
    """
    buffer = io.BytesIO()
    np.savez(buffer, name=np.array(model.name), mean=model.mean, covariance=model.covariance)
    write_bytes(path, buffer.getvalue())


def niqe(levels: Tensor, model: NiqeModel, strip_blocks: int = 64) -> NDArray[np.float64]:
    """Returns NIQE, lower is better, float64 (N,), of grey levels 0..255 (N, H, W); NaN for a flat picture.

    What grey is (`facesr.metrics.perceptual.colour`) and which border is cut off is the protocol's, and moves the
    score.

    Args:
        levels: pictures of at least two whole blocks of 96x96.
        model: the pristine statistics.
        strip_blocks: see `block_features`.

    Raises:
        ImageError: a picture holds fewer than two blocks; one block has no covariance.
    """
    height, width = levels.shape[-2:]
    if num_blocks(height, width) < 2:
        raise ImageError(
            f"NIQE needs at least two whole blocks of {BLOCK}x{BLOCK}, and {width}x{height} pixels hold "
            f"{num_blocks(height, width)}; it is not defined for pictures as small as the final's faces."
        )
    features, _ = block_features(levels, strip_blocks)
    return np.array([_distance(blocks, model) for blocks in features.cpu().numpy()])


def _distance(features: NDArray[np.float64], model: NiqeModel) -> float:
    """Returns the distance of a picture's features (B, 36) from the model's."""
    whole = features[~np.isnan(features).any(axis=1)]
    if len(whole) < 2:
        return float("nan")
    # As in the authors' program: means leave single NaN out, the covariance whole blocks.
    difference = model.mean - np.nanmean(features, axis=0)
    covariance = (model.covariance + np.cov(whole, rowvar=False)) / 2.0
    squared = difference @ np.linalg.pinv(covariance) @ difference
    return float(np.sqrt(max(squared, 0.0)))


def fit(pictures: Sequence[Path], name: str, colour: str = "grey", *, quiet: bool = True) -> NiqeModel:
    """Returns the model of pristine pictures: statistics of their sharp blocks.

    Args:
        pictures: files of at least one whole block each.
        name: how the model, and so the score, is called.
        colour: see `facesr.metrics.perceptual.colour`.
        quiet: no progress bar.

    Raises:
        ImageError: a picture is damaged or too small.
        DataError: there are not more blocks than features.
    """
    kept: list[NDArray[np.float64]] = []
    for path in tqdm(pictures, disable=quiet, unit=" pictures"):
        levels = read_grey(path, colour)
        if num_blocks(*levels.shape[-2:]) == 0:
            height, width = levels.shape[-2:]
            raise ImageError(f"{path} is {width}x{height}, less than one block of {BLOCK}x{BLOCK}; leave it out.")
        features, sharpness = block_features(levels)
        chosen = features[0][sharpness[0] > _SHARP_SHARE * sharpness[0].max()]
        kept.append(chosen[~chosen.isnan().any(dim=1)].numpy())
    blocks = np.concatenate(kept) if kept else np.empty((0, NUM_FEATURES))
    if len(blocks) <= NUM_FEATURES:
        raise DataError(
            f"{len(pictures)} pictures gave {len(blocks)} sharp blocks; a model of {NUM_FEATURES} features needs more "
            "than that, better some thousands: give more or larger pictures."
        )
    return NiqeModel(name, blocks.mean(axis=0), np.cov(blocks, rowvar=False))


def read_grey(path: Path, colour: str) -> Tensor:
    """Returns a picture file as whole grey levels (1, H, W), float64; a grey picture is taken as it is.

    Raises:
        ImageError: it cannot be read, or is not 8-bit RGB or grey without alpha.
    """
    try:
        with Image.open(path) as picture:
            if picture.mode not in ("RGB", "L"):
                raise ImageError(f"{path} is of mode {picture.mode}; save it as 8-bit RGB or grey, without alpha.")
            pixels = torch.from_numpy(np.array(picture, np.uint8))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise ImageError(f"{path} cannot be decoded ({error}); write it again.") from error
    if pixels.ndim == 2:
        return pixels[None].double()
    return COLOURS[colour].convert(pixels.permute(2, 0, 1)[None])


def _pictures_of(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise DataError(f"{folder} is not a folder; give the folder that holds the pictures.")
    found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    if not found:
        raise DataError(f"{folder} holds no pictures ({', '.join(sorted(SUFFIXES))}).")
    return found


def run_score(chosen: argparse.Namespace) -> None:
    """Prints each picture's NIQE and the mean."""
    model = read_model(chosen.model)
    values: list[float] = []
    for path in _pictures_of(chosen.folder):
        grey = read_grey(path, chosen.colour)
        try:
            (value,) = niqe(grey, model, chosen.strip_blocks)
        except ImageError as error:
            raise ImageError(f"{path}: {error}") from error
        if np.isnan(value):
            raise ImageError(f"{path} is flat almost everywhere, where NIQE is not defined; leave it out.")
        values.append(float(value))
        print(f"{value:9.4f}  {path}")
    print(f"{np.mean(values):9.4f}  mean of {len(values)}; model {model.name}, {COLOURS[chosen.colour].title}")


def run_fit(chosen: argparse.Namespace) -> None:
    """Writes a model."""
    name = chosen.name or chosen.out.stem
    if not _NAME.fullmatch(name):
        raise ConfigError(f"--name={name} cannot name a model; use letters, digits, dots, _ and -, not {PUBLISHED!r}.")
    files = _pictures_of(chosen.folder)
    model = fit(files, name, chosen.colour, quiet=not sys.stderr.isatty())
    write_model(model, chosen.out)
    print(f"{chosen.out}: model {model.name} of {len(files)} pictures")


def main(arguments: list[str] | None = None) -> int:
    """Returns the exit code, 2 on a user's error."""
    parser = Parser(prog="facesr niqe", description="NIQE without an original.")
    commands = parser.add_subparsers(dest="command", required=True)
    score = commands.add_parser("score", help="score the pictures of a folder")
    score.add_argument("--model", type=Path, required=True, help="modelparameters.mat, or a file of fit")
    score.add_argument("--strip-blocks", type=number(Count), default=64, help="blocks in memory at once")
    fitting = commands.add_parser("fit", help="estimate a pristine model")
    fitting.add_argument("--out", type=Path, required=True, help="the .npz file to write")
    fitting.add_argument("--name", default="", help="of the model; default: the file's")
    for command in (score, fitting):
        command.add_argument("folder", type=Path)
        command.add_argument("--colour", choices=sorted(COLOURS), default="grey", help="how RGB becomes grey")
    chosen = parser.parse_args(arguments)
    run = run_score if chosen.command == "score" else run_fit
    return exit_code_of(lambda: run(chosen))
