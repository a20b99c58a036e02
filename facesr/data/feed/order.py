"""Which training faces come when, and how often each pose is among them.

The order is a pure function of (seed, clock): every epoch is one seeded order, and the batch at clock c holds
the faces c, c + 1, ... of that endless order. So the clock alone is the data's position.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from facesr.draws import ORDER
from facesr.errors import ConfigError, DataError

# Where one band of yaw ends and the next begins, in distances between the eyes (see `yaw_of`).
YAW_EDGES = (0.1, 0.2, 0.35)
NUM_KEPT = 2  # epochs: a batch may lie in two


def yaw_of(landmarks: NDArray[np.float32]) -> NDArray[np.float64]:
    """Returns how far each head is turned, float64 (N,): 0 for a frontal face, about 0.5 for a profile, NaN if unknown.

    It is the distance of the nose tip from the middle between the eyes, measured along the line through the eyes, as
    a share of the distance between the eyes. A roll of the head does not change it.

    Args:
        landmarks: float32 (N, 5, 2) as in `facesr.data.packed.reader.PackedDataset`.
    """
    left, right, nose = (landmarks[:, point].astype(np.float64) for point in range(3))
    eyes = right - left
    along = ((nose - (left + right) / 2) * eyes).sum(1)
    with np.errstate(divide="ignore", invalid="ignore"):
        yaw: NDArray[np.float64] = np.abs(along / np.square(eyes).sum(1))
    return yaw


def check_shares(shares: Sequence[float], key: str = "data.pose_shares") -> None:
    """Raises ConfigError unless there is a share for each band of yaw, none negative, and they add up to 1."""
    if len(shares) != len(YAW_EDGES) + 1 or min(shares) < 0 or abs(sum(shares) - 1) > 1e-3:
        raise ConfigError(
            f"{key}={list(shares)} must be {len(YAW_EDGES) + 1} numbers from 0 that add up to 1, or [] "
            "for the faces as they come."
        )


def pose_weights(
    landmarks: NDArray[np.float32],
    shares: Sequence[float],
    key: str = "data.pose_shares",
    before: NDArray[np.float64] | None = None,
) -> NDArray[np.float64]:
    """Returns how often each face comes in an epoch on average, float64 (N,), of mean 1.

    Args:
        landmarks: float32 (N, 5, 2); a face without any keeps its share of the epoch.
        shares: how much of the faces with landmarks each band of yaw shall be; one number more than `YAW_EDGES`.
        key: what the user calls the shares, for errors.
        before: how often each face would come without this, float64 (N,), of mean 1; None: once.

    Raises:
        ConfigError: another number of shares, a negative one, or a sum that is not 1.
        DataError: no face has landmarks, or a band that shall have a share has no face.
    """
    check_shares(shares, key)
    yaw = yaw_of(landmarks)
    known = np.isfinite(yaw)
    if not known.any():
        raise DataError(
            f"{key} needs landmarks, and the training set has none; prepare it with --index or a crop that "
            f"detects faces, or set {key}=[]."
        )
    band = np.digitize(yaw, YAW_EDGES)
    weights = np.ones(len(yaw)) if before is None else before.copy()
    total = weights[known].sum()
    for number, share in enumerate(shares):
        members = known & (band == number)
        if share and not members.any():
            raise DataError(
                f"{key} wants {share:.0%} of the faces in band {number + 1} of yaw, and the training set "
                "has none there; set that share to 0."
            )
        weights[members] *= share * total / max(float(weights[members].sum()), 1e-300)
    return weights


class Order:
    """The endless order of the training faces.

    Args:
        num_faces: faces in the set.
        seed: decides the order.
        weights: how often each face comes in an epoch on average, of mean 1; None shows every face once.
    """

    def __init__(self, num_faces: int, seed: int, weights: NDArray[np.float64] | None = None) -> None:
        self.num_faces, self.seed = num_faces, seed
        self._ends = None if weights is None else np.cumsum(weights) / np.sum(weights)
        self._epochs: dict[int, NDArray[np.int64]] = {}

    def at(self, clock: int, count: int) -> NDArray[np.int64]:
        """Returns the indices of the `count` faces that come at `clock` images into the run."""
        positions = range(clock, clock + count)
        return np.array([self._epoch(p // self.num_faces)[p % self.num_faces] for p in positions], np.int64)

    def _epoch(self, epoch: int) -> NDArray[np.int64]:
        if epoch not in self._epochs:
            while len(self._epochs) >= NUM_KEPT:
                self._epochs.pop(next(iter(self._epochs)))
            self._epochs[epoch] = self._drawn(epoch)
        return self._epochs[epoch]

    def _drawn(self, epoch: int) -> NDArray[np.int64]:
        generator = np.random.Generator(np.random.Philox(key=[self.seed, ORDER + epoch]))
        order = generator.permutation(self.num_faces)
        if self._ends is None:
            return order
        # Systematic sampling: a face that shall come 2.3 times comes twice or three times, never less or more.
        marks = (np.arange(self.num_faces) + generator.random()) / self.num_faces
        return np.searchsorted(self._ends, marks, side="right").clip(max=self.num_faces - 1)[order]
