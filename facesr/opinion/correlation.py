"""Opinions against judges and metrics: which of them agrees with people, in Spearman's rank correlation.

Four questions, each with its own number:
pictures       all pictures of all methods together;
within faces   of each face, are its methods in the order people have them (mean over faces);
within methods of each method, are its faces in the order people have them (mean over methods);
methods        are the methods' means in the order of their MOS: as many points as there are methods.

Intervals resample raters and faces. Resampled raters are a smaller panel, whose opinion is noisier, so that the
resamples' correlations lie lower; the interval is therefore moved to the estimate (on Fisher's z), but for ``methods``,
whose few values no shift would suit. Opinions of few raters are noisy, and no metric can agree with noise: the ceiling,
``other raters``, says how well the opinions of one half of the raters predict those of the other half, extrapolated to
all of them (Spearman-Brown).
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata

from facesr.opinion.cells import Cells, Floats
from facesr.opinion.intervals import CONFIDENCE, Draws, draw
from facesr.opinion.scores import finite

LEVELS = ("pictures", "within faces", "within methods", "methods")
CEILING = "other raters"
_HALVES = 100
_LARGEST = 1.0 - 1e-6  # of a correlation, so that Fisher's z is finite


@dataclass(frozen=True)
class Correlation:
    """How a metric agrees with people.

    Attributes:
        measure: of the opinions, ``mos`` or ``hit_rate``.
        metric: column of evaluate, e.g. ``is/builtin``; CEILING for the raters themselves.
        level: one of LEVELS.
        value: Spearman's correlation, -1 to 1, the better the higher: that of a metric whose low values are good has
            its sign turned; None where it is not defined, as for equal values.
        low: lower end of the 95 % interval; None where it cannot be told.
        high: upper end.
        points: values that were ranked, of one face or method where the level says "within".
        behind: how much lower it is than that of the metric that agrees best on this level; 0 for that one.
        behind_low: lower end of the difference's 95 % interval, above 0 where the best one is better for sure.
        behind_high: upper end.
    """

    measure: str
    metric: str
    level: str
    value: float | None
    low: float | None
    high: float | None
    points: int
    behind: float | None = None
    behind_low: float | None = None
    behind_high: float | None = None


@dataclass(frozen=True)
class Measured:
    """A metric of all pictures.

    Attributes:
        values: (M, F), NaN where it was not measured.
        higher_is_better: direction.
    """

    values: Floats
    higher_is_better: bool


def correlations(
    cells: Cells, metrics: Mapping[str, Measured], measure: str, num_resamples: int, seed: int
) -> list[Correlation]:
    """Returns the correlations of mean answers with each metric on each level, the ceiling first.

    Args:
        cells: answers for exactly the methods and faces of the metrics.
        metrics: name -> values.
        measure: what is told of the opinions.
        num_resamples: of raters and faces.
        seed: of those.
    """
    raters, methods, faces = cells.values.shape
    if raters == 0 or not metrics:
        return []
    draws = draw(raters, faces, num_resamples, seed)
    opinions = _means(cells.values, np.ones((1, raters)))[0]
    resampled = _means(cells.values, draws.raters)
    resampled = np.where(np.isfinite(resampled), resampled, opinions)
    drawn = _drawn_faces(draws)
    points = {"pictures": methods * faces, "within faces": methods, "within methods": faces, "methods": methods}
    found = [_ceiling(cells, level, points[level], measure, seed) for level in LEVELS]
    for level in LEVELS:
        values = {
            name: level_value(opinions[None], _signed(one)[None], level)[0] if points[level] > 1 else np.nan
            for name, one in metrics.items()
        }
        spread = {
            name: _resampled(resampled, _signed(one), drawn, level) if points[level] > 1 and faces > 1 else None
            for name, one in metrics.items()
        }
        known = [name for name in values if np.isfinite(values[name])]
        best = max(known, key=lambda name: values[name]) if known else None
        for name, value in values.items():
            low, high = _ends(value, spread[name], level)
            behind = _behind(values, spread, best, name)
            found.append(Correlation(measure, name, level, finite(value), low, high, points[level], *behind))
    return found


def _signed(one: Measured) -> Floats:
    return one.values if one.higher_is_better else -one.values


def _means(values: Floats, weights: Floats) -> Floats:
    """Returns (B, M, F), mean answers of the raters (R, M, F) with weights (B, R); NaN where nobody answered."""
    there = np.isfinite(values)
    shape = values.shape[1:]
    sums = weights @ np.where(there, values, 0.0).reshape(len(values), -1)
    counts = weights @ there.reshape(len(values), -1).astype(np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        # Rounded: equal means stay ties, whatever the order of the sum.
        return np.asarray(np.round(sums / counts, 9), np.float64).reshape(-1, *shape)


def _drawn_faces(draws: Draws) -> Floats:
    faces = np.arange(draws.faces.shape[1])
    return np.stack([np.repeat(faces, row.astype(np.intp)) for row in draws.faces])


def level_value(opinions: Floats, metric: Floats, level: str) -> Floats:
    """Returns Spearman's correlations (B,) of opinions (B, M, F) with a metric (B or 1, M, F), else NaN."""
    metric = np.broadcast_to(metric, opinions.shape)
    if level == "pictures":
        flat = (len(opinions), -1)
        return spearman(opinions.reshape(flat), metric.reshape(flat))
    if level == "methods":
        known = np.isfinite(opinions) & np.isfinite(metric)
        with np.errstate(invalid="ignore", divide="ignore"):
            sides = [np.where(known, one, 0.0).sum(axis=2) / known.sum(axis=2) for one in (opinions, metric)]
        return spearman(np.round(sides[0], 9), np.round(sides[1], 9))
    axes = (0, 2, 1) if level == "within faces" else (0, 1, 2)
    each = spearman(opinions.transpose(axes), metric.transpose(axes))
    known = np.isfinite(each)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.where(known, each, 0.0).sum(axis=1) / known.sum(axis=1), np.float64)


