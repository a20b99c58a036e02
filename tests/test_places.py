"""What a configuration may name: every callable of the package and of what it imports, tried in every place."""

import contextlib
import functools
import importlib
import pkgutil
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest
import yaml

import facesr
from facesr.build import CONFIG_DIR, known_names
from facesr.errors import ConfigError
from facesr.places import Place, resolved

# The group of configs/ that stands in each place.
GROUPS = {
    "generator": Place.GENERATOR, "discriminator": Place.DISCRIMINATOR, "loss": Place.LOSS, "embedder": Place.EMBEDDER,
    "degradation": Place.DEGRADATION, "optimizer": Place.OPTIMIZER, "latent_generator": Place.LATENT_GENERATOR,
}  # fmt: skip
# Where the accepted classes and functions of each place are defined.
HOMES = {
    Place.GENERATOR: "facesr.models.", Place.DISCRIMINATOR: "facesr.models.", Place.LOSS: "facesr.losses.",
    Place.EMBEDDER: "facesr.embedders.", Place.DATA: "facesr.data.packed.reader",
    Place.DEGRADATION: "facesr.degradation",
    Place.LATENT_GENERATOR: "facesr.methods.pulse.",
}  # fmt: skip
# Modules whose own names are tried, too.
FOREIGN = (
    "builtins", "os", "pathlib", "pickle", "shutil", "subprocess", "hydra.utils", "torch", "torch.optim",
    "torch.optim.adam", "torch.serialization",
)  # fmt: skip
DATA = {
    "synthetic", "synthetic_pairs", "dead_leaves", "dead_leaves_pairs", "pair_folders", "pairs_of_dataset", "prepared",
    "prepared_pairs",
}  # fmt: skip


def modules() -> list[ModuleType]:
    """Returns every module of the package, imported."""
    names = [found.name for found in pkgutil.walk_packages(facesr.__path__, "facesr.")]
    return [facesr, *(importlib.import_module(name) for name in names)]


def walked(step: int) -> Iterator[str]:
    """Yields every dotted name that leads to a callable over at most one module or class that a module holds.

    Of what those hold only every `step`-th one; of what the modules themselves hold, everything.
    """
    for module in modules():
        for name, value in vars(module).items():
            if is_callable(value):
                yield f"{module.__name__}.{name}"
            if issubclass(type(value), ModuleType | type):
                yield from (f"{module.__name__}.{name}.{inner}" for inner in callables_of(value)[::step])
    for name in FOREIGN:
        yield from (f"{name}.{inner}" for inner in callables_of(importlib.import_module(name)))


def is_callable(value: object) -> bool:
    # By type alone: some objects of torch warn when they are asked for an attribute.
    return callable(value) or issubclass(type(value), classmethod | staticmethod)


@functools.cache
def callables_of(owner: object) -> tuple[str, ...]:
    return tuple(name for name, value in list(vars(owner).items()) if is_callable(value))


@functools.cache
def accepted(step: int = 10) -> dict[Place, dict[str, Any]]:
    """Returns the targets that each place accepts among all of `walked`."""
    found: dict[Place, dict[str, Any]] = {place: {} for place in Place}
    for target in set(walked(step)):
        for place in Place:
            # A refusal is no error of another kind.
            with contextlib.suppress(ConfigError):
                found[place][target] = resolved(target, place)
    return found


@pytest.mark.slow
def test_every_other_callable_is_refused_too() -> None:
    targets = set(walked(1))
    assert len(targets) > 100_000 and "facesr.evaluation.out_folder.write_text" in targets
    assert {
        "facesr.snapshots.snapshot.torch.load",
        "facesr.files.os.mkdir",
        "facesr.snapshots.snapshot.Path.unlink",
    } <= targets
    assert accepted(1) == accepted()


def test_only_what_is_defined_in_its_package_is_accepted() -> None:
    for place, home in HOMES.items():
        for target, value in accepted()[place].items():
            assert target == f"{value.__module__}.{value.__qualname__}" and target.startswith(home)


