"""The folder of a run: runs/<name>/ with config.yaml, log.txt, stats.jsonl, snapshots, state and TensorBoard's events.

The name is the run's identity. The same command goes on with it; another configuration under that name is
refused, so that a folder never mixes two experiments.
"""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from facesr import dist
from facesr.config import TrainSettings
from facesr.errors import CheckpointError, ConfigError
from facesr.files import write_bytes
from facesr.snapshots.shipped import start_files
from facesr.snapshots.snapshot import digest_of, sweep
from facesr.weights import sha256_of

# Keys that may differ when a run is resumed: they change where and how it runs, not what it computes.
FREE_KEYS = frozenset({"runs_dir", "device", "log_every_kimg", "gradient_sync"})
# Keys that may change under one name although they are part of what a run is; `duration_kimg` may only grow.
EXTENDING_KEYS = frozenset({"duration_kimg", "state_every_kimg", "num_snapshots_kept"})
MAX_NAMED_DIFFERENCES = 5
# Which snapshot a run started from.
START = "started_from.yaml"
# Dotted keys that came later, with what every run before them had: at that value a run of then is the same run still.
LATER_KEYS: dict[str, Any] = {
    "degradation": {"_target_": "facesr.degradation.Official"},
    "gradient_precision": "fp32",
    "data.pose_shares": [],
    "generator.rms_limit": None,
    "generator.hidden_rms_limit": None,
    "data.train.shares": None,
    "data.augmentation.hard": 0.0,
    "data.augmentation.hard_light": 0.0,
    "data.augmentation.hard_saturation": 1.0,
    "data.augmentation.hard_noise": 0.0,
}
# Those of them that states which were saved before the others were listed have in their digests.
_LISTED_LATER = ("data.train.shares", *(key for key in LATER_KEYS if key.startswith("data.augmentation.")))
# Where things were defined when runs were begun that are still the same runs: today's name -> the one of then.
MOVED_TARGETS = {
    f"facesr.data.packed.reader.{new}": f"facesr.data.prepared.{old}"
    for new, old in {
        "synthetic": "builtin",
        "synthetic_pairs": "builtin_pairs",
        **{name: name for name in ("prepared", "dead_leaves", "dead_leaves_pairs", "pair_folders", "prepared_pairs")},
    }.items()
}


def plain_config(settings: TrainSettings) -> dict[str, Any]:
    """Returns the settings as plain containers."""
    return dataclasses.asdict(settings)


def identity_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the part of a configuration that makes a run what it is."""
    kept = dict(config)
    if config.get("start_from") is not None:
        kept["start_from"] = _from_runs(config["start_from"], config.get("runs_dir"))
    return _identity_of(kept, LATER_KEYS)


def _identity_of(config: Mapping[str, Any], later: Mapping[str, Any]) -> dict[str, Any]:
    kept = {key: value for key, value in config.items() if key not in FREE_KEYS}
    for key, value in later.items():
        kept = _without(kept, key.split("."), value)
    found: dict[str, Any] = _as_named_then(kept)
    return found


def _from_runs(start_from: Any, runs_dir: Any) -> Any:
    """Returns what a run starts from; another run beside it as below `runs`, wherever both lie."""
    if isinstance(start_from, list | tuple):
        return [_from_runs(one, runs_dir) for one in start_from]
    if not isinstance(start_from, str) or not isinstance(runs_dir, str):
        return start_from
    path, folder = Path(start_from).expanduser(), Path(runs_dir).expanduser()
    return (Path("runs") / path.relative_to(folder)).as_posix() if path.is_relative_to(folder) else start_from


def _as_named_then(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _as_named_then(inner) for key, inner in value.items()}
    return MOVED_TARGETS.get(value, value) if isinstance(value, str) else value


def _without(config: Mapping[str, Any], path: list[str], value: Any) -> dict[str, Any]:
    """Returns a copy without the key at the path if it has that value; what has another value stays."""
    name, *rest = path
    if rest and isinstance(config.get(name), Mapping):
        return {**config, name: _without(config[name], rest, value)}
    return {key: found for key, found in config.items() if rest or key != name or found != value}


def run_folder(settings: TrainSettings) -> Path:
    """Returns the run's folder, which need not exist yet.

    Raises:
        ConfigError: the name is no folder name.
    """
    if not re.fullmatch(r"[\w][\w.+=,-]*", settings.name):
        raise ConfigError(f"name={settings.name!r} cannot be a folder; use letters, digits, '.', '_' and '-'.")
    return Path(settings.runs_dir).expanduser() / settings.name


def find_run_folder(settings: TrainSettings) -> tuple[Path, dict[str, Any] | None]:
    """Returns the run's folder, which need not exist yet, and the configuration that it was last started with.

    Raises:
        ConfigError: the name is no folder name, or the folder holds the state of another configuration.
    """
    folder = run_folder(settings)

    def look() -> dict[str, Any] | None:
        earlier = earlier_config(folder)
        different = conflicting_keys(folder, earlier, plain_config(settings))
        if different:
            raise ConfigError(
                f"{folder} belongs to a run with another configuration, which differs in {named(different)}; "
                "choose another name=..., or remove that folder."
            )
        return earlier

    return folder, dist.once(look)


def place_of(folder: Path) -> tuple[int, int] | None:
    """Returns device and inode of a folder, which no other one has while it exists; None where it is gone."""
    try:
        found = folder.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def require_place(folder: Path, place: tuple[int, int] | None) -> None:
    """Checks that a run's folder is the one that it began with.

    Raises:
        CheckpointError: it is gone, or another one has its name: what is saved now would be lost or mixed.
    """
    if place_of(folder) != place:
        raise CheckpointError(
            f"{folder} was removed or its file system was taken away while the run was writing to it; bring it back "
            "and start the same command again, which goes on from the last state that lies there."
        )


def earlier_config(folder: Path) -> dict[str, Any] | None:
    """Returns the configuration that the folder's run was last started with; None for a new or a damaged one."""
    try:
        earlier = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8-sig"))
    except (OSError, yaml.YAMLError):
        return None
    return earlier if isinstance(earlier, dict) else None


