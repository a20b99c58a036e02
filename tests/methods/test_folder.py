"""Restored folders: the same pictures however they are restored, few in memory at once, found again."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from facesr.methods import folder as module
from facesr.methods.folder import PICTURES, RestoredFolder, RestoreOptions, restore_folder
from facesr.methods.low import LowPictures
from facesr.methods.method import Method
from facesr.methods.open import open_method
from facesr.png import read_png, write_png
from facesr.tiles import Tiles

CPU = torch.device("cpu")


@pytest.fixture
def low(tmp_path: Path) -> LowPictures:
    folder = tmp_path / "low"
    folder.mkdir()
    for number, (width, height) in enumerate([(45, 37)] * 5 + [(7, 5)] * 3):
        picture = np.random.default_rng(number).integers(0, 256, (height, width, 3), dtype=np.uint8)
        write_png(folder / f"{number}.png", picture)
    return LowPictures.open(folder)


def pictures(restored: RestoredFolder) -> dict[str, bytes]:
    return {path.name: read_png(path).tobytes() for path in sorted((restored.path / PICTURES).glob("*.png"))}


def test_tiles_give_the_same_pictures_in_a_folder_of_their_own(low: LowPictures, tmp_path: Path) -> None:
    method = open_method("bicubic", CPU)
    whole = restore_folder(method, low, RestoreOptions(CPU, 4, False), tmp_path)
    tiled = restore_folder(method, low, RestoreOptions(CPU, 4, False, Tiles(32, 4)), tmp_path)
    assert whole.path != tiled.path and not tiled.reused
    assert pictures(whole) == pictures(tiled) and len(pictures(whole)) == 8
    assert read_png(whole.path / PICTURES / "0.png").shape == (148, 180, 3)


def test_few_pictures_wait_for_being_written_in_whole_batches(
    low: LowPictures, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts: list[int] = []
    plain = module.restore_pictures

    def counted(method: Method, low: np.ndarray, **named: object) -> np.ndarray:
        counts.append(len(low))
        return plain(method, low, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "restore_pictures", counted)
    # 6 faces of 24x28 have the pixels of 2 pictures of 45x37; 13 such faces may be held at once.
    monkeypatch.setattr(module, "_CHUNK", 13)
    done: list[int] = []
    restore_folder(open_method("bicubic", CPU), low, RestoreOptions(CPU, 6, False), tmp_path, on_batch=done.append)
    assert counts == [4, 1, 3] and done == [2, 2, 1, 3]


def test_the_same_restoration_is_found_again_and_another_is_not(low: LowPictures, tmp_path: Path) -> None:
    method, options = open_method("bicubic", CPU), RestoreOptions(CPU, 4, False)
    first = restore_folder(method, low, options, tmp_path)
    again = restore_folder(method, low, options, tmp_path)
    assert again.reused and again.path == first.path and again.restoration == first.restoration
    assert not restore_folder(method, low, options, tmp_path, reuse=False).reused
    assert restore_folder(method, low, RestoreOptions(CPU, 4, True), tmp_path).path != first.path
    (first.path / PICTURES / "0.png").unlink()
    assert not restore_folder(method, low, options, tmp_path).reused


def test_what_a_kill_and_a_failure_leave_is_removed(
    low: LowPictures, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    method, options, kept_in = open_method("bicubic", CPU), RestoreOptions(CPU, 4, False), tmp_path / "kept"
    killed = kept_in / ".unfinished-bicubic-1" / "content" / PICTURES
    killed.mkdir(parents=True)
    for path in (kept_in / ".unfinished-bicubic-1", *(kept_in / ".unfinished-bicubic-1").rglob("*")):
        os.utime(path, (0, 0))
    with monkeypatch.context() as patched:
        patched.setattr(module, "_write_picture", lambda path, picture, remark: path.with_name("a\0").touch())
        with pytest.raises(ValueError, match="null byte"):
            restore_folder(method, low, options, kept_in)
    assert list(kept_in.iterdir()) == []
    restored = restore_folder(method, low, options, kept_in)
    assert list(kept_in.iterdir()) == [restored.path]


def test_the_record_states_how_large_the_network_is(low: LowPictures, tmp_path: Path) -> None:
    method = open_method("bicubic", CPU)
    options = RestoreOptions(CPU, 4, False)
    plain = restore_folder(method, low, options, tmp_path)
    assert plain.restoration.num_parameters is None
    network = torch.nn.Module()
    network.add_module("spare", torch.nn.Linear(3, 4))
    for parameter in network.parameters():
        parameter.requires_grad_(False)
    network.forward = method.generator.forward  # type: ignore[method-assign]
    sized = restore_folder(Method("sized", network), low, options, tmp_path)
    assert sized.restoration.num_parameters == 3 * 4 + 4
    assert restore_folder(Method("sized", network), low, options, tmp_path).reused
