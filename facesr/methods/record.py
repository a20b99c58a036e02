"""The record of a restored folder, restoration.json: how its pictures were made, and what was measured meanwhile.

A submission's manifest is the same record with more keys (`facesr.submission.manifest`). Reading trusts nothing: a
record may come out of a stranger's archive. Writing is canonical: equal records give equal bytes.

Format 1 has the keys that every restoration has. Format 2 has besides the keys of _OPTIONAL that apply to it, and is
written only where one does, so that a plain restoration's bytes, and who can read them, never change.
"""

import json
import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from facesr.errors import SubmissionError
from facesr.guard import GuardRecord
from facesr.methods.guard_facts import guard_of, is_guard
from facesr.methods.values import is_amount, is_sha256, is_sha256_or_empty, is_text
from facesr.names import is_unsafe, shown
from facesr.snapshots.interpolation_parts import InterpolationParts

# Without and with optional keys.
RESTORATION_FORMATS = ("facesr-restoration-1", "facesr-restoration-2")
# What the remark of a picture begins with whose face a method has invented.
SYNTHETIC = "synthetic face"
_MAX_ITEMS = 64
# Digits of a whole number; a longer one is no amount of anything here, and slow to read.
_MAX_DIGITS = 1000
_MAX_PARAMETERS = 10**12
_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


@dataclass(frozen=True)
class Restoration:
    """How a folder of pictures was restored.

    Attributes:
        model: name of the method, e.g. the run's name or ``bicubic``.
        weights_sha256: sha256 of the generator's file, "" for a method without weights.
        config_sha256: digest of the training configuration, "" for a method without one.
        kimg: thousands of training images seen.
        loss_judges: embedders that took part in the training loss.
        flip_ensemble: the format's name of the self-ensemble: whether the mean of the restored picture and of its
            restored mirror image was taken.
        low_sha256: digest of the low-resolution pictures (`pictures_sha256`).
        device: what it ran on.
        seconds: wall-clock time of restoring, without reading and writing files.
        energy_joules: energy of the device meanwhile, None where it cannot be measured.
        commit: the project's git commit, None outside git.
        dirty: whether tracked files differed from that commit, None outside git.
        code_sha256: digest of the package's source files.
        packages: name -> version of what decides the pixels.
        files: name of each picture -> sha256 of its PNG file.
        blend: what an interpolation of two snapshots is made of; None for one snapshot or none. The digests above are
        the
            blend's own.
        guard: what the guard did, by names of pictures; None for a method without a snapshot.
        num_parameters: of the network, None where it has none or hides them (ONNX).
    """

    model: str
    weights_sha256: str
    config_sha256: str
    kimg: float
    loss_judges: tuple[str, ...]
    flip_ensemble: bool
    low_sha256: str
    device: str
    seconds: float
    energy_joules: float | None
    commit: str | None
    dirty: bool | None
    code_sha256: str
    packages: Mapping[str, str]
    files: Mapping[str, str]
    blend: InterpolationParts | None = None
    guard: GuardRecord | None = None
    num_parameters: int | None = None


def restoration_bytes(restoration: Restoration) -> bytes:
    """Returns restoration.json; equal records give equal bytes."""
    return record_bytes(RESTORATION_FORMATS, {}, restoration, {})


def record_bytes(
    formats: tuple[str, str], head: dict[str, Any], restoration: Restoration, tail: Mapping[str, Any]
) -> bytes:
    """Returns a record as canonical JSON: format and `head`, the restoration's keys, then `tail`."""
    facts = asdict(restoration) | {"guard": None if restoration.guard is None else restoration.guard.as_dict()}
    optional = {key: value for key in _OPTIONAL if (value := facts.pop(key)) is not None}
    record = {"format": formats[bool(optional)], **head, **facts, **optional, **tail}
    record = {
        key: dict(sorted(value.items())) if isinstance(value, Mapping) else value for key, value in record.items()
    }
    return (json.dumps(record, indent=1, ensure_ascii=True, allow_nan=False) + "\n").encode("ascii")


def parse_restoration(data: bytes, label: str) -> Restoration:
    """Returns the record in the bytes of a restoration.json.

    Raises:
        SubmissionError: it is not exactly such a record; the sentence begins with `label`.
    """
    return restoration_of(parsed(data, label, RESTORATION_FORMATS, RESTORATION_CHECKS), label)


def restoration_of(record: dict[str, Any], label: str) -> Restoration:
    """Returns the restoration of a record that `parsed` has checked.

    Raises:
        SubmissionError: its guard names other pictures, or its digests are not those of its parts.
    """
    values = {key: record[key] for key in RESTORATION_CHECKS}
    values["loss_judges"] = tuple(values["loss_judges"])
    for key in ("kimg", "seconds", "energy_joules"):
        values[key] = None if values[key] is None else float(values[key])
    guard = guard_of(record.get("guard"))
    unknown = sorted(set(guard.replaced) - set(values["files"])) if guard is not None else []
    if unknown:
        raise SubmissionError(f"{label} says that its guard replaced {shown(unknown)}, which is none of its files.")
    return Restoration(**values, blend=_blend(record, label), guard=guard, num_parameters=record.get("num_parameters"))


