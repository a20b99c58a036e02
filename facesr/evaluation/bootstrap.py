"""Statistics of a score over pictures: mean, standard deviation, a bootstrap interval of the mean; many p values.

Source: B. Efron, R. Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 13 (percentile interval).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

CONFIDENCE = 0.95
# Resampled values held at once, 32 MB.
_MOST_VALUES = 4_000_000


@dataclass(frozen=True)
class Statistics:
    """Statistics of one metric over pictures, in the metric's unit.

    Attributes:
        mean: arithmetic mean, in float64.
        std: sample standard deviation (N - 1), 0 for a single picture.
        low: lower end of the 95 % bootstrap interval of the mean.
        high: upper end.
        minimum: lowest value.
        maximum: highest value.
        count: number of pictures.
    """

    mean: float
    std: float
    low: float
    high: float
    minimum: float
    maximum: float
    count: int


@dataclass(frozen=True)
class Estimate:
    """A figure, or a difference of two, and the ends of its 95 % bootstrap interval, in the figure's unit."""

    value: float
    low: float
    high: float


def describe(values: NDArray[np.float64], num_resamples: int, seed: int) -> Statistics:
    """Returns the statistics of values (N,), N >= 1; equal arguments give equal intervals.

    Raises:
        ValueError: there are no values, or one of them is not finite.
    """
    if values.ndim != 1 or len(values) == 0 or not np.isfinite(values).all():
        raise ValueError("statistics need at least one value, all of them finite")
    low, high = interval_of_mean(values, num_resamples, seed)
    return Statistics(
        mean=float(values.mean()),
        std=float(values.std(ddof=1)) if len(values) > 1 else 0.0,
        low=low,
        high=high,
        minimum=float(values.min()),
        maximum=float(values.max()),
        count=len(values),
    )


def interval_of_mean(values: NDArray[np.float64], num_resamples: int, seed: int) -> tuple[float, float]:
    """Returns the ends of the 95 % percentile bootstrap interval of the mean of values (N,).

    The pictures drawn depend on N and `seed` alone, so the intervals of several metrics resample the same pictures.
    """
    return middle_of(resampled_means(values, num_resamples, seed))


def resampled_means(values: NDArray[np.float64], num_resamples: int, seed: int) -> NDArray[np.float64]:
    """Returns the means of so many resamples of values (N,), float64 (num_resamples,)."""
    return _means(values, num_resamples, np.random.default_rng(seed))


def interval_of_difference(
    first: NDArray[np.float64], second: NDArray[np.float64], num_resamples: int, seed: int
) -> tuple[float, float]:
    """Returns the ends of the 95 % percentile bootstrap interval of mean(first) - mean(second); both are resampled."""
    random = np.random.default_rng(seed)
    return middle_of(_means(first, num_resamples, random) - _means(second, num_resamples, random))


def _means(values: NDArray[np.float64], num_resamples: int, random: np.random.Generator) -> NDArray[np.float64]:
    """Returns the means of so many resamples of values (N,)."""
    rows = max(1, _MOST_VALUES // len(values))
    means: list[NDArray[np.float64]] = []
    for start in range(0, num_resamples, rows):
        drawn = random.integers(0, len(values), (min(rows, num_resamples - start), len(values)))
        means.append(values[drawn].mean(axis=1))
    return np.concatenate(means)


def middle_of(drawn: NDArray[np.float64]) -> tuple[float, float]:
    """Returns the ends of the middle 95 % of resampled values (R,)."""
    tail = (1.0 - CONFIDENCE) / 2.0
    low, high = np.quantile(drawn, [tail, 1.0 - tail])
    return float(low), float(high)


def holm(p_values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns p values (K,) corrected for their number, in their order; NaN stays and does not count.

    Source: S. Holm, "A simple sequentially rejective multiple test procedure", Scandinavian Journal of Statistics
    6, 1979.
    """
    found = np.full_like(p_values, np.nan)
    known = np.flatnonzero(np.isfinite(p_values))
    order = known[np.argsort(p_values[known], kind="stable")]
    steps = np.arange(len(order), 0, -1) * p_values[order]
    found[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return found
