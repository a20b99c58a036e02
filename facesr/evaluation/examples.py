"""Faces to look at: the worst, the best and random ones by the ranking judge, with their pictures."""

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from facesr.evaluation.pairs import Pairs, Picture, read_batch
from facesr.evaluation.scoring import Scores
from facesr.image import to_float
from facesr.metrics.identity_similarity import cosine, embed
from facesr.protocols import Embedder

# Longer pictures are shrunk for the page, which would otherwise weigh tens of megabytes.
MOST_PIXELS = 256


@dataclass(frozen=True)
class Example:
    """One face.

    Attributes:
        id: of the face.
        low: the low-resolution picture, None where it is not known.
        restored: as scored.
        high: the original.
        low_similarity: identity similarity of `low` with the original by the ranking judge, None without `low`.
        similarity: that of the restored picture.
    """

    id: str
    low: Picture | None
    restored: Picture
    high: Picture
    low_similarity: float | None
    similarity: float


def pick(values: NDArray[np.float64], count: int, seed: int) -> dict[str, list[int]]:
    """Returns positions of the worst, the best and random values (N,), at most `count` each, no face twice."""
    order = [int(i) for i in np.argsort(values, kind="stable")]
    each = min(count, max(len(order) // 3, 1))
    worst, rest = order[:each], order[each:]
    best = rest[::-1][:each]
    middle = sorted(set(rest) - set(best))
    chosen = np.random.default_rng(seed).permutation(len(middle))[:each]
    return {"worst": worst, "best": best, "random": sorted(middle[int(i)] for i in chosen)}


def examples(
    pairs: Pairs, scores: Scores, judge: Embedder, device: torch.device, count: int, seed: int
) -> dict[str, list[Example]]:
    """Returns the faces to show: row title -> faces."""
    values = scores.values[f"is/{judge.name}"]
    by_id = {pair.id: pair for pair in pairs.items}
    found: dict[str, list[Example]] = {}
    for title, positions in pick(values, count, seed).items():
        found[title] = []
        for position in positions:
            key = scores.ids[position]
            restored, high, low = read_batch([by_id[key]], pairs)
            low_similarity = None
            if low is not None:
                seen = [embed(judge, to_float(pictures).to(device)) for pictures in (low, high)]
                low_similarity = float(cosine(seen[0], seen[1])[0])
            found[title].append(
                Example(
                    id=key,
                    low=None if low is None else low[0],
                    restored=_for_the_page(restored[0]),
                    high=_for_the_page(high[0]),
                    low_similarity=low_similarity,
                    similarity=float(values[position]),
                )
            )
    return found


def _for_the_page(picture: Picture) -> Picture:
    height, width = picture.shape[:2]
    factor = MOST_PIXELS / max(height, width)
    if factor >= 1.0:
        return picture
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8)
