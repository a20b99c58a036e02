"""The built-in judge: a small 512-d recogniser whose weights are shipped with the package.

It imitates FaceNet (`facesr.training.distill.distill` trains it; docs/judges.md states how well), so that a machine
without any downloaded weights has an ID similarity that means something on photographs. It is no replacement for
the judges of a competition.
"""

from pathlib import Path
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from facesr.embedders.frozen import FrozenEmbedder, Precision
from facesr.weights import find_weights, load_into, read_state_dict, sha256_of

WIDTH, HEIGHT = 96, 112
DIM = 512
SHIPPED = Path(__file__).with_name("builtin.safetensors")


def _conv(num_in: int, num_out: int, size: int, stride: int, norm: bool) -> nn.Sequential:
    layers: list[nn.Module] = [nn.Conv2d(num_in, num_out, size, stride, size // 2, bias=not norm)]
    if norm:
        layers.append(nn.BatchNorm2d(num_out))
    return nn.Sequential(*layers)


class Residual(nn.Module):
    """Two 3x3 convolutions beside a shortcut, (N, C, h, w) to (N, C, h, w)."""

    def __init__(self, num_channels: int, norm: bool) -> None:
        super().__init__()
        self.first = _conv(num_channels, num_channels, 3, 1, norm)
        self.second = _conv(num_channels, num_channels, 3, 1, norm)

    def forward(self, features: Tensor) -> Tensor:
        """Returns the features with what the two convolutions add."""
        return F.relu(features + self.second(F.relu(self.first(features))))


class SmallRecogniser(nn.Module):
    """96x112 pictures (N, 3, 112, 96) in [-1, 1] to 512 features (N, 512); plain convolutions, 3.8 million weights.

    Plain 3x3 convolutions with 64 and more channels are what CPUs run fastest; depthwise ones save weights, not time.
    """

    stage_channels: ClassVar = (128, 256, 512)

    def __init__(self, norm: bool = False) -> None:
        """Builds the network.

        Args:
            norm: batch normalisation after each convolution, for training; the shipped weights have it folded in.
        """
        super().__init__()
        self.stem = _conv(3, 32, 3, 2, norm)  # 48x56
        self.down1 = _conv(32, 64, 3, 2, norm)  # 24x28
        self.down2 = _conv(64, 128, 3, 2, norm)  # 12x14
        self.stage2 = nn.Sequential(Residual(128, norm), Residual(128, norm))
        self.down3 = _conv(128, 256, 3, 2, norm)  # 6x7
        self.stage3 = nn.Sequential(Residual(256, norm), Residual(256, norm))
        self.widen = _conv(256, 512, 1, 1, norm)
        # One weight per place and channel: where a feature lies on the face matters.
        self.place = nn.Parameter(torch.ones(1, 512, 7, 6))
        # The pooled features share a large mean, which the student would have to unlearn first.
        self.centre = nn.BatchNorm1d(512) if norm else nn.Identity()
        self.embed = nn.Linear(512, DIM)

    def stages(self, pixels: Tensor) -> list[Tensor]:
        """Returns the features (N, 128, 14, 12), (N, 256, 7, 6) and (N, 512, 7, 6) on the way to the embedding."""
        features = F.relu(self.down1(F.relu(self.stem(pixels))))
        fine = self.stage2(F.relu(self.down2(features)))
        coarse = self.stage3(F.relu(self.down3(fine)))
        return [fine, coarse, F.relu(self.widen(coarse))]

    def embedding(self, features: Tensor) -> Tensor:
        """Returns what the last of the stages says of the face, (N, 512), not yet of unit length."""
        embedding: Tensor = self.embed(self.centre((features * self.place).mean(dim=(2, 3))))
        return embedding

    def forward(self, pixels: Tensor) -> Tensor:
        """Returns features, not yet of unit length."""
        return self.embedding(self.stages(pixels)[-1])


class BuiltinEmbedder(FrozenEmbedder):
    """512-d embeddings of the recogniser that comes with facesr; a face and its mirror image have the same one.

    Both are shown to the network, and what it says of them is added: it judges strangers better for it
    (docs/judges.md).
    """

    feature_layers = ("stem", "down1", "stage2")

    def __init__(self, weights: str | Path | None = None, name: str = "builtin", precision: Precision = "fp32") -> None:
        """Loads the shipped weights, or a file that `facesr.training.distill.distill` wrote.

        Raises:
            WeightsError: the file is missing, damaged or of another network.
        """
        path = find_weights(SHIPPED.name, key="embedder.weights", configured=weights or SHIPPED)
        network = SmallRecogniser()
        load_into(network, read_state_dict(path), path)
        super().__init__(
            network,
            name=name,
            dim=DIM,
            width=WIDTH,
            height=HEIGHT,
            weights_sha256=sha256_of(path),
            precision=precision,
        )

    def prepare(self, batch: Tensor) -> Tensor:
        """Returns the pixels in [-1, 1]."""
        return batch * 2.0 - 1.0

    def run(self, pixels: Tensor) -> Tensor:
        """Returns the sum of the unit features (N, 512) of the pixels and of their mirror image."""
        features = super().run(torch.cat([pixels, pixels.flip(-1)]))
        upright, mirrored = F.normalize(features.float(), dim=1).chunk(2)
        return upright + mirrored
