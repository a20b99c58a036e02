"""Arguments of what configurations build: each exists, each number has a range, errors name the key as it is typed."""

import inspect
import re
from pathlib import Path
from typing import Any

import pytest
import torch

from facesr.build import CONFIG_DIR, build, check_node, load_group, load_settings
from facesr.config import TrainSettings
from facesr.errors import ConfigError
from facesr.places import Place, resolved
from facesr.ranges import check_number, hints_of, range_in
from facesr.training.run import check

PLACES = {
    "generator": Place.GENERATOR,
    "discriminator": Place.DISCRIMINATOR,
    "loss": Place.LOSS,
    "embedder": Place.EMBEDDER,
    "data": Place.DATA,
    "degradation": Place.DEGRADATION,
    "optimizer": Place.OPTIMIZER,
    "latent_generator": Place.LATENT_GENERATOR,
}
TARGETS = sorted(
    {
        (path.parent.name, found)
        for path in CONFIG_DIR.rglob("*.yaml")
        for found in re.findall(r"_target_:\s*([\w.]+)", path.read_text(encoding="utf-8"))
    }
)


@pytest.mark.parametrize(("group", "target"), TARGETS)
def test_every_number_of_what_is_built_has_a_range(group: str, target: str) -> None:
    made = resolved(target, PLACES[group])
    hints = hints_of(made)
    for name, parameter in inspect.signature(made).parameters.items():
        hint = hints.get(name)
        is_number = isinstance(parameter.default, int | float) and not isinstance(parameter.default, bool)
        if not is_number and not re.search(r"\b(int|float)\b", str(parameter.annotation)):
            continue
        # What torch takes beside the numbers of _OPTIMIZERS are tensors and switches.
        limits = range_in(hint)
        assert limits is not None, f"{target}: the number {name} has no range beside its type"
        many = re.search(r"Sequence|tuple|list", str(hint))
        for value in (limits.low - 1, limits.high * 2 + 1, float("nan"), float("inf"), "text", True):
            with pytest.raises(ConfigError, match=rf"^key\.{name}"):
                check_number(f"key.{name}", [value] if many else value, hint)


def test_the_walk_finds_what_is_built() -> None:
    assert {"torch.optim.Adam", "facesr.losses.adversarial.Hinge"} <= {target for _, target in TARGETS}
    assert range_in(hints_of(torch.optim.Adam)["lr"]) is not None
    assert range_in(hints_of(resolved("facesr.losses.adversarial.Hinge", Place.LOSS))["r1_every"]) is not None


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["generator.num_blocks=-1"], "generator.num_blocks=-1 is out of range; give a whole number from 1 to 1024."),
        (["generator.num_blocks=2.5"], "generator.num_blocks=2.5 is no whole number"),
        (["generator.channels=null"], "generator.channels=null leaves it without a value"),
        (["generator.channels=[64]"], "generator.channels="),
        (["generator.channels=3200000"], "generator.channels=3200000 is out of range"),
        (
            ["+generator.chanels=64"],
            "generator.chanels is no argument of facesr.models.facesr.FaceSR; did you mean channels?",
        ),
        (["generator_optimizer.lr=nan"], "generator_optimizer.lr=nan is no number"),
        (["generator_optimizer.lr=inf"], "generator_optimizer.lr=inf is out of range"),
        (["generator_optimizer.betas=[0.9,1]"], "generator_optimizer.betas[1]=1 is out of range"),
        (["discriminator_optimizer.eps=-1"], "discriminator_optimizer.eps=-1 is out of range"),
        (["discriminator.num_channels=0"], "discriminator.num_channels=0 is out of range"),
        (["losses.pixel.weight=-1"], "losses.pixel.weight=-1 is out of range"),
        (["losses.adversarial.r1_every=0"], "losses.adversarial.r1_every=0 is out of range"),
        (["losses.identity.views=2"], "losses.identity.views=2 is out of range; give a number from 0 to 1."),
        (["+losses.identity.embedder.foo=2"], "losses.identity.embedder.foo is no argument"),
        (["degradation=random", "degradation.strength=0"], "degradation.strength=0 is out of range"),
        (["degradation=random", "degradation.jpeg_quality=[98,0]"], "degradation.jpeg_quality[1]=0 is out of range"),
        (["data.train.num_faces=-5"], "data.train.num_faces=-5 is out of range"),
        (["data.validation.first=-5"], "data.validation.first=-5 is out of range"),
        (["+data.train.foo=3"], "data.train.foo is no argument"),
        (["data.residency=moon"], "data.residency=moon"),
        (["data.pose_shares=[0.5]"], "data.pose_shares=[0.5] must be 4 numbers"),
        (["generator._target_=os.system"], "not allowed as a generator"),
    ],
)
def test_parts_are_checked_before_any_work(overrides: list[str], words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        check(load_settings("train", TrainSettings, overrides))
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_a_class_without_arguments_takes_none() -> None:
    node = {"_target_": "facesr.models.interpolation.Bicubic"}
    assert isinstance(build(node, Place.GENERATOR), torch.nn.Module)
    with pytest.raises(ConfigError, match=r"generator\.scale is no argument .*; it takes none\."):
        build({**node, "scale": 4}, Place.GENERATOR)


def test_a_check_builds_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*args: Any, **values: Any) -> None:
        raise AssertionError("built")

    monkeypatch.setattr(torch.nn.Module, "__init__", refused)
    check_node(load_group("generator", "facesr"), Place.GENERATOR, "generator")
    with pytest.raises(AssertionError):
        build(load_group("generator", "facesr"), Place.GENERATOR)


@pytest.mark.parametrize("wrong", ["generator.num_channels=32", "start_from=missing.safetensors"])
def test_networks_and_start_are_refused_before_a_face_is_drawn(
    wrong: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from facesr.data.packed import reader as prepared
    from facesr.errors import FaceSRError
    from facesr.training.run import set_up

    def drawn(*args: Any) -> None:
        raise AssertionError("faces were drawn")

    monkeypatch.setattr(prepared, "synthetic_cache", drawn)
    given = ["device=cpu", f"runs_dir={tmp_path}", "generator=srresnet", "generator.num_blocks=1", wrong]
    with pytest.raises(FaceSRError if "start" in wrong else AssertionError, match=r"missing|faces were drawn"):
        set_up(load_settings("train", TrainSettings, given), torch.device("cpu"))
    assert list(tmp_path.iterdir()) == []
