"""A prepared dataset is complete or can be gone on with, whatever happens while it is written."""

import csv
import json
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

import numpy as np
import pytest
from numpy.typing import NDArray

from facesr.data.packed import writer as set_writer
from facesr.data.packed.dataset_format import Row, SetPlan, write_dataset
from facesr.data.packed.reader import PackedDataset
from facesr.data.packed.writer import JOURNAL, PARTIAL, DatasetWriter
from facesr.errors import DataError

SOURCES = ["a.png", "b.png", "\u00e9.png", "d.png", "e.png", "f.png"]
PLAN = SetPlan(8, 4, 1, SOURCES, ["Ann", "", "Ann", "", "", "Bob"], {"crop": "as-is", "limit": None}, 1)
LANDMARKS = " ".join(f"{number}.00" for number in range(10))
PIECES: list[list[Row]] = [
    [Row("00", "", LANDMARKS), Row("", "damaged: x")],
    [Row("22"), Row("33")],
    [Row("", "no face: y"), Row("55")],
]


@pytest.fixture(autouse=True)
def every_piece_is_synced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(set_writer, "SYNC_SECONDS", -1.0)


def pictures(piece: int) -> NDArray[np.uint8]:
    count = sum(not row.reason for row in PIECES[piece])
    return np.random.default_rng(piece).integers(0, 256, (count, *PLAN.picture_shape), np.uint8)


