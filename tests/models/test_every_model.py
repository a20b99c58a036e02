"""What every generator and discriminator of configs/ promises: any size, any precision, and figures that are true."""

import functools
import importlib
import re
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from facesr.build import CONFIG_DIR, build, load_group
from facesr.errors import ConfigError
from facesr.models.counting import count_macs, count_parameters
from facesr.places import Place

# The smallest networks of each kind: the promises do not depend on the width.
INTERPOLATIONS = {name.lower(): {"_target_": f"facesr.models.interpolation.{name}"} for name in ("Bicubic", "Nearest")}
SMALL_GENERATORS: dict[str, dict[str, Any]] = {
    "bicubic": {},
    "nearest": {},
    "srresnet": {"num_channels": 8, "num_blocks": 2},
    "rrdbnet": {"num_channels": 8, "num_blocks": 1, "growth": 4},
    "sicnn": {"num_channels": 8, "growth": 4, "num_layers": 2},
    "fsrnet": {"num_channels": 8, "num_blocks": 1, "num_hourglasses": 1},
}
SMALL_DISCRIMINATORS: dict[str, dict[str, Any]] = {
    "vgg": {"num_channels": 4, "num_hidden": 8},
    "unet": {"num_channels": 4},
}
# Input sizes, width x height: the competition's, odd ones, one pixel.
SIZES = [(24, 28), (7, 5), (33, 17), (1, 1)]


@functools.cache
def configured(group: str, name: str) -> dict[str, Any]:
    """Returns the node of configs/<group>/<name>.yaml, composed once; interpolations have no configuration."""
    return dict(INTERPOLATIONS[name]) if name in INTERPOLATIONS else load_group(group, name)


def small(group: str, name: str, seed: int = 0) -> nn.Module:
    """Returns a small network of configs/<group>/<name>.yaml."""
    values = SMALL_GENERATORS[name] if group == "generator" else SMALL_DISCRIMINATORS[name]
    torch.manual_seed(seed)
    network = build({**configured(group, name), **values}, Place[group.upper()])
    assert isinstance(network, nn.Module)
    return network


def pictures(width: int, height: int, count: int = 2) -> Tensor:
    return torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(width * height))


EVERY = [("generator", name) for name in SMALL_GENERATORS] + [("discriminator", name) for name in SMALL_DISCRIMINATORS]
TRAINED = [pair for pair in EVERY if pair[1] not in INTERPOLATIONS]


def expected_shape(group: str, name: str, width: int, height: int) -> tuple[int, ...]:
    if group == "generator":
        return 2, 3, 4 * height, 4 * width
    return (2, 1) if name == "vgg" else (2, 1, height, width)


@pytest.mark.parametrize(("group", "name"), EVERY)
@pytest.mark.parametrize(("width", "height"), SIZES)
def test_any_input_size(group: str, name: str, width: int, height: int) -> None:
    output = small(group, name)(pictures(width, height))
    assert output.shape == expected_shape(group, name, width, height)
    assert output.dtype == torch.float32
    assert output.isfinite().all()


@pytest.mark.parametrize(("group", "name"), TRAINED)
def test_gradients_reach_every_parameter(group: str, name: str) -> None:
    network = small(group, name)
    batch = pictures(24, 28).requires_grad_()
    network(batch).square().mean().backward()
    for parameter_name, parameter in network.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert parameter.grad.isfinite().all(), parameter_name
        assert parameter.grad.abs().sum() > 0, parameter_name
    assert batch.grad is not None
    assert batch.grad.abs().sum() > 0


