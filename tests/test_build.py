"""The door of Hydra: every option composes and builds, every mistake is one sentence."""

import sys
from pathlib import Path

import pytest
import torch

from facesr.build import build, known_names, load_group, load_settings
from facesr.config import TrainSettings
from facesr.errors import ConfigError, FaceSRError, WeightsError
from facesr.places import Place
from facesr.script import run_script

NETWORKS = [(group, name) for group in ("generator", "discriminator") for name in known_names(group)]


@pytest.mark.parametrize("name", known_names("experiment"))
def test_every_experiment_composes_and_its_networks_build(name: str) -> None:
    settings = load_settings("train", TrainSettings, [f"experiment={name}"])
    assert settings.name == name
    generator = build(settings.generator, Place.GENERATOR)
    assert generator(torch.zeros(1, 3, 7, 6)).shape == (1, 3, 28, 24)
    has_adversarial = any("adversarial" in str(node["_target_"]) for node in settings.losses.values())
    assert has_adversarial == bool(settings.discriminator)


def test_the_preliminarys_two_runs_are_one_network() -> None:
    first, second = (
        load_settings("train", TrainSettings, [f"experiment={name}"])
        for name in ("asc19_preliminary", "asc19_preliminary_gan")
    )
    assert first.generator == second.generator and first.embedder == second.embedder == {}
    assert second.start_from == "runs/asc19_preliminary/snapshots/best.safetensors"
    assert second.validation_every_kimg == second.duration_kimg
    nodes = [second.generator, second.discriminator, *second.losses.values()]
    assert not any("embedders" in str(node) for node in nodes), "general pictures are judged by no face recogniser"


@pytest.mark.parametrize(("group", "name"), NETWORKS)
def test_every_network_option_builds(group: str, name: str) -> None:
    node = load_group(group, name)
    if node:
        assert isinstance(build(node, Place[group.upper()]), torch.nn.Module)


@pytest.mark.parametrize("name", known_names("loss"))
def test_every_loss_option_builds(name: str) -> None:
    assert build(load_group("loss", name), Place.LOSS).weight > 0


@pytest.mark.parametrize("name", known_names("degradation"))
def test_every_degradation_builds(name: str) -> None:
    low = build(load_group("degradation", name), Place.DEGRADATION)(torch.rand(2, 3, 16, 24), 1, 0)
    assert low.shape == (2, 3, 4, 6)


@pytest.mark.parametrize("name", known_names("embedder"))
def test_every_embedder_builds_or_says_what_is_missing(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("FACESR_OFFLINE", "1")
    monkeypatch.setenv("FACESR_CACHE", str(tmp_path))
    monkeypatch.delenv("FACESR_WEIGHTS", raising=False)
    if name == "none":
        assert load_group("embedder", name) == {}
        return
    if name == "builtin":
        assert build(load_group("embedder", name), Place.EMBEDDER).dim == 512
        return
    with pytest.raises((WeightsError, ConfigError)) as caught:
        build(load_group("embedder", name), Place.EMBEDDER)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("node", "words"),
    [
        ({}, "lacks _target_"),
        ({"_target_": "os.system", "command": "true"}, "not allowed"),
        ({"_target_": "facesr.losses.pixel.L1", "weight": {"_target_": "builtins.eval"}}, "not allowed"),
        (
            {"_target_": "facesr.losses.pixel.L1", "weigth": 1.0},
            "loss.weigth is no argument of .*; did you mean weight",
        ),
        (
            {
                "_target_": "facesr.losses.pixel.L1",
                "weight": [{"_target_": "facesr.embedders.builtin.BuiltinEmbedder"}],
            },
            "_target_ is not",
        ),
        ({"_target_": "facesr.losses.pixel.L1", "weight": 1.0, "_partial_": True}, "_partial_ is not allowed"),
        ({"_target_": "facesr.losses.pixel.L1", "_args_": [1.0, 0.0]}, "_args_ is not allowed"),
        ({"_target_": "facesr.losses.pixel.torch.load"}, "not allowed|cannot be built"),
        ({"_target_": "facesr.models.srresnet.SRResNet"}, "not allowed as a loss term"),
        ({"_target_": ["facesr.losses.pixel.L1"]}, "not allowed"),
        ({"_target_": "facesr.losses.pixel.LossTerm", "weight": 1.0, "start_kimg": 0}, "defines no LossTerm"),
        ({"_target_": "facesr.losses.pixel.Nothing"}, "cannot be built"),
        ({"_target_": "facesr.losses.pixel.L1", "weight": -1.0, "start_kimg": 0}, "loss.weight=-1 is out of range"),
        ({"_target_": "facesr.losses.pixel.L1", "weight": 1.0}, "loss.start_kimg has no value"),
    ],
)
def test_a_bad_node_is_one_sentence(node: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        build(node, Place.LOSS)
    assert "\n" not in str(caught.value)


def test_a_users_error_inside_a_nested_node_stays_itself() -> None:
    node = load_group("loss", "identity", ["embedder.weights=/nowhere.safetensors"])
    with pytest.raises(FaceSRError, match="/nowhere"):
        build(node, Place.LOSS)


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("batch_sise=3", "batch_sise"),
        ("batch_size=many", "batch_size"),
        ("schedule.warmup=3", "warmup"),
        ("generator=nothing", "generator"),
        ("experiment=nothing", "experiment"),
        ("batch_size", "batch_size"),
    ],
)
def test_a_bad_override_is_one_sentence(override: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        load_settings("train", TrainSettings, [override])
    assert "\n" not in str(caught.value)


def test_a_key_without_value_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["train.py", "name=???"])
    with pytest.raises(SystemExit) as left:
        run_script(lambda settings: 0, "train", TrainSettings)
    assert left.value.code == 2
    assert capsys.readouterr().err == "error: name has no value; give name=VALUE.\n"


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="srresnet"):
        load_group("generator", "nothing")


def test_nothing_is_called_before_all_targets_are_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    node = load_group("loss", "identity")
    node["embedder"]["_target_"] = "facesr.embedders.builtin.torch.load"
    monkeypatch.setattr("facesr.losses.identity.Identity.__init__", lambda *a, **k: pytest.fail("was called"))
    with pytest.raises(ConfigError, match=r"not allowed|cannot be built"):
        build(node, Place.LOSS)