def write(folder: Path, first: int = 0, last: int = 3, *, finish: bool = True) -> None:
    with DatasetWriter(folder, PLAN) as writer:
        assert writer.num_done == 2 * first
        for piece in range(first, last):
            writer.append(pictures(piece), PIECES[piece])
        if finish:
            writer.finish()


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_a_whole_set_is_what_the_reader_reads(tmp_path: Path) -> None:
    write(tmp_path)
    assert sorted(contents(tmp_path)) == ["images.npy", "index.csv", "rejected.csv", "set.json"]
    found = PackedDataset.open(tmp_path)
    assert np.array_equal(found.images, np.concatenate([pictures(piece) for piece in range(3)]))
    assert (found.margin, found.sources) == (1, ("a.png", "\u00e9.png", "d.png", "f.png"))
    assert found.identity.tolist() == [0, 0, -1, 1]
    with (tmp_path / "index.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["position"] for row in rows] == ["0", "1", "2", "3"]
    assert rows[0]["landmarks"] == LANDMARKS and rows[3]["sha256"] == "55"
    assert (tmp_path / "rejected.csv").read_text().splitlines() == [
        "source,reason",
        "b.png,damaged: x",
        "e.png,no face: y",
    ]
    facts = json.loads((tmp_path / "set.json").read_text())
    assert {key: facts[key] for key in ("format", "width", "height", "count", "margin", "rejected", "version")} == {
        "format": 1,
        "width": 8,
        "height": 4,
        "count": 4,
        "margin": 1,
        "rejected": 2,
        "version": 1,
    }


def test_a_dataset_in_memory_is_written_as_one_that_is_made_piece_by_piece(tmp_path: Path) -> None:
    rows = [row for piece in PIECES for row in piece if not row.reason]
    plan = replace(PLAN, sources=SOURCES[:4], identities=["Ann", "", "Ann", "7"])
    stack = np.concatenate([pictures(piece) for piece in range(3)])
    with DatasetWriter(tmp_path / "pieces", plan) as writer:
        writer.append(stack, rows)
        writer.finish()
    (tmp_path / "whole").mkdir()
    write_dataset(tmp_path / "whole", plan, stack, rows)
    pieces, whole = contents(tmp_path / "pieces"), contents(tmp_path / "whole")
    assert whole["index.csv"] == pieces["index.csv"] and sorted(whole) == ["images.npy", "index.csv", "set.json"]
    assert whole["set.json"] == pieces["set.json"].replace(b'  "rejected": 0,\n', b"")
    opened = [PackedDataset.open(tmp_path / name) for name in ("pieces", "whole")]
    assert np.array_equal(opened[0].images, opened[1].images) and opened[0].landmarks.shape == (4, 5, 2)


def test_what_kills_leave_beside_the_tables_is_removed(tmp_path: Path) -> None:
    write(tmp_path, 0, 2, finish=False)
    for name in (".index.csv.77.tmp", ".set.json.78.tmp"):
        (tmp_path / name).write_text("half")
    write(tmp_path, 2)
    assert sorted(contents(tmp_path)) == ["images.npy", "index.csv", "rejected.csv", "set.json"]


@pytest.mark.parametrize("done", [0, 1, 2, 3])
@pytest.mark.parametrize("torn", [b"", b'[["44", ""', b"\x00\x00"])
def test_going_on_gives_the_same_bytes(tmp_path: Path, done: int, torn: bytes) -> None:
    write(tmp_path / "whole")
    write(tmp_path / "parts", 0, done, finish=False)
    with (tmp_path / "parts" / PARTIAL).open("ab") as images, (tmp_path / "parts" / JOURNAL).open("ab") as journal:
        images.write(b"half a pict")
        journal.write(torn)
    write(tmp_path / "parts", done)
    assert contents(tmp_path / "parts") == contents(tmp_path / "whole")


def test_pictures_lost_with_the_power_are_made_again(tmp_path: Path) -> None:
    write(tmp_path / "whole")
    write(tmp_path / "parts", 0, 2, finish=False)
    partial = tmp_path / "parts" / PARTIAL
    partial.write_bytes(partial.read_bytes()[:-1])
    write(tmp_path / "parts", 1)
    assert contents(tmp_path / "parts") == contents(tmp_path / "whole")


def test_one_source_may_give_several_pictures(tmp_path: Path) -> None:
    plan = replace(PLAN, sources=SOURCES[:3], identities=["", "Ann", ""])
    stack = np.random.default_rng(0).integers(0, 256, (4, *plan.picture_shape), np.uint8)
    with DatasetWriter(tmp_path, plan) as writer:
        writer.append(stack[:3], [Row("00", parts=("0,0", "8,0", "0,4"))])
        with pytest.raises(ValueError, match="do not fit"):
            writer.append(stack[:1], [Row("11", parts=("0,0", "8,0"))])
    with DatasetWriter(tmp_path, plan) as writer:  # goes on
        assert (writer.num_done, writer.num_kept) == (1, 3)
        writer.append(stack[3:], [Row("11"), Row("", "damaged: x")])
        writer.finish()
    found = PackedDataset.open(tmp_path)
    assert found.sources == ("a.png#0,0", "a.png#8,0", "a.png#0,4", "b.png")
    assert np.array_equal(found.images, stack) and found.identity.tolist() == [-1, -1, -1, 0]
    with DatasetWriter(tmp_path, plan) as writer:
        assert (writer.is_complete, writer.num_done, writer.num_kept, writer.num_rejected) == (True, 3, 4, 1)


@pytest.mark.parametrize("step", ["_write_tables", "_write_about"])
def test_killed_while_finishing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    write(tmp_path / "whole")

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(DatasetWriter, step, die)
        with pytest.raises(KeyboardInterrupt):
            write(tmp_path / "parts")
    assert not (tmp_path / "parts" / "set.json").exists()
    write(tmp_path / "parts", 3)
    assert contents(tmp_path / "parts") == contents(tmp_path / "whole")


def test_a_complete_set_is_left_as_it_is(tmp_path: Path) -> None:
    write(tmp_path)
    before = contents(tmp_path)
    with DatasetWriter(tmp_path, PLAN) as writer:
        assert writer.is_complete and (writer.num_kept, writer.num_done) == (4, 6)
    assert contents(tmp_path) == before


@pytest.mark.parametrize("finish", [False, True])
def test_other_settings_are_refused_with_the_differing_keys(tmp_path: Path, finish: bool) -> None:
    write(tmp_path, last=3, finish=finish)
    before = contents(tmp_path)
    other = replace(PLAN, margin=2, settings={"crop": "ffhq", "limit": None})
    with pytest.raises(DataError, match=r"crop \(as-is there, ffhq now\), margin \(1 there, 2 now\)"):
        DatasetWriter(tmp_path, other)
    assert contents(tmp_path) == before
    with DatasetWriter(tmp_path, other, overwrite=True) as writer:
        assert (writer.num_done, writer.is_complete) == (0, False)


def test_overwriting_goes_on_with_its_own_unfinished_work(tmp_path: Path) -> None:
    write(tmp_path, 0, 2, finish=False)
    with DatasetWriter(tmp_path, PLAN, overwrite=True) as writer:
        assert writer.num_done == 4
    write(tmp_path, 2)
    with DatasetWriter(tmp_path, PLAN, overwrite=True) as writer:  # a complete one is made anew
        assert writer.num_done == 0


def test_files_of_unknown_origin_are_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "images.npy").write_bytes(b"mine")
    with pytest.raises(DataError, match="--overwrite"):
        DatasetWriter(tmp_path, PLAN)
    assert contents(tmp_path) == {"images.npy": b"mine"}


