"""Restoring a folder before it is scored: any sizes, in tiles, few large pictures at a time, and what is told of it."""

from pathlib import Path

import numpy as np
import pytest
import torch

from facesr.blend_parts import BlendParts
from facesr.evaluation import restoring
from facesr.evaluation.restoring import restore_folder
from facesr.png import read_png, write_png
from facesr.restoration import Blend, Method, open_method
from facesr.tiles import Tiles

CPU = torch.device("cpu")


@pytest.fixture
def low(tmp_path: Path) -> Path:
    folder = tmp_path / "low"
    folder.mkdir()
    for number, (width, height) in enumerate([(45, 37)] * 5 + [(7, 5)] * 3):
        picture = np.random.default_rng(number).integers(0, 256, (height, width, 3), dtype=np.uint8)
        write_png(folder / f"{number}.png", picture)
    return folder


def pictures(folder: Path) -> dict[str, bytes]:
    return {path.name: read_png(path).tobytes() for path in sorted(folder.glob("*.png"))}


def test_tiles_give_the_same_folder(low: Path, tmp_path: Path) -> None:
    method = open_method("bicubic", CPU)
    whole = restore_folder(method, low, tmp_path / "whole", CPU, 4)
    tiled = restore_folder(method, low, tmp_path / "tiled", CPU, 4, tiles=Tiles(32, 4))
    assert pictures(whole.folder) == pictures(tiled.folder) and len(pictures(whole.folder)) == 8
    assert read_png(whole.folder / "0.png").shape == (148, 180, 3)


def test_few_large_pictures_wait_for_being_written(low: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counts: list[int] = []
    plain = restoring.restore_pictures

    def counted(method, low, **named):
        counts.append(len(low))
        return plain(method, low, **named)

    monkeypatch.setattr(restoring, "restore_pictures", counted)
    done: list[int] = []
    restore_folder(open_method("bicubic", CPU), low, tmp_path / "out", CPU, 6, on_batch=done.append)
    # 6 faces of 24x28 have the pixels of 2 pictures of 45x37.
    assert counts == done == [2, 2, 1, 3]


def test_a_blend_is_among_the_facts(low: Path, tmp_path: Path) -> None:
    plain = open_method("nearest", CPU)
    facts = restore_folder(plain, low, tmp_path / "plain", CPU, 4).facts
    assert not any(key.startswith("blend") for key in facts)
    method = Method(
        "a+0.25*b",
        plain.generator,
        path=Path("a"),
        blend=Blend(Path("b"), BlendParts(("c" * 64, "d" * 64), ("e" * 64, "f" * 64), 0.25)),
    )
    facts = restore_folder(method, low, tmp_path / "blend", CPU, 4).facts
    assert (facts["path"], facts["blend_with"], facts["blend_weight"]) == ("a", "b", 0.25)
    assert facts["blend_sha256"] == "d" * 64
