"""Identity losses: how far the restored face moved from the true one in a recogniser's embedding space.

A frozen recogniser can be fooled by patterns that mean nothing to another one. `views` guards against it:
besides the plain picture the recogniser also sees randomly shifted, scaled, flipped and slightly blurred
ones (the same view of restored and truth), so only what survives such changes lowers the loss. A face's view is a
function of the seed and of its place in the run.
"""

from typing import Annotated

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from facesr.draws import VIEWS, generators_at
from facesr.losses.term import LossInputs, LossTerm
from facesr.protocols import Embedder
from facesr.ranges import Kimg, Momentum, Positive, Range, Share


class Identity(LossTerm):
    """Mean of 1 - cosine between the embeddings of restored and true faces, 0 (same) .. 2.

    Args:
        weight: see `LossTerm`.
        start_kimg: see `LossTerm`.
        embedder: a differentiable recogniser.
        views: share of the faces that are judged in a random view instead of as they are.
        max_shift_px: largest shift of a view, in pixels of the picture.
        max_scale: largest relative change of size of a view.
        roll_degrees: largest roll of a view.
        blur: share of the views that are blurred.

    Raises:
        ValueError: the embedder has no gradients.
    """

    def __init__(
        self,
        weight: Positive,
        start_kimg: Kimg,
        embedder: Embedder,
        views: Share = 0.0,
        max_shift_px: Annotated[float, Range(0, 1_000)] = 4.0,
        max_scale: Momentum = 0.08,
        roll_degrees: Annotated[float, Range(0, 180)] = 6.0,
        blur: Share = 0.3,
    ) -> None:
        super().__init__(weight, start_kimg)
        if not embedder.differentiable:
            raise ValueError(f"embedder {embedder.name} gives no gradients and cannot be part of a loss")
        self.embedder = embedder
        self.views, self.max_shift_px, self.max_scale = views, max_shift_px, max_scale
        self.roll_degrees, self.blur = roll_degrees, blur

    def similarity(self, inputs: LossInputs) -> Tensor:
        """Returns the cosine of each face (N,), in [-1, 1]."""
        # The judge is shown what a PNG can hold; gradients pass where the value is inside.
        restored, high = inputs.restored.clamp(0.0, 1.0), inputs.high
        if self.views > 0:
            restored, high = self._viewed(torch.cat([restored, high]), inputs.seed, inputs.position).chunk(2)
        with torch.no_grad():
            truth = self.embedder(high)
        return (self.embedder(restored) * truth).sum(1)

    def forward(self, inputs: LossInputs) -> Tensor:
        """Returns the scalar mean of 1 - cosine."""
        return 1.0 - self.similarity(inputs).mean()

    def _viewed(self, both: Tensor, seed: int, position: int) -> Tensor:
        """Returns restored and true faces (2N, 3, H, W), a share of them in one random view per pair."""
        num_faces, height, width = len(both) // 2, both.shape[-2], both.shape[-1]
        drawn = np.stack([face.random(7, np.float32) for face in generators_at(seed, position, num_faces, VIEWS)], 1)
        uniform = torch.from_numpy(drawn).to(both.device)
        draws, chosen = uniform[:6] * 2 - 1, uniform[6] < self.views
        one = torch.ones(num_faces, device=both.device)
        angle = torch.deg2rad(draws[0] * self.roll_degrees)
        size = 1.0 + draws[1] * self.max_scale
        mirror = torch.where(draws[2] < 0, -one, one)
        x, y = draws[3] * self.max_shift_px * 2 / width, draws[4] * self.max_shift_px * 2 / height
        # grid_sample's coordinates are square, pixels are not: height / width keeps a roll a roll.
        ratio = height / width
        rows = [
            torch.stack([mirror * angle.cos() * size, -angle.sin() * size * ratio, x], -1),
            torch.stack([mirror * angle.sin() * size / ratio, angle.cos() * size, y], -1),
        ]
        grid = functional.affine_grid(torch.stack(rows, 1), [num_faces, 3, height, width], align_corners=False)
        view = functional.grid_sample(both, grid.repeat(2, 1, 1, 1), padding_mode="border", align_corners=False)
        blurred = functional.avg_pool2d(view, 3, stride=1, padding=1, count_include_pad=False)
        soft = (draws[5] * 0.5 + 0.5 < self.blur).repeat(2)[:, None, None, None]
        view = torch.where(soft, 0.5 * view + 0.5 * blurred, view)
        return torch.where(chosen.repeat(2)[:, None, None, None], view, both)


class SicnnIdentity(LossTerm):
    """Mean squared difference between unit embeddings, as Tsinghua's entry trained it.

    The mean runs over all D dimensions, so the term equals 2 * (1 - cosine) / D.

    Source: github thu-scc/ASC19-FaceSR-SICNN; Zhang et al., "Super-identity convolutional neural network for
    face hallucination" (arXiv 1811.02328), equation 3.
    """

    def __init__(self, weight: Positive, start_kimg: Kimg, embedder: Embedder) -> None:
        super().__init__(weight, start_kimg)
        if not embedder.differentiable:
            raise ValueError(f"embedder {embedder.name} gives no gradients and cannot be part of a loss")
        self.embedder = embedder

    def forward(self, inputs: LossInputs) -> Tensor:
        """Returns the scalar mean over faces and dimensions of the squared difference."""
        with torch.no_grad():
            truth = self.embedder(inputs.high)
        return (self.embedder(inputs.restored.clamp(0.0, 1.0)) - truth).square().mean()