@pytest.mark.parametrize("name", ["set.json", JOURNAL])
def test_a_damaged_folder_is_one_sentence(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("{nonsense\n")
    with pytest.raises(DataError, match=r"is damaged; give --overwrite"):
        DatasetWriter(tmp_path, PLAN)


def test_two_runs_at_once_are_refused(tmp_path: Path) -> None:
    with DatasetWriter(tmp_path, PLAN), pytest.raises(DataError, match="by another run"):
        DatasetWriter(tmp_path, PLAN)
    with DatasetWriter(tmp_path, PLAN) as writer:
        assert writer.num_done == 0


def test_no_file_is_open_when_it_is_renamed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows would refuse that."""
    opened: list[IO[Any]] = []
    plain_open, plain_replace = Path.open, Path.replace

    def noted(path: Path, *arguments: Any, **named: Any) -> IO[Any]:
        opened.append(plain_open(path, *arguments, **named))
        return opened[-1]

    def checked(path: Path, target: Path) -> Path:
        assert not [file for file in opened if file.name == str(path) and not file.closed]
        return plain_replace(path, target)

    monkeypatch.setattr(Path, "open", noted)
    monkeypatch.setattr(Path, "replace", checked)
    write(tmp_path)
    assert {Path(file.name).name for file in opened} >= {PARTIAL, JOURNAL}
    assert (tmp_path / "set.json").exists()


def test_no_usable_picture_is_one_sentence(tmp_path: Path) -> None:
    plan = replace(PLAN, sources=SOURCES[:1], identities=[""])
    with DatasetWriter(tmp_path, plan) as writer:
        writer.append(np.empty((0, *plan.picture_shape), np.uint8), [Row("", "empty file")])
        with pytest.raises(DataError, match=r"none of the 1 pictures is usable; .*rejected.csv says why"):
            writer.finish()
    assert "a.png,empty file" in (tmp_path / "rejected.csv").read_text()
    assert sorted(contents(tmp_path)) == ["rejected.csv"]  # nothing to go on with: the file may be mended


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("journal_is_left", [False, True])
def test_sources_that_were_mended_are_read_again(tmp_path: Path, overwrite: bool, journal_is_left: bool) -> None:
    plan = replace(PLAN, sources=SOURCES[:1], identities=[""])
    nothing, one = np.empty((0, *plan.picture_shape), np.uint8), np.ones((1, *plan.picture_shape), np.uint8)
    with DatasetWriter(tmp_path, plan) as writer:
        writer.append(nothing, [Row("", "empty file")])
        if not journal_is_left:
            with pytest.raises(DataError, match="none of the 1"):
                writer.finish()
    with DatasetWriter(tmp_path, plan, overwrite=overwrite) as writer:
        assert (writer.num_done, writer.num_rejected) == (0, 0)
        writer.append(one, [Row("11")])
        writer.finish()
    assert np.array_equal(PackedDataset.open(tmp_path).images, one)
    assert sorted(contents(tmp_path)) == ["images.npy", "index.csv", "rejected.csv", "set.json"]


@contextmanager
def full_disk(file_bytes: int) -> Iterator[None]:
    """The limit on file size stands in for a full disk: writing begins to fail in the middle of the pictures."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (file_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_is_one_sentence_and_can_be_gone_on_with(tmp_path: Path) -> None:
    write(tmp_path / "whole")
    picture_bytes = int(np.prod(PLAN.picture_shape))
    for num_bytes, first in ((300, 0), (256 + 2 * picture_bytes, 0)):
        with full_disk(num_bytes), pytest.raises(DataError) as caught:
            write(tmp_path / "parts", first)
        assert "cannot be written: File too large" in str(caught.value)
        assert "the same command again, it goes on where it stopped" in str(caught.value)
        assert not (tmp_path / "parts" / "set.json").exists()
    write(tmp_path / "parts", 1)
    assert contents(tmp_path / "parts") == contents(tmp_path / "whole")


def test_a_folder_that_cannot_be_made_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="cannot be written: Not a directory"):
        DatasetWriter(tmp_path / "file" / "out", PLAN)
