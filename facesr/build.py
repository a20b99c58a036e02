"""The door of Hydra: composing configurations, building nodes, and running a script with one-line errors.

Beyond this file and the three scripts nothing knows of Hydra or OmegaConf: below are plain dataclasses,
plain dictionaries and built objects.
"""

import contextlib
import io
import os
import re
import signal
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import hydra
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import ConfigCompositionException, HydraException
from omegaconf import OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from facesr import ranks
from facesr.errors import EXIT_REQUEUE, ConfigError, FaceSRError, RankLostError
from facesr.signals import requests

if TYPE_CHECKING:
    from facesr.places import Place

CONFIG_DIR = Path(__file__).resolve().parent.parent / "configs"

Settings = TypeVar("Settings")

# evaluate.py and submit.py call the generator that method=pulse searches simply `generator`; configs/generator/ holds
# train.py's networks, which have no latent space.
_ALIASES = {"evaluate": {"generator": "latent_generator"}, "submit": {"generator": "latent_generator"}}


def build(node: Mapping[str, Any], place: "Place", **extra: Any) -> Any:
    """Returns the object that a ``_target_`` node describes; nested nodes are built first.

    All targets are resolved and checked before the first is called.

    Args:
        node: ``_target_`` and the arguments.
        place: what the node has to be; it decides which targets are accepted.
        **extra: arguments that no configuration holds.

    Raises:
        ConfigError: no ``_target_`` or one that the place does not accept, or an unknown or ill-typed argument.
        FaceSRError: whatever the class itself has to say to the user.
    """
    return _planned(node, place)(**extra)


def _planned(node: Mapping[str, Any], place: "Place") -> Callable[..., Any]:
    """Returns what builds a node; everything that it names is resolved."""
    if not isinstance(node, Mapping) or "_target_" not in node:
        has = ", ".join(map(str, node)) if isinstance(node, Mapping) and node else "nothing"
        raise ConfigError(f"a configuration node lacks _target_ (it has {has}); it has to name {place.value.what}.")
    target = node["_target_"]
    # Here, because it loads torch, and not every script that is run builds something.
    from facesr.places import resolved

    make = resolved(target, place)
    arguments: dict[str, Any] = {}
    inner: dict[str, Callable[..., Any]] = {}
    for key, value in node.items():
        # Hydra gives a meaning to some (_partial_, _args_ and others); none is used here, and no argument begins so.
        if key != "_target_" and str(key).startswith("_"):
            raise ConfigError(f"{target}: the argument {key} is not allowed; leave it out.")
        if isinstance(value, Mapping) and "_target_" in value and place.nested is not None:
            inner[key] = _planned(value, place.nested)
        elif _names_target(value):
            raise ConfigError(f"{target}: a _target_ is not allowed in its argument {key}; give a plain value.")
        elif key != "_target_":
            arguments[key] = value

    def made(**extra: Any) -> Any:
        built = {key: plan() for key, plan in inner.items()}
        try:
            thing = make(**arguments, **built, **extra)
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
    """Returns the names of a configuration group, sorted."""
    return sorted(path.stem for path in (CONFIG_DIR / group).glob("*.yaml"))


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
        raise ConfigError(f"{group}={name} is unknown; choose one of {', '.join(known_names(group))}.")
    with _one_sentence():
        prefixed = [f"+{group}={name}", *(f"{group}.{override}" for override in overrides)]
        node = _compose(None, prefixed)[group]
    assert isinstance(node, dict)
    return node


def load_settings(config_name: str, schema: type[Settings], overrides: Sequence[str] = ()) -> Settings:
    """Returns a script's settings composed from configs/<config_name>.yaml, for tests and other programs.

    Raises:
        ConfigError: an override is unknown or of the wrong type, or a value is missing.
    """
    _register(config_name, schema)
    full = [_full_key(override, config_name) for override in overrides]
    with _one_sentence(), _composed(config_name, full) as config:
        return _to_settings(config, schema)


def run_script(main: Callable[[Settings], int | None], config_name: str, schema: type[Settings]) -> NoReturn:
    """Runs a script's `main` on settings composed from the command line, and exits.

    Exit code: what `main` returns (None is 0); 2 after a user's error and 71 after the loss of another rank, told in
    one sentence by one rank.
    """
    _register(config_name, schema)
    # Hydra's own handler would print several lines and exit with 1.
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")
    # A job that is ended by its time limit removes its temporary files too; train.py has its own answer already.
    if requests.listening:
        requests.unwind()
    else:
        signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    exit_code = 0
    refusal: FaceSRError | None = None

    def job(config: Any) -> None:
        nonlocal exit_code, refusal
        try:
            with _one_sentence():
                settings = _to_settings(config, schema)
            exit_code = main(settings) or 0
        except FaceSRError as error:
            # Carried past Hydra, which would print a line of its own before the error.
            refusal = error

    sys.argv[1:] = [readable_override(_full_key(argument, config_name)) for argument in sys.argv[1:]]
    multirun = any(argument in ("-m", "--multirun") for argument in sys.argv[1:])
    try:
        with _one_sentence():
            if multirun and ranks.world_size() > 1:
                raise ConfigError("--multirun cannot be used under torchrun; start one run per configuration.")
            hydra.main(version_base="1.3", config_path=str(CONFIG_DIR), config_name=config_name)(job)()
            if refusal is not None:
                raise refusal
    except FaceSRError as error:
        if requests.came and isinstance(error, RankLostError):
            _leave(EXIT_REQUEUE)  # all ranks were asked to stop, and others were faster
        if _first_to_tell(error):
            print(f"error: {error}", file=sys.stderr, flush=True)
        # A rank that has left must not keep the others waiting for it: they notice, or torchrun ends them.
        _leave(error.exit_code)
    except SystemExit as asked:
        _leave(asked.code if isinstance(asked.code, int) else int(asked.code is not None))
    except KeyboardInterrupt:
        if ranks.rank() == 0:
            print("error: interrupted; the same command resumes from the last saved state.", file=sys.stderr)
        _leave(130)
    except Exception:
        traceback.print_exc()
        _leave(1)
    if ranks.world_size() > 1:
        from facesr import dist

        dist.shutdown()
    sys.exit(exit_code)


