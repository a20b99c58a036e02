"""What makes two configurations one run, and what is said where they are not."""

import hashlib
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from facesr.config import TrainSettings
from facesr.errors import ConfigError
from facesr.snapshots.snapshot import digest_of
from facesr.training import rundir
from facesr.training.loop import train
from facesr.training.rundir import (
    claim_run_folder,
    conflicting_keys,
    differing_keys,
    earlier_config,
    extension_of,
    identity_of,
    recorded_start,
    state_digests,
)


def test_differing_keys_are_dotted_sorted_and_have_both_values() -> None:
    first = {"b": {"x": 1, "y": [1, 2]}, "a": 3, "same": {"z": None}, "only": 0}
    second = {"b": {"x": 2, "y": [1, 2]}, "a": {"deep": 1}, "same": {"z": None}}
    assert differing_keys(first, second) == [
        "a (3 there, {'deep': 1} here)", "b.x (1 there, 2 here)", "only (0 there, (absent) here)",
    ]  # fmt: skip
    # A file written by hand may have numbers for keys.
    assert differing_keys({"a": 1, 2: 3}, {}) == ["2 (3 there, (absent) here)", "a (1 there, (absent) here)"]
    assert differing_keys({}, {"new": 1}) == ["new ((absent) there, 1 here)"]


def test_where_and_how_a_run_runs_is_no_part_of_it() -> None:
    free = {"runs_dir": "a", "device": "cpu", "log_every_kimg": 1.0, "gradient_sync": "overlap"}
    assert identity_of({**free, "seed": 1, "duration_kimg": 2.0}) == {"seed": 1, "duration_kimg": 2.0}


def test_later_keys_are_left_out_at_the_value_of_before_alone() -> None:
    before = {"degradation": {"_target_": "facesr.degradation.Official"}, "seed": 1}
    before |= {
        "gradient_precision": "fp32",
        "data": {"pose_shares": [], "flip": 0.5},
        "generator": {"rms_limit": None, "channels": 4},
    }
    assert identity_of(before) == {"seed": 1, "data": {"flip": 0.5}, "generator": {"channels": 4}}
    other = {
        "gradient_precision": "bf16",
        "degradation": {"_target_": "other"},
        "data": {"pose_shares": [0.5]},
        "generator": {"rms_limit": 2.0},
    }
    assert identity_of(other) == other
    # Only at its own place, and only where there is such a place.
    assert identity_of({"pose_shares": [], "data": 5, "rms_limit": None}) == {
        "pose_shares": [], "data": 5, "rms_limit": None,
    }  # fmt: skip


def test_augmentation_and_shares_of_before_are_left_out() -> None:
    hard = {"hard": 0.0, "hard_light": 0.0, "hard_saturation": 1.0, "hard_noise": 0.0}
    data = {"train": {"path": "faces", "shares": None}, "augmentation": {"flip": 0.5, **hard}}
    assert identity_of({"data": data}) == {"data": {"train": {"path": "faces"}, "augmentation": {"flip": 0.5}}}
    changed = {"train": {"path": "faces", "shares": [1, 2]}, "augmentation": {"flip": 0.5, "hard": 0.1}}
    assert identity_of({"data": changed}) == {"data": changed}


def test_a_state_keeps_its_run_when_more_keys_are_left_out() -> None:
    """States of before have digests with keys in them that are left out by now, or with where runs lay."""
    config = {"seed": 1, "duration_kimg": 2.0, "runs_dir": "/data/runs", "start_from": "/data/runs/first"}
    config["data"] = {"train": {"shares": None}, "augmentation": {"hard": 0.0, "flip": 0.5}}
    then = {"seed": 1, "start_from": "/data/runs/first", "data": config["data"]}
    now = {"seed": 1, "start_from": "runs/first", "data": {"train": {}, "augmentation": {"flip": 0.5}}}
    found = state_digests(config, None)
    assert found[0] == digest_of(now) and digest_of(then) in found
    assert digest_of({**then, "duration_kimg": 2.0}) in found and digest_of({**now, "duration_kimg": 2.0}) in found
    assert digest_of({**now, "seed": 2}) not in found


def test_a_run_that_starts_from_one_beside_it_may_be_moved_with_it(tmp_path: Path) -> None:
    def of(runs_dir: str, *start_from: str) -> dict[str, Any]:
        start = start_from[0] if len(start_from) == 1 else list(start_from)
        return identity_of({"seed": 1, "runs_dir": runs_dir, "start_from": start})

    one = of("runs", "runs/first/snapshots/best.safetensors")
    assert one == {"seed": 1, "start_from": "runs/first/snapshots/best.safetensors"}
    assert of(str(tmp_path), f"{tmp_path}/first/snapshots/best.safetensors") == one
    # Another run, a file elsewhere and what ships are what they are called.
    assert of("runs", "runs/second") != of("runs", "runs/first")
    assert of(str(tmp_path), "runs/first") != of(str(tmp_path), str(tmp_path / "first") + "s/first")
    assert of("a", "pretrained:wild", "a/first")["start_from"] == ["pretrained:wild", "runs/first"]
    assert identity_of({"runs_dir": "a", "start_from": None}) == {"start_from": None}


