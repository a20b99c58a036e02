"""Convolution with spectral normalisation, the discriminators' only normalisation.

torch's own parametrisation is not used: under autocast it mixes bfloat16 and float32 in its power iteration, and it
hides the weight's name in the state dict.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# Steps of the power iteration when a layer is made; afterwards one step a forward pass keeps up with training.
NUM_FIRST_STEPS = 15


class SpectralConv2d(nn.Module):
    """Convolution whose weight, as a matrix (out, in * k * k), is divided by its largest singular value.

    One power-iteration step is made per forward pass in training mode, none in eval mode. All statistics come from
    the weight, none from the batch: each rank computes the same, and a picture's logit does not depend on the others.

    Source: Miyato et al., "Spectral normalization for generative adversarial networks", arXiv 1802.05957,
    algorithm 1.
    """

    left: Tensor
    right: Tensor

    def __init__(
        self, num_in: int, num_out: int, kernel_size: int, stride: int = 1, padding: int = 0, bias: bool = True
    ) -> None:
        super().__init__()
        self.stride, self.padding = stride, padding
        # The normalisation removes the scale; an orthogonal start gives all singular values the same size.
        self.weight = nn.Parameter(nn.init.orthogonal_(torch.empty(num_out, num_in, kernel_size, kernel_size)))
        self.bias = nn.Parameter(torch.zeros(num_out)) if bias else None
        self.register_buffer("left", F.normalize(torch.randn(num_out), dim=0))
        self.register_buffer("right", F.normalize(torch.randn(num_in * kernel_size**2), dim=0))
        with torch.no_grad():
            for _ in range(NUM_FIRST_STEPS):
                self._power_step()

    def _power_step(self) -> None:
        matrix = self.weight.flatten(1)
        self.right.copy_(F.normalize(matrix.t() @ self.left, dim=0))
        self.left.copy_(F.normalize(matrix @ self.right, dim=0))

    def normalized_weight(self) -> Tensor:
        """Returns the weight (out, in, k, k) divided by its estimated largest singular value, differentiable."""
        with torch.autocast(self.weight.device.type, enabled=False):
            if self.training:
                with torch.no_grad():
                    self._power_step()
            # Clones, because the next forward pass overwrites the buffers before this one's backward may have run.
            sigma = self.left.clone() @ (self.weight.flatten(1) @ self.right.clone())
            return self.weight / sigma

    def forward(self, features: Tensor) -> Tensor:
        """Returns the convolved features (N, out, H', W')."""
        return F.conv2d(features, self.normalized_weight(), self.bias, self.stride, self.padding)