def _full_key(argument: str, config_name: str) -> str:
    """Returns a ``key=value`` argument of a script with the key's first part written in full."""
    key, equals, value = argument.partition("=")
    first, dot, rest = key.partition(".")
    full = _ALIASES.get(config_name, {}).get(first, first)
    return f"{full}{dot}{rest}{equals}{value}" if equals else argument


def readable_override(argument: str) -> str:
    """Returns a ``key=value`` argument with its value in quotes where Hydra's grammar cannot read it without.

    That grammar knows only some ASCII characters outside quotes, and paths hold any.
    """
    key, equals, value = argument.partition("=")
    if not equals or argument.startswith("-") or _is_readable(argument):
        return argument
    # Inside quotes only a quote, and backslashes before one, need a backslash.
    escaped = re.sub(r"(\\*)('|$)", lambda match: match[1] * 2 + ("\\'" if match[2] else ""), value)
    quoted = f"{key}='{escaped}'"
    return quoted if _is_readable(quoted) else argument


def _is_readable(argument: str) -> bool:
    # The lexer would print its complaint by itself.
    with contextlib.redirect_stderr(io.StringIO()):
        try:
            OverridesParser.create().parse_override(argument)
        except HydraException:
            return False
    return True


def _first_to_tell(error: FaceSRError) -> bool:
    if ranks.world_size() == 1:
        return True
    from facesr import dist

    return dist.first_to_tell(error)


def _leave(code: int) -> NoReturn:
    sys.stdout.flush()
    sys.stderr.flush()
    if ranks.world_size() > 1:
        os._exit(code)
    sys.exit(code)


def _register(config_name: str, schema: type[Any]) -> None:
    ConfigStore.instance().store(name=f"{config_name}_schema", node=schema)


def _to_settings(config: Any, schema: type[Settings]) -> Settings:
    settings = OmegaConf.to_object(config)
    assert isinstance(settings, schema)
    return settings


@contextmanager
def _composed(config_name: str | None, overrides: Sequence[str]) -> Iterator[Any]:
    """Composes outside or inside a running script; Hydra's global state is put back as it was."""
    instance = GlobalHydra.instance()
    before = instance.hydra
    instance.clear()
    try:
        with hydra.initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
            yield hydra.compose(config_name, overrides=[readable_override(override) for override in overrides])
    finally:
        instance.clear()
        instance.hydra = before


def _compose(config_name: str | None, overrides: Sequence[str]) -> dict[str, Any]:
    with _composed(config_name, overrides) as config:
        plain = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items()}


@contextmanager
def _one_sentence() -> Iterator[None]:
    """Turns Hydra's and OmegaConf's errors into ConfigErrors of one sentence."""
    try:
        yield
    except MissingMandatoryValue as error:
        raise ConfigError(f"{error.full_key or 'a key'} has no value; give {error.full_key or 'it'}=VALUE.") from error
    except OmegaConfBaseException as error:
        raise ConfigError(_sentence(error)) from error
    except ConfigCompositionException as error:
        raise ConfigError(_sentence(error.__cause__ or error)) from error
    except HydraException as error:
        raise ConfigError(_sentence(error)) from error


def _sentence(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if isinstance(error, OmegaConfBaseException) and error.full_key:
        reason = lines[0].split(" full_key")[0] if lines else "it does not fit"
        if f"'{error.full_key.split('.')[-1]}'" in reason and "not in" in reason:
            return f"{error.full_key} is no key of this configuration; see --help for the keys there are."
        return f"{error.full_key}: {reason.rstrip('.')}."
    unknown = re.search(r"Could not find '([\w/]+)/([^'/]+)'", str(error))
    if unknown and known_names(unknown[1]):
        return f"{unknown[1]}={unknown[2]} is unknown; choose one of {', '.join(known_names(unknown[1]))}."
    noise = ("Set the env variable", "To append to your config", "full_key:", "object_type=")
    text = " ".join(line for line in lines if not line.startswith(noise)) or type(error).__name__
    return f"{text.rstrip('.')}."
