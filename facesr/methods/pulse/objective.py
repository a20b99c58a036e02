"""What the search lowers: distance of the downscaled picture from the input, and of a face's latents from each other.

Every term has one value per face; they are added up, never averaged over a batch, so no face feels its neighbours.

Source: Menon et al., PULSE, CVPR 2020, section 3.3, and its published settings (weights 100 and 0.05, eps 2e-3). The
prior is that of a maximum a posteriori estimate, after Bora et al., "Compressed sensing using generative models",
arXiv 1703.03208, section 6, whose objective adds the latent's squared length.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from facesr.methods.pulse.covariance import mahalanobis


def mean_square(downscaled: Tensor, low: Tensor) -> Tensor:
    """Returns the mean squared difference of each picture, float32 (N,), at least 0, for (N, 3, h, w) in [0, 1]."""
    return (downscaled.float() - low.float()).square().flatten(1).mean(1)


def mean_absolute(downscaled: Tensor, low: Tensor) -> Tensor:
    """Returns the mean absolute difference of each picture, float32 (N,), at least 0, for (N, 3, h, w) in [0, 1]."""
    return (downscaled.float() - low.float()).abs().flatten(1).mean(1)


def geocross(mapped: Tensor) -> Tensor:
    """Returns how far the vectors of a face lie apart on the sphere, (N,), at least 0, for mapped latents (N, L, D).

    The mean over all L x L pairs of the squared angle between two vectors, times D / 8. Zero where all are one.

    Source: PULSE, equation 6; the angle is 2 atan2(|x - y|, |x + y|), exact for small and for large angles.
    """
    num_vectors, dim = mapped.shape[-2:]
    if num_vectors == 1:
        return mapped.new_zeros(len(mapped))
    first, second = mapped.unsqueeze(-2), mapped.unsqueeze(-3)
    apart = torch.linalg.vector_norm(first - second, dim=-1)
    along = torch.linalg.vector_norm(first + second, dim=-1)
    angle = 2.0 * torch.atan2(apart, along)
    return angle.square().mean(dim=(-2, -1)) * (dim / 8.0)


def squared_length(searched: Sequence[Tensor]) -> Tensor:
    """Returns half of the sum of squares of all latents of each face, (N,), for tensors (N, ...).

    Up to a constant it is how unlikely they are in nats where they are standard normal.
    """
    return 0.5 * torch.stack([part.float().square().flatten(1).sum(1) for part in searched]).sum(0)


@dataclass(frozen=True)
class Objective:
    """Weights of the terms.

    Attributes:
        l2_weight: of the mean square, which without a prior counts as `eps` where it is below.
        l1_weight: of the mean absolute difference.
        geocross_weight: of `geocross`.
        eps: mean square of a face that is found.
        covariance_weight: of `facesr.methods.pulse.covariance.mahalanobis`.
        inverse_covariance: (D, D), for that term.
        prior_weight: of `squared_length` over the input's number of values. The sum of both terms is lowest where
            latents are likeliest whose picture, downscaled, has normal errors with a standard deviation of
            sqrt(prior_weight / (2 l2_weight)).
    """

    l2_weight: float
    l1_weight: float
    geocross_weight: float
    eps: float
    covariance_weight: float = 0.0
    inverse_covariance: Tensor | None = None
    prior_weight: float = 0.0

    def __call__(
        self, downscaled: Tensor, low: Tensor, mapped: Tensor, searched: Sequence[Tensor] = ()
    ) -> tuple[Tensor, Tensor]:
        """Returns (loss, mean square), each (N,); the mean square as it is, without eps and without gradient.

        Args:
            downscaled: (N, 3, h, w) in [0, 1], of the generator's pictures.
            low: the inputs, likewise.
            mapped: mapped latents (N, L, D).
            searched: the latents (N, L, D) before that, and the maps that are searched, (N, M, h, w) each.
        """
        square = mean_square(downscaled, low)
        loss = self.l2_weight * (square if self.prior_weight else square.clamp_min(self.eps))
        if self.l1_weight:
            loss = loss + self.l1_weight * mean_absolute(downscaled, low)
        if self.geocross_weight:
            loss = loss + self.geocross_weight * geocross(mapped.float())
        if self.inverse_covariance is not None and searched:
            loss = loss + self.covariance_weight * mahalanobis(searched[0].float(), self.inverse_covariance)
        if self.prior_weight:
            loss = loss + self.prior_weight / low[0].numel() * squared_length(searched)
        return loss, square.detach()
