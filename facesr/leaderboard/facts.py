"""What the board keeps of a manifest: the team's word on how its pictures were made, as plain, bounded JSON."""

import math
from collections.abc import Callable, Mapping
from typing import Any

from facesr.methods.record import is_num_parameters
from facesr.methods.values import is_amount, is_sha256_or_empty, is_text
from facesr.submission.manifest import Manifest, is_team

_MAX_ITEMS = 64
_MAX_COUNT = 1_000_000


def facts_of(manifest: Manifest, *, is_synthetic: bool) -> dict[str, Any]:
    """Returns the facts of a checked manifest, for which `are_facts` holds.

    Args:
        manifest: of a verified submission.
        is_synthetic: whether a picture's file says that its face is invented.

    Returns:
        ``team``, ``model``, ``device``; ``loss_judges``; ``weights_sha256`` and ``config_sha256``, "" for a method
        without; ``kimg``, ``seconds``; ``energy_joules``, None where it is not stated; ``self_ensemble`` and
        ``synthetic``; ``commit``, None outside git; ``num_parameters``, None where it is not stated;
        ``interpolation_weight``, None for none; and of the guard ``guard_on``, None where nothing is said of it,
        ``guard_bound_db`` and ``guard_replaced``, a number of pictures.
    """
    made = manifest.restoration
    return {
        "team": manifest.team,
        "model": made.model,
        "loss_judges": list(made.loss_judges),
        "weights_sha256": made.weights_sha256,
        "config_sha256": made.config_sha256,
        "kimg": made.kimg,
        "device": made.device,
        "seconds": made.seconds,
        "energy_joules": made.energy_joules,
        "self_ensemble": made.flip_ensemble,
        "synthetic": is_synthetic,
        "commit": made.commit,
        "num_parameters": made.num_parameters,
        "interpolation_weight": None if made.blend is None else made.blend.weight,
        "guard_on": None if made.guard is None else made.guard.on,
        "guard_bound_db": None if made.guard is None else made.guard.bound_db,
        "guard_replaced": 0 if made.guard is None else len(made.guard.replaced),
    }


def are_facts(value: Any) -> bool:
    """Returns whether a value from another process is what `facts_of` may return."""
    return isinstance(value, dict) and set(value) == set(_CHECKS) and all(_CHECKS[key](value[key]) for key in _CHECKS)


def with_power(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Returns facts with ``mean_watts`` of the restoration, None where no energy is stated."""
    joules, seconds = facts["energy_joules"], facts["seconds"]
    watts = joules / seconds if joules is not None and seconds > 0 else math.inf
    return {**facts, "mean_watts": round(watts, 1) if math.isfinite(watts) else None}


def _or_none(is_right: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: value is None or is_right(value)


def _is_flag(value: Any) -> bool:
    return isinstance(value, bool)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _MAX_COUNT


def _is_texts(value: Any) -> bool:
    return isinstance(value, list) and len(value) <= _MAX_ITEMS and all(map(is_text, value))


_CHECKS: dict[str, Callable[[Any], bool]] = {
    "team": is_team,
    "model": is_text,
    "loss_judges": _is_texts,
    "weights_sha256": is_sha256_or_empty,
    "config_sha256": is_sha256_or_empty,
    "kimg": is_amount,
    "device": is_text,
    "seconds": is_amount,
    "energy_joules": _or_none(is_amount),
    "self_ensemble": _is_flag,
    "synthetic": _is_flag,
    "commit": _or_none(is_text),
    "num_parameters": _or_none(is_num_parameters),
    "interpolation_weight": _or_none(is_amount),
    "guard_on": _or_none(_is_flag),
    "guard_bound_db": _or_none(is_amount),
    "guard_replaced": _is_count,
}