def extension_of(earlier: Mapping[str, Any] | None, config: Mapping[str, Any], schedule: str) -> str:
    """Returns a sentence about what a run's new configuration changes in how long it runs; empty for nothing."""
    changed = [key for key in sorted(EXTENDING_KEYS) if earlier is not None and earlier.get(key) != config[key]]
    if earlier is None or not changed:
        return ""
    told = ", ".join(f"{key} from {earlier.get(key)} to {config[key]}" for key in changed)
    note = " The cosine schedule is that of the longer run from here on." if schedule == "cosine" else ""
    return f"the run goes on with another {told}.{note if 'duration_kimg' in changed else ''}"


def state_digests(config: Mapping[str, Any], earlier: Mapping[str, Any] | None) -> tuple[str, ...]:
    """Returns the digests of configurations that a run's states may carry; the first one is for new states.

    That one is the same however long the run is to be. Older states carry the digest of a whole configuration, of this
    one or of the one that the run was last started with, or have in it what is left out by now.
    """
    whole = [one for one in (config, earlier) if one is not None]
    then = {key: value for key, value in LATER_KEYS.items() if key not in _LISTED_LATER}
    of_then = [_identity_of(one, then) for one in whole]
    forms = [*map(identity_of, whole), *of_then, *map(_but_extending, of_then)]
    return tuple(dict.fromkeys(digest_of(form) for form in (_but_extending(identity_of(config)), *forms)))


def _but_extending(config: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in config.items() if key not in EXTENDING_KEYS}


def claim_run_folder(folder: Path, config: Mapping[str, Any], *, begins: bool = False) -> None:
    """Writes config.yaml on rank 0, once everything could be built: a mistake must not take the name.

    What a kill has left in the folder and among the snapshots is removed. Where the run begins, what it starts from is
    recorded, too.

    Raises:
        CheckpointError: the folder cannot be written, or what the run starts from is gone.
    """
    if dist.is_main():
        sweep(folder)
        sweep(folder / "snapshots")
        if begins:
            record_start(folder, config["start_from"])
        write_bytes(folder / "config.yaml", _yaml(config))


def _yaml(held: Mapping[str, Any]) -> bytes:
    return yaml.safe_dump(dict(held), sort_keys=False, allow_unicode=True).encode()


def record_start(folder: Path, start_from: str | Sequence[str] | None) -> None:
    """Writes which snapshot a run starts from, with its sha256, or which ones; none where it starts from nothing.

    Raises:
        CheckpointError: there is no such snapshot, or the folder cannot be written.
    """
    if start_from is None:
        (folder / START).unlink(missing_ok=True)
        return
    files = start_files(start_from)
    names, digests = [str(file) for file in files], [sha256_of(file) for file in files]
    held = {"snapshot": names, "sha256": digests} if len(files) > 1 else {"snapshot": names[0], "sha256": digests[0]}
    write_bytes(folder / START, _yaml(held))


def recorded_start(folder: Path) -> tuple[str, ...] | None:
    """Returns the sha256 of each snapshot that a run started from; None where that was not recorded."""
    try:
        held = yaml.safe_load((folder / START).read_text(encoding="utf-8-sig"))
    except (OSError, yaml.YAMLError, UnicodeDecodeError):
        return None
    if not isinstance(held, dict) or "sha256" not in held:
        return None
    digests = held["sha256"]
    return tuple(map(str, digests)) if isinstance(digests, list) else (str(digests),)


def conflicting_keys(folder: Path, earlier: Mapping[str, Any] | None, config: Mapping[str, Any]) -> list[str]:
    """Returns the keys, with both values, for which a run's folder cannot be used for a configuration.

    Args:
        folder: of the run.
        earlier: the configuration that it was last started with (`earlier_config`).
        config: the one that it is to be used for.

    Raises:
        ConfigError: the folder holds the state of a configuration that cannot be read.
    """
    file = folder / "config.yaml"
    # Where nothing was saved yet nothing can be lost or mixed.
    if not file.is_file() or not any((folder / "state").glob("*.pt")):
        return []
    if earlier is None:
        raise ConfigError(f"{file} cannot be read; choose another name, or remove {folder} to start anew.")
    different = differing_keys(_but_extending(identity_of(earlier)), _but_extending(identity_of(config)))
    if config["duration_kimg"] < earlier.get("duration_kimg", 0):
        different.append(f"duration_kimg ({earlier['duration_kimg']} there, {config['duration_kimg']} here: shorter)")
    return different


def named(different: Sequence[str]) -> str:
    """Returns the first few of the keys that differ, for a sentence."""
    more = f" and {len(different) - MAX_NAMED_DIFFERENCES} more" if len(different) > MAX_NAMED_DIFFERENCES else ""
    return ", ".join(different[:MAX_NAMED_DIFFERENCES]) + more


def differing_keys(first: Any, second: Any, prefix: str = "") -> list[str]:
    """Returns the dotted keys in which two configurations differ, with both values."""
    if isinstance(first, Mapping) and isinstance(second, Mapping):
        found: list[str] = []
        for key in sorted({*first, *second}, key=str):
            found += differing_keys(first.get(key, "(absent)"), second.get(key, "(absent)"), f"{prefix}{key}.")
        return found
    return [] if first == second else [f"{prefix[:-1]} ({first} there, {second} here)"]