def _blend(record: Mapping[str, Any], label: str) -> InterpolationParts | None:
    """Returns the parts of an interpolation after computing its digests from them; None where there is none."""
    stated = record.get("blend")
    if stated is None:
        return None
    weights, configs = tuple(stated["weights_sha256"]), tuple(stated["config_sha256"])
    parts = InterpolationParts(weights, configs, float(stated["weight"]))
    digests = {"weights_sha256": parts.interpolated_weights_sha256, "config_sha256": parts.interpolated_config_sha256}
    wrong = [key for key, sha256 in digests.items() if record[key] != sha256]
    if wrong:
        raise SubmissionError(
            f"{label} has a {wrong[0]} that does not follow from the parts and the weight of its interpolation; "
            "pack with submit.py."
        )
    return parts


def parsed(
    data: bytes, label: str, formats: tuple[str, str], required: Mapping[str, Callable[[Any], bool]]
) -> dict[str, Any]:
    """Returns the JSON object in `data`, whose format, keys and values are as they have to be.

    Args:
        data: the bytes of a file.
        label: how the file is called in errors.
        formats: accepted values of ``format``, without and with optional keys.
        required: key -> whether a value is right for it; the optional ones may be there besides.

    Raises:
        SubmissionError: it is no such record.
    """
    try:
        record = json.loads(
            data.decode("utf-8-sig"),
            object_pairs_hook=_unique,
            parse_constant=_refuse_constant,
            parse_int=_whole_number,
        )
    except UnicodeDecodeError as error:
        raise SubmissionError(f"{label} is not UTF-8 text; pack with submit.py.") from error
    except (ValueError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else str(error).splitlines()[0]
        raise SubmissionError(f"{label} is not valid JSON ({reason}); pack with submit.py.") from error
    if not isinstance(record, dict):
        raise SubmissionError(f"{label} is no JSON object; pack with submit.py.")
    found = record.get("format")
    if found not in formats:
        given = shown([found]) if isinstance(found, str) else "none"
        wanted = " or ".join(map(repr, formats))
        raise SubmissionError(f"{label} has the format {given} where {wanted} is read; pack with this version.")
    checks = {
        **required,
        **({key: _OPTIONAL[key] for key in _OPTIONAL if key in record} if found == formats[1] else {}),
    }
    unknown, missing = sorted(set(record) - set(checks) - {"format"}), sorted(set(checks) - set(record))
    if unknown or missing:
        what = f"has the unknown key {shown(unknown)}" if unknown else f"lacks the key {shown(missing)}"
        raise SubmissionError(f"{label} {what}; pack with submit.py.")
    wrong = [key for key, is_right in checks.items() if not is_right(record[key])]
    if wrong:
        raise SubmissionError(f"{label} has a value of the wrong kind for {shown(wrong)}; pack with submit.py.")
    return record


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    record = dict(pairs)
    if len(record) != len(pairs):
        repeated = [key for key, count in Counter(key for key, _ in pairs).items() if count > 1]
        raise ValueError(f"the key {shown(repeated[:1])} comes twice")
    return record


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is no number")


def _whole_number(text: str) -> int:
    if len(text) > _MAX_DIGITS:
        raise ValueError(f"it holds a number of {len(text.lstrip('-'))} digits")
    return int(text)


def _is_texts(value: Any) -> bool:
    return isinstance(value, list) and len(value) <= _MAX_ITEMS and all(is_text(item) for item in value)


def _is_packages(value: Any) -> bool:
    return isinstance(value, dict) and len(value) <= _MAX_ITEMS and all(map(is_text, [*value, *value.values()]))


def is_picture_name(value: str) -> bool:
    """Returns whether a name is that of a picture: <id>.png, without folders or odd characters."""
    return value.endswith(".png") and value != ".png" and "/" not in value and not is_unsafe(value)


def is_digests(value: Any, is_name: Callable[[str], bool]) -> bool:
    """Returns whether a value holds at least one name of a file, each with a sha256."""
    return isinstance(value, dict) and bool(value) and all(is_name(k) and is_sha256(v) for k, v in value.items())


def _is_files(value: Any) -> bool:
    return is_digests(value, is_picture_name)


def _is_blend(value: Any) -> bool:
    if not isinstance(value, dict) or set(value) != {"weights_sha256", "config_sha256", "weight"}:
        return False
    return (
        _is_pair(value["weights_sha256"], is_sha256)
        and _is_pair(value["config_sha256"], is_sha256_or_empty)
        and is_amount(value["weight"])
        and value["weight"] <= 1
    )


def is_num_parameters(value: Any) -> bool:
    """Returns whether a value is a number of parameters: a whole one of 1 or more."""
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= _MAX_PARAMETERS


def _is_pair(value: Any, is_right: Callable[[Any], bool]) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(map(is_right, value))


RESTORATION_CHECKS: dict[str, Callable[[Any], bool]] = {
    "model": is_text,
    "weights_sha256": is_sha256_or_empty,
    "config_sha256": is_sha256_or_empty,
    "kimg": is_amount,
    "loss_judges": _is_texts,
    "flip_ensemble": lambda value: isinstance(value, bool),
    "low_sha256": is_sha256,
    "device": is_text,
    "seconds": is_amount,
    "energy_joules": lambda value: value is None or is_amount(value),
    "commit": lambda value: value is None or (isinstance(value, str) and _COMMIT.fullmatch(value) is not None),
    "dirty": lambda value: value is None or isinstance(value, bool),
    "code_sha256": is_sha256,
    "packages": _is_packages,
    "files": _is_files,
}
# Keys of format 2, each there only where it applies.
_OPTIONAL: dict[str, Callable[[Any], bool]] = {
    "blend": _is_blend,
    "guard": is_guard,
    "num_parameters": is_num_parameters,
}