@pytest.mark.parametrize(("group", "name"), TRAINED)
def test_the_seed_decides_the_weights(group: str, name: str) -> None:
    first, again, other = (small(group, name, seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert any(not torch.equal(first[key], other[key]) for key in first)


@pytest.mark.parametrize(("group", "name"), EVERY)
def test_a_picture_does_not_depend_on_its_batch(group: str, name: str) -> None:
    network = small(group, name).eval()
    batch = pictures(24, 28, count=5)
    together = network(batch)
    alone = torch.cat([network(batch[i : i + 1]) for i in range(5)])
    assert torch.allclose(together, alone, atol=1e-5)
    assert torch.equal(together, network(batch))


@pytest.mark.parametrize(("group", "name"), EVERY)
def test_channels_last_gives_the_same(group: str, name: str) -> None:
    network = small(group, name).eval()
    batch = pictures(25, 27)
    plain = network(batch)
    network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    assert torch.allclose(network(batch.to(memory_format=torch.channels_last)), plain, atol=1e-5)


@pytest.mark.parametrize(("group", "name"), TRAINED)
def test_autocast_stays_close_and_trains(group: str, name: str) -> None:
    network = small(group, name).eval()
    batch = pictures(24, 28)
    exact = network(batch)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = network(batch)
    # bfloat16 keeps 8 bits; the bound is relative to the spread of the output.
    assert (rounded.float() - exact).abs().max() < 0.1 * exact.abs().max()
    rounded.float().square().mean().backward()
    assert all(
        p.grad is not None and p.grad.dtype == torch.float32 and p.grad.isfinite().all() for p in network.parameters()
    )


@pytest.mark.slow
@pytest.mark.parametrize(("group", "name"), TRAINED)
def test_compiles_as_one_graph(group: str, name: str) -> None:
    network = small(group, name).eval()
    batch = pictures(24, 28)
    # Tracing is what a model can break; code generation is torch's own business and slow.
    compiled = torch.compile(network, backend="eager", fullgraph=True)
    assert torch.allclose(compiled(batch), network(batch), atol=1e-6)


STATED = [
    (path.parent.name, path.stem)
    for group in ("generator", "discriminator")
    for path in sorted((CONFIG_DIR / group).glob("*.yaml"))
    if path.stem != "none"
]


@pytest.mark.parametrize(("group", "name"), STATED)
def test_figures_in_the_configuration_are_true(group: str, name: str) -> None:
    text = (CONFIG_DIR / group / f"{name}.yaml").read_text()
    found = re.search(r"(?:([\d.]+) M|no) parameters, ([\d.]+) GMAC per face", text)
    assert found, f"configs/{group}/{name}.yaml states no figures"
    network = build(configured(group, name), Place[group.upper()]).eval()
    assert f"{count_parameters(network) / 1e6:.2f}" == (found[1] or "0.00")
    if group == "discriminator":
        work = count_macs(network, 112, 96)
    elif name.startswith(("facesr", "fsrnet")):
        work = count_macs(network, 28, 24)  # their hourglasses round sides that are no multiple of 4
    else:
        work = 16 * count_macs(network, 7, 6)  # the work is proportional to the area, and a sixteenth is enough
    assert f"{work / 1e9:.2f}" == found[2]


@pytest.mark.parametrize(("group", "name"), TRAINED)
def test_counts_below_one_are_told_to_the_user(group: str, name: str) -> None:
    node = configured(group, name)
    for key in node:
        if key != "_target_":
            with pytest.raises(ConfigError, match=f"{group}.{key}=0 is out of range; give a whole number from 1"):
                build({**node, key: 0}, Place[group.upper()])


def test_every_configuration_is_covered() -> None:
    # The project's own generator has its own test file.
    names = {path.stem for path in (CONFIG_DIR / "generator").glob("*.yaml") if not path.stem.startswith("facesr")}
    assert names == set(SMALL_GENERATORS) - set(INTERPOLATIONS)
    names = {path.stem for path in (CONFIG_DIR / "discriminator").glob("*.yaml")} - {"none"}
    # Others are these at another width.
    assert {name.partition("_")[0] for name in names} == set(SMALL_DISCRIMINATORS)


COUNTS = [
    (group, name, count)
    for group, name in TRAINED
    for count in (SMALL_GENERATORS | SMALL_DISCRIMINATORS)[name]
]  # fmt: skip


@pytest.mark.parametrize(("group", "name", "count"), COUNTS)
def test_a_network_refuses_a_count_of_nothing_by_its_name(group: str, name: str, count: str) -> None:
    module, _, kind = configured(group, name)["_target_"].rpartition(".")
    arguments = {**(SMALL_GENERATORS | SMALL_DISCRIMINATORS)[name], count: 0}
    with pytest.raises(ConfigError, match=f"{count}=0 is too small"):
        getattr(importlib.import_module(module), kind)(**arguments)