@pytest.mark.parametrize(
    ("now", "then"),
    [("synthetic", "builtin"), ("synthetic_pairs", "builtin_pairs"), ("prepared", "prepared")],
)
def test_moved_targets_are_called_as_they_were_then(now: str, then: str) -> None:
    target = {"_target_": f"facesr.data.packed.reader.{now}"}
    assert identity_of({"data": {"train": target}, "n": 1}) == {
        "data": {"train": {"_target_": f"facesr.data.prepared.{then}"}}, "n": 1,
    }  # fmt: skip


LENGTHS = {"duration_kimg": 2.0, "state_every_kimg": 1.0, "num_snapshots_kept": 3}


@pytest.mark.parametrize(
    ("earlier", "schedule", "said"),
    [
        (None, "cosine", ""),
        (LENGTHS, "cosine", ""),
        (
            {**LENGTHS, "duration_kimg": 1.0, "num_snapshots_kept": 5}, "cosine",
            "the run goes on with another duration_kimg from 1.0 to 2.0, num_snapshots_kept from 5 to 3."
            " The cosine schedule is that of the longer run from here on.",
        ),
        ({**LENGTHS, "duration_kimg": 1.0}, "step", "the run goes on with another duration_kimg from 1.0 to 2.0."),
        (
            {**LENGTHS, "state_every_kimg": 4.0}, "cosine",
            "the run goes on with another state_every_kimg from 4.0 to 1.0.",
        ),
    ],
)  # fmt: skip
def test_what_an_extension_changes_is_said(earlier: dict[str, Any] | None, schedule: str, said: str) -> None:
    assert extension_of(earlier, LENGTHS, schedule) == said


def folder_of(path: Path, config: Any) -> Path:
    (path / "state").mkdir()
    (path / "state" / "000000008.pt").touch()
    (path / "config.yaml").write_text(config if isinstance(config, str) else yaml.safe_dump(config))
    return path


def test_a_resumed_run_reads_its_earlier_configuration_once(
    bare: Callable[..., TrainSettings], monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    plain = yaml.safe_load
    monkeypatch.setattr(yaml, "safe_load", lambda text: read.append(text) or plain(text))
    for kimg in (0.004, 0.008):
        settings = bare("name=once", f"duration_kimg={kimg}", "validation_every_kimg=1")
        assert train(settings) == 0
    assert len(read) == 1 and "duration_kimg: 0.004" in read[0]


def test_five_differences_are_named_and_the_others_counted(tmp_path: Path) -> None:
    config = {**LENGTHS, "device": "cpu"} | {f"key{number}": number for number in range(5)}
    folder = folder_of(tmp_path, config)
    assert conflicting_keys(folder, config, {**config, "device": "cuda", "num_snapshots_kept": 9}) == []
    other = config | {f"key{number}": -1 for number in range(5)}
    differing = [f"key{number} ({number} there, -1 here)" for number in range(5)]
    assert conflicting_keys(folder, config, other) == differing
    assert rundir.named(differing) == ", ".join(differing)
    different = conflicting_keys(folder, config, {**other, "duration_kimg": 1.5})
    assert rundir.named(different) == ", ".join(differing) + " and 1 more"
    shorter = "duration_kimg (2.0 there, 1.5 here: shorter)"
    assert conflicting_keys(folder, config, {**config, "duration_kimg": 1.5}) == [shorter]


@pytest.mark.parametrize("text", ["", "[1, 2]", "a: [", "seed: 1"])
def test_the_earlier_configuration_is_a_table_or_nothing(tmp_path: Path, text: str) -> None:
    assert earlier_config(tmp_path) is None
    folder = folder_of(tmp_path, text)
    assert earlier_config(folder) == ({"seed": 1} if text == "seed: 1" else None)
    if text == "seed: 1":
        assert conflicting_keys(folder, earlier_config(folder), dict(LENGTHS))
    else:
        unread = f"{folder}/config.yaml cannot be read; choose another name, or remove {folder} to start anew."
        with pytest.raises(ConfigError, match=re.escape(unread)):
            conflicting_keys(folder, None, dict(LENGTHS))
    (folder / "state" / "000000008.pt").unlink()
    assert conflicting_keys(folder, None, dict(LENGTHS)) == [], "where nothing was saved nothing can be mixed"


def test_what_a_run_starts_from_is_recorded_when_it_begins(tmp_path: Path) -> None:
    start = tmp_path / "start.safetensors"
    start.write_bytes(b"first")
    claim_run_folder(tmp_path / "run", {"start_from": str(start)}, begins=True)
    digest = hashlib.sha256(b"first").hexdigest()
    assert recorded_start(tmp_path / "run") == (digest,)
    start.write_bytes(b"second")
    claim_run_folder(tmp_path / "run", {"start_from": str(start)})
    assert recorded_start(tmp_path / "run") == (digest,), "a run that goes on has started from the first"
    second = tmp_path / "cleaner.safetensors"
    second.write_bytes(b"cleaner")
    claim_run_folder(tmp_path / "run", {"start_from": [str(start), str(second)]}, begins=True)
    assert recorded_start(tmp_path / "run") == tuple(
        hashlib.sha256(data).hexdigest() for data in (b"second", b"cleaner")
    )
    claim_run_folder(tmp_path / "run", {"start_from": None}, begins=True)
    assert recorded_start(tmp_path / "run") is None
    for damaged in (b"[1]", b"a: [", b"\xff"):
        (tmp_path / "run" / "started_from.yaml").write_bytes(damaged)
        assert recorded_start(tmp_path / "run") is None
