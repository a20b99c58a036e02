"""SRGAN's discriminator against its layer list, and what global pooling promises."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from facesr.models.spectral import SpectralConv2d
from facesr.models.vgg_discriminator import VGGDiscriminator


def reference(state: dict[str, Tensor], pictures: Tensor) -> Tensor:
    """Figure 4 of arXiv 1609.04802 with singular values instead of batch normalisation, and a mean before the end."""

    def spectral(name: str) -> Tensor:
        weight = state[f"{name}.weight"]
        return weight / torch.linalg.svdvals(weight.flatten(1))[0]

    def leaky(features: Tensor) -> Tensor:
        return torch.where(features > 0, features, 0.2 * features)

    features = leaky(F.conv2d(2 * pictures - 1, state["features.0.weight"], state["features.0.bias"], padding=1))
    for i, stride in enumerate((2, 1, 2, 1, 2, 1, 2)):
        name = f"features.{2 * i + 2}"
        features = leaky(F.conv2d(features, spectral(name), state[f"{name}.bias"], stride=stride, padding=1))
    mean = features.mean(dim=(2, 3))
    hidden = leaky(mean @ spectral("judge.1")[:, :, 0, 0].T + state["judge.1.bias"])
    return hidden @ state["judge.3.weight"][:, :, 0, 0].T + state["judge.3.bias"]


def test_equals_the_layer_list(normalize_exactly: Callable[[nn.Module], nn.Module]) -> None:
    network = normalize_exactly(VGGDiscriminator(num_channels=4, num_hidden=6).double())
    pictures = torch.rand(3, 3, 37, 33, dtype=torch.float64)
    expected = reference(dict(network.state_dict()), pictures)
    assert torch.allclose(network(pictures), expected, atol=1e-12)


def test_channels_and_strides_are_srgans() -> None:
    layers = [layer for layer in VGGDiscriminator().features if isinstance(layer, SpectralConv2d)]
    assert [layer.weight.shape[0] for layer in layers] == [64, 128, 128, 256, 256, 512, 512]
    assert [layer.stride for layer in layers] == [2, 1, 2, 1, 2, 1, 2]


def test_a_face_may_stand_anywhere_on_a_plain_ground() -> None:
    torch.manual_seed(0)
    network = VGGDiscriminator(num_channels=4, num_hidden=8).eval()
    ground = torch.full((1, 3, 224, 224), 0.3)
    ground[..., 96:112, 96:112] = torch.rand(1, 3, 16, 16)
    # The four halvings see the same grid again after 16 pixels.
    moved = ground.roll((16, -16), dims=(2, 3))
    assert torch.allclose(network(ground), network(moved), atol=1e-6)
    plain = network(torch.full((1, 3, 224, 224), 0.3))
    assert not torch.allclose(network(ground), plain, atol=1e-6)


def test_holds_no_batch_statistics() -> None:
    names = {type(layer).__name__ for layer in VGGDiscriminator(num_channels=4).modules()}
    assert not any("Norm" in name for name in names)
