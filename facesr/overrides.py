"""``key=value`` as it is typed: what Hydra's grammar can read, and what no configuration has a use for.

The other door of Hydra beside facesr/build.py: its parser is asked before it composes, because what it says of a wrong
value is no sentence for users.
"""

import contextlib
import io
import itertools
import re
from collections.abc import Sequence

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

from facesr.errors import ConfigError
from facesr.hydra_words import unknown_choice
from facesr.ranges import plain


def readable(override: str) -> str:
    """Returns a ``key=value`` override with its value in quotes where Hydra's grammar cannot read it without.

    That grammar knows only some ASCII characters outside quotes, and paths hold any.
    """
    key, equals, value = override.partition("=")
    if not equals or override.startswith("-") or is_readable(override):
        return override
    # Inside quotes only a quote, and backslashes before one, need a backslash.
    escaped = re.sub(r"(\\*)('|$)", lambda match: match[1] * 2 + ("\\'" if match[2] else ""), value)
    quoted = f"{key}='{escaped}'"
    return quoted if is_readable(quoted) else override


def is_readable(override: str) -> bool:
    """Returns whether Hydra's grammar can read an override."""
    # The lexer would print its complaint by itself.
    with contextlib.redirect_stderr(io.StringIO()):
        try:
            OverridesParser.create().parse_override(override)
        except (HydraException, ValueError):  # Python reads no integer of more than 4,300 digits
            return False
    return True


def combinations(overrides: Sequence[str]) -> list[tuple[str, ...]]:
    """Returns every combination of the values that overrides list with commas; they are readable or refused later."""
    choices: list[list[str]] = []
    for override in overrides:
        parsed = OverridesParser.create().parse_override(override) if is_readable(override) else None
        if parsed is not None and parsed.is_sweep_override():
            choices.append([f"{parsed.get_key_element()}={value}" for value in parsed.sweep_string_iterator()])
        else:
            choices.append([override])
    return list(itertools.product(*choices))


def group_of(override: str) -> str:
    """Returns the key, or the group without its package, that an override changes.

    Raises:
        ConfigError: it cannot be read, or has no key.
    """
    if not is_readable(override):
        if "=" not in override and not override.startswith("~"):
            shown = plain(override).strip() or "an empty word"
            raise ConfigError(f"{shown} is no KEY=VALUE; see --help for the keys there are.")
        raise ConfigError(f"{plain(override)} cannot be read; give KEY=VALUE, the value in quotes where it is unusual.")
    group = OverridesParser.create().parse_override(override).key_or_group
    if not group:
        raise ConfigError(f"{plain(override)} has no key; give KEY=VALUE.")
    return group


def check_choice(override: str, names: Sequence[str], offered: Sequence[str], several: bool) -> None:
    """Raises ConfigError where an override chooses what a group does not offer.

    Args:
        override: a readable one, of a group.
        names: the options of the group.
        offered: those that are told of.
        several: whether a list of options may be chosen.
    """
    parsed = OverridesParser.create().parse_override(override)
    if parsed.is_delete() or parsed.is_sweep_override():
        return
    value = parsed.value()
    for name in value if several and isinstance(value, list) and value else [value]:
        if name not in names:
            key = override.partition("=")[0].lstrip("+")
            raise ConfigError(unknown_choice(key, "null" if name is None else plain(name), offered))


def quoted(text: str) -> str:
    """Returns a text as a value in single quotes of Hydra's grammar, which is read as it is.

    Backslashes count only before a quote, the end, and ``${``, which would else refer to another key.
    """
    plain = re.sub(r"(\\*)\$\{", lambda found: 2 * found[1] + r"\${", text)
    inner = re.sub(r"(\\*)('|$)", lambda found: 2 * found[1] + (r"\'" if found[2] else ""), plain)
    return f"'{inner}'"
