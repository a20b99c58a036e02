"""Scores of restored pictures: one metric a file, a pure function and a small class with its data beside it.

A change that may move a score raises that metric's `version` and regenerates tests/golden/.
"""

from collections.abc import Sequence
from pathlib import Path

from facesr.metrics.consistency import Consistency
from facesr.metrics.identity_similarity import IdentitySimilarity
from facesr.metrics.psnr import PsnrRgb, PsnrY
from facesr.metrics.remembered import RememberedEmbeddings
from facesr.metrics.rmse import Rmse
from facesr.metrics.ssim import Ssim
from facesr.protocols import Embedder, Metric

__all__ = [
    "Consistency",
    "IdentitySimilarity",
    "PsnrRgb",
    "PsnrY",
    "RememberedEmbeddings",
    "Rmse",
    "Ssim",
    "default_metrics",
]


def default_metrics(
    judges: Sequence[Embedder], with_low: bool, *, remember_high: bool = False, kept_in: Path | None = None
) -> list[Metric]:
    """Returns the metrics of every evaluation and validation: ID similarity per judge first.

    Args:
        judges: embedders, the ranking judge first.
        with_low: whether the low-resolution pictures are known, so that consistency can be scored.
        remember_high: keep the embeddings of the originals between calls, for scoring the same batches again.
        kept_in: folder that keeps them for later processes too; None keeps them in memory.
    """
    remembered = RememberedEmbeddings(kept_in) if remember_high else None
    metrics: list[Metric] = [IdentitySimilarity(judge, remembered) for judge in judges]
    metrics += [PsnrRgb(), PsnrY(), Ssim(), Rmse()]
    if with_low:
        metrics.append(Consistency())
    return metrics
