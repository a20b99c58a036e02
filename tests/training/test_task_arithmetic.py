"""Task arithmetic: what one training taught, added to another network."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from facesr.models.facesr import FaceSR
from facesr.snapshots.snapshot import Snapshot, read_snapshot, write_snapshot
from facesr.snapshots.task_arithmetic import main, with_task

SMALL = {"_target_": "facesr.models.facesr.FaceSR", "channels": 32, "num_groups": 2, "num_blocks": 1, "channels_up": 32}
GROWN = {**SMALL, "num_hourglass_blocks": 1}


def _snapshot(node: dict[str, object], seed: int, kimg: float = 1.0, judges: tuple[str, ...] = ()) -> Snapshot:
    torch.manual_seed(seed)
    network = FaceSR(**{key: value for key, value in node.items() if key != "_target_"})  # type: ignore[arg-type]
    for weight in network.parameters():
        torch.nn.init.normal_(weight, std=0.05)
    return Snapshot(network.state_dict(), dict(node), f"run{seed}", kimg, str(seed) * 64, judges, {"psnr": 1.0}, "")


def test_adds_the_difference_and_says_who_taught() -> None:
    target, before, after = _snapshot(SMALL, 1, 5.0), _snapshot(SMALL, 2), _snapshot(SMALL, 3, 7.0, ("facenet",))
    found = with_task(target, before, after, 0.5)
    for name, value in target.state.items():
        torch.testing.assert_close(found.state[name], value + 0.5 * (after.state[name] - before.state[name]))
    assert (found.kimg, found.loss_judges, found.scores) == (12.0, ("facenet",), {})
    assert found.config_sha256 != with_task(target, before, after, 1.0).config_sha256 != target.config_sha256


def test_a_network_that_has_grown_keeps_what_it_has_grown() -> None:
    """Hourglasses stay as they are; all else moves, also where its number among the layers has changed."""
    target, before, after = _snapshot(GROWN, 1), _snapshot(SMALL, 2), _snapshot(SMALL, 3)
    found = with_task(target, before, after).state
    moved = {name for name, value in found.items() if not torch.equal(value, target.state[name])}
    hourglasses = {name for name in found if name.startswith(("body.1.", "body.3."))}
    assert moved == set(found) - hourglasses and len(moved) == len(before.state)
    change = after.state["body.1.first.weight"] - before.state["body.1.first.weight"]
    torch.testing.assert_close(found["body.2.first.weight"] - target.state["body.2.first.weight"], change)


def test_the_command_writes_a_snapshot_to_start_from(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = [str(tmp_path / f"{seed}.safetensors") for seed in (1, 2, 3)]
    for seed, path in enumerate(paths, 1):
        write_snapshot(Path(path), _snapshot(SMALL, seed))
    out = tmp_path / "start.safetensors"
    command = [paths[0], "--before", paths[1], "--after", paths[2], "--out", str(out)]
    assert main(command) == 0
    assert f"start_from={out}" in capsys.readouterr().out
    target, before, after = (read_snapshot(Path(path)) for path in paths)
    expected = with_task(target, before, after)
    torch.testing.assert_close(read_snapshot(out).state, expected.state)
    assert main(command) == 2
    assert "exists; choose another --out" in capsys.readouterr().err


def test_what_does_not_fit_is_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], code_of: Callable[..., int]
) -> None:
    wide = tmp_path / "wide.safetensors"
    write_snapshot(wide, _snapshot({**SMALL, "channels": 64}, 1))
    small = tmp_path / "small.safetensors"
    write_snapshot(small, _snapshot(SMALL, 2))
    out = tmp_path / "out.safetensors"
    for arguments, sentence in (
        ([str(small), "--before", str(small), "--after", str(wide)], "run1 do not fit the network of run run2"),
        ([str(small), "--before", str(small), "--after", str(small), "--share", "3"], "--share 3 is out of range"),
        ([str(small), "--before", str(small), "--after", str(tmp_path / "none")], "none is not a file"),
        ([str(tmp_path), "--before", str(small), "--after", str(small)], "give a run folder that has been validated"),
    ):
        assert code_of(main, [*arguments, "--out", str(out)]) == 2
        assert sentence in capsys.readouterr().err
        assert not out.exists()
