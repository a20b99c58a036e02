"""Validation during training: the evaluator's metrics on the averaged generator's uint8-rounded output.

Pairs are sharded over ranks, scored in fixed batches, gathered, put back in order and averaged in float64, so
a score depends neither on the number of ranks nor on the batch.
"""

import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from facesr import dist
from facesr.data.packed.reader import Pairs
from facesr.errors import DataError
from facesr.image import round_to_grey_levels, to_float
from facesr.metrics import default_metrics
from facesr.models.features import recorded
from facesr.protocols import Embedder, MetricInputs

BATCH_SIZE = 50


@dataclass(frozen=True)
class Scores:
    """Scores of one method on the validation pairs, known to rank 0 (elsewhere the values are empty).

    Attributes:
        per_face: metric name to float64 (N,), in the order of the pairs.
        restore_seconds: time spent restoring, per face.
        largest_feature: each face's largest feature (`facesr.models.features`), float64 (N,); empty where no network
            was named.
    """

    per_face: dict[str, NDArray[np.float64]]
    restore_seconds: float
    largest_feature: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))

    @property
    def means(self) -> dict[str, float]:
        """Metric name to mean."""
        return {name: float(values.mean()) for name, values in self.per_face.items()}


class Validator:
    """Scores restoring functions on fixed pairs.

    Args:
        pairs: what is restored, and the truth.
        judges: recognisers, the ranking one first; none for general pictures, which then are ranked by PSNR.
        device: where everything runs.
        ranking: name of the metric that decides which snapshot is best.

    Attributes:
        ranking: that metric.

    Raises:
        DataError: there are fewer pairs than ranks.
    """

    def __init__(self, pairs: Pairs, judges: Sequence[Embedder], device: torch.device, ranking: str) -> None:
        if len(pairs.names) < dist.world_size():
            raise DataError(
                f"{len(pairs.names)} validation pictures are too few for {dist.world_size()} ranks; give more of them."
            )
        self.pairs, self.device = pairs, device
        self.metrics = default_metrics(judges, with_low=True, remember_high=True)
        self.ranking = next(metric for metric in self.metrics if metric.name == ranking)

    def score(self, restore: Callable[[Tensor], Tensor], network: nn.Module | None = None) -> Scores:
        """Returns the scores of `restore`, which maps (N, 3, h, w) to (N, 3, 4h, 4w), both in [0, 1].

        Args:
            restore: what is scored.
            network: the generator that `restore` asks, whose largest features are recorded.
        """
        mine = np.arange(dist.rank(), len(self.pairs.names), dist.world_size())
        parts: dict[str, list[NDArray[np.float64]]] = {metric.name: [] for metric in self.metrics}
        largest: list[float] = []
        seconds = 0.0
        for start in range(0, len(mine), BATCH_SIZE):
            chosen = mine[start : start + BATCH_SIZE]
            low = to_float(self.pairs.low[chosen]).to(self.device)
            begin = time.perf_counter()
            with torch.no_grad(), recorded(network) if network is not None else nullcontext() as found:
                restored = round_to_grey_levels(restore(low))
            if found is not None:
                largest += found.per_picture().tolist()
            if self.device.type == "cuda":
                torch.cuda.synchronize()
            seconds += time.perf_counter() - begin
            inputs = MetricInputs(restored=restored, high=to_float(self.pairs.high[chosen]).to(self.device), low=low)
            for metric in self.metrics:
                parts[metric.name].append(metric(inputs))
        rows = {name: np.concatenate(values).tolist() for name, values in parts.items()}
        gathered = dist.gather_objects((mine.tolist(), rows, seconds, largest))
        if gathered is None:
            return Scores({}, 0.0)
        return self._merge(gathered)

    def _merge(self, gathered: list[tuple[list[int], dict[str, list[float]], float, list[float]]]) -> Scores:
        num_faces = len(self.pairs.names)
        per_face = {metric.name: np.empty(num_faces) for metric in self.metrics}
        largest_feature = np.empty(num_faces if gathered[0][3] else 0)
        for indices, rows, _, largest in gathered:
            for name, values in rows.items():
                per_face[name][indices] = values
            if largest:
                largest_feature[indices] = largest
        return Scores(per_face, sum(seconds for _, _, seconds, _ in gathered) / num_faces, largest_feature)
