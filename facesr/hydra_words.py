"""What Hydra and OmegaConf say, in plain words: one sentence that names the key or the choice and what to change."""

import re
from collections.abc import Callable, Iterable

from facesr.ranges import plain
from facesr.settings import unknown_key

KINDS = {"Integer": "whole number", "Float": "number", "Boolean": "yes or no (true, false)"}


def sentence_of(text: str, key: str, known: Callable[[], Iterable[str]], names_of: Callable[[str], list[str]]) -> str:
    """Returns the sentence for an error of Hydra or OmegaConf.

    Args:
        text: what the exception says.
        key: the full key that it is about, empty where it does not say.
        known: gives the keys of the configuration, for advice.
        names_of: the options of a group by the group's name, none where there is no such group.
    """
    found = re.search(r"Could not find '(.+?)/([^'/]*)'", text)
    if found:
        group, name = found[1].split("/")[0], f"{found[1]}/{found[2]}".partition("/")[2]
        return unknown_choice(group, name, names_of(group))
    found = re.search(r"Could not override '([^']*)'(?:\.\s*Did you mean to override (?:one of )?([^?]*)\?)?", text)
    if found:
        return _no_such_choice(found[1], found[2] or "", known, names_of)
    found = re.search(r"Multiple values for (\S+)\. To override", text)
    if found:
        return f"{found[1]} is chosen already; leave out the + before it."
    found = re.search(r"Could not delete from config\. '([^']*)' does not exist", text)
    if found:
        return unknown_key(found[1], known)
    found = re.search(r"Could not delete\. No match for '([^']*)'|config group '([^']*)' does not exist", text)
    if found:
        return unknown_key(found[1] or found[2], known)
    found = re.search(r"Ambiguous value for argument '(.*?)'", text, re.DOTALL)
    if found:
        return f"{plain(found[1])} holds a comma; put the value in quotes, or in [] where it is a list."
    return _about_value(text, key, known)


def unknown_choice(group: str, name: str, names: Iterable[str]) -> str:
    """Returns the sentence for an option that a group does not have."""
    return f"{group}={plain(name)} is unknown; choose one of {', '.join(names)}."


def _no_such_choice(
    key: str, meant: str, known: Callable[[], Iterable[str]], names_of: Callable[[str], list[str]]
) -> str:
    if "@" in key and names_of(key.partition("@")[0]):
        return f"{plain(key)} is not part of this configuration; +{key}=NAME adds it."
    if meant:
        return f"{plain(key)} does not say which one; give {' or '.join(meant.split(', '))}."
    return unknown_key(key, known)


def _about_value(text: str, key: str, known: Callable[[], Iterable[str]]) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    reason = (lines[0] if lines else "it does not fit").split(" full_key")[0]
    if not key:
        return f"{plain(reason)}; see --help for the keys there are." if reason else "the settings do not fit."
    if f"'{key.split('.')[-1]}'" in reason and "not in" in reason:
        return unknown_key(key, known)
    if "is not Optional" in reason:
        return f"{key}=null leaves it without a value, and it needs one."
    found = re.search(r"Value '(.*)' of type '\w+' could not be converted to (\w+)", reason)
    if found:
        return f"{key}={plain(found[1])} is no {KINDS.get(found[2], found[2])}."
    found = re.search(r"Value '(.*)' is not a valid bool", reason)
    if found:
        return f"{key}={plain(found[1])} has to be true or false."
    if "does not support deletion" in reason:
        return f"{key} cannot be left out; it needs a value."
    if "is not a ListConfig" in reason:
        return f"{key} is a list; give {key}=[A,B]."
    if "to string" in reason or "is not a subclass of str" in reason:
        return f"{key} is a text, not a list or a group of keys."
    if "Cannot assign" in reason or "is not a subclass of" in reason:
        return f"{key} holds keys of its own, so it cannot be one value; see --help for the keys there are."
    if "Interpolation key" in reason:
        found = re.search(r"Interpolation key '([^']*)'", reason)
        return f"{key} refers to {found[1] if found else 'a key'}, which does not exist."
    return f"the value of {key} cannot be read; put it in quotes."
