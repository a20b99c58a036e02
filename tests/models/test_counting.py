"""Multiply-accumulates: counts worked by hand for each type of layer, torch's own counter, and what is refused."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm
from torch.utils.flop_counter import FlopCounterMode

from facesr.build import CONFIG_DIR, build, load_group
from facesr.models.counting import COUNTED, FREE, count_macs, count_macs_of, count_parameters
from facesr.models.fsrnet import FSRNet
from facesr.models.interpolation import Bicubic
from facesr.models.spectral import SpectralConv2d
from facesr.models.style_discriminator import StyleDiscriminator
from facesr.models.style_generator import ConstantInput, StyleGenerator
from facesr.models.style_layers import (
    BiasedActivation,
    EqualisedConv,
    EqualisedLinear,
    MappingLayer,
    ModulatedConv,
    Noise,
    ToRgb,
)
from facesr.places import Place

# Layer, shapes of its inputs, and the products counted by hand: places x channels in x channels out x kernel.
BY_HAND: list[tuple[Callable[[], nn.Module], list[tuple[int, ...]], int]] = [
    (lambda: nn.Conv1d(2, 3, 5, padding=2), [(1, 2, 7)], 7 * 2 * 3 * 5),
    (lambda: nn.Conv2d(2, 3, 3, padding=1), [(1, 2, 4, 5)], 4 * 5 * 2 * 3 * 9),
    (lambda: nn.Conv2d(4, 6, 3, padding=1, groups=2), [(1, 4, 4, 5)], 4 * 5 * 2 * 6 * 9),
    (lambda: nn.Conv2d(2, 3, 4, stride=2, padding=1), [(1, 2, 8, 6)], 4 * 3 * 2 * 3 * 16),
    (lambda: nn.Conv3d(2, 3, 1), [(1, 2, 2, 3, 4)], 24 * 2 * 3),
    (lambda: nn.ConvTranspose1d(2, 3, 4, stride=2), [(1, 2, 7)], 7 * 2 * 3 * 4),
    (lambda: nn.ConvTranspose2d(2, 3, 4, stride=2, padding=1), [(1, 2, 5, 6)], 5 * 6 * 2 * 3 * 16),
    (lambda: nn.ConvTranspose2d(4, 6, 2, stride=2, groups=2), [(1, 4, 5, 6)], 5 * 6 * 4 * 3 * 4),
    (lambda: nn.ConvTranspose3d(2, 3, 2, stride=2), [(1, 2, 2, 3, 4)], 24 * 2 * 3 * 8),
    (lambda: nn.Linear(5, 7), [(1, 5)], 5 * 7),
    (lambda: nn.Linear(5, 7), [(1, 4, 5)], 4 * 5 * 7),
    (lambda: weight_norm(nn.Conv2d(2, 3, 3, padding=1)), [(1, 2, 4, 5)], 4 * 5 * 2 * 3 * 9),
    (lambda: SpectralConv2d(2, 3, 4, stride=2, padding=1), [(1, 2, 8, 6)], 4 * 3 * 2 * 3 * 16),
    (lambda: EqualisedConv(2, 3, 3), [(1, 2, 4, 5)], 4 * 5 * 2 * 3 * 9),
    (lambda: EqualisedLinear(5, 7), [(1, 5)], 5 * 7),
    (lambda: MappingLayer(5, 7), [(1, 5)], 5 * 7),
    # A kernel over the places, the style's linear layer, and the demodulation's matrix.
    (lambda: ModulatedConv(2, 3, 3, 5), [(1, 2, 4, 6), (1, 5)], 4 * 6 * 2 * 3 * 9 + 5 * 2 + 2 * 3),
    (lambda: ModulatedConv(2, 3, 3, 5, demodulate=False), [(1, 2, 4, 6), (1, 5)], 4 * 6 * 2 * 3 * 9 + 5 * 2),
    (lambda: ModulatedConv(2, 3, 3, 5, double=True), [(1, 2, 4, 6), (1, 5)], 4 * 6 * 2 * 3 * 9 + 5 * 2 + 2 * 3),
    (lambda: nn.PReLU(2), [(1, 2, 4, 5)], 0),
    (lambda: nn.BatchNorm1d(2).eval(), [(1, 2, 4)], 0),
    (lambda: nn.BatchNorm2d(2).eval(), [(1, 2, 4, 5)], 0),
    (lambda: nn.BatchNorm3d(2).eval(), [(1, 2, 4, 5, 3)], 0),
    (lambda: nn.InstanceNorm2d(2, affine=True), [(1, 2, 4, 5)], 0),
    (lambda: nn.GroupNorm(1, 2), [(1, 2, 4, 5)], 0),
    (lambda: nn.LayerNorm(5), [(1, 2, 4, 5)], 0),
    (lambda: nn.RMSNorm(5), [(1, 2, 4, 5)], 0),
    (lambda: BiasedActivation(2), [(1, 2, 4, 5)], 0),
    (Noise, [(1, 2, 4, 5), (1, 1, 4, 5)], 0),
    (lambda: nn.Identity(), [(1, 2, 4, 5)], 0),
]


def name_of(case: tuple[Callable[[], nn.Module], list[tuple[int, ...]], int]) -> str:
    return type(case[0]()).__name__


@pytest.mark.parametrize("case", BY_HAND, ids=name_of)
@pytest.mark.parametrize("count", [1, 3])
def test_each_layer_as_counted_by_hand(
    case: tuple[Callable[[], nn.Module], list[tuple[int, ...]], int], count: int
) -> None:
    make, shapes, expected = case
    assert count_macs_of(make(), *(torch.zeros(count, *shape[1:]) for shape in shapes)) == count * expected


def test_every_type_in_the_tables_is_worked_by_hand() -> None:
    worked = [make() for make, _, _ in BY_HAND]
    apart = {nn.utils.parametrize.ParametrizationList, ConstantInput, ToRgb}  # inside others, tested with those
    for kind in {*COUNTED, *FREE} - apart:
        assert any(isinstance(layer, kind) for layer in worked), kind


SMALL: dict[str, dict[str, int]] = {
    "facesr": {"channels": 32, "num_groups": 2, "num_blocks": 1, "num_hourglass_blocks": 1, "channels_up": 32},
    "facesr_cleaner": {"channels": 16},
    "srresnet": {"num_channels": 8, "num_blocks": 2},
    "rrdbnet": {"num_channels": 8, "num_blocks": 1, "growth": 4},
    "sicnn": {"num_channels": 8, "growth": 4, "num_layers": 2},
    "fsrnet": {"num_channels": 8, "num_blocks": 1, "num_hourglasses": 1},
    "vgg": {"num_channels": 4, "num_hidden": 8},
    "unet": {"num_channels": 4},
}


def made(group: str, name: str) -> nn.Module:
    """Returns a narrow network of a configuration, which may be another one at a width of its own."""
    network = build({**load_group(group, name), **SMALL.get(name, SMALL[name.partition("_")[0]])}, Place[group.upper()])
    assert isinstance(network, nn.Module)
    return network.eval()


def of_torch(network: nn.Module, *inputs: Tensor) -> float:
    """Returns the multiply-accumulates that torch counts by operations, not by layers."""
    with torch.enable_grad(), FlopCounterMode(display=False) as counter:
        network(*inputs)
    return counter.get_total_flops() / 2


@pytest.mark.parametrize("name", [path.stem for path in sorted((CONFIG_DIR / "generator").glob("*.yaml"))])
def test_generators_as_torch_counts_them(name: str) -> None:
    network = made("generator", name)
    low = torch.zeros(1, 3, 8, 12)
    # torch sees the filters of the bicubic picture as well, which are not learned.
    fixed = of_torch(Bicubic(), low) if name.startswith(("facesr", "fsrnet")) else 0
    assert count_macs(network, 8, 12) == of_torch(network, low) - fixed


@pytest.mark.parametrize("name", ["unet", "vgg"])
def test_discriminators_as_torch_counts_them(name: str) -> None:
    network = made("discriminator", name)
    assert count_macs(network, 28, 24) == of_torch(network, torch.zeros(1, 3, 28, 24))


def test_the_u_net_as_counted_by_hand() -> None:
    full, half, quarter, eighth = 112 * 96, 56 * 48, 28 * 24, 14 * 12
    down = half * 64 * 128 * 16 + quarter * 128 * 256 * 16 + eighth * 256 * 512 * 16
    up = quarter * 512 * 256 * 9 + half * 256 * 128 * 9 + full * 128 * 64 * 9
    network = build(load_group("discriminator", "unet"), Place.DISCRIMINATOR).eval()
    assert count_macs(network, 112, 96) == full * (3 * 64 * 9 + 2 * 64 * 64 * 9 + 64 * 9) + down + up


def test_style_networks_are_counted_whole() -> None:
    generator = StyleGenerator((8, 4), latent_dim=6, num_mapping_layers=2)

    class Drawing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.generator = generator

        def forward(self, latents: Tensor) -> Tensor:
            mapped = generator.map(latents)[:, None].expand(-1, generator.num_latents, -1)
            picture: Tensor = generator(mapped, generator.draw_noises(len(latents)))
            return picture

    mapping = 2 * 6 * 6
    first = 16 * 8 * 8 * 9 + 6 * 8 + 8 * 8  # kernel, style, demodulation
    doubling = 16 * 8 * 4 * 9 + 6 * 8 + 8 * 4
    second = 64 * 4 * 4 * 9 + 6 * 4 + 4 * 4
    colours = 16 * 8 * 3 + 6 * 8 + 64 * 4 * 3 + 6 * 4
    assert count_macs_of(Drawing(), torch.zeros(1, 6)) == mapping + first + doubling + second + colours
    discriminator = StyleDiscriminator((8, 4))
    # 8x8: from RGB, a convolution, one halving, the way around it; 4x4: the last one, and two dense layers.
    halving = 64 * 4 * 4 * 9 + 16 * 4 * 8 * 9 + 16 * 4 * 8
    assert count_macs(discriminator, 8, 8) == 64 * 3 * 4 + halving + 16 * 9 * 8 * 9 + 16 * 8 * 8 + 8


class Attention(nn.Module):
    """A layer that counting does not know."""

    def __init__(self) -> None:
        super().__init__()
        self.queries = nn.Parameter(torch.zeros(4, 3))

    def forward(self, pictures: Tensor) -> Tensor:
        return torch.einsum("nchw,dc->ndhw", pictures, self.queries)


def test_an_unknown_layer_with_weights_is_refused_by_name() -> None:
    network = nn.Sequential(nn.Conv2d(3, 3, 1), nn.Sequential(Attention()))
    with pytest.raises(TypeError, match=r"the layer 1\.0 is a .*Attention, .* facesr\.models\.counting counts"):
        count_macs(network, 4, 4)
    with pytest.raises(TypeError, match=r"the network is a .*Attention"):
        count_macs(Attention(), 4, 4)


def test_weights_that_are_used_past_their_layer_are_refused() -> None:
    class Past(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Conv2d(3, 3, 1)

        def forward(self, pictures: Tensor) -> Tensor:
            return nn.functional.conv2d(pictures, self.layer.weight)

    with pytest.raises(TypeError, match="the layer layer was never called"):
        count_macs(Past(), 4, 4)


def test_no_hook_stays_behind() -> None:
    network = FSRNet(8, 1, 1)
    count_macs(network, 8, 8)
    with pytest.raises(RuntimeError):
        count_macs_of(network, torch.zeros(1, 5, 8, 8))
    assert not any(layer._forward_hooks for layer in network.modules())


def test_a_shared_layer_costs_each_call_and_is_stored_once() -> None:
    layer = nn.Conv2d(3, 3, 1)
    network = nn.Sequential(layer, layer)
    assert count_macs(network, 2, 2) == 2 * 4 * 9
    assert count_parameters(network) == 12
