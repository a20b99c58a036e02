"""Settings of a site in a YAML file, read strictly: every key known, every value of its type."""

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails

from facesr.errors import ConfigError, DataError
from facesr.names import shown_path

_MAX_BYTES = 1 << 20


class Strict(BaseModel):
    """Settings that know all of their keys, take no value of another type, and never change."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


Settings = TypeVar("Settings", bound=Strict)


def read_settings(path: Path, schema: type[Settings], missing: str) -> Settings:
    """Returns the settings in a file.

    Args:
        path: of the YAML file.
        schema: what it has to hold.
        missing: the sentence for a file that cannot be read.

    Raises:
        DataError: it cannot be read.
        ConfigError: a key is unknown, missing or wrong; the sentence names it.
    """
    name = shown_path(path)
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_BYTES + 1)
    except OSError as error:
        raise DataError(missing) from error
    settings = parsed_yaml(data, name, "settings")
    if not isinstance(settings, dict):
        raise ConfigError(f"{name} has to hold keys, as in title: NAME.")
    try:
        return schema.model_validate(_with_utc(settings))
    except ValidationError as error:
        raise ConfigError(f"{name}: {_sentence(error.errors()[0])}") from error


def parsed_yaml(data: bytes, name: str, what: str) -> Any:
    """Returns what the bytes of a YAML file hold, plain values alone.

    Args:
        data: of the file, at most `_MAX_BYTES` and one more.
        name: of the file, for errors.
        what: it should hold, for errors.

    Raises:
        ConfigError: it is too large, or not YAML.
    """
    if len(data) > _MAX_BYTES:
        raise ConfigError(f"{name} is larger than 1 MiB; it cannot be a file of {what}.")
    try:
        return yaml.safe_load(data)
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError, ValueError) as error:
        raise ConfigError(f"{name} is not YAML: {' '.join(str(error).split())}.") from error


def yaml_text(text: str, key: str) -> str:
    """Returns a text as a YAML scalar on one line.

    Args:
        text: of the user.
        key: what the user calls it.

    Raises:
        ConfigError: it holds what cannot be printed.
    """
    if not text.isprintable():
        raise ConfigError(f"{key} has to be one line of printable characters.")
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _with_utc(settings: Any) -> Any:
    """Returns YAML's values with moments in UTC, and whole numbers where a float is asked for left to pydantic."""
    if isinstance(settings, dict):
        return {key: _with_utc(value) for key, value in settings.items()}
    if isinstance(settings, list):
        return [_with_utc(value) for value in settings]
    if isinstance(settings, datetime) and settings.tzinfo is not None:
        try:
            return settings.astimezone(UTC)
        except OverflowError:  # outside the years 1 to 9999: without a zone it is refused with its key
            return settings.replace(tzinfo=None)
    return settings


def _sentence(error: ErrorDetails) -> str:
    """Returns pydantic's first finding in words."""
    place = ".".join(str(part) for part in error["loc"])
    key = place or "the file"
    kind = error["type"]
    if kind == "extra_forbidden":
        return f"{key} is no key; take it out or mend its name."
    if kind == "missing":
        return f"{key} is missing; add it."
    if kind.startswith(("timezone", "datetime")):
        return f"{key} has to be a moment in UTC, such as 2026-12-01T18:00:00Z."
    if kind == "value_error":
        reason = str(error["msg"]).removeprefix("Value error, ")
        return f"{place}: {reason}." if place else f"{reason}."
    message = re.sub(r"^Input should be", "has to be", str(error["msg"]))
    message = re.sub(r"^(String|List|Value|Dictionary|Tuple) should", "should", message)
    return f"{key} {message[0].lower() + message[1:]}."
