"""Screening of raters by their numbers alone: bias and inconsistency (ITU-T P.910, Annex E), and that of BT.500.

Neither excludes anybody here: the rules of the study, fixed before, do. Both are told, so that a reader can judge.
"""

from dataclasses import dataclass

import numpy as np
from scipy.special import chdtri

from facesr.opinion.cells import Cells, Floats
from facesr.opinion.intervals import CONFIDENCE

_MOST_ROUNDS = 1000
_CONVERGED = 1e-8
# Keeps the weight of a rater who agrees with the quality exactly finite; sureal has the same.
_EPSILON = 1e-8
_MOST_INCONSISTENT = 1.5  # times the median: a choice of ours


@dataclass(frozen=True)
class AnnexE:
    """What the model of Annex E makes of ratings.

    Attributes:
        quality: (J,), the recovered quality of each picture that was rated; NaN for one that was not.
        bias: (R,), how much higher than others a rater rates; their mean is 0.
        inconsistency: (R,), standard deviation of what is left.
        inconsistency_low: (R,), lower end of its 95 % interval.
        inconsistency_high: (R,), upper end.
    """

    quality: Floats
    bias: Floats
    inconsistency: Floats
    inconsistency_low: Floats
    inconsistency_high: Floats


def annex_e(ratings: Floats) -> AnnexE:
    """Returns bias and inconsistency of raters and the quality of pictures, from ratings (R, J), NaN for missing ones.

    ``rating = quality + bias + inconsistency * noise``; alternating projection: each in turn from the others, pictures
    weighted by the raters' inconsistency, until the qualities move by less than 1e-8.

    Raises:
        ValueError: a rater has no rating, or there is none at all.

    Source: ITU-T Recommendation P.910 (2023), Annex E; Z. Li et al., "A simple model for subject behavior in subjective
    experiments", Human Vision and Electronic Imaging 2020; the implementation in Netflix's sureal, P910AnnexEModel.
    """
    there = np.isfinite(ratings)
    if ratings.size == 0 or not there.any(axis=1).all():
        raise ValueError("Annex E needs a rating of every rater")
    rated = there.any(axis=0)
    given, mask = np.where(there, ratings, 0.0)[:, rated], there[:, rated]
    by_rater, by_picture = mask.sum(axis=1), mask.sum(axis=0)
    quality = given.sum(axis=0) / by_picture
    bias = np.where(mask, given - quality, 0.0).sum(axis=1) / by_rater
    spread = np.zeros_like(bias)
    for _ in range(_MOST_ROUNDS):
        before = quality
        rest = np.where(mask, given - quality - bias[:, None], 0.0)
        # The standard deviation about the rater's mean, as sureal has it.
        spread = np.sqrt(
            np.square(np.where(mask, rest - (rest.sum(axis=1) / by_rater)[:, None], 0.0)).sum(axis=1) / by_rater
        )
        weight = mask / (np.square(spread) + _EPSILON)[:, None]
        quality = ((given - bias[:, None]) * weight).sum(axis=0) / weight.sum(axis=0)
        bias = np.where(mask, given - quality, 0.0).sum(axis=1) / by_rater
        if np.linalg.norm(before - quality) < _CONVERGED:
            break
    shift = bias.mean()
    found = np.full(ratings.shape[1], np.nan)
    found[rated] = quality + shift
    tail = (1.0 - CONFIDENCE) / 2.0
    # chdtri takes the upper tail.
    low, high = (spread * np.sqrt(by_rater / chdtri(by_rater, share)) for share in (tail, 1.0 - tail))
    return AnnexE(found, bias - shift, spread, low, high)


def annex_e_of(cells: Cells) -> AnnexE | None:
    """Returns the same of a table of answers, pictures being method x face; None with fewer than two raters."""
    if len(cells.raters) < 2:
        return None
    return annex_e(cells.values.reshape(len(cells.raters), -1))


def bt500_rejected(ratings: Floats, ddof: int = 1) -> Floats:
    """Returns (R, 3) for ratings (R, J): whether BT.500 rejects a rater (0 or 1), its ratios P+Q and |P-Q|/(P+Q).

    A picture's ratings that lie 2 standard deviations off its mean (the root of 20 where their kurtosis is outside 2 to
    4) are counted above (P) and below (Q). A rater is rejected with (P+Q) above 5 % of its ratings and
    ``|P-Q| / (P+Q)`` below 30 %. The second ratio is NaN without any such rating.

    Args:
        ratings: NaN for missing ones.
        ddof: 1 for the sample standard deviation, as the Recommendation has it; 0 for sureal's.

    Source: Recommendation ITU-R BT.500-15, Annex 1, 2.3.1.
    """
    there = np.isfinite(ratings)
    count = there.sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.where(there, ratings, 0.0).sum(axis=0) / count
        off = np.where(there, ratings - mean, 0.0)
        second, fourth = (np.power(off, power).sum(axis=0) / count for power in (2, 4))
        kurtosis = fourth / np.square(second)
        deviation = np.sqrt(second * count / np.maximum(count - ddof, 1))
        far = np.where((kurtosis >= 2) & (kurtosis <= 4), 2.0, np.sqrt(20.0)) * deviation
        # Equal ratings have no kurtosis and no outlier.
        varies = second > 0
        above = (there & varies & (ratings >= mean + far)).sum(axis=1)
        below = (there & varies & (ratings <= mean - far)).sum(axis=1)
        share = (above + below) / np.maximum(there.sum(axis=1), 1)
        one_sided = np.abs(above - below) / (above + below)
    rejected = (share > 0.05) & (one_sided < 0.3)
    return np.stack([rejected.astype(np.float64), share, one_sided], axis=1)


def bt500_of(cells: Cells) -> dict[str, bool]:
    """Returns which raters of a table BT.500 rejects; empty with fewer than three, who have no outliers."""
    if len(cells.raters) < 3:
        return {}
    found = bt500_rejected(cells.values.reshape(len(cells.raters), -1))
    return {name: bool(row[0]) for name, row in zip(cells.raters, found, strict=True)}


def unusual_raters(cells: Cells, model: AnnexE | None) -> dict[str, str]:
    """Returns raters whose answers look unlike the others', and why: a reason to look, none to exclude anybody.

    These are the raters whose inconsistency is above 1.5 times the median even at the lower end of its interval, and
    those whom BT.500 rejects.
    """
    if model is None:
        return {}
    found: dict[str, list[str]] = {}
    median = float(np.median(model.inconsistency))
    for i, name in enumerate(cells.raters):
        if len(cells.raters) > 2 and model.inconsistency_low[i] > _MOST_INCONSISTENT * median:
            found.setdefault(name, []).append(
                f"inconsistency {model.inconsistency[i]:.2f} where the median is {median:.2f}"
            )
    for name, is_rejected in bt500_of(cells).items():
        if is_rejected:
            found.setdefault(name, []).append("outliers on both sides (BT.500)")
    return {name: "; ".join(why) for name, why in found.items()}
