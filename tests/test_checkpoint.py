"""Snapshots and training states: they come back whole, damaged ones are told apart, nothing is lost."""

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from facesr.errors import CheckpointError, FaceSRError
from facesr.methods.open import open_method
from facesr.methods.restore import restore_pictures
from facesr.photos.trained import framing_of_set
from facesr.places import Place
from facesr.snapshots.snapshot import (
    Snapshot,
    digest_of,
    digests_beside,
    newest_state,
    read_snapshot,
    remove_oldest_snapshots,
    sweep,
    write_bytes,
    write_snapshot,
    write_state,
    write_with_digest,
)
from facesr.weights import to_eight_bits
from tests.hostile import honest_about, write_raw

CPU = torch.device("cpu")
NODE = {"_target_": "facesr.models.facesr.FaceSR", "channels": 32, "num_groups": 1, "num_blocks": 1, "channels_up": 32}


def snapshot(**changes: object) -> Snapshot:
    from facesr.build import build

    torch.manual_seed(0)
    network = build(NODE, Place.GENERATOR)
    torch.nn.init.normal_(network.to_rgb.weight, std=0.05)
    fields = {
        "state": network.state_dict(), "generator": NODE, "run": "tester", "kimg": 1.5, "config_sha256": "c" * 64,
        "loss_judges": ("builtin",), "scores": {"is/builtin": 0.5}, "sha256": "",
    }  # fmt: skip
    return Snapshot(**{**fields, **changes})  # type: ignore[arg-type]


def test_a_snapshot_comes_back_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    digest = write_snapshot(path, snapshot())
    back = read_snapshot(path)
    assert (back.run, back.kimg, back.loss_judges, back.scores) == ("tester", 1.5, ("builtin",), {"is/builtin": 0.5})
    assert back.sha256 == digest and back.generator == NODE
    assert (tmp_path / "a.safetensors.sha256").read_text() == f"{digest}  a.safetensors\n"
    assert write_snapshot(tmp_path / "b.safetensors", snapshot()) == digest
    assert back.config_sha256 == "c" * 64 and back.consistency_bound_db is None
    write_snapshot(path, snapshot(consistency_bound_db=31.25))
    assert read_snapshot(path).consistency_bound_db == 31.25
    framing = framing_of_set("ffhq", 192, 224)
    write_snapshot(path, snapshot(framing=framing))
    assert back.framing is None and read_snapshot(path).framing == framing
    nowhere = replace(framing, face_box_size=(-1.0, 5.0))
    with pytest.raises(
        CheckpointError, match=r"would be no sound snapshot .* its framing's box is not made of numbers"
    ):
        write_snapshot(path, snapshot(framing=nowhere))


def test_restoring_does_not_depend_on_the_batch(tmp_path: Path) -> None:
    write_snapshot(tmp_path / "a.safetensors", snapshot())
    method = open_method(str(tmp_path / "a.safetensors"), CPU)
    low = np.random.default_rng(0).integers(0, 256, (7, 5, 6, 3), np.uint8)
    seen: list[int] = []
    whole = restore_pictures(method, low, device=CPU, on_batch=seen.append)
    assert whole.shape == (7, 20, 24, 3) and seen == [7] and method.name == "tester"
    small = restore_pictures(method, low, device=CPU, batch_size=2)
    assert np.abs(whole.astype(int) - small).max() <= 1  # a rounding edge may fall either way
    mirrored = restore_pictures(method, low[:, :, ::-1], device=CPU, self_ensemble=True)[:, :, ::-1]
    both = restore_pictures(method, low, device=CPU, self_ensemble=True)
    assert np.abs(both.astype(int) - mirrored).max() <= 1
    assert np.abs(both.astype(int) - whole).max() > 1


def test_a_run_folder_stands_for_its_best(tmp_path: Path) -> None:
    write_snapshot(tmp_path / "run" / "snapshots" / "best.safetensors", snapshot())
    assert open_method(str(tmp_path / "run"), CPU).weights_sha256
    assert open_method("bicubic", CPU).weights_sha256 == ""
    (tmp_path / "empty").mkdir()
    with pytest.raises(CheckpointError, match=r"holds no snapshots/best\.safetensors"):
        open_method(str(tmp_path / "empty"), CPU)
    with pytest.raises(CheckpointError, match="neither bicubic nor nearest"):
        open_method("lanczos", CPU)


