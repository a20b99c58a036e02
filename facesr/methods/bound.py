"""The bound of a snapshot's guard: measures it on held-out faces and states it in the snapshot.

    uv run facesr bound runs/NAME --high DIR                     originals, which are downscaled first
    uv run facesr bound runs/NAME --low DIR                      or low-resolution PNG files as they are
    uv run facesr bound SNAPSHOT --high DIR --out FILE           into another file; else the snapshot's own
    uv run facesr bound SNAPSHOT --high DIR --only-measure

Consistency (facesr.guard) of each face is measured, restored plainly and with the self-ensemble. The bound is the
median less 5 spreads of these values, but at least 3 dB, the lower one of both ways, rounded down to a tenth of a dB.
A spread is 1.4826 times the median distance from the median, the standard deviation of a normal distribution. So the
usual face decides: those on which the network breaks cannot lower the bound that is to catch them. Take pictures that
neither trained the network nor will be scored. Weights stay as they are, to the bit.

Source: the median absolute deviation, F. R. Hampel, "The influence curve and its role in robust estimation", JASA 1974.
"""

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.torch import save

from facesr.arguments import Parser
from facesr.errors import ConfigError, DataError, exit_code_of
from facesr.methods.open import open_method
from facesr.methods.restore import restore_pictures
from facesr.metrics.consistency import consistency_of_pictures
from facesr.photos.decode import Unusable, list_pictures, read_picture
from facesr.png import list_png, read_png
from facesr.resample import downscale_uint8
from facesr.snapshots.rules import BOUND, MAX_BOUND_DB, read_about
from facesr.snapshots.shipped import require_no_others_on, snapshot_file
from facesr.snapshots.snapshot import read_snapshot, write_with_digest
from facesr.task import SCALE

NUM_SPREADS = 5.0
# Where the spread is next to nothing, a rounding must not be enough to be refused.
MIN_MARGIN_DB = 3.0
_NORMAL = 1.4826
MIN_PICTURES = 50
# Low-resolution pictures that are restored before their answers are dropped.
_CHUNK = 256
_CPU = torch.device("cpu")

Picture = NDArray[np.uint8]


@dataclass(frozen=True)
class Measured:
    """Consistency of held-out pictures in dB, and the bound that follows.

    Attributes:
        values: per picture, float64 (N,).
        bound_db: 0 to 100, whole tenths.
    """

    values: NDArray[np.float64]

    @property
    def median(self) -> float:
        """The median."""
        return float(np.median(self.values))

    @property
    def spread(self) -> float:
        """The robust standard deviation."""
        return _NORMAL * float(np.median(np.abs(self.values - self.median)))

    @property
    def bound_db(self) -> float:
        """The bound that these values alone give, whole tenths, 0 to 100."""
        margin = max(NUM_SPREADS * self.spread, MIN_MARGIN_DB)
        bound = math.floor((self.median - margin) * 10.0) / 10.0
        return min(max(bound, 0.0), MAX_BOUND_DB)

    def line(self, bound_db: float) -> str:
        """Returns the values in words, and how many pictures a bound would not let pass."""
        return (
            f"median {self.median:.2f} dB, spread {self.spread:.2f}, lowest {self.values.min():.2f}; "
            f"{int((self.values < bound_db).sum())} of {len(self.values)} below {bound_db:g} dB"
        )


def measure(snapshot: Path, low: list[Picture], self_ensemble: bool) -> Measured:
    """Returns the consistency of the snapshot's own pictures of `low`, uint8 (h, w, 3) each; nothing is guarded.

    Raises:
        FaceSRError: the snapshot cannot be opened, or an answer of it is not finite.
    """
    method = open_method(str(snapshot), _CPU, guard=False)
    values: list[NDArray[np.float64]] = []
    for pictures in _stacks(low):
        restored = restore_pictures(method, pictures, device=_CPU, self_ensemble=self_ensemble)
        values.append(consistency_of_pictures(restored, pictures))
    return Measured(np.concatenate(values))


