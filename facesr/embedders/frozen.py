"""What the embedders that run in PyTorch share: a frozen network between preprocessing and a unit vector."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from facesr.embedders.resize import resize_to
from facesr.errors import ConfigError

Precision = Literal["fp32", "bf16"]


class FrozenEmbedder(nn.Module):
    """A recogniser as `facesr.protocols.Embedder`: gradients reach the pictures, never the weights.

    It stays in evaluation mode whatever its parent does, and chooses its own precision whatever autocast surrounds
    it, so that a score is the same wherever it is taken.

    Attributes:
        width: of the network's input, in pixels.
        height: of the network's input, in pixels.
        precision: ``fp32`` for scoring; ``bf16`` rounds the network's weights and works in it, for training only.
    """

    # Layers of `network`, in the order they run, whose outputs a perceptual loss compares.
    feature_layers: ClassVar[tuple[str, ...]] = ()

    def __init__(
        self,
        network: nn.Module,
        *,
        name: str,
        dim: int,
        width: int,
        height: int,
        weights_sha256: str,
        precision: Precision = "fp32",
    ) -> None:
        super().__init__()
        if precision not in ("fp32", "bf16"):
            raise ConfigError(f"embedder.precision={precision} is unknown; use fp32 or bf16.")
        self.name = name
        self.dim = dim
        self.width = width
        self.height = height
        self.weights_sha256 = weights_sha256
        self.differentiable = True
        self.precision = precision
        # Convolutions on the CPU's matrix unit and on tensor cores read channels-last memory without reordering.
        self.network = network.eval().requires_grad_(False).to(memory_format=torch.channels_last)
        # Kept as they are used: autocast remembers casts of trained weights only, and would cast these at each call.
        self.dtype = torch.bfloat16 if precision == "bf16" else torch.float32
        self.network.to(self.dtype)

    def train(self, mode: bool = True) -> FrozenEmbedder:
        """Returns itself, in evaluation mode in any case: dropout or batch statistics would change the judge."""
        return super().train(False)

    def prepare(self, batch: Tensor) -> Tensor:
        """Returns RGB pictures (N, 3, height, width) in [0, 1] as the network wants to see them."""
        raise NotImplementedError

    def features(self, batch: Tensor) -> list[Tensor]:
        """Returns the outputs (N, C, h, w) of the layers in `feature_layers`, for perceptual losses."""
        found: list[Tensor] = []
        hooks = [
            self.network.get_submodule(name).register_forward_hook(lambda _layer, _inputs, output: found.append(output))
            for name in self.feature_layers
        ]
        try:
            self._in_torch(self._pixels(batch))
        finally:
            for hook in hooks:
                hook.remove()
        return found

    def resize(self, batch: Tensor) -> Tensor:
        """Returns the pictures at the network's size, (N, 3, height, width)."""
        return resize_to(batch, self.width, self.height)

    def run(self, pixels: Tensor) -> Tensor:
        """Returns the network's features (N, D) of float32 pixels; a judge may have a faster way than PyTorch."""
        return self._in_torch(pixels)

    def forward(self, batch: Tensor) -> Tensor:
        """Returns unit embeddings, float32 (N, D), of RGB pictures (N, 3, H, W) in [0, 1] of any size."""
        with torch.autocast(batch.device.type, enabled=False):
            return F.normalize(self.run(self._pixels(batch)).float(), dim=1)

    def _pixels(self, batch: Tensor) -> Tensor:
        return self.prepare(self.resize(batch.float()))

    def _in_torch(self, pixels: Tensor) -> Tensor:
        features: Tensor = self.network(pixels.contiguous(memory_format=torch.channels_last).to(self.dtype))
        return features
