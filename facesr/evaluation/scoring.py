"""Scoring pairs of files: batch by batch, shared among ranks, the same numbers however it is shared.

Ranks take whole batches in turn, so a batch holds the same pictures on one rank and on eight; the rows are gathered
and sorted by id before anything is averaged.
"""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from facesr import dist
from facesr.errors import ImageError
from facesr.evaluation.pairs import Pair, Pairs, batches, read_batch
from facesr.image import Picture, round_to_grey_levels, to_float
from facesr.protocols import Column, Metric, MetricInputs
from facesr.resample import upscale

Result = TypeVar("Result")


@dataclass(frozen=True)
class Scores:
    """Scores per picture.

    Attributes:
        ids: sorted, N.
        metrics: what was measured, in the order of display; some columns may be computed from others.
        values: metric name -> float64 (N,).
        pixels_sha256: ``restored`` and ``high`` -> digest of ids, sizes and pixels as they were scored.
        bicubic_values: metric name -> float64 (N,) for bicubic interpolation; empty where it was not asked for.
    """

    ids: tuple[str, ...]
    metrics: tuple[Column, ...]
    values: dict[str, NDArray[np.float64]]
    pixels_sha256: dict[str, str]
    bicubic_values: dict[str, NDArray[np.float64]] = field(default_factory=dict)

    @property
    def bicubic(self) -> dict[str, float]:
        """Metric name -> mean over the pictures for bicubic interpolation; empty where it was not asked for."""
        return {name: float(column.mean()) for name, column in self.bicubic_values.items()}


def score(
    pairs: Pairs,
    metrics: Sequence[Metric],
    device: torch.device,
    batch_size: int,
    on_batch: Callable[[int], None] = lambda count: None,
    *,
    with_bicubic: bool = False,
) -> Scores | None:
    """Returns the scores of all pairs on rank 0, None on the others.

    Args:
        pairs: files; at most one batch of them is in memory.
        metrics: need `pairs` with low-resolution pictures where they say so.
        device: the metrics' inputs are put there.
        batch_size: pictures scored at once; it moves a judge's value by no more than float32 rounding.
        on_batch: called with the number of pictures after each batch.
        with_bicubic: score bicubic interpolation of the low-resolution pictures as well, which `pairs` then needs.

    Raises:
        FaceSRError: a picture cannot be scored, on whichever rank; every rank raises it.
    """
    mine = batches(pairs, batch_size)[dist.rank() :: dist.world_size()]
    rows = dist.together(lambda: _score_batches(mine, pairs, metrics, device, on_batch, with_bicubic))
    if rows is None:
        return None
    flat = sorted((row for part in rows for row in part), key=lambda row: row.id)
    return Scores(
        ids=tuple(row.id for row in flat),
        metrics=tuple(metrics),
        values=_columns(metrics, [row.values for row in flat]),
        pixels_sha256={"restored": _digest(row.restored for row in flat), "high": _digest(row.high for row in flat)},
        bicubic_values=_columns(metrics, [row.bicubic for row in flat]) if with_bicubic else {},
    )


class _Row(NamedTuple):
    """One picture's values, those of bicubic interpolation if asked for, and digests of its pixels."""

    id: str
    values: list[float]
    bicubic: list[float]
    restored: str
    high: str


def _score_batches(
    mine: Sequence[list[Pair]],
    pairs: Pairs,
    metrics: Sequence[Metric],
    device: torch.device,
    on_batch: Callable[[int], None],
    with_bicubic: bool,
) -> list[_Row]:
    rows: list[_Row] = []
    for batch in mine:
        restored, high, low = read_batch(batch, pairs)
        inputs = MetricInputs(
            to_float(restored).to(device), to_float(high).to(device), None if low is None else to_float(low).to(device)
        )
        columns = [_column(metric, inputs, batch) for metric in metrics]
        beside: list[list[float]] = []
        if with_bicubic:
            inputs = _as_bicubic(inputs)
            beside = [_column(metric, inputs, batch) for metric in metrics]
        for i, pair in enumerate(batch):
            digests = (_pixels(pair, picture) for picture in (restored[i], high[i]))
            rows.append(_Row(pair.id, [column[i] for column in columns], [column[i] for column in beside], *digests))
        on_batch(len(batch))
    return rows


def _as_bicubic(inputs: MetricInputs) -> MetricInputs:
    """Returns the inputs with what a PNG of the bicubic interpolation holds in place of the restored pictures."""
    assert inputs.low is not None
    return replace(inputs, restored=round_to_grey_levels(upscale(inputs.low)))


def _columns(metrics: Sequence[Metric], rows: Sequence[Sequence[float]]) -> dict[str, NDArray[np.float64]]:
    columns = np.array(rows, np.float64).T
    return {metric.name: np.ascontiguousarray(column) for metric, column in zip(metrics, columns, strict=True)}


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


def pictures_sha256(pictures: Iterable[tuple[Pair, Picture]]) -> str:
    """Returns the digest that `Scores.pixels_sha256` has for pictures that come sorted by id."""
    return _digest(_pixels(pair, picture) for pair, picture in pictures)


def _pixels(pair: Pair, picture: Picture) -> str:
    head = f"{pair.id}\0{pair.size[0]}x{pair.size[1]}\0".encode()
    return hashlib.sha256(head + picture.tobytes()).hexdigest()


def _digest(parts: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()
