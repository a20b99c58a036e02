"""Scoring pairs of files: batch by batch, shared among ranks, the same numbers however it is shared.

Ranks take whole batches in turn, so a batch holds the same pictures on one rank and on eight; the rows are gathered
and sorted by id before anything is averaged.
"""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from facesr import dist
from facesr.errors import ImageError
from facesr.evaluation.pairs import Pair, Pairs, batches, read_batch
from facesr.image import Picture, to_float
from facesr.protocols import Column, Metric, MetricInputs

Result = TypeVar("Result")


@dataclass(frozen=True)
class Scores:
    """Scores per picture.

    Attributes:
        ids: sorted, N.
        metrics: what was measured, in the order of display; some columns may be computed from others.
        values: metric name -> float64 (N,).
        pixels_sha256: ``restored`` and ``high`` -> digest of ids, sizes and pixels as they were scored.
    """

    ids: tuple[str, ...]
    metrics: tuple[Column, ...]
    values: dict[str, NDArray[np.float64]]
    pixels_sha256: dict[str, str]


def score(
    pairs: Pairs,
    metrics: Sequence[Metric],
    device: torch.device,
    batch_size: int,
    on_batch: Callable[[int], None] = lambda count: None,
) -> Scores | None:
    """Returns the scores of all pairs on rank 0, None on the others.

    Args:
        pairs: files; at most one batch of them is in memory.
        metrics: need `pairs` with low-resolution pictures where they say so.
        device: the metrics' inputs are put there.
        batch_size: pictures scored at once; it moves a judge's value by no more than float32 rounding.
        on_batch: called with the number of pictures after each batch.

    Raises:
        FaceSRError: a picture cannot be scored, on whichever rank; every rank raises it.
    """
    mine = batches(pairs, batch_size)[dist.rank() :: dist.world_size()]
    rows = dist.together(lambda: _score_batches(mine, pairs, metrics, device, on_batch))
    if rows is None:
        return None
    flat = sorted((row for part in rows for row in part), key=lambda row: row.id)
    columns = np.array([row.values for row in flat], np.float64).T
    return Scores(
        ids=tuple(row.id for row in flat),
        metrics=tuple(metrics),
        values={metric.name: np.ascontiguousarray(column) for metric, column in zip(metrics, columns, strict=True)},
        pixels_sha256={"restored": _digest(row.restored for row in flat), "high": _digest(row.high for row in flat)},
    )


class _Row(NamedTuple):
    """One picture's values, and digests of its restored and original pixels."""

    id: str
    values: list[float]
    restored: str
    high: str


def _score_batches(
    mine: Sequence[list[Pair]],
    pairs: Pairs,
    metrics: Sequence[Metric],
    device: torch.device,
    on_batch: Callable[[int], None],
) -> list[_Row]:
    rows: list[_Row] = []
    for batch in mine:
        restored, high, low = read_batch(batch, pairs)
        inputs = MetricInputs(
            to_float(restored).to(device), to_float(high).to(device), None if low is None else to_float(low).to(device)
        )
        columns = [_column(metric, inputs, batch) for metric in metrics]
        for i, pair in enumerate(batch):
            digests = (_pixels(pair, picture) for picture in (restored[i], high[i]))
            rows.append(_Row(pair.id, [column[i] for column in columns], *digests))
        on_batch(len(batch))
    return rows


def _column(metric: Metric, inputs: MetricInputs, batch: Sequence[Pair]) -> list[float]:
    """Returns a metric's values, all of them finite.

    Raises:
        ImageError: it is not defined for a picture, which is named.
    """
    try:
        values = metric(inputs)
    except ImageError as error:
        # All pictures of a batch have one size, so the first one stands for them.
        raise ImageError(f"{batch[0].restored}: {error}") from error
    for pair, value in zip(batch, values, strict=True):
        if not np.isfinite(value):
            raise ImageError(
                f"{pair.restored}: {metric.name} is not defined for it, as for a picture that is flat almost "
                "everywhere; restore it again, or leave that picture out of all folders."
            )
    return [float(value) for value in values]


def _pixels(pair: Pair, picture: Picture) -> str:
    head = f"{pair.id}\0{pair.size[0]}x{pair.size[1]}\0".encode()
    return hashlib.sha256(head + picture.tobytes()).hexdigest()


def _digest(parts: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()
