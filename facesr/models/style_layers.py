"""Layers of style-based generators: equalised learning rate, blur, modulated convolution, noise, to-RGB.

Source: Karras et al., "Analyzing and improving the image quality of StyleGAN" (StyleGAN2), arXiv 1912.04958, sections 2
and 3 and appendix B; what it keeps of Karras et al., "A style-based generator architecture for generative adversarial
networks" (StyleGAN), arXiv 1812.04948, and "Progressive growing of GANs" (arXiv 1710.10196), section 4. Parameters
have the names that PyTorch ports of StyleGAN2 share (``conv.modulation.weight``, ``activate.bias``, ...), so that their
files load without a table of names.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SLOPE = 0.2
# Of the leaky ReLU: it keeps the variance of what passes through about 1.
GAIN = math.sqrt(2.0)
EPSILON = 1e-8
BLUR_TAPS = (1.0, 3.0, 3.0, 1.0)


def at_least_float32(values: Tensor) -> Tensor:
    """Returns half-precision values as float32, others as they are."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def pixel_norm(features: Tensor) -> Tensor:
    """Returns features (N, C, ...) whose mean square over the channels is 1.

    Source: "Progressive growing of GANs", section 4.2; StyleGAN and StyleGAN2 apply it to the latent z.
    """
    return features * torch.rsqrt(features.square().mean(1, keepdim=True) + EPSILON)


class PixelNorm(nn.Module):
    """`pixel_norm` as a layer without parameters."""

    def forward(self, features: Tensor) -> Tensor:
        """Returns features (N, C, ...) whose mean square over the channels is 1."""
        return pixel_norm(features)


class EqualisedLinear(nn.Module):
    """A linear layer whose stored weights are of variance 1 and are scaled when used.

    Source: "Progressive growing of GANs", section 4.1 (equalised learning rate: He's constant at run time); the
    multiplier of the learning rate is StyleGAN's, appendix C (0.01 in the mapping network).

    Args:
        num_in: features in.
        num_out: features out.
        gain: of the activation that follows, in the scale of the weights.
        rate: multiplier of the learning rate; stored weights are larger by its inverse, stored biases too.
        bias: first value of the biases as they are used.
    """

    def __init__(self, num_in: int, num_out: int, gain: float = 1.0, rate: float = 1.0, bias: float = 0.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(num_out, num_in) / rate)
        self.bias = nn.Parameter(torch.full((num_out,), bias / rate))
        self.factor, self.rate = gain * rate / math.sqrt(num_in), rate

    def forward(self, features: Tensor) -> Tensor:
        """Returns (N, num_out) for (N, num_in)."""
        return F.linear(features, self.weight * self.factor, self.bias * self.rate)


class MappingLayer(EqualisedLinear):
    """One layer of StyleGAN2's mapping network: linear, leaky ReLU times its gain."""

    def forward(self, features: Tensor) -> Tensor:
        """Returns (N, num_out) for (N, num_in)."""
        return GAIN * F.leaky_relu(super().forward(features), SLOPE)


class EqualisedConv(nn.Module):
    """A convolution with equalised learning rate, `padding` zeros around the input, `size // 2` where None is given.

    Source: "Progressive growing of GANs", section 4.1.
    """

    def __init__(
        self,
        num_in: int,
        num_out: int,
        size: int,
        gain: float = 1.0,
        stride: int = 1,
        bias: bool = True,
        padding: int | None = None,
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(num_out, num_in, size, size))
        self.bias = nn.Parameter(torch.zeros(num_out)) if bias else None
        self.factor, self.stride = gain / math.sqrt(num_in * size * size), stride
        self.padding = size // 2 if padding is None else padding

    def forward(self, features: Tensor) -> Tensor:
        """Returns (N, num_out, H / stride, W / stride) for (N, num_in, H, W), with the usual padding."""
        return F.conv2d(features, self.weight * self.factor, self.bias, stride=self.stride, padding=self.padding)


class Blur(nn.Module):
    """A separable low-pass filter over each channel, with zeros around the picture.

    Source: StyleGAN, section 2 ("we apply a low-pass filter to each feature map after upsampling", [1, 2, 1]);
    StyleGAN2, appendix B ([1, 3, 3, 1]).

    Args:
        taps: of the filter along one axis; they are normalised to the sum 1.
        padding: zeros before and after, along both axes.
        stride: every how many pixels the result is taken.
        gain: factor on the result; 4 after a doubling that puts zeros between the pixels.
    """

    kernel: Tensor

    def __init__(self, taps: Sequence[float], padding: int, stride: int = 1, gain: float = 1.0) -> None:
        super().__init__()
        line = torch.tensor(taps) / sum(taps)
        # Not saved: it is part of the architecture, and published files that hold it are compared with it.
        self.register_buffer("kernel", gain * torch.outer(line, line)[None, None], persistent=False)
        self.padding, self.stride = padding, stride

    def forward(self, features: Tensor) -> Tensor:
        """Returns the blurred channels, (N, C, (H + 2 * padding - taps) / stride + 1, likewise for W)."""
        channels = features.shape[1]
        kernel = self.kernel.to(features.dtype).expand(channels, -1, -1, -1)
        return F.conv2d(features, kernel, stride=self.stride, padding=self.padding, groups=channels)


