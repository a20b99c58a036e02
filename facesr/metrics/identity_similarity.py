"""ID similarity (IS): cosine between a judge's embeddings of the restored and of the original face.

Source: the ASC19 final's scorer (github.com/ASC-Competition/ASC19-FaceSR, evaluation_script/evaluate.py), where
the judge is sphere20a. That script divides by zero for an embedding of length zero; here such a pair scores 0.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from facesr.errors import WeightsError
from facesr.metrics.pixels import grey_levels, require_same_shape
from facesr.metrics.remembered import RememberedEmbeddings
from facesr.protocols import Embedder, MetricInputs


def cosine(first: NDArray[np.float32], second: NDArray[np.float32]) -> NDArray[np.float64]:
    """Returns the cosine of each pair of rows, -1..1, float64 (N,), for (N, D); 0 where a row is zero."""
    a, b = first.astype(np.float64), second.astype(np.float64)
    lengths = np.sqrt((a * a).sum(axis=1) * (b * b).sum(axis=1))
    cosines: NDArray[np.float64] = (a * b).sum(axis=1) / np.where(lengths > 0.0, lengths, 1.0)
    return cosines.clip(-1.0, 1.0)


def embed(judge: Embedder, batch: Tensor) -> NDArray[np.float32]:
    """Returns a judge's embeddings, float32 (N, D), of pictures (N, 3, H, W), without gradients.

    Raises:
        WeightsError: an embedding is not finite.
    """
    with torch.inference_mode():
        embeddings = judge(batch).float().cpu().numpy()
    if not np.isfinite(embeddings).all():
        raise WeightsError(f"judge {judge.name} gives embeddings that are not finite; check its weights file.")
    return np.asarray(embeddings, np.float32)


class IdentitySimilarity:
    """ID similarity by one judge as a metric, named ``is/<judge>``."""

    unit = "1"
    higher_is_better = True
    version = 1
    conditions = "RGB, resized to the judge's own size"
    needs_low = False

    def __init__(self, judge: Embedder, remembered: RememberedEmbeddings | None = None) -> None:
        """Names the metric after the judge.

        Args:
            judge: the recogniser.
            remembered: keeps the originals' embeddings, for scoring other restored pictures of the same originals.
        """
        self.name = f"is/{judge.name}"
        self.judge = judge
        precision = getattr(judge, "precision", "fp32")
        if precision != "fp32":
            self.conditions = f"{self.conditions}, network in {precision}"
        self._remembered = remembered

    def __call__(self, inputs: MetricInputs) -> NDArray[np.float64]:
        """Returns the cosine per picture, -1..1, higher is better, float64 (N,)."""
        require_same_shape(inputs.restored, inputs.high)
        # The pictures are scored, not the floats: this refuses anything that no PNG could hold.
        grey_levels(inputs.restored)
        return cosine(embed(self.judge, inputs.restored), self._embed_high(inputs.high))

    def _embed_high(self, high: Tensor) -> NDArray[np.float32]:
        levels = grey_levels(high)
        if self._remembered is None:
            return embed(self.judge, high)
        return self._remembered.embeddings(self.judge, levels, lambda: embed(self.judge, high))
