"""Fixtures for the networks' tests."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from facesr.models.spectral import SpectralConv2d


@pytest.fixture
def normalize_exactly() -> Callable[[nn.Module], nn.Module]:
    """A function that gives spectral layers random weights and the singular vectors that power iteration tends to."""

    def normalize(network: nn.Module) -> nn.Module:
        torch.manual_seed(1)
        for layer in network.modules():
            if isinstance(layer, SpectralConv2d):
                with torch.no_grad():
                    layer.weight.normal_()
                    left, _, right = torch.linalg.svd(layer.weight.flatten(1), full_matrices=False)
                    layer.left.copy_(left[:, 0])
                    layer.right.copy_(right[0])
        return network.eval()

    return normalize
