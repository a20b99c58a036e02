"""Ma's no-reference metric of super-resolved pictures (also NRQM): about 0 to 10, higher is better.

Three regression forests look at three kinds of features (`facesr.metrics.perceptual.ma_features`), and a linear
function joins them. The forests were fitted to people's ratings; their file is the authors' and the user's to supply.

Source: C. Ma, C. Yang, X. Yang, M. Yang, "Learning a no-reference quality metric for single-image super-resolution",
CVIU 2017; model.mat of github.com/chaoma99/sr-metric, whose structs are read by position as pyiqa does.
"""

import hashlib
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from facesr.errors import ImageError, WeightsError
from facesr.metrics.perceptual.ma_features import frequency_features, singular_values, wavelet_features

FILE_NAME = "model.mat"
URL = "https://github.com/chaoma99/sr-metric"
NUM_FEATURES = (18, 45, 75)
# A quarter of it holds the 5x5 blocks of 5x5 pixels that 25 singular values need.
SMALLEST_SIDE = 84


@dataclass(frozen=True)
class Forest:
    """A regression forest: arrays (nodes, trees) of whole numbers or float64.

    Attributes:
        left: the node after "feature <= threshold", counted from 1; 0 at a leaf.
        right: the other one.
        threshold: of the node's question.
        prediction: of a leaf.
        feature: which feature a node asks for, counted from 1; 0 at a leaf.
    """

    left: NDArray[np.int64]
    right: NDArray[np.int64]
    threshold: NDArray[np.float64]
    prediction: NDArray[np.float64]
    feature: NDArray[np.int64]

    def __call__(self, features: NDArray[np.float64]) -> float:
        """Returns the mean prediction of all trees for features (F,)."""
        trees = np.arange(self.left.shape[1])
        node = np.zeros_like(trees)
        # A path is never longer than the number of nodes; a file that goes in circles ends here too.
        for _ in range(len(self.left)):
            goes_left = features[self.feature[node, trees] - 1] <= self.threshold[node, trees]
            following = np.where(goes_left, self.left[node, trees], self.right[node, trees]) - 1
            inner = self.feature[node, trees] > 0
            if not (inner & (following >= 0)).any():
                break
            node = np.where(inner & (following >= 0), following, node)
        return float(self.prediction[node, trees].mean())


@dataclass(frozen=True)
class MaModel:
    """What the authors' file holds.

    Attributes:
        forests: for the frequency, the wavelet and the singular-value features.
        linear: constant and three weights.
        sha256: of the file.
    """

    forests: tuple[Forest, Forest, Forest]
    linear: NDArray[np.float64]
    sha256: str


def read_model(path: Path) -> MaModel:
    """Returns the model of a MATLAB file; nothing in it is run.

    Raises:
        WeightsError: the file is missing, damaged, or holds no such model.
    """
    from scipy.io import loadmat

    try:
        data = path.read_bytes()
    except OSError as error:
        raise WeightsError(
            f"ma.model={path} cannot be read: {error.strerror}; model.mat is part of {URL}, put it there."
        ) from error
    try:
        found = loadmat(io.BytesIO(data), variable_names=["model"])["model"]
        linear = np.asarray(found["linear"][0, 0], np.float64).reshape(-1)
        cells = found["rf"][0, 0].reshape(-1)
        first, second, third = (_forest(cell, count) for cell, count in zip(cells, NUM_FEATURES, strict=True))
        if linear.shape != (4,) or not np.isfinite(linear).all():
            raise ValueError("four finite weights are needed")
    except Exception as error:
        # A reader of a foreign format raises whatever comes to its mind.
        raise WeightsError(f"ma.model={path} is no model of Ma's metric ({error}); give model.mat of {URL}.") from error
    return MaModel((first, second, third), linear, hashlib.sha256(data).hexdigest())


def _forest(cell: NDArray[np.void], num_features: int) -> Forest:
    fields = cell[0, 0]
    left, right, threshold, prediction, feature = (np.atleast_2d(fields[i]) for i in (0, 1, 4, 5, 6))
    forest = Forest(
        left.astype(np.int64),
        right.astype(np.int64),
        threshold.astype(np.float64),
        prediction.astype(np.float64),
        feature.astype(np.int64),
    )
    shapes = {array.shape for array in (forest.left, forest.right, threshold, prediction, feature)}
    if len(shapes) != 1:
        raise ValueError("a forest's arrays have different shapes")
    for nodes in (forest.left, forest.right):
        if nodes.min() < 0 or nodes.max() > len(nodes):
            raise ValueError("a forest points outside its nodes")
    if forest.feature.min() < 0 or forest.feature.max() > num_features:
        raise ValueError(f"a forest asks for other than {num_features} features")
    return forest


def ma(levels: Tensor, model: MaModel) -> NDArray[np.float64]:
    """Returns Ma's score, about 0..10, higher is better, float64 (N,), of grey levels 0..255 (N, H, W).

    NaN for a flat picture, whose statistics are not defined.

    Raises:
        ImageError: a picture is smaller than 84x84.
    """
    height, width = levels.shape[-2:]
    if min(height, width) < SMALLEST_SIDE:
        raise ImageError(
            f"Ma's metric needs at least {SMALLEST_SIDE}x{SMALLEST_SIDE} pixels, this is {width}x{height}."
        )
    return np.array([_score(picture, model) for picture in levels])


def _score(picture: Tensor, model: MaModel) -> float:
    kinds = (frequency_features(picture), wavelet_features(picture), singular_values(picture))
    features = [kind.cpu().numpy() for kind in kinds]
    if not all(np.isfinite(kind).all() for kind in features):
        return float("nan")
    predictions = [forest(kind) for forest, kind in zip(model.forests, features, strict=True)]
    return float(model.linear @ np.array([1.0, *predictions]))
