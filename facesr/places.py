"""Places of a configuration where a node may name what is built, and what each accepts.

A ``_target_`` is resolved here before anything is called: its module has to be one of the place's, and the name a
public one that is defined in that module. What a module has merely imported is never reached, and no attribute is
followed any further, so no configuration can call anything but what is made to be named by one (docs/security.md).
"""

import importlib
import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any

from torch import nn
from torch.optim import Optimizer

from facesr.errors import ConfigError
from facesr.protocols import Embedder, LatentGenerator

_DOTTED = re.compile(r"([a-z][a-z0-9_]*(?:\.[a-z][a-z0-9_]*)*)\.([A-Za-z][A-Za-z0-9_]*)", re.ASCII)
# The only module of which names are taken that other modules below it define.
_TORCH_OPTIM = "torch.optim"


@dataclass(frozen=True)
class Rule:
    """What a place accepts.

    Attributes:
        what: the thing in words, with its article.
        modules: where it may be defined; ``package.*`` stands for every module below a package, not for itself.
        kind: class or runtime protocol that what is built must be of.
        functions: whether functions are taken, and no classes; else the reverse.
    """

    what: str
    modules: tuple[str, ...]
    kind: type = object
    functions: bool = False


class Place(Enum):
    """Where a node stands."""

    GENERATOR = Rule("a generator", ("facesr.models.*",), nn.Module)
    DISCRIMINATOR = Rule("a discriminator", ("facesr.models.*",), nn.Module)
    LOSS = Rule("a loss term", ("facesr.losses.*",), nn.Module)
    EMBEDDER = Rule("a recogniser", ("facesr.embedders.*",), Embedder)
    DATA = Rule("a data set", ("facesr.data.packed.reader",), functions=True)
    DEGRADATION = Rule("a degradation", ("facesr.degradation",))
    OPTIMIZER = Rule("an optimiser", (_TORCH_OPTIM, "facesr.training.muon"), Optimizer)
    LATENT_GENERATOR = Rule("a latent generator", ("facesr.methods.pulse.*",), LatentGenerator)

    @property
    def nested(self) -> "Place | None":
        """The place of a node inside a node of this place; None where there can be none."""
        return Place.EMBEDDER if self is Place.LOSS else None


def resolved(target: object, place: Place) -> Callable[..., Any]:
    """Returns the class or function that a ``_target_`` names; nothing is called.

    Only a module that the place allows is imported.

    Raises:
        ConfigError: the place does not accept it, or it does not exist.
    """
    rule = place.value
    found = _DOTTED.fullmatch(target) if isinstance(target, str) else None
    if found is None or not _allows(rule, found[1]):
        raise ConfigError(
            f"_target_ {target!r} is not allowed as {rule.what}; name one that {' or '.join(rule.modules)} defines."
        )
    module_name, name = found.groups()
    try:
        value: Any = getattr(importlib.import_module(module_name), name, None)
    except ImportError as error:
        raise ConfigError(f"{target} cannot be built: {error}.") from error
    if not _is_made_for(rule, value, module_name, name):
        raise ConfigError(f"{target} cannot be built: {module_name} defines no {name} that is {rule.what}.")
    made: Callable[..., Any] = value
    return made


def _allows(rule: Rule, module_name: str) -> bool:
    return any(
        module_name.startswith(allowed[:-1]) if allowed.endswith(".*") else module_name == allowed
        for allowed in rule.modules
    )


def _is_made_for(rule: Rule, value: object, module_name: str, name: str) -> bool:
    """Returns whether a value found under a name of a module is defined there and of the place's kind."""
    if not (inspect.isfunction(value) if rule.functions else isinstance(value, type)):
        return False
    home, own_name = getattr(value, "__module__", ""), getattr(value, "__qualname__", "")
    at_home = home.startswith(f"{_TORCH_OPTIM}.") if module_name == _TORCH_OPTIM else home == module_name
    # A protocol's members may be set by __init__, so `build` asks the finished object.
    is_kind = not isinstance(value, type) or _is_protocol(rule.kind) or issubclass(value, rule.kind)
    return at_home and own_name == name and is_kind and not _is_protocol(value)


def _is_protocol(value: object) -> bool:
    return bool(getattr(value, "_is_protocol", False))
