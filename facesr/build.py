"""The door of Hydra: composing configurations from what a command line says, and building nodes.

Beyond this file and the three scripts nothing knows of Hydra or OmegaConf: below are plain dataclasses,
plain dictionaries and built objects.
"""

import functools
import os
import re
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import hydra
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import ConfigCompositionException, HydraException
from omegaconf import OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from facesr import ranks
from facesr.errors import ConfigError
from facesr.hydra_words import sentence_of, unknown_choice
from facesr.overrides import check_choice, combinations, group_of, readable
from facesr.ranges import check_arguments, plain
from facesr.settings import check_keys, check_numbers, keys_of, unknown_key

if TYPE_CHECKING:
    from facesr.places import Place

_PACKAGE = Path(__file__).resolve().parent
# Inside the package in a wheel, at the top of the repository in a checkout.
CONFIG_DIR = next((path for path in (_PACKAGE / "configs", _PACKAGE.parent / "configs") if path.is_dir()), _PACKAGE)

Settings = TypeVar("Settings")

# evaluate.py and submit.py call the generator that method=pulse searches simply `generator`; configs/generator/ holds
# train.py's networks, which have no latent space.
_ALIASES = {"evaluate": {"generator": "latent_generator"}, "submit": {"generator": "latent_generator"}}
# The group whose options may be chosen several at once.
_CHAINED = "experiment"

_UNEXPECTED = (ValueError, TypeError, AssertionError, AttributeError, KeyError, RecursionError)

_MULTIRUN = ("-m", "--multirun")
_SHOWING = ("-h", "--help", "--hydra-help", "--version", "-c", "--cfg", "--resolve", "-p", "--package", "-i", "--info")


def build(node: Mapping[str, Any], place: "Place", *, key: str = "", **extra: Any) -> Any:
    """Returns the object that a ``_target_`` node describes; nested nodes are built first.

    All targets are resolved and checked before the first is called.

    Args:
        node: ``_target_`` and the arguments.
        place: what the node has to be; it decides which targets are accepted.
        key: what the user calls the node, for errors; by default as the place.
        **extra: arguments that no configuration holds.

    Raises:
        ConfigError: no ``_target_`` or one that the place does not accept, or an argument that is unknown, of the
            wrong type or out of range.
        FaceSRError: whatever the class itself has to say to the user.
    """
    return _planned(node, place, key or place.name.lower(), extra)(**extra)


def check_node(node: Mapping[str, Any], place: "Place", key: str, extra: Collection[str] = ()) -> None:
    """Checks a node as `build` does, and builds nothing.

    Args:
        node: ``_target_`` and the arguments.
        place: what the node has to be.
        key: what the user calls the node.
        extra: names of the arguments that no configuration holds.

    Raises:
        ConfigError: see `build`.
    """
    _planned(node, place, key, extra)


def _planned(node: Mapping[str, Any], place: "Place", key: str, extra: Collection[str]) -> Callable[..., Any]:
    """Returns what builds a node; everything that it names is resolved, and every number in its range."""
    if not isinstance(node, Mapping) or "_target_" not in node:
        has = ", ".join(map(str, node)) if isinstance(node, Mapping) and node else "nothing"
        raise ConfigError(f"a configuration node lacks _target_ (it has {has}); it has to name {place.value.what}.")
    target = node["_target_"]
    # Here, because it loads torch, and not every script that is run builds something.
    from facesr.places import resolved

    make = resolved(target, place)
    arguments: dict[str, Any] = {}
    inner: dict[str, Callable[..., Any]] = {}
    for name, value in node.items():
        # Hydra gives a meaning to some (_partial_, _args_ and others); none is used here, and no argument begins so.
        if name != "_target_" and str(name).startswith("_"):
            raise ConfigError(f"{target}: the argument {name} is not allowed; leave it out.")
        if isinstance(value, Mapping) and "_target_" in value and place.nested is not None:
            inner[name] = _planned(value, place.nested, f"{key}.{name}", ())
        elif _names_target(value):
            raise ConfigError(f"{target}: a _target_ is not allowed in its argument {name}; give a plain value.")
        elif name != "_target_":
            arguments[name] = value
    check_arguments(make, {*arguments, *inner, *extra}, {**arguments, **dict.fromkeys(inner)}, key)

    def made(**given: Any) -> Any:
        built = {name: plan() for name, plan in inner.items()}
        try:
            thing = make(**arguments, **built, **given)
        # The classes' own TypeErrors and ValueErrors (a misspelt argument, a value out of range) are the user's.
        except (TypeError, ValueError, OverflowError, ImportError, AttributeError) as error:
            first_line = (str(error).splitlines() or [type(error).__name__])[0]
            raise ConfigError(f"{target} cannot be built: {first_line}") from error
        if not isinstance(thing, place.value.kind):
            raise ConfigError(f"{target} is not {place.value.what}; choose another one.")
        return thing

    return made


