"""Intervals of a mean over raters and faces, both of them samples of what a study wants to speak about.

Ratings are not independent: those of one rater share the rater, those of one face the face. The model is the crossed
one, ``answer = mean + rater + face + rest``, and the interval is for the mean over all raters and faces there might be:

    variance of the mean = rater / (effective raters) + face / (effective faces) + rest / answers,

with the three variance components estimated without bias from whatever cells there are, and Student's t with the
degrees of freedom of Satterthwaite. Resampling raters and faces (the pigeonhole bootstrap) counts the rest three
times, and its percentiles know of no t: for few raters it is too narrow, for noisy answers too wide
(docs/opinion_analysis.md has the measured coverage); it is told beside.

Sources: K. Gao, A. Owen, "Efficient moment calculations for variance components in large unbalanced crossed random
effects models", Electronic Journal of Statistics 11, 2017 (components, equations 9 to 14). F. Satterthwaite, "An
approximate distribution of estimates of variance components", Biometrics Bulletin 2, 1946. A. Owen, "The pigeonhole
bootstrap", Annals of Applied Statistics 1, 2007. A. Cameron, J. Gelbach, D. Miller, "Robust inference with multiway
clustering", Journal of Business and Economic Statistics 29, 2011 (`two_way_variance`).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtr, stdtrit

Floats = NDArray[np.float64]
CONFIDENCE = 0.95
# Below this share of the scale's square a variance is rounding alone.
_NOTHING = 1e-12


@dataclass(frozen=True)
class Crossed:
    """Means of tables and what their sampling varies by; NaN where it cannot be told.

    Attributes:
        mean: of the cells that are there.
        variance: of the mean, over samples of raters and faces; NaN with fewer than two of either, or equal answers.
        freedom: Satterthwaite's degrees of freedom, at least 1.
        rater: variance component of the raters.
        face: of the faces.
        rest: of what is left.
    """

    mean: Floats
    variance: Floats
    freedom: Floats
    rater: Floats
    face: Floats
    rest: Floats

    def interval(self) -> tuple[Floats, Floats]:
        """Returns both ends of the 95 % intervals; NaN where there is no variance."""
        return t_interval(self.mean, self.variance, self.freedom)

    def p_value(self) -> Floats:
        """Returns the two-sided p values of a mean of 0; NaN where there is no variance."""
        return t_p_value(self.mean, self.variance, self.freedom)


def crossed_mean(values: Floats) -> Crossed:
    """Returns the means of tables (..., R, F) of raters and faces, NaN where there is no answer."""
    there = np.isfinite(values)
    count = there.sum(axis=(-2, -1)).astype(np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.where(there, values, 0.0).sum(axis=(-2, -1)) / count
        centred = np.where(there, values - mean[..., None, None], 0.0)
        by_rater, by_face = there.sum(axis=-1).astype(np.float64), there.sum(axis=-2).astype(np.float64)
        raters, faces = (by_rater > 0).sum(axis=-1), (by_face > 0).sum(axis=-1)
        squares = np.square(centred).sum(axis=(-2, -1))
        # Sums of squares inside raters and inside faces, and their expectations.
        in_raters = squares - _between(centred.sum(axis=-1), by_rater)
        in_faces = squares - _between(centred.sum(axis=-2), by_face)
        face_and_rest, rater_and_rest = in_raters / (count - raters), in_faces / (count - faces)
        of_raters, of_faces = np.square(by_rater).sum(axis=-1), np.square(by_face).sum(axis=-1)
        all_pairs = count * count
        rest = (rater_and_rest * (all_pairs - of_raters) + face_and_rest * (all_pairs - of_faces) - count * squares) / (
            all_pairs + count - of_raters - of_faces
        )
        rest = np.maximum(rest, 0.0)
        rater, face = np.maximum(rater_and_rest - rest, 0.0), np.maximum(face_and_rest - rest, 0.0)
        a, b, e = rater * of_raters / all_pairs, face * of_faces / all_pairs, rest / count
        variance = a + b + e
        # Mean squares of raters and faces estimate a + e and b + e, that of the rest e; the variance is their sum.
        doubt = (
            np.square(a + e) / (raters - 1)
            + np.square(b + e) / (faces - 1)
            + np.square(e) / np.maximum(count - raters - faces + 1, 1)
        )
        freedom = np.where(doubt > 0, np.maximum(np.square(variance) / doubt, 1.0), np.minimum(raters, faces) - 1.0)
        known = (raters > 1) & (faces > 1) & (count > np.maximum(raters, faces)) & np.isfinite(variance)
        # Equal answers everywhere say nothing of how sure their mean is.
        variance = np.where(known & (variance > _NOTHING), variance, np.nan)
    return Crossed(mean, variance, np.where(known, freedom, np.nan), rater, face, rest)


def _between(sums: Floats, counts: Floats) -> Floats:
    found: Floats = np.divide(np.square(sums), counts, out=np.zeros_like(sums), where=counts > 0).sum(axis=-1)
    return found


def t_interval(mean: Floats, variance: Floats, freedom: Floats) -> tuple[Floats, Floats]:
    """Returns both ends of the 95 % intervals of Student's t; NaN where the variance is."""
    half = stdtrit(np.maximum(freedom, 1.0), 0.5 + CONFIDENCE / 2) * np.sqrt(variance)
    return mean - half, mean + half


