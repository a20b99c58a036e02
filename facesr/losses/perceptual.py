"""Perceptual loss: distance between a network's inner features of restored and true pictures."""

from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional

from facesr.errors import ConfigError
from facesr.losses.term import LossInputs, LossTerm
from facesr.ranges import Kimg, Positive


class FeatureNetwork(Protocol):
    """A frozen network whose inner features can be read."""

    name: str

    def features(self, batch: Tensor) -> list[Tensor]:
        """Returns features (N, C, h, w) of several depths for RGB pictures (N, 3, H, W) in [0, 1]."""
        ...


class Perceptual(LossTerm):
    """Mean absolute difference of channel-normalised features, averaged over the network's depths.

    Features are scaled to unit length over channels at each place, so that no depth outweighs another.

    Source: after Johnson et al., "Perceptual losses", ECCV 2016, equation 2; the normalisation is that of
    Zhang et al. (LPIPS), CVPR 2018, equation 1, without learned weights.
    """

    def __init__(self, weight: Positive, start_kimg: Kimg, network: FeatureNetwork) -> None:
        super().__init__(weight, start_kimg)
        if not getattr(network, "feature_layers", ()):
            raise ConfigError(
                f"losses: {network.name} offers no inner features for a perceptual loss; "
                "use the embedder builtin or a facenet one."
            )
        self.network = network

    def forward(self, inputs: LossInputs) -> Tensor:
        """Returns the scalar feature distance."""
        with torch.no_grad():
            truth = self.network.features(inputs.high)
        ours = self.network.features(inputs.restored.clamp(0.0, 1.0))
        distances = [
            (functional.normalize(a.float(), dim=1) - functional.normalize(b.float(), dim=1)).abs().sum(1).mean()
            for a, b in zip(ours, truth, strict=True)
        ]
        return torch.stack(distances).mean()