def spearman(first: Floats, second: Floats) -> Floats:
    """Returns rank correlations along the last axis, ties by their mean rank; NaN where all values are equal.

    A place where either is NaN does not count.
    """
    there = np.isfinite(first) & np.isfinite(second)
    ranked = []
    for side in (first, second):
        # What does not count goes to the end, where its ranks disturb nobody.
        ranks = np.where(there, rankdata(np.where(there, side, np.inf), axis=-1), 0.0)
        mean = ranks.sum(axis=-1) / np.maximum(there.sum(axis=-1), 1)
        ranked.append(np.where(there, ranks - mean[..., None], 0.0))
    a, b = ranked
    with np.errstate(invalid="ignore", divide="ignore"):
        size = np.sqrt(np.square(a).sum(axis=-1) * np.square(b).sum(axis=-1))
        return np.asarray(np.where(size > 0, (a * b).sum(axis=-1) / size, np.nan), np.float64)


def _resampled(opinions: Floats, metric: Floats, drawn: Floats, level: str) -> Floats:
    taken = np.take_along_axis(opinions, drawn[:, None, :].astype(np.intp), axis=2)
    return level_value(taken, metric[:, drawn.astype(np.intp)].transpose(1, 0, 2), level)


def _z(values: Floats | float) -> Floats:
    return np.asarray(np.arctanh(np.clip(values, -_LARGEST, _LARGEST)), np.float64)


def _ends(value: float, spread: Floats | None, level: str) -> tuple[float | None, float | None]:
    spread = None if spread is None else spread[np.isfinite(spread)]
    if spread is None or len(spread) < 20 or not np.isfinite(value):
        return None, None
    tails = [0.5 - CONFIDENCE / 2, 0.5 + CONFIDENCE / 2]
    if level == "methods":
        low, high = np.quantile(spread, tails)
    else:
        z = _z(spread)
        low, high = np.tanh(_z(value) + np.quantile(z, tails) - np.median(z))
    return finite(low), finite(high)


def _behind(
    values: Mapping[str, float], spread: Mapping[str, Floats | None], best: str | None, name: str
) -> tuple[float | None, float | None, float | None]:
    if best is None or not np.isfinite(values[name]):
        return None, None, None
    difference = float(values[best] - values[name])
    mine, theirs = spread[name], spread[best]
    if name == best or mine is None or theirs is None:
        return difference, None, None
    drawn = theirs - mine
    drawn = drawn[np.isfinite(drawn)]
    if len(drawn) < 20:
        return difference, None, None
    low, high = np.quantile(drawn, [0.5 - CONFIDENCE / 2, 0.5 + CONFIDENCE / 2]) - np.median(drawn) + difference
    return difference, finite(low), finite(high)


def _ceiling(cells: Cells, level: str, points: int, measure: str, seed: int) -> Correlation:
    """Returns how well halves of the raters agree, extrapolated to all of them."""
    raters = len(cells.raters)
    if raters < 4 or points < 2:
        return Correlation(measure, CEILING, level, None, None, None, points)
    random = np.random.default_rng(seed)
    half = np.zeros((_HALVES, raters))
    for row in half:
        row[random.permutation(raters)[: raters // 2]] = 1.0
    values = level_value(_means(cells.values, half), _means(cells.values, 1.0 - half), level)
    mean = float(values[np.isfinite(values)].mean()) if np.isfinite(values).any() else np.nan
    whole = 2.0 * mean / (1.0 + mean) if mean > -1.0 else np.nan
    return Correlation(measure, CEILING, level, finite(whole), None, None, points)