def _names_target(value: Any) -> bool:
    """Returns whether a node stands anywhere inside a value."""
    if isinstance(value, Mapping):
        return "_target_" in value or any(map(_names_target, value.values()))
    return isinstance(value, list | tuple) and any(map(_names_target, value))


def known_names(group: str) -> list[str]:
    """Returns the names of a configuration group, sorted; none where there is no such group."""
    return sorted(path.stem for path in (CONFIG_DIR / group).glob("*.yaml")) if group.isidentifier() else []


def load_group(group: str, name: str, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Returns configs/<group>/<name>.yaml, composed alone, as plain containers.

    Args:
        group: folder of configs/, e.g. ``embedder``.
        name: file name without ``.yaml``.
        overrides: ``key=value`` changes inside the node.

    Raises:
        ConfigError: there is no such name, or an override does not fit.
    """
    if name not in known_names(group):
        raise ConfigError(unknown_choice(group, name, known_names(group)))
    with _one_sentence():
        prefixed = [f"+{group}={name}", *(f"{group}.{override}" for override in overrides)]
        node = _compose(None, prefixed)[group]
    assert isinstance(node, dict)
    return node


def load_settings(config_name: str, schema: type[Settings], overrides: Sequence[str] = ()) -> Settings:
    """Returns a script's settings composed from configs/<config_name>.yaml, every key and number checked.

    Raises:
        ConfigError: an override is unknown, of the wrong type or out of range, or a value is missing.
    """
    _register(config_name, schema)
    full = [readable(_full_key(override, config_name)) for override in overrides]
    try:
        for override in full:
            _check_override(override, config_name)
        with _one_sentence(config_name, full), _composed(config_name, full) as config:
            held: Any = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
        check_keys(held, schema, lambda: _known_keys(config_name))
        with _one_sentence(config_name, full):
            settings = OmegaConf.to_object(config)
        assert isinstance(settings, schema)
        check_numbers(settings)
        return settings
    except ConfigError as error:
        raise ConfigError(_as_typed(str(error), config_name)) from error


def asked_for(arguments: Sequence[str], config_name: str, schema: type[Settings]) -> list[Settings]:
    """Returns the settings of each run that a command line asks for: none where it asks for --help and the like.

    With --multirun those of every combination of the values given. Hydra itself answers --help and --cfg; it runs
    nothing, because its folders and logs are of no use here.

    Raises:
        ConfigError: an argument is none, or `load_settings` refuses what it says.
    """
    options = [argument.partition("=")[0] for argument in arguments if argument.startswith("-")]
    overrides = [argument for argument in arguments if not argument.startswith("-")]
    if not set(options) <= {*_MULTIRUN, *_SHOWING}:
        wrong = next(option for option in options if option not in {*_MULTIRUN, *_SHOWING})
        raise ConfigError(f"{plain(wrong)} is no option; every setting is KEY=VALUE, and --help lists them.")
    if set(options) & set(_SHOWING):
        _show(arguments, config_name, schema)
        return []
    if not options:
        return [load_settings(config_name, schema, overrides)]
    if ranks.world_size() > 1:
        raise ConfigError("--multirun cannot be used under torchrun; start one run per configuration.")
    full = [readable(_full_key(override, config_name)) for override in overrides]
    return [load_settings(config_name, schema, part) for part in combinations(full)]


def _show(arguments: Sequence[str], config_name: str, schema: type[Any]) -> None:
    """Lets Hydra print what --help, --cfg and the like ask for."""
    _register(config_name, schema)
    # Hydra's own handler would print several lines and exit with 1.
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")
    sys.argv[1:] = [readable(_full_key(argument, config_name)) for argument in arguments]
    with _one_sentence(config_name):
        hydra.main(version_base="1.3", config_path=str(CONFIG_DIR), config_name=config_name)(lambda config: None)()


def _check_override(override: str, config_name: str) -> None:
    """Raises ConfigError for an override that cannot be read, or that gives a group what is no name of an option."""
    group = group_of(override)
    names = known_names(group)
    if group.partition(".")[0] == "hydra" or (names and group not in _groups_of(config_name)):
        raise ConfigError(unknown_key(group, lambda: _known_keys(config_name)))
    if names:
        check_choice(override, names, known_names(group), several=group == _CHAINED)


@functools.cache
def _groups_of(config_name: str) -> frozenset[str]:
    """Returns the groups that a script's configuration chooses from."""
    entries = OmegaConf.load(CONFIG_DIR / f"{config_name}.yaml").defaults
    named = (str(next(iter(entry))) for entry in entries if not isinstance(entry, str))
    return frozenset(name.removeprefix("override ").partition("@")[0] for name in named)


def _as_typed(text: str, config_name: str) -> str:
    """Returns a sentence with the keys as the script calls them."""
    for typed, full in _ALIASES.get(config_name, {}).items():
        text = text.replace(full, typed)
    return text


def _full_key(argument: str, config_name: str) -> str:
    """Returns an override with the first part of its key written in full."""
    found = re.match(r"([+~]*)(\w*)(.*)", argument, re.DOTALL)
    assert found is not None
    return found[1] + _ALIASES.get(config_name, {}).get(found[2], found[2]) + found[3]


def _register(config_name: str, schema: type[Any]) -> None:
    ConfigStore.instance().store(name=f"{config_name}_schema", node=schema)


@contextmanager
def _composed(config_name: str | None, overrides: Sequence[str]) -> Iterator[Any]:
    """Composes outside or inside a running script; Hydra's global state is put back as it was."""
    instance = GlobalHydra.instance()
    before = instance.hydra
    instance.clear()
    try:
        with hydra.initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
            yield hydra.compose(config_name, overrides=[readable(override) for override in overrides])
    finally:
        instance.clear()
        instance.hydra = before


def _compose(config_name: str | None, overrides: Sequence[str]) -> dict[str, Any]:
    with _composed(config_name, overrides) as config:
        held = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    assert isinstance(held, dict)
    return {str(key): value for key, value in held.items()}


@contextmanager
def _one_sentence(config_name: str | None = None, overrides: Sequence[str] = ()) -> Iterator[None]:
    """Turns what Hydra and OmegaConf raise while they compose into ConfigErrors of one sentence."""
    try:
        yield
    except ConfigError:
        raise
    except MissingMandatoryValue as error:
        raise ConfigError(f"{error.full_key or 'a key'} has no value; give {error.full_key or 'it'}=VALUE.") from error
    except (OmegaConfBaseException, HydraException) as error:
        cause = error.__cause__ if isinstance(error, ConfigCompositionException) and error.__cause__ else error
        key = str(getattr(cause, "full_key", None) or "")
        raise ConfigError(sentence_of(str(cause), key, lambda: _known_keys(config_name), known_names)) from error
    # What Hydra does not expect fails inside it in many ways, and says nothing about the override.
    except _UNEXPECTED as error:
        culprit = next((one for one in overrides if not _composes(config_name, one)), " ".join(overrides))
        raise ConfigError(f"{plain(culprit)} does not fit this configuration; see --help for its keys.") from error


def _composes(config_name: str | None, override: str) -> bool:
    try:
        with _composed(config_name, [override]):
            return True
    except (OmegaConfBaseException, HydraException, *_UNEXPECTED):
        return False


@functools.cache
def _known_keys(config_name: str | None) -> tuple[str, ...]:
    """Returns the keys of a script's configuration as it is without overrides, for advice."""
    if config_name is None:
        return ()
    with _composed(config_name, []) as config:
        return tuple(keys_of(OmegaConf.to_container(config)))
