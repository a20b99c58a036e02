"""Which layers begin with He's weights, for which slope and at which share of them."""

import math
from types import ModuleType

import pytest
import torch
from torch import nn

from facesr.models import fsrnet, rrdbnet, sicnn, srresnet, unet_discriminator, vgg_discriminator
from facesr.models.initialization import icnr_

Expected = dict[str, tuple[float, float]]


def first_weights(module: ModuleType, network: str, monkeypatch: pytest.MonkeyPatch, *sizes: int) -> Expected:
    """Returns slope and scale of each layer whose weights the module fills by `he_normal_`."""
    asked: dict[int, tuple[float, float]] = {}

    def note(layer: nn.Module, slope: float = 0.0, scale: float = 1.0) -> None:
        asked[id(layer)] = (slope, scale)

    monkeypatch.setattr(module, "he_normal_", note)
    made = getattr(module, network)(*sizes)
    found = {name: asked.pop(id(layer)) for name, layer in made.named_modules() if id(layer) in asked}
    assert not asked, "layers that are no part of the network"
    return found


def test_srresnet(monkeypatch: pytest.MonkeyPatch) -> None:
    assert first_weights(srresnet, "SRResNet", monkeypatch, 4, 1) == {
        "head": (0.0, 1.0), "blocks.0.first": (0.0, 1.0), "blocks.0.second": (0.25, 0.1), "after_blocks": (0.0, 0.1),
        "tail": (0.0, 0.1),
    }  # fmt: skip


def test_rrdbnet(monkeypatch: pytest.MonkeyPatch) -> None:
    inner = {f"blocks.0.blocks.{block}.layers.{layer}": (0.2, 0.1) for block in range(3) for layer in range(5)}
    assert first_weights(rrdbnet, "RRDBNet", monkeypatch, 4, 1, 4) == inner | {
        "head": (1.0, 1.0), "after_blocks": (1.0, 0.1), "enlarge.0": (0.2, 1.0), "enlarge.1": (0.2, 1.0),
        "refine": (0.2, 1.0), "tail": (0.2, 0.1),
    }  # fmt: skip


def test_sicnn(monkeypatch: pytest.MonkeyPatch) -> None:
    # Three dense blocks of one layer, one layer and two, behind a first one each; a doubling between two of them.
    plain = [f"body.{block}.first.0" for block in (0, 2, 4)] + ["body.1.0", "body.3.0"]
    plain += ["body.0.layers.0.0", "body.2.layers.0.0", "body.4.layers.0.0", "body.4.layers.1.0"]
    expected = {**dict.fromkeys(plain, (0.25, 1.0)), "tail": (0.25, 0.1)}
    assert first_weights(sicnn, "SICNN", monkeypatch, 4, 4, 1) == expected


def test_discriminators(monkeypatch: pytest.MonkeyPatch) -> None:
    assert first_weights(unet_discriminator, "UNetDiscriminator", monkeypatch, 4) == {
        "first": (0.0, 1.0), "last": (0.2, 1.0),
    }  # fmt: skip
    assert first_weights(vgg_discriminator, "VGGDiscriminator", monkeypatch, 4, 4) == {
        "features.0": (0.0, 1.0), "judge.3": (0.2, 1.0),
    }  # fmt: skip


def test_fsrnet_begins_its_branches_small(monkeypatch: pytest.MonkeyPatch) -> None:
    found = first_weights(fsrnet, "FSRNet", monkeypatch, 4, 1, 1)
    assert {value for name, value in found.items() if name.endswith("second")} == {(1.0, 0.1)}
    small = {name for name, value in found.items() if value == (0.0, 0.1)}
    assert small == {"coarse.2", "prior.hourglasses.0.1", "prior.tail", "decoder.4"}
    assert set(found.values()) == {(0.0, 1.0), (1.0, 0.1), (0.0, 0.1)}
    kinds = (nn.Conv2d, nn.ConvTranspose2d)
    every = {name for name, layer in fsrnet.FSRNet(4, 1, 1).named_modules() if isinstance(layer, kinds)}
    assert found.keys() == every


@pytest.mark.parametrize("slope", [0.0, 1.0])
def test_a_shuffled_layer_begins_for_its_slope(slope: float) -> None:
    torch.manual_seed(0)
    layer = nn.Conv2d(64, 256, 3)
    icnr_(layer, 2, slope)
    assert layer.weight.std().item() == pytest.approx(math.sqrt(2 / ((1 + slope**2) * 64 * 9)), rel=0.02)
    assert layer.bias is not None and not layer.bias.any()