def test_wrong_snapshots_are_one_sentence(tmp_path: Path) -> None:
    other = {**NODE, "channels": 64}
    packed = replace(snapshot(), state=to_eight_bits(snapshot().state))
    scales = sorted(packed.state.keys() - snapshot().state.keys())
    cases = {
        "other": lambda p: write_snapshot(p, snapshot(generator=other)),
        "foreign": lambda p: write_raw(
            p, {**honest_about(), "generator": {"_target_": "os.system", "command": "true"}}
        ),
        "unknown": lambda p: write_snapshot(p, snapshot(generator={"_target_": "facesr.models.none.Nothing"})),
        "text": lambda p: p.write_text("hello"),
        "cut": lambda p: (write_snapshot(p, snapshot()), p.write_bytes(p.read_bytes()[:-100])),
        "levels": lambda p: write_snapshot(p, replace(packed, state={**packed.state, scales[0]: torch.ones(1, 1)})),
        "plain": lambda p: __import__("safetensors.torch").torch.save_file({"a": torch.zeros(1)}, p),
    }
    for name, make in cases.items():
        path = tmp_path / f"{name}.safetensors"
        make(path)
        with pytest.raises(FaceSRError) as caught:
            open_method(str(path), CPU)
        assert "\n" not in str(caught.value), name


def test_states_are_kept_newest_first_and_checked(tmp_path: Path) -> None:
    assert newest_state(tmp_path / "none") is None
    for number in (10, 20, 30):
        write_state(tmp_path, number, {"n": number, "t": torch.ones(2)})
    assert sorted(p.name for p in tmp_path.glob("*.pt")) == ["000000020.pt", "000000030.pt"]
    found = newest_state(tmp_path)
    assert found is not None and found[1]["n"] == 30
    (tmp_path / "000000030.pt.sha256").unlink()  # killed between the two renames
    found = newest_state(tmp_path)
    assert found is not None and found[1]["n"] == 20
    (tmp_path / "000000020.pt").write_bytes(b"damaged")
    with pytest.raises(CheckpointError, match="no undamaged training state"):
        newest_state(tmp_path)


def test_equal_states_are_equal_bytes_whatever_process_writes_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = []
    for process in (1, 22_222):
        monkeypatch.setattr("os.getpid", lambda process=process: process)
        written.append(write_state(tmp_path, 10, {"n": torch.arange(3.0)}).read_bytes())
    assert written[0] == written[1]


def test_a_state_that_torch_cannot_read_is_passed_over(tmp_path: Path) -> None:
    write_state(tmp_path, 10, {"n": 10})
    write_with_digest(tmp_path / "000000020.pt", b"whole, but no state")
    found = newest_state(tmp_path)
    assert found is not None and found[0].name == "000000010.pt" and found[1]["n"] == 10


def test_only_the_newest_numbered_snapshots_stay_with_their_digests(tmp_path: Path) -> None:
    for name in ("000000900", "000001000", "000002000", "best"):
        write_with_digest(tmp_path / f"{name}.safetensors", name.encode())
    (tmp_path / "000000900.safetensors.sha256").unlink()  # a file without its digest goes as well
    write_state(tmp_path, 1, {"n": 1})
    remove_oldest_snapshots(tmp_path, 2)
    kept = ("000001000.safetensors", "000002000.safetensors", "best.safetensors", "000000001.pt")
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([*kept, *(f"{name}.sha256" for name in kept)])
    remove_oldest_snapshots(tmp_path, 2)
    assert len(list(tmp_path.glob("0*.safetensors"))) == 2
    remove_oldest_snapshots(tmp_path, 0)
    assert sorted(p.name for p in tmp_path.glob("*.safetensors")) == ["best.safetensors"]


def test_digests_of_earlier_kills_are_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    old = write_with_digest(path, b"old")
    (tmp_path / "file.sha256").write_text(f"{'a' * 64}  file\n{old}  file\n")
    replace_file = Path.replace

    def replace(self: Path, target: Path) -> Path:
        if target == path:
            raise Killed
        return replace_file(self, target)

    monkeypatch.setattr(Path, "replace", replace)
    with pytest.raises(Killed):
        write_with_digest(path, b"new")
    assert digests_beside(path) == (hashlib.sha256(b"new").hexdigest(), old) and path.read_bytes() == b"old"


