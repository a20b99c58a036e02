"""Scores of restored pictures: one metric a file, a pure function and a small class with its data beside it.

A change that may move a score raises that metric's `version` and regenerates tests/golden/.
"""

from collections.abc import Sequence

from facesr.metrics.consistency import Consistency
from facesr.metrics.identity_similarity import IdentitySimilarity
from facesr.metrics.psnr import PsnrRgb, PsnrY
from facesr.metrics.rmse import Rmse
from facesr.metrics.ssim import Ssim
from facesr.protocols import Embedder, Metric

__all__ = ["Consistency", "IdentitySimilarity", "PsnrRgb", "PsnrY", "Rmse", "Ssim", "default_metrics"]


def default_metrics(judges: Sequence[Embedder], with_low: bool, *, remember_high: bool = False) -> list[Metric]:
    """Returns the metrics of every evaluation and validation: identity similarity per judge first.

    Args:
        judges: embedders, the ranking judge first.
        with_low: whether the low-resolution pictures are known, so that consistency can be scored.
        remember_high: keep the embeddings of the originals between calls, for validating on the same
            batches again and again.
    """
    metrics: list[Metric] = [IdentitySimilarity(judge, remember_high=remember_high) for judge in judges]
    metrics += [PsnrRgb(), PsnrY(), Ssim(), Rmse()]
    if with_low:
        metrics.append(Consistency())
    return metrics
