"""Pictures to look at: the worst, the best and random ones by the column that ranks."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from facesr.config import EvaluationProtocol
from facesr.evaluation.pairs import Pair, Pairs, read_batch
from facesr.evaluation.scoring import Scores
from facesr.image import Picture, to_float
from facesr.metrics.identity_similarity import cosine, embed
from facesr.protocols import Column, Embedder

# Of larger pictures a window is shown: shrunk ones would hide what super-resolution is about.
MOST_PIXELS = 256
_STEP = 32  # of the places where that window may lie; a multiple of the scale


@dataclass(frozen=True)
class Example:
    """One picture.

    Attributes:
        id: of the picture.
        low: the low-resolution picture, None where it is not known.
        restored: as scored, or a window of it.
        high: the original, or the same window of it.
        low_value: ID similarity of `low` with the original by the ranking judge, None without one or `low`.
        value: the ranking column's value of the restored picture.
    """

    id: str
    low: Picture | None
    restored: Picture
    high: Picture
    low_value: float | None
    value: float


def pick(values: NDArray[np.float64], count: int, seed: int, higher_is_better: bool = True) -> dict[str, list[int]]:
    """Returns positions of the worst, the best and random values (N,), at most `count` each, no picture twice."""
    order = [int(i) for i in np.argsort(values if higher_is_better else -values, kind="stable")]
    each = min(count, max(len(order) // 3, 1))
    worst, rest = order[:each], order[each:]
    best = rest[::-1][:each]
    middle = sorted(set(rest) - set(best))
    chosen = np.random.default_rng(seed).permutation(len(middle))[:each]
    return {"worst": worst, "best": best, "random": sorted(middle[int(i)] for i in chosen)}


def examples(
    pairs: Pairs, scores: Scores, column: Column, judge: Embedder | None, device: torch.device, count: int, seed: int
) -> dict[str, list[Example]]:
    """Returns the pictures to show: row title -> pictures."""
    values = scores.values[column.name]
    by_id = {pair.id: pair for pair in pairs.items}
    found: dict[str, list[Example]] = {}
    for title, positions in pick(values, count, seed, column.higher_is_better).items():
        found[title] = []
        for position in positions:
            key = scores.ids[position]
            found[title].append(_example(by_id[key], pairs, judge, device, float(values[position])))
    return found


def example_of(key: str, pairs: Pairs, judge: Embedder | None, device: torch.device, value: float) -> Example:
    """Returns one picture to show, with a value of its own."""
    return _example(next(pair for pair in pairs.items if pair.id == key), pairs, judge, device, value)


def _example(pair: Pair, pairs: Pairs, judge: Embedder | None, device: torch.device, value: float) -> Example:
    restored, high, low = read_batch([pair], pairs)
    low_value = None
    if low is not None and judge is not None:
        seen = [embed(judge, to_float(pictures).to(device)) for pictures in (low, high)]
        low_value = float(cosine(seen[0], seen[1])[0])
    top, left = window(high[0])
    return Example(
        id=pair.id,
        low=None if low is None else _part(low[0], top, left, EvaluationProtocol.scale),
        restored=_part(restored[0], top, left),
        high=_part(high[0], top, left),
        low_value=low_value,
        value=value,
    )


def window(high: Picture) -> tuple[int, int]:
    """Returns (top, left) of the busiest window of at most 256x256 pixels of an original (H, W, 3)."""
    height, width = high.shape[:2]
    grey = high.astype(np.float32).mean(axis=2)
    busy = np.zeros_like(grey)
    busy[:-1] += np.abs(np.diff(grey, axis=0))
    busy[:, :-1] += np.abs(np.diff(grey, axis=1))
    total = np.pad(busy, ((1, 0), (1, 0))).cumsum(axis=0, dtype=np.float64).cumsum(axis=1)
    tall, wide = min(height, MOST_PIXELS), min(width, MOST_PIXELS)

    def inside(place: tuple[int, int]) -> float:
        top, left = place
        bottom, right = top + tall, left + wide
        return float(total[bottom, right] - total[top, right] - total[bottom, left] + total[top, left])

    places = [(top, left) for top in range(0, height - tall + 1, _STEP) for left in range(0, width - wide + 1, _STEP)]
    return max(places, key=inside)


def _part(picture: Picture, top: int, left: int, scale: int = 1) -> Picture:
    """Returns the window of a picture that is `scale` times smaller than the original."""
    side = MOST_PIXELS // scale
    rows = slice(top // scale, top // scale + side)
    columns = slice(left // scale, left // scale + side)
    return np.ascontiguousarray(picture[rows, columns])