def t_p_value(mean: Floats, variance: Floats, freedom: Floats) -> Floats:
    """Returns two-sided p values of a mean of 0."""
    with np.errstate(invalid="ignore", divide="ignore"):
        found = 2.0 * stdtr(np.maximum(freedom, 1.0), -np.abs(mean) / np.sqrt(variance))
    return np.asarray(found, np.float64)


def two_way_variance(influence: Floats, rater: NDArray[np.intp], face: NDArray[np.intp]) -> Floats:
    """Returns the variances of estimates that are sums of the answers' influences, over samples of raters and faces.

    Args:
        influence: (N, K), what each answer moves each of K estimates by; each column's sum is about 0.
        rater: (N,) of each answer.
        face: (N,) of each answer.

    Returns:
        (K,); NaN with fewer than two raters or faces. Never below that of either alone.
    """
    raters, faces = len(np.unique(rater)), len(np.unique(face))
    if raters < 2 or faces < 2:
        return np.full(influence.shape[1], np.nan)
    by_rater, by_face = _clustered(influence, rater), _clustered(influence, face)
    both = _clustered(influence, rater * (int(face.max()) + 1) + face)
    return np.asarray(np.maximum(np.maximum(by_rater, by_face), by_rater + by_face - both), np.float64)


def _clustered(influence: Floats, cluster: NDArray[np.intp]) -> Floats:
    _, index = np.unique(cluster, return_inverse=True)
    count = int(index.max()) + 1
    sums = np.zeros((count, influence.shape[1]))
    np.add.at(sums, index, influence)
    return np.asarray(np.square(sums).sum(axis=0) * count / max(count - 1, 1), np.float64)


@dataclass(frozen=True)
class Draws:
    """Resamples of raters and faces, drawn independently of each other and with replacement.

    Attributes:
        raters: (B, R), how often each rater was drawn.
        faces: (B, F), how often each face was drawn.
    """

    raters: Floats
    faces: Floats


def draw(num_raters: int, num_faces: int, num_resamples: int, seed: int) -> Draws:
    """Returns resamples; equal arguments give equal ones."""
    random = np.random.default_rng(seed)
    counts = [
        random.multinomial(size, np.full(size, 1.0 / size), num_resamples).astype(np.float64)
        for size in (num_raters, num_faces)
    ]
    return Draws(*counts)


def resampled_interval(values: Floats, draws: Draws) -> tuple[float, float]:
    """Returns the 95 % percentile interval of the mean of (R, F), NaN where there is no answer, over the resamples."""
    there = np.isfinite(values).astype(np.float64)
    sums = ((draws.raters @ np.where(there > 0, values, 0.0)) * draws.faces).sum(axis=1)
    counts = ((draws.raters @ there) * draws.faces).sum(axis=1)
    means = sums[counts > 0] / counts[counts > 0]
    if len(means) == 0:
        return np.nan, np.nan
    low, high = np.quantile(means, [0.5 - CONFIDENCE / 2, 0.5 + CONFIDENCE / 2])
    return float(low), float(high)
