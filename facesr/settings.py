"""What composed settings have to be: keys that exist, parts that are whole, numbers in their ranges.

Looked at once, in facesr/build.py, before any work begins.
"""

import difflib
import types
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any, Union, get_args, get_origin, get_type_hints

from facesr.errors import ConfigError
from facesr.ranges import check_number, plain

NODE, NODE_OR_EMPTY, NODES = "node", "node or empty", "nodes by name"  # as facesr/config.py marks them
TARGET = "_target_"


def keys_of(config: Any, prefix: str = "") -> Iterator[str]:
    """Yields every key of nested mappings in full, ``data.train.path``, those of mappings themselves too."""
    if isinstance(config, Mapping):
        for name, value in config.items():
            key = f"{prefix}{name}"
            yield key
            yield from keys_of(value, f"{key}.")


def unknown_key(key: str, known: Callable[[], Iterable[str]]) -> str:
    """Returns the sentence for a key that does not exist, with the nearest one that does."""
    choices = [name for name in known() if not name.endswith(TARGET) and not key.startswith(f"{name}.")]
    near = difflib.get_close_matches(key, choices, 1, cutoff=0.8)
    advice = f"did you mean {near[0]}?" if near else "see --help for the keys there are."
    return f"{plain(key)} is no key of this configuration{';' if not near else ':'} {advice}"


def check_keys(
    config: Mapping[str, Any], schema: type[Any], known: Callable[[], Iterable[str]], prefix: str = ""
) -> None:
    """Raises ConfigError for a key that does not exist or has no value, and for a part that is not whole.

    Args:
        config: the settings as plain containers.
        schema: the dataclass that they are to be.
        known: gives the keys that a wrong one may have been meant for.
        prefix: what is before the keys, with its dot.
    """
    hints = get_type_hints(schema, include_extras=True)
    names = [field.name for field in fields(schema)]
    for name in config:
        if name not in names:
            raise ConfigError(unknown_key(f"{prefix}{name}", known))
    for name in names:
        key, hint = f"{prefix}{name}", hints[name]
        if name not in config:
            raise ConfigError(f"{key} has no value; give {key}=VALUE.")
        value = config[name]
        marks = getattr(hint, "__metadata__", ())
        if NODE in marks or NODE_OR_EMPTY in marks:
            check_part(key, value, NODE_OR_EMPTY in marks)
        elif NODES in marks:
            for inner, node in value.items():
                _check_named(f"{key}.{inner}", node, known)
        elif isinstance(value, Mapping) and (inside := dataclass_in(hint)) is not None:
            check_keys(value, inside, known, f"{key}.")


def dataclass_in(hint: Any) -> type[Any] | None:
    """Returns the dataclass that a type is, or is with None; None where there is none."""
    choices = get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)
    return next((choice for choice in choices if isinstance(choice, type) and is_dataclass(choice)), None)


def check_part(key: str, node: Any, may_be_empty: bool) -> None:
    """Raises ConfigError where a part does not say what is built."""
    if not isinstance(node, Mapping) or not (TARGET in node or (may_be_empty and not node)):
        has = f"{', '.join(map(str, node))} but " if isinstance(node, Mapping) and node else ""
        raise ConfigError(f"{key} has {has}no {TARGET}, so nothing can be built from it; choose a whole one by name.")


def _check_named(key: str, node: Any, known: Callable[[], Iterable[str]]) -> None:
    if isinstance(node, Mapping) and TARGET in node:
        return
    others = [name for name in known() if name.count(".") == key.count(".") and name != key]
    near = difflib.get_close_matches(key, others, 1, cutoff=0.8)
    advice = f"did you mean {near[0]}?" if near else f"+loss@{key}=NAME adds a whole one, ~{key} leaves one out."
    raise ConfigError(f"{key} is no term, because it has no {TARGET}; {advice}")


def check_numbers(settings: Any, prefix: str = "") -> None:
    """Raises ConfigError for the first number of a settings dataclass, or of one inside it, out of its range."""
    hints = get_type_hints(type(settings), include_extras=True)
    for field in fields(settings):
        value = getattr(settings, field.name)
        if is_dataclass(value):
            check_numbers(value, f"{prefix}{field.name}.")
        else:
            check_number(f"{prefix}{field.name}", value, hints[field.name])
