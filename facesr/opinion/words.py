"""The words of the pages: a YAML file for each language, those of the package and those in a study's folder."""

import string
from collections.abc import Mapping
from importlib import resources
from pathlib import Path

from facesr.errors import ConfigError
from facesr.names import shown, shown_path
from facesr.web.strict import parsed_yaml

DEFAULT = "en"
_MAX_ASKED = 20


class Words:
    """The words of one language.

    Attributes:
        code: as HTML has it, for example ``zh``.
    """

    def __init__(self, code: str, texts: Mapping[str, str]) -> None:
        """Keeps texts that were checked."""
        self.code = code
        self._texts = texts

    def __call__(self, key: str, **values: object) -> str:
        """Returns a text with values in it."""
        return self._texts[key].format(**values)

    def paragraphs(self, key: str, **values: object) -> list[str]:
        """Returns the paragraphs of a text."""
        return paragraphs_of(self(key, **values))


def paragraphs_of(text: str) -> list[str]:
    """Returns what stands between empty lines."""
    return [part.strip() for part in text.split("\n\n") if part.strip()]


def read_languages(folder: Path) -> dict[str, Words]:
    """Returns the words of all languages by code: those of the package, and those of a folder instead of them.

    Raises:
        ConfigError: a file lacks a text, or has one too many; the sentence names it.
    """
    inside = resources.files("facesr.opinion").joinpath("languages")
    shipped = {item.name.removesuffix(".yaml"): item for item in inside.iterdir() if item.name.endswith(".yaml")}
    texts = {code: _read(item.read_bytes(), item.name) for code, item in sorted(shipped.items())}
    own = sorted(folder.glob("*.yaml")) if folder.is_dir() else []
    for path in own:
        if not path.stem.replace("-", "").isalnum() or not path.stem.isascii() or len(path.stem) > 35:
            raise ConfigError(f"{shown_path(path)} is not named like a language; call it de.yaml or pt-BR.yaml.")
        try:
            data = path.read_bytes()
        except OSError as error:
            raise ConfigError(f"{shown_path(path)} cannot be read: {error.strerror}.") from error
        texts[path.stem] = _checked(_read(data, shown_path(path)), texts[DEFAULT], shown_path(path))
    return {code: Words(code, found) for code, found in texts.items()}


def _read(data: bytes, name: str) -> dict[str, str]:
    found = parsed_yaml(data, name, "words")
    if not isinstance(found, dict) or not all(isinstance(part, str) for pair in found.items() for part in pair):
        raise ConfigError(f"{name} has to hold KEY: TEXT alone; put texts in quotes.")
    return found


def _checked(found: dict[str, str], model: Mapping[str, str], name: str) -> dict[str, str]:
    """Returns texts that have the keys of `model`, and in braces nothing that it has not.

    Raises:
        ConfigError: they do not.
    """
    for what, keys in (("lacks", model.keys() - found.keys()), ("has the unknown text", found.keys() - model.keys())):
        if keys:
            raise ConfigError(f"{name} {what} {shown(sorted(keys))}; its keys are those of the English file.")
    for key, text in found.items():
        try:
            parts = [part for part in string.Formatter().parse(text) if part[1] is not None]
        except ValueError:
            parts = [("", "{", "", None)]
        # A conversion (!r) or a format (:>9) may fail only when a page is made, with the values that it has then.
        is_plain = all(not spec and conversion is None for _, _, spec, conversion in parts)
        if not is_plain or not {field for _, field, _, _ in parts} <= _fields(model[key]):
            allowed = ", ".join("{" + field + "}" for field in sorted(_fields(model[key]))) or "nothing"
            raise ConfigError(f"{name}: {key} may have {allowed} in braces; mend it.")
    if found["direction"] not in ("ltr", "rtl"):
        raise ConfigError(f"{name}: direction has to be ltr or rtl.")
    return found


def _fields(text: str) -> set[str]:
    return {field for _, field, _, _ in string.Formatter().parse(text) if field is not None}


def chosen(known: Mapping[str, Words], asked: str, accepted: str) -> Words:
    """Returns the words for a reader.

    Args:
        known: by code.
        asked: code of a language that the reader chose, "" for none.
        accepted: the header Accept-Language.
    """
    if asked in known:
        return known[asked]
    ranked: list[tuple[float, int, str]] = []
    for place, part in enumerate(accepted.split(",")[:_MAX_ASKED]):
        code, _, quality = part.strip().partition(";")
        try:
            weight = float(quality.strip().removeprefix("q=")) if quality else 1.0
        except ValueError:
            weight = 0.0
        ranked.append((-weight, place, code.strip().lower()))
    by_code = {code.lower(): code for code in known}
    for weight, _, code in sorted(ranked):
        for tried in (code, code.partition("-")[0]):
            if weight < 0 and tried in by_code:
                return known[by_code[tried]]
    return known[DEFAULT]
