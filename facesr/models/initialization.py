"""First values of convolution weights, written out because torch's defaults are too small for deep ReLU networks.

Source: He et al., "Delving deep into rectifiers", arXiv 1502.01852, equation 15 (variance 2 / ((1 + a^2) fan_in));
Wang et al., "ESRGAN", arXiv 1809.00219, section 3.1 ("smaller initialization": residual branches times 0.1, as in
that paper's own code); Aitken et al., "Checkerboard artifact free sub-pixel convolution", arXiv 1707.02937 (ICNR).
"""

import math

import torch
from torch import nn

# ESRGAN multiplies the He weights of residual branches by this, so that a deep stack starts near the identity.
RESIDUAL_SCALE = 0.1


def he_normal_(layer: nn.Conv2d | nn.ConvTranspose2d, slope: float = 0.0, scale: float = 1.0) -> None:
    """Fills the layer's weight with zero-mean normal values of He's variance, and its bias with zeros.

    Args:
        slope: negative slope of the (leaky, parametric) ReLU beside the layer; 1 for none.
        scale: factor on the standard deviation.
    """
    kernel = layer.kernel_size[0] * layer.kernel_size[1]
    fan_in = layer.in_channels * kernel / layer.groups
    if isinstance(layer, nn.ConvTranspose2d):
        # An output pixel sees only every stride-th tap of the kernel.
        fan_in /= layer.stride[0] * layer.stride[1]
    nn.init.normal_(layer.weight, std=scale * math.sqrt(2.0 / ((1.0 + slope**2) * fan_in)))
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)


def icnr_(layer: nn.Conv2d, factor: int, slope: float = 0.0) -> None:
    """Fills the layer before a pixel shuffle so that the shuffled output is its nearest-neighbour enlargement.

    The `factor`^2 output channels that become one block of pixels start equal, so no checkerboard is there to
    unlearn.

    Raises:
        ValueError: the output channels are not a multiple of factor^2.
    """
    if layer.out_channels % factor**2:
        raise ValueError(f"{layer.out_channels} output channels cannot be shuffled by {factor}")
    he_normal_(layer, slope)
    with torch.no_grad():
        # Pixel shuffle reads channel c * factor^2 + i for pixel i of channel c.
        layer.weight.copy_(layer.weight[:: factor**2].repeat_interleave(factor**2, dim=0))
