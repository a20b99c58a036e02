"""Root mean square error on RGB, in grey levels.

It is taken per picture and then averaged; the perceptual-index challenge takes the root of the mean over
pictures instead, on luma without its border, and its numbers cannot be compared with these.
"""

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from facesr.metrics.pixels import squared_error
from facesr.protocols import MetricInputs


def rmse(restored: Tensor, high: Tensor) -> NDArray[np.float64]:
    """Returns the RMSE over all pixels and channels in grey levels, 0..255, lower is better, float64 (N,)."""
    return np.sqrt(squared_error(restored, high))


class Rmse:
    """`rmse` as a metric."""

    name = "rmse"
    unit = "grey levels"
    higher_is_better = False
    version = 1
    conditions = "RGB, no border cut off, root per picture"
    needs_low = False

    def __call__(self, inputs: MetricInputs) -> NDArray[np.float64]:
        """Returns grey levels per picture, float64 (N,)."""
        return rmse(inputs.restored, inputs.high)