def test_optimisers_are_torchs_and_ours() -> None:
    found = accepted()[Place.OPTIMIZER]
    assert {"torch.optim.Adam", "torch.optim.SGD", "facesr.training.muon.Muon"} <= set(found)
    others = {target for target in found if not target.startswith("torch.optim.")}
    assert others == {"facesr.training.muon.Muon"}
    assert all(
        isinstance(value, type) and target.count(".") == 2 for target, value in found.items() if target not in others
    )


def test_data_are_eight_functions() -> None:
    assert set(accepted()[Place.DATA]) == {f"facesr.data.packed.reader.{name}" for name in DATA}


def test_networks_and_loss_terms_are_modules_of_torch() -> None:
    from torch import nn

    for place in (Place.GENERATOR, Place.DISCRIMINATOR, Place.LOSS):
        assert all(isinstance(value, type) and issubclass(value, nn.Module) for value in accepted()[place].values())
    assert {target.rpartition(".")[2] for target in accepted()[Place.EMBEDDER]} == {
        "BuiltinEmbedder", "FaceNet", "FrozenEmbedder", "OnnxEmbedder", "Residual", "SmallRecogniser", "Sphere20a",
        "SphereFace20",
    }  # fmt: skip


def test_writing_is_out_of_reach() -> None:
    reached = {target.rpartition(".")[2] for found in accepted().values() for target in found}
    assert not reached & {
        "write_text",
        "write_bytes",
        "write_snapshot",
        "save",
        "load",
        "mkdir",
        "unlink",
        "main",
        "eval",
        "exec",
    }


@pytest.mark.parametrize("group", sorted(GROUPS))
def test_every_option_is_accepted_in_its_place_alone(group: str) -> None:
    for name in known_names(group):
        target = (yaml.safe_load((CONFIG_DIR / group / f"{name}.yaml").read_text()) or {}).get("_target_")
        if target is not None:
            assert callable(resolved(target, GROUPS[group]))
            home = HOMES.get(GROUPS[group])
            for other in (place for place in GROUPS.values() if HOMES.get(place) != home):
                with pytest.raises(ConfigError, match="not allowed"):
                    resolved(target, other)


def test_every_data_option_is_accepted() -> None:
    for name in known_names("data"):
        text = yaml.safe_load((CONFIG_DIR / "data" / f"{name}.yaml").read_text())
        for part in ("train", "validation"):
            if part in text:
                assert callable(resolved(text[part]["_target_"], Place.DATA))


WAYS_ROUND = [
        "facesr.snapshots.snapshot.torch.load", "facesr.files.os.mkdir",
        "facesr.snapshots.snapshot.Path.unlink",
        "facesr.evaluation.out_folder.write_text", "facesr.models.facesr.nn.Module", "facesr.models.facesr.Tensor",
        "facesr.models.facesr.FaceSR.load_state_dict", "facesr.models.facesr.count_macs", "facesr.models.facesr",
        "facesr.models.FaceSR", "facesr.models", "facesr.models.facesr.", ".FaceSR", "", "facesr.models..FaceSR",
        "facesr.models.facesr.__builtins__", "facesr.models.facesr.__class__", "facesr.models.__init__.FaceSR",
        "facesr.models.facesr.FaceSR\n", "facesr.models.os.path.FaceSR", "facesr.modelsx.FaceSR",
        "torch.optim.lr_scheduler.StepLR", "torch.optim.swa_utils.AveragedModel", "torch.optim.adam.Adam",
        "facesr.embedders.facenet.InceptionResnetV1", "facesr.losses.term.dataclass",
        "facesr.data.synthetic.face.render.main",
        None, 3, ["facesr.models.facesr.FaceSR"], {"a": 1}, dict, print,
]  # fmt: skip


@pytest.mark.parametrize("place", list(Place))
def test_a_way_round_is_refused(place: Place) -> None:
    for target in WAYS_ROUND:
        with pytest.raises(ConfigError) as caught:
            resolved(target, place)
        assert "\n" not in str(caught.value), target


def test_a_refused_module_is_not_imported() -> None:
    for name in ("antigravity.FaceSR", "facesr.models.antigravity.FaceSR", "this.Zen"):
        with pytest.raises(ConfigError):
            resolved(name, Place.GENERATOR)
    assert not {"antigravity", "this"} & set(sys.modules)
