"""Whether an exported file restores as the snapshot does: on faces, of three sizes, alone and together."""

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from facesr.data.export import FIRST_SYNTHETIC, SEED
from facesr.data.synthetic.face.render import render_faces
from facesr.image import to_float, to_uint8
from facesr.resample import downscale_uint8, resize

# Float32 has 1.2e-7 at 1; the two programs sum in different orders. A deep network rounds more than that: two programs
# that are each as far from the exact answer as PyTorch is may be twice as far from each other.
MAX_DIFFERENCE = 2e-6
MOST_ROUNDINGS = 2.0
# Where an answer lies on the border between two grey levels, rounding shows the difference.
MAX_LEVELS, MAX_SHARE = 1, 1e-3
_NUM_FACES = 3


@dataclass(frozen=True)
class Parity:
    """How far two answers are apart.

    Attributes:
        difference: the largest one of all values in [0, 1], in float32; NaN where one is not finite.
        levels: the largest one in grey levels.
        share: how many values differ in grey levels, 0 to 1.
        where: the size at which the difference is largest, for people.
        allowed: what the difference may be at most.
    """

    difference: float
    levels: int
    share: float
    where: str
    allowed: float = MAX_DIFFERENCE

    @property
    def is_kept(self) -> bool:
        """Whether the file restores as the snapshot does."""
        return self.difference <= self.allowed and self.levels <= MAX_LEVELS and self.share <= MAX_SHARE


def measure(network: nn.Module, exported: nn.Module, size: tuple[int, int] | None = None) -> Parity:
    """Returns the parity of two generators on the synthetic faces that train.py validates on.

    Each of three sizes is restored one face at a time and three together, and both times compared with the network's
    answer to the same batch.

    Args:
        network: the generator as it is.
        exported: the one that is compared with it.
        size: (width, height) of the only input that `exported` takes, one picture at a time.
    """
    if size is None:
        batches = [batch for faces in face_batches() for batch in (faces[:1], faces)]
    else:
        batches = list(torch.split(faces_of(*size), 1))
    parts = [_compared(network, exported, batch) for batch in batches]
    worst = max(parts, key=lambda part: np.nan_to_num(part.difference, nan=np.inf))
    levels, share = max(part.levels for part in parts), max(part.share for part in parts)
    found = Parity(worst.difference, levels, share, worst.where)
    if not found.difference > MAX_DIFFERENCE:  # NaN is refused whatever is allowed
        return found
    return replace(found, allowed=max(MAX_DIFFERENCE, MOST_ROUNDINGS * _rounding(network, batches)))


def face_batches() -> Iterator[Tensor]:
    """Yields low-resolution faces (3, 3, h, w), whole grey levels in [0, 1], at 24x28, 32x40 and 96x64."""
    high = render_faces(_NUM_FACES, seed=SEED, first=FIRST_SYNTHETIC, num_workers=0)[0]
    yield to_float(downscale_uint8(high))
    yield to_float(to_uint8(resize(to_float(high), 40, 32)))
    # A group picture: faces of the network's own size side by side.
    faces = downscale_uint8(high)
    row = np.concatenate([faces, np.roll(faces, 1, 0), np.roll(faces, 2, 0), faces], 2)
    yield to_float(np.concatenate([row, row, row], 1)[:, :64])


@torch.no_grad()
def _rounding(network: nn.Module, batches: Sequence[Tensor]) -> float:
    """Returns the largest distance of the network's float32 answers from those in float64."""
    exact = copy.deepcopy(network).double()
    return max(float((network(batch).double() - exact(batch.double())).abs().max()) for batch in batches)


def faces_of(width: int, height: int) -> Tensor:
    """Returns low-resolution faces (3, 3, height, width), whole grey levels in [0, 1]."""
    high = render_faces(_NUM_FACES, seed=SEED, first=FIRST_SYNTHETIC, num_workers=0)[0]
    return to_float(to_uint8(resize(to_float(high), height, width)))


def _compared(network: nn.Module, exported: nn.Module, low: Tensor) -> Parity:
    with torch.no_grad():
        wanted, found = network(low).float(), exported(low).float()
    where = f"{low.shape[3]}x{low.shape[2]}"
    if not bool(torch.isfinite(wanted).all() and torch.isfinite(found).all()):
        return Parity(float("nan"), 255, 1.0, where)
    levels: NDArray[np.int16] = np.abs(to_uint8(wanted).astype(np.int16) - to_uint8(found))
    return Parity(float((wanted - found).abs().max()), int(levels.max()), float((levels > 0).mean()), where)