class SmoothDoubling(nn.Module):
    """Doubles a picture with the filter [1, 3, 3, 1]: bilinear inside, and fading to zero at the border.

    Source: StyleGAN2, section 3.1 and figure 7 (skip generator; the to-RGB outputs are upsampled bilinearly).
    """

    kernel: Tensor

    def __init__(self) -> None:
        super().__init__()
        line = torch.tensor(BLUR_TAPS) / 4.0
        self.register_buffer("kernel", torch.outer(line, line)[None, None], persistent=False)

    def forward(self, pictures: Tensor) -> Tensor:
        """Returns (N, C, 2H, 2W) for (N, C, H, W)."""
        channels = pictures.shape[1]
        kernel = self.kernel.to(pictures.dtype).expand(channels, -1, -1, -1)
        # Zeros between the pixels, then the filter, is what a transposed convolution does.
        return F.conv_transpose2d(pictures, kernel, stride=2, padding=1, groups=channels)


class ModulatedConv(nn.Module):
    """A convolution whose weights are scaled per picture by a style, and brought back to unit output variance.

    With w'_ijk = s_i w_ijk and w''_ijk = w'_ijk / sqrt(sum_ik w'_ijk^2 + 1e-8), the convolution by w'' equals the
    plain convolution of the input scaled by s, its output scaled by that root. So a batch takes one ordinary
    convolution with shared weights, instead of one group per picture with weights of its own.

    Source: StyleGAN2, section 2.2, equations 1 and 3; the style is an affine map of the latent whose bias starts at 1.

    Args:
        num_in: channels in.
        num_out: channels out.
        size: of the kernel.
        latent_dim: D of the latent.
        demodulate: False in to-RGB layers (equation 1 alone).
        double: whether height and width are doubled, by a transposed convolution and a blur.
    """

    def __init__(
        self, num_in: int, num_out: int, size: int, latent_dim: int, *, demodulate: bool = True, double: bool = False
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(1, num_out, num_in, size, size))
        self.modulation = EqualisedLinear(latent_dim, num_in, bias=1.0)
        self.blur = Blur(BLUR_TAPS, padding=1, gain=4.0) if double else None
        self.factor, self.padding, self.demodulate = 1.0 / math.sqrt(num_in * size * size), size // 2, demodulate

    def forward(self, features: Tensor, latent: Tensor) -> Tensor:
        """Returns (N, num_out, H, W), or twice as high and wide, for (N, num_in, H, W) and latents (N, D)."""
        style = self.modulation(latent)
        weight = self.weight[0] * self.factor
        scaled = features * style[:, :, None, None].to(features.dtype)
        if self.blur is None:
            result = F.conv2d(scaled, weight, padding=self.padding)
        else:
            result = self.blur(F.conv_transpose2d(scaled, weight.transpose(0, 1), stride=2))
        if not self.demodulate:
            return result
        # The sum over taps does not depend on the picture; what is left is a product of two small matrices. Eight bits
        # would show in the brightness of whole channels, so autocast leaves it alone.
        with torch.autocast(features.device.type, enabled=False):
            power = F.linear(at_least_float32(style).square(), at_least_float32(weight).square().sum((2, 3)))
        return result * torch.rsqrt(power + EPSILON)[:, :, None, None].to(result.dtype)


class Noise(nn.Module):
    """Adds a map of noise to all channels, times one learned strength.

    Source: StyleGAN2, section 2.1 (one shared scale per layer instead of StyleGAN's one per channel).
    """

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, features: Tensor, noise: Tensor) -> Tensor:
        """Returns features (N, C, H, W) + strength * noise (N, 1, H, W)."""
        return features + (self.weight * noise).to(features.dtype)


class BiasedActivation(nn.Module):
    """Leaky ReLU of features plus a bias per channel, times sqrt(2).

    Source: StyleGAN2, section 2.1 and appendix B.
    """

    def __init__(self, num_channels: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(num_channels))

    def forward(self, features: Tensor) -> Tensor:
        """Returns (N, C, H, W) for (N, C, H, W)."""
        return GAIN * F.leaky_relu(features + self.bias[:, None, None].to(features.dtype), SLOPE)


class StyledConv(nn.Module):
    """Modulated convolution, noise, bias and activation: one layer of the synthesis network.

    Source: StyleGAN2, figure 2d.
    """

    def __init__(self, num_in: int, num_out: int, latent_dim: int, *, double: bool = False) -> None:
        super().__init__()
        self.conv = ModulatedConv(num_in, num_out, 3, latent_dim, double=double)
        self.noise = Noise()
        self.activate = BiasedActivation(num_out)

    def forward(self, features: Tensor, latent: Tensor, noise: Tensor) -> Tensor:
        """Returns (N, num_out, H, W), or twice as high and wide; noise is (N, 1, H, W) of the result's size."""
        result: Tensor = self.activate(self.noise(self.conv(features, latent), noise))
        return result


class ToRgb(nn.Module):
    """Features to a picture, added to the doubled picture of the resolution below.

    Source: StyleGAN2, section 3.1 and figure 7b (output skips); no demodulation in this layer (appendix B).
    """

    def __init__(self, num_in: int, latent_dim: int, *, first: bool = False) -> None:
        super().__init__()
        self.upsample = None if first else SmoothDoubling()
        self.conv = ModulatedConv(num_in, 3, 1, latent_dim, demodulate=False)
        self.bias = nn.Parameter(torch.zeros(1, 3, 1, 1))

    def forward(self, features: Tensor, latent: Tensor, skip: Tensor | None) -> Tensor:
        """Returns pictures (N, 3, H, W) in about [-1, 1]; `skip` (N, 3, H / 2, W / 2) is None in the first one."""
        # The sum over resolutions is kept in float32 under autocast: eight bits would show as bands.
        picture = at_least_float32(self.conv(features, latent)) + self.bias
        if self.upsample is not None and skip is not None:
            picture = picture + self.upsample(skip)
        return picture
