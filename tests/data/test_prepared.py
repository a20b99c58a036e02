"""Reading prepared datasets and pairs of folders."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from facesr.data.packed.overlap import in_both
from facesr.data.packed.reader import (
    PackedDataset,
    pair_folders,
    pairs_of_dataset,
    prepared,
    synthetic,
    synthetic_pairs,
)
from facesr.errors import DataError, ImageError
from facesr.png import write_png
from facesr.resample import downscale_uint8


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    images = np.random.default_rng(0).integers(0, 256, (5, 12, 16, 3), np.uint8)
    np.save(tmp_path / "images.npy", images)
    rows = "\n".join(f"{i},s{i}.png,00,{name}," for i, name in enumerate(["ann", "bob", "", "ann", "bob"]))
    (tmp_path / "index.csv").write_text(f"position,source,sha256,identity,landmarks\n{rows}\n")
    about = {"format": 1, "width": 12, "height": 8, "count": 5, "margin": 2, "settings": {}, "version": 1}
    (tmp_path / "set.json").write_text(json.dumps(about))
    return tmp_path


def test_a_set_is_mapped_not_read(folder: Path) -> None:
    faces = PackedDataset.open(folder)
    assert isinstance(faces.images, np.memmap) and len(faces) == 5 and faces.margin == 2
    assert faces.identity[0] == faces.identity[3] != faces.identity[1] and faces.identity[2] == -1
    assert faces.sources[4] == "s4.png" and faces.framing is None
    assert len(prepared(str(folder), 3)) == 3 and len(prepared(str(folder), 99)) == 5


def test_pairs_of_a_set_leave_the_margin_out(folder: Path) -> None:
    faces = PackedDataset.open(folder)
    pairs = pairs_of_dataset(faces, 4)
    assert pairs.high.shape == (4, 8, 12, 3) and pairs.low.shape == (4, 2, 3, 3)
    assert np.array_equal(pairs.high, faces.images[:4, 2:10, 2:14])


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda f: (f / "set.json").unlink(), "unfinished or no prepared dataset"),
        (lambda f: (f / "set.json").write_text("{"), "damaged"),
        (lambda f: (f / "images.npy").write_bytes(b"\x93NUMPY"), "damaged"),
        (lambda f: (f / "index.csv").write_text("position,source,sha256,identity,landmarks\n"), "disagree"),
        (
            lambda f: (f / "set.json").write_text((f / "set.json").read_text().replace('"format": 1', '"format": 9')),
            "9",
        ),
    ],
)
def test_a_damaged_set_is_one_sentence(folder: Path, damage: object, words: str) -> None:
    damage(folder)  # type: ignore[operator]
    with pytest.raises(DataError, match=words):
        PackedDataset.open(folder)


def test_a_missing_set_says_how_to_make_it(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"does not exist; make it with: facesr prepare"):
        prepared(str(tmp_path / "nothing"))


def write_folder(folder: Path, pictures: dict[str, np.ndarray]) -> str:
    folder.mkdir()
    for name, picture in pictures.items():
        write_png(folder / f"{name}.png", picture)
    return str(folder)


def test_pairs_of_folders(tmp_path: Path) -> None:
    truth = np.random.default_rng(1).integers(0, 256, (3, 8, 12, 3), np.uint8)
    small = downscale_uint8(truth)
    high = write_folder(tmp_path / "high", {f"{i}": truth[i] for i in range(3)})
    low = write_folder(tmp_path / "low", {f"{i}": small[i] for i in range(3)})
    given, made = pair_folders(high, low), pair_folders(high)
    assert given.names == ("0", "1", "2") and np.array_equal(given.low, made.low)
    lonely = write_folder(tmp_path / "lonely", {"0": small[0], "1": small[1]})
    with pytest.raises(DataError, match=r"2\.png is in .*high only"):
        pair_folders(high, lonely)
    large = write_folder(tmp_path / "large", {f"{i}": truth[i] for i in range(3)})
    with pytest.raises(DataError, match="ratio must be 4"):
        pair_folders(high, large)
    odd = write_folder(tmp_path / "odd", {"0": truth[0], "1": truth[1, :4]})
    with pytest.raises(ImageError, match="12x4 where the pictures before it are 12x8"):
        pair_folders(odd)


def test_pictures_of_the_training_set_are_found_among_the_pairs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FACESR_CACHE", str(tmp_path / "cache"))
    faces = synthetic(8, seed=1, pictures_per_identity=4)
    assert len(faces.digests) == 8 and len(set(faces.digests)) == 8
    assert in_both(faces, synthetic_pairs(8, 1, 4, 4)) == ("000000", "000001", "000002", "000003")
    assert in_both(faces, synthetic_pairs(8, 1, 4, 8)) == ()
    assert in_both(replace(faces, digests=("",) * 8), synthetic_pairs(8, 1, 4, 0)) == ()
    assert in_both(prepared(str(faces.path), max_faces=2), synthetic_pairs(8, 1, 4, 0)) == ("000000", "000001")


def test_a_png_that_was_prepared_is_found_again(tmp_path: Path) -> None:
    (tmp_path / "high").mkdir()
    pictures = np.random.default_rng(3).integers(0, 256, (3, 112, 96, 3), np.uint8)
    for name, picture in zip(("a", "b", "c"), pictures, strict=True):
        write_png(tmp_path / "high" / f"{name}.png", picture)
    pairs = pair_folders(str(tmp_path / "high"))
    digest = hashlib.sha256((tmp_path / "high" / "b.png").read_bytes()).hexdigest()
    faces = PackedDataset(
        tmp_path, pictures, 0, np.zeros(3, np.int64), ("", "", ""), np.zeros((3, 5, 2)), ("", digest, "")
    )
    assert in_both(faces, pairs) == ("b",)
