"""facesr export: what it writes, what it compares, and what it refuses."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from facesr import onnx_writer
from facesr.errors import CheckpointError
from facesr.export import model, parity
from facesr.export.command import main
from facesr.export.model import USE, USE_OF_SHIPPED, export
from facesr.methods.onnx_about import read_entries
from facesr.methods.open import open_method
from facesr.photos.trained import framing_of_set
from facesr.snapshots.shipped import snapshot_file
from facesr.snapshots.snapshot import read_snapshot
from facesr.weights import sha256_of

CPU = torch.device("cpu")
Code = Callable[[Callable[[list[str]], int], list[str]], int]
Write = Callable[..., Path]


def entries_of(path: Path) -> dict[str, str]:
    model = onnx.load(path, load_external_data=False)
    return {entry.key: entry.value for entry in model.metadata_props}


def test_the_command_writes_one_file_that_says_what_it_is(
    write: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    framing = framing_of_set("detect", 192, 224)
    network = {"num_hourglass_blocks": 1, "rms_limit": 1.0, "hidden_rms_limit": 2.0}
    snapshot, out = write(bound=41.5, framing=framing, **network), tmp_path / "a.onnx"
    before = set(tmp_path.iterdir())
    assert main([str(snapshot), str(out)]) == 0
    assert set(tmp_path.iterdir()) - before == {out}
    told = capsys.readouterr().out.splitlines()
    assert told[0].startswith(f"{out}: ") and sha256_of(out) in told[0] and told[0].endswith(f"method={out}")
    assert "largest difference from the snapshot" in told[1]
    about = read_entries(entries_of(out))
    assert (about.run, about.kimg, about.loss_judges) == ("tester", 1.5, ("builtin",))
    assert (about.snapshot_sha256, about.config_sha256) == (sha256_of(snapshot), "c" * 64)
    assert about.consistency_bound_db == 41.5 and about.receptive_radius_px == 29
    assert about.use == USE and about.trained_framing == framing
    assert entries_of(out)["facesr.scale"] == "4"


@pytest.mark.slow
def test_equal_snapshots_are_equal_files(write: Write, tmp_path: Path) -> None:
    snapshot = write()
    first, second = export(str(snapshot), tmp_path / "a.onnx"), export(str(snapshot), tmp_path / "b.onnx")
    assert first.sha256 == second.sha256 and first.parity.is_kept


def test_a_folder_that_is_missing_is_made(write: Write, tmp_path: Path) -> None:
    assert export(str(write()), tmp_path / "new" / "a.onnx").path.is_file()


@pytest.mark.parametrize(
    ("make", "out", "words"),
    [
        (None, "a.pt", r"a\.pt has to end with \.onnx"),
        (None, "small.safetensors", r"small\.safetensors has to end with \.onnx"),
        (None, "there.onnx", r"there\.onnx exists; choose another name"),
        (None, "small.safetensors/a.onnx", r"cannot be written, because .*small\.safetensors is no folder"),
        ("pretrained:nothing", "a.onnx", "pretrained:nothing does not come with this package"),
        ("nothing.safetensors", "a.onnx", "nothing.safetensors is not a file"),
        ("there.onnx", "a.onnx", r"there\.onnx is an ONNX file, which only restores"),
    ],
)
def test_what_it_refuses(
    make: str | None, out: str, words: str, write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    snapshot = write()
    (tmp_path / "there.onnx").write_bytes(b"something")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(model, "measure", None)  # nothing of this takes long
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    assert main([make or str(snapshot), out]) == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1 and told.startswith("error: ")
    with pytest.raises(AssertionError, match=words):
        raise AssertionError(told)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_wrong_key(code_of: Code, capsys: pytest.CaptureFixture[str]) -> None:
    assert code_of(main, ["pretrained:asc19_psnr", "a.onnx", "--fast"]) == 2
    assert capsys.readouterr().err == "error: --fast is not known here; see --help.\n"
    assert code_of(main, ["pretrained:asc19_psnr"]) == 2


def test_a_network_without_a_form_is_refused(write: Write, tmp_path: Path) -> None:
    node = {"_target_": "facesr.models.fsrnet.FSRNet"}
    with pytest.raises(CheckpointError, match=r"cannot be exported: its network is FSRNet, and .*facesr, srresnet"):
        export(str(write(node=node)), tmp_path / "a.onnx")
    assert list(tmp_path.glob("*.onnx")) == []


def wrong_order() -> np.ndarray:
    """The kernels of the upscaling with the phases by columns."""
    phases = TRUE_PHASES.reshape(3, 4, 4, 1, 5, 5)
    return np.ascontiguousarray(phases.transpose(0, 2, 1, 3, 4, 5)).reshape(48, 1, 5, 5)


TRUE_PHASES = onnx_writer.cubic_phases()


def test_a_wrong_order_of_phases_is_caught_and_nothing_is_written(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    snapshot = write()
    before = set(tmp_path.iterdir())
    monkeypatch.setattr(onnx_writer, "cubic_phases", wrong_order)
    assert main([str(snapshot), str(tmp_path / "a.onnx")]) == 2
    told = capsys.readouterr().err
    assert "is not exported: on faces of " in told and "grey levels" in told and told.count("\n") == 1
    assert set(tmp_path.iterdir()) == before


def test_a_border_that_is_not_symmetric_is_caught(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = onnx_writer._Writer.node

    def reflecting(self, kind, given, result, **attributes):  # type: ignore[no-untyped-def]
        if kind == "Pad" and str(result).endswith(".edge"):
            attributes["mode"] = "reflect"
        return plain(self, kind, given, result, **attributes)

    monkeypatch.setattr(onnx_writer._Writer, "node", reflecting)
    monkeypatch.setattr(model, "read_exported", lambda data, path: (None, None))  # which refuses it, too
    with pytest.raises(CheckpointError, match="is not exported: on faces of"):
        export(str(write()), tmp_path / "a.onnx")


def test_answers_that_are_not_finite_are_caught(write: Write, tmp_path: Path) -> None:
    batch = torch.full((1, 3, 8, 8), 0.5)

    class Broken(torch.nn.Module):
        def forward(self, low: torch.Tensor) -> torch.Tensor:
            return torch.full((len(low), 3, 32, 32), torch.nan)

    found = parity._compared(Broken(), Broken(), batch)
    assert not found.is_kept and found.levels == 255


def test_a_network_that_rounds_more_may_differ_by_twice_its_own_rounding() -> None:
    class Plus(torch.nn.Module):
        def __init__(self, number: float, after: float) -> None:
            super().__init__()
            self.number, self.after = number, after

        def forward(self, low: torch.Tensor) -> torch.Tensor:
            return (low + self.number) - self.number + self.after

    # At 300 float32 has steps of 3.05e-5, so that sums are off by up to half of one.
    rounds = Plus(300.0, 0.0)
    kept, wrong = (parity.measure(rounds, Plus(0.0, after)) for after in (0.0, 1e-4))
    assert 5e-6 < kept.difference <= 1.53e-5 and kept.is_kept
    assert kept.allowed == pytest.approx(2 * kept.difference, rel=1e-3), "the other one is exact"
    assert wrong.allowed == kept.allowed and not wrong.is_kept
    exact = parity.measure(Plus(0.0, 0.0), Plus(0.0, 3e-6))
    assert exact.allowed == parity.MAX_DIFFERENCE and not exact.is_kept, "nothing is rounded there"


def test_the_faces_are_of_three_sizes() -> None:
    batches = list(parity.face_batches())
    assert [tuple(batch.shape) for batch in batches] == [(3, 3, 28, 24), (3, 3, 40, 32), (3, 3, 64, 96)]
    assert all(float(batch.std()) > 0.05 for batch in batches)


def test_a_kill_while_writing_leaves_no_file_of_that_name(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(self: Path, data: bytes) -> int:
        with self.open("wb") as file:
            file.write(data[: len(data) // 2])
        raise KeyboardInterrupt

    snapshot = write()
    monkeypatch.setattr(Path, "write_bytes", killed)
    with pytest.raises(KeyboardInterrupt):
        export(str(snapshot), tmp_path / "a.onnx")
    assert not (tmp_path / "a.onnx").exists()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["asc19_fast", "wild"])
def test_the_fast_one_and_the_deep_one_are_exported(name: str, tmp_path: Path) -> None:
    done = export(f"pretrained:{name}", tmp_path / "a.onnx")
    assert done.parity.is_kept and done.parity.difference <= (5e-6 if name == "wild" else 2e-6)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["asc19_psnr", "asc19_final"])
def test_shipped_snapshots_are_exported_with_their_card(name: str, tmp_path: Path) -> None:
    spec = f"pretrained:{name}"
    done = export(spec, tmp_path / "a.onnx")
    assert done.parity.difference <= 2e-6 and done.parity.levels <= 1 and done.parity.share <= 1e-3
    about, snapshot = read_entries(entries_of(done.path)), read_snapshot(snapshot_file(spec))
    assert about.use == USE_OF_SHIPPED and about.snapshot_sha256 == snapshot.sha256
    assert about.consistency_bound_db == snapshot.consistency_bound_db
    assert json.loads(about.framing) == {
        "crop": "detect", "width": 96, "height": 112, "face_box_centre": [48.0, 56.0], "face_box_size": [66.0, 82.0],
    }  # fmt: skip
    method = open_method(str(done.path), CPU)
    assert method.loss_judges == snapshot.loss_judges and method.bound_db == snapshot.consistency_bound_db
