"""The figure of a whole set by a metric's values of its pictures: their mean, but for RMSE, whose root comes last.

Evaluations and the board ask here, so that both tell the same figure of the same pictures. It loads nothing heavy.

Source: Y. Blau et al., "The 2018 PIRM challenge on perceptual image super-resolution", ECCV 2018 workshops, section 2,
for RMSE; B. Efron, R. Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 13, for the intervals.
"""

import numpy as np
from numpy.typing import NDArray

from facesr.evaluation.bootstrap import Estimate, interval_of_mean, middle_of, resampled_means

# Metrics whose values are roots of mean squares; the challenge takes the root over all pixels of all pictures.
_ROOTS = frozenset({"rmse_y"})
_Values = NDArray[np.float64]


def kind_of(metric: str) -> str:
    """Returns how a metric's values become the figure of the set: ``mean`` or ``root mean square``."""
    return "root mean square" if metric in _ROOTS else "mean"


def over_set(metric: str, values: _Values) -> float:
    """Returns the figure of a set from a metric's values of its pictures (N,), N >= 1, in the metric's unit."""
    return float(np.sqrt(np.mean(values**2))) if metric in _ROOTS else float(values.mean())


def figure_of(metric: str, values: _Values, num_resamples: int, seed: int) -> Estimate:
    """Returns that figure with its interval over the pictures; the means' draws are those of `interval_of_mean`."""
    if metric not in _ROOTS:
        return Estimate(over_set(metric, values), *interval_of_mean(values, num_resamples, seed))
    drawn = np.sqrt(resampled_means(values**2, num_resamples, seed))
    return Estimate(over_set(metric, values), *middle_of(drawn))


def difference_of(metric: str, first: _Values, second: _Values, num_resamples: int, seed: int) -> Estimate:
    """Returns the figure of `first` less that of `second`, both (N,) of the same pictures, which are drawn in pairs."""
    if metric not in _ROOTS:
        return figure_of(metric, first - second, num_resamples, seed)
    drawn = [np.sqrt(resampled_means(values**2, num_resamples, seed)) for values in (first, second)]
    return Estimate(over_set(metric, first) - over_set(metric, second), *middle_of(drawn[0] - drawn[1]))