def _stacks(pictures: list[Picture]) -> Iterator[Picture]:
    for _, group in groupby(sorted(pictures, key=lambda picture: picture.shape), key=lambda picture: picture.shape):
        some = list(group)
        for start in range(0, len(some), _CHUNK):
            yield np.stack(some[start : start + _CHUNK])


def low_pictures(high: Path | None, low: Path | None) -> list[Picture]:
    """Returns low-resolution pictures, uint8 (h, w, 3): those of a folder, or originals after the official downscaling.

    Raises:
        DataError: a folder is missing, a picture cannot be read, or the sides of an original are no multiples of 4.
        ConfigError: there are too few to say what is usual.
    """
    if low is not None:
        pictures = [read_png(path) for path in list_png(low).values()]
    else:
        assert high is not None
        pictures = [_downscaled(high / name) for name in list_pictures(high)]
    if len(pictures) < MIN_PICTURES:
        folder = low or high
        raise ConfigError(f"{folder} holds {len(pictures)} pictures; give at least {MIN_PICTURES} to measure a bound.")
    return pictures


def _downscaled(path: Path) -> Picture:
    try:
        picture, _ = read_picture(path)
    except Unusable as error:
        raise DataError(f"{path} cannot be used ({error}); take it out of the folder.") from error
    height, width = picture.shape[:2]
    if height % SCALE or width % SCALE:
        raise DataError(f"{path} is {width}x{height}, which is no multiple of {SCALE}; give ready crops.")
    low: Picture = downscale_uint8(picture[None])[0]
    return low


def state_bound(path: Path, out: Path, bound_db: float) -> str:
    """Writes the snapshot `path` to `out` with another bound, 0 to 100 dB, and returns the sha256 of that file.

    Weights stay as they lie in the file, to the bit, 8-bit ones too; so does everything else that it says.

    Raises:
        CheckpointError: the file is no sound snapshot, or `out` cannot be written; an earlier one is intact.
    """
    read_snapshot(path)
    require_no_others_on(out)
    with safe_open(str(path), "pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - safe_open is no dict
    # One key, as `write_snapshot` writes it: equal snapshots are equal bytes.
    metadata = {"facesr": json.dumps({**read_about(path), BOUND: bound_db}, sort_keys=True)}
    return write_with_digest(out, save(tensors, metadata))


def state_measured_bound(snapshot: Path, low: list[Picture], out: Path | None) -> str:
    """Returns what was measured in words, after stating the bound in the snapshot `out`; None only measures.

    Raises:
        FaceSRError: see `measure`, and `out` cannot be written.
    """
    ways = {"plain": measure(snapshot, low, False), "self-ensemble": measure(snapshot, low, True)}
    bound = min(found.bound_db for found in ways.values())
    lines = [f"{name}: {found.line(bound)}" for name, found in ways.items()]
    told = "not written"
    if out is not None:
        told = f"stated in {out}, sha256 {state_bound(snapshot, out, bound)}"
    return "\n".join([*lines, f"bound {bound:g} dB, {told}"])


def main(arguments: list[str] | None = None) -> int:
    """Returns the exit code, 2 on a user's error."""
    parser = Parser(
        prog="facesr bound",
        description="Measures the bound of a snapshot's guard and states it there.",
    )
    parser.add_argument("snapshot", help="snapshot file, run folder or pretrained:NAME")
    pictures = parser.add_mutually_exclusive_group(required=True)
    pictures.add_argument("--high", type=Path, help="folder of held-out originals, which are downscaled")
    pictures.add_argument("--low", type=Path, help="folder of held-out low-resolution PNG files")
    out = parser.add_mutually_exclusive_group()
    out.add_argument("--out", type=Path, help="the .safetensors file to write; the snapshot itself when not given")
    out.add_argument("--only-measure", action="store_true", help="write nothing")
    chosen = parser.parse_args(arguments)

    def write() -> None:
        snapshot = snapshot_file(chosen.snapshot)
        if snapshot.is_file():
            read_about(snapshot)  # before anything is measured
        low = low_pictures(chosen.high, chosen.low)
        target = None if chosen.only_measure else chosen.out or snapshot
        print(state_measured_bound(snapshot, low, target))

    return exit_code_of(write)
