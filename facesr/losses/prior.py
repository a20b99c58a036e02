"""Prior loss: the landmarks' heatmaps that a generator estimates on its way against where the landmarks are."""

from typing import Annotated, ClassVar

import torch
from torch import Tensor

from facesr.losses.term import LossInputs, LossTerm
from facesr.ranges import Kimg, Positive, Range


def heatmap_targets(landmarks: Tensor, height: int, width: int, pixels_per_cell: float, sigma_px: float) -> Tensor:
    """Returns Gaussians of height 1 about each landmark, float32 (N, L, height, width); NaN where it is unknown.

    Args:
        landmarks: (N, L, 2), x and y in pixels of the picture, pixel centres at whole numbers.
        height: cells of a map from top to bottom.
        width: cells of a map from left to right.
        pixels_per_cell: how many pixels of the picture a cell is wide and high.
        sigma_px: standard deviation in pixels of the picture.

    Source: Tompson et al., "Joint training of a convolutional network and a graphical model for human pose
    estimation", arXiv 1406.2984 (a Gaussian about the joint as the target of a heatmap).
    """
    # A cell's centre in pixels of the picture, whose first pixel reaches from -0.5 to 0.5.
    x = (torch.arange(width, device=landmarks.device) + 0.5) * pixels_per_cell - 0.5
    y = (torch.arange(height, device=landmarks.device) + 0.5) * pixels_per_cell - 0.5
    across = torch.exp(-0.5 * ((x - landmarks[..., :1]) / sigma_px).square())
    down = torch.exp(-0.5 * ((y - landmarks[..., 1:]) / sigma_px).square())
    return (down[..., :, None] * across[..., None, :]).float()


SigmaPx = Annotated[float, Range(0, 1_000, above=True)]


class Prior(LossTerm):
    """Mean squared difference between estimated heatmaps and Gaussians about the landmarks.

    The mean runs over all faces of the batch; a landmark that is unknown adds 0, so a face without landmarks has weight
    0, and the faces of two ranks or of two parts of a batch weigh as they would in one.

    Source: Chen et al., "FSRNet", arXiv 1711.10703, section 3, the summand of the prior in the loss of FSRNet. There
    squares are summed over all values and the prior weighs as much as the picture. Ours are means, so the same balance
    is the weight 5/12 of `configs/loss/prior.yaml`: 5 maps of a quarter of the pixels against 3 colours.

    Args:
        weight: see `LossTerm`.
        start_kimg: see `LossTerm`.
        sigma_px: standard deviation of a Gaussian in pixels of the restored picture.

    Raises:
        ValueError: `sigma_px` is not above 0.
    """

    needs: ClassVar[tuple[str, ...]] = ("heatmaps",)
    needs_landmarks: ClassVar[bool] = True

    def __init__(self, weight: Positive, start_kimg: Kimg, sigma_px: SigmaPx) -> None:
        super().__init__(weight, start_kimg)
        if not sigma_px > 0:
            raise ValueError(f"sigma_px={sigma_px} must be above 0")
        self.sigma_px = float(sigma_px)

    def forward(self, inputs: LossInputs) -> Tensor:
        """Returns the scalar mean over faces, landmarks and cells.

        Raises:
            ValueError: the inputs hold no landmarks.
        """
        if inputs.landmarks is None:
            raise ValueError("the prior loss needs landmarks")
        heatmaps = inputs.extras["heatmaps"]
        height, width = heatmaps.shape[-2:]
        targets = heatmap_targets(inputs.landmarks, height, width, inputs.high.shape[-2] / height, self.sigma_px)
        # Zero by choice, not by product: NaN times 0 is NaN, in the gradient too.
        known = targets.isfinite()
        return torch.where(known, heatmaps - torch.where(known, targets, 0.0), 0.0).square().mean()
