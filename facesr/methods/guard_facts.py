"""What the guard did, as a manifest states it: read without trust, and by the ids of the pictures for reports."""

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

from facesr.guard import Fallback, GuardRecord, Replaced
from facesr.methods.values import is_amount, is_sha256_or_empty, is_text

_MAX_FALLBACKS = 8
_MAX_DB = 100.0


def is_guard(value: Any) -> bool:
    """Returns whether a value is what `GuardRecord.as_dict` may write, but for the names of the pictures."""
    if not _has_keys(value, "on", "bound_db", "fallbacks", "replaced") or not isinstance(value["on"], bool):
        return False
    fallbacks, replaced, bound = value["fallbacks"], value["replaced"], value["bound_db"]
    if not isinstance(fallbacks, list) or len(fallbacks) > _MAX_FALLBACKS or not isinstance(replaced, dict):
        return False
    if not all(map(_is_fallback, fallbacks)):
        return False
    if bound is None or not value["on"]:
        return bound is None and not fallbacks and not replaced
    names = [fallback["name"] for fallback in fallbacks]
    return _is_db(bound) and bool(fallbacks) and all(_is_replaced(found, bound, names) for found in replaced.values())


def guard_of(value: Mapping[str, Any] | None) -> GuardRecord | None:
    """Returns the record that a value stands for which `is_guard` allows, None for None."""
    if value is None:
        return None
    bound = value["bound_db"]
    return GuardRecord(
        on=value["on"],
        bound_db=None if bound is None else float(bound),
        fallbacks=tuple(Fallback(one["name"], one["weights_sha256"]) for one in value["fallbacks"]),
        replaced={
            name: Replaced(float(found["consistency_db"]), found["restored_by"])
            for name, found in value["replaced"].items()
        },
    )


def guard_by_id(record: GuardRecord | None) -> GuardRecord | None:
    """Returns a record whose pictures are called <id>.png with their ids alone."""
    if record is None:
        return None
    return replace(record, replaced={name.removesuffix(".png"): found for name, found in record.replaced.items()})


def _has_keys(value: Any, *keys: str) -> bool:
    return isinstance(value, dict) and set(value) == set(keys)


def _is_db(value: Any) -> bool:
    return is_amount(value) and value <= _MAX_DB


def _is_fallback(value: Any) -> bool:
    return (
        _has_keys(value, "name", "weights_sha256")
        and is_text(value["name"])
        and is_sha256_or_empty(value["weights_sha256"])
    )


def _is_replaced(value: Any, bound: float, names: Collection[str]) -> bool:
    if not _has_keys(value, "consistency_db", "restored_by") or not isinstance(value["restored_by"], str):
        return False
    # Rounded to four decimals, a value just below the bound may be the bound.
    return _is_db(value["consistency_db"]) and value["consistency_db"] <= bound and value["restored_by"] in names