class Killed(BaseException):
    """What no except clause catches on the way."""


@pytest.mark.parametrize("kind", ["snapshot", "state"])
def test_no_kill_between_two_renames_parts_a_file_from_its_digest(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace_file = Path.replace

    def write(number: int) -> None:
        if kind == "snapshot":
            write_snapshot(tmp_path / "best.safetensors", snapshot(kimg=float(number)))
        else:
            write_state(tmp_path, 10, {"n": number})

    def value() -> float:
        if kind == "snapshot":
            return read_snapshot(tmp_path / "best.safetensors").kimg
        found = newest_state(tmp_path)
        assert found is not None
        return float(found[1]["n"])

    write(0)
    renames = 3  # digests old and new, the file, its digest
    for killed_at in range(2 * renames):
        seen = 0

        def replace(self: Path, target: Path, killed_at: int = killed_at) -> Path:
            nonlocal seen
            if seen == killed_at // 2 and killed_at % 2 == 0:
                raise Killed
            done = replace_file(self, target)
            if seen == killed_at // 2:
                raise Killed
            seen += 1
            return done

        before = value()
        monkeypatch.setattr(Path, "replace", replace)
        with pytest.raises(Killed):
            write(killed_at + 1)
        monkeypatch.setattr(Path, "replace", replace_file)
        assert value() in (before, killed_at + 1)
    write(99)
    assert value() == 99
    sweep(tmp_path)
    assert len(list(tmp_path.iterdir())) == 2
    assert len(next(tmp_path.glob("*.sha256")).read_text().splitlines()) == 1


def test_what_a_kill_leaves_is_swept(tmp_path: Path) -> None:
    write_snapshot(tmp_path / "best.safetensors", snapshot())
    kept = sorted(path.name for path in tmp_path.iterdir())
    for name in (
        ".config.yaml.77.tmp",
        ".best.safetensors.sha256.9.tmp",
        "000000010.safetensors.sha256",
        ".a\nb.1.tmp",
    ):
        (tmp_path / name).write_text("half")
    (tmp_path / ".mine.tmp").write_text("no number")
    sweep(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*kept, ".mine.tmp"])
    sweep(tmp_path / "none")


def test_a_pickle_in_a_state_is_never_run(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (Path.touch, (tmp_path / "ran",))  # type: ignore[return-value]

    write_state(tmp_path, 1, {"evil": Evil()})
    with pytest.raises(CheckpointError):
        newest_state(tmp_path)
    assert not (tmp_path / "ran").exists()


def test_writing_keeps_the_old_file_when_it_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    write_bytes(path, b"old")

    def fail(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(CheckpointError, match="No space left"):
        write_bytes(path, b"new")
    assert path.read_bytes() == b"old" and [p.name for p in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (RuntimeError("PytorchStreamWriter failed writing file"), "the disk may be full"),
        (OSError(5, "I/O error"), "I/O error"),
    ],
)
def test_a_state_that_cannot_be_written_leaves_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, reason: str
) -> None:
    write_state(tmp_path, 10, {"n": 10})
    before = sorted(path.name for path in tmp_path.iterdir())

    def fail(state: object, file: object) -> None:
        raise error

    monkeypatch.setattr(torch, "save", fail)
    with pytest.raises(CheckpointError, match=rf"000000020\.pt could not be written \({reason}\); free some space"):
        write_state(tmp_path, 20, {"n": 20})
    assert sorted(path.name for path in tmp_path.iterdir()) == before
    found = newest_state(tmp_path)
    assert found is not None and found[1]["n"] == 10


def test_digest_of_a_configuration_ignores_key_order() -> None:
    assert digest_of({"a": 1, "b": {"c": [1, 2]}}) == digest_of({"b": {"c": [1, 2]}, "a": 1})
    assert digest_of({"a": 1}) != digest_of({"a": 2})
    # What RFC 8259 lets be written in several ways is written in one: sorted keys, ASCII, other objects as their text.
    written = b'{"a": "runs", "b": "\\u00e9"}'
    assert digest_of({"b": "\u00e9", "a": Path("runs")}) == hashlib.sha256(written).hexdigest()
