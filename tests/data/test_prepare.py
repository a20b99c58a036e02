"""The command: every kind of picture in, a set out; killed, gone on with, on any number of workers: the same bytes."""

import csv
import multiprocessing
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from facesr.data.packed.reader import PackedDataset
from facesr.data.prepare import common, prepare
from facesr.data.prepare import workers as pieces
from facesr.data.prepare.workers import Piece, crop_all
from facesr.errors import DataError
from facesr.photos.crop import Framing
from facesr.photos.trained import TrainedFraming

ROOT = Path(__file__).resolve().parents[2]
SIZE = ["--width", "12", "--height", "16"]


def picture(seed: int, width: int = 12, height: int = 16) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def save(path: Path, values: NDArray[np.uint8], **options: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(path, **options)


def folder_of(path: Path, count: int) -> Path:
    for number in range(count):
        save(path / f"{number:04d}.png", picture(number))
    return path


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_every_kind_of_picture_is_used_or_listed_with_the_reason(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "Bilder \u00e4\u4e2d"
    save(source / "plain.png", picture(1))
    save(source / "sub" / "\u00fc \u00e9.webp", picture(2), lossless=True)
    save(source / "grey-alpha.png", np.dstack([picture(3)[:, :, 0], np.zeros((16, 12), np.uint8)]))
    exif = Image.Exif()
    exif[0x0112] = 6  # stored lying on its side
    save(source / "turned.png", np.rot90(picture(4)).copy(), exif=exif)
    save(source / "twice.png", picture(5, 24, 32).repeat(1, axis=0))
    Image.fromarray(picture(6)).convert("CMYK").save(source / "cmyk.jpg")
    save(source / "again.png", picture(7))
    (source / "copy of again.png").write_bytes((source / "again.png").read_bytes())
    save(source / "tiny.png", picture(8, 4, 4))
    save(source / "wide.png", picture(8, 40, 16))
    (source / "cut.jpg").write_bytes((source / "cmyk.jpg").read_bytes()[:-300])
    (source / "empty.png").touch()
    (source / "text.jpg").write_text("no picture")
    (source / "notes.txt").write_text("not even looked at")
    (source / os.fsdecode(b"\xff.gif")).write_bytes(b"GIF89a")
    out = tmp_path / "set"
    assert prepare.main([str(source), str(out), *SIZE]) == 0
    told = capsys.readouterr().out
    assert "7 pictures" in told and "left out 7 (" in told and "2 unknown format" in told and "1 duplicate" in told

    index = rows(out / "index.csv")
    wanted = [
        "again.png",
        "cmyk.jpg",
        "grey-alpha.png",
        "plain.png",
        "sub/\u00fc \u00e9.webp",
        "turned.png",
        "twice.png",
    ]
    assert [row["source"] for row in index] == wanted
    found = PackedDataset.open(out)
    assert found.images.shape == (7, 16, 12, 3) and found.framing == TrainedFraming("as-is", 12, 16)
    assert np.array_equal(found.images[0], picture(7))
    assert (found.images[2] == 255).all()
    assert np.array_equal(found.images[3], picture(1)) and np.array_equal(found.images[4], picture(2))
    assert np.array_equal(found.images[5], picture(4))
    assert {row["source"]: row["reason"].split(":")[0] for row in rows(out / "rejected.csv")} == {
        "copy of again.png": "duplicate",
        "cut.jpg": "damaged",
        "empty.png": "empty file",
        "text.jpg": "unknown format",
        "tiny.png": "too small",
        "wide.png": "other proportions",
        "\\udcff.gif": "unknown format",
    }


def test_the_number_of_workers_does_not_change_a_byte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = folder_of(tmp_path / "source", 26)
    (source / "0003.png").write_bytes(b"damaged")
    (source / "0019.png").write_bytes((source / "0002.png").read_bytes())
    monkeypatch.setattr(prepare, "PIECE", 3)
    for workers in ("1", "3"):
        arguments = [str(source), str(tmp_path / workers), *SIZE, "--margin", "2", "--workers", workers]
        assert prepare.main(arguments) == 0
    assert contents(tmp_path / "1") == contents(tmp_path / "3")
    assert len(PackedDataset.open(tmp_path / "1")) == 24


def test_a_killed_worker_is_one_sentence(tmp_path: Path) -> None:
    source = folder_of(tmp_path, 3)
    piece = Piece((str(source / "0000.png"),), ((),), Framing(width=12, height=16))
    with pytest.raises(DataError, match="a worker process was killed"):
        for _ in crop_all(iter([piece] * 30), 2):
            for worker in multiprocessing.active_children():
                worker.kill()
            time.sleep(0.2)


# Slow enough to be killed in the middle, and everything that is done is on disk at once.
SLOWLY = """
import sys, time
from facesr.data.prepare import workers as pieces
from facesr.data.prepare import prepare
from facesr.data.packed import writer as set_writer
set_writer.SYNC_SECONDS, prepare.PIECE, quick = -1.0, 2, pieces.crop_piece
def slow(piece):
    time.sleep(0.02)
    return quick(piece)
pieces.crop_piece = slow
sys.exit(prepare.main(sys.argv[1:]))
"""


def start(code: str, arguments: list[str], **environment: str) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        cwd=ROOT,
        env={**os.environ, **environment},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def wait_until(condition: Callable[[], bool], seconds: float = 60.0) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.005)
    return True


@pytest.mark.slow
def test_killed_again_and_again_it_ends_with_the_same_bytes(tmp_path: Path) -> None:
    source = folder_of(tmp_path / "source", 60)
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert prepare.main([str(source), str(whole), *SIZE, "--workers", "1"]) == 0
    journal = parts / "journal.jsonl"

    def lines() -> int:
        return journal.read_bytes().count(b"\n") if journal.exists() else 0

    done: list[int] = []
    for _ in range(2):
        before = lines()
        process = start(SLOWLY, [str(source), str(parts), *SIZE, "--workers", "1"])
        assert wait_until(partial(lambda least: lines() >= least, before + 3))
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        done.append(lines())
        assert not (parts / "set.json").exists()
    assert 3 <= done[0] < done[1] < 31
    assert prepare.main([str(source), str(parts), *SIZE, "--workers", "1"]) == 0
    assert contents(parts) == contents(whole)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="finds processes by /proc")
def test_no_worker_outlives_a_killed_parent(tmp_path: Path) -> None:
    source, mark = folder_of(tmp_path / "source", 40), uuid.uuid4().hex
    code = SLOWLY.replace("0.02", "0").replace("prepare.PIECE, quick = -1.0, 2", "prepare.PIECE, quick = -1.0, 1")
    process = start(code, [str(source), str(tmp_path / "out"), *SIZE, "--workers", "2"], FACESR_TEST_MARK=mark)

    def family() -> int:
        count = 0
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                count += mark.encode() in (folder / "environ").read_bytes()
            except OSError:
                continue
        return count

    # The parent, multiprocessing's resource tracker, the fork server and the two workers.
    assert wait_until(lambda: family() >= 5 or process.poll() is not None)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert wait_until(lambda: family() == 0)


def test_duplicates_may_be_kept(tmp_path: Path) -> None:
    source = folder_of(tmp_path / "source", 2)
    (source / "z.png").write_bytes((source / "0000.png").read_bytes())
    assert prepare.main([str(source), str(tmp_path / "out"), *SIZE, "--duplicates", "keep"]) == 0
    assert [row["source"] for row in rows(tmp_path / "out" / "index.csv")] == ["0000.png", "0001.png", "z.png"]


def test_identities_and_landmarks_come_with_a_table(tmp_path: Path) -> None:
    source = tmp_path / "train"
    save(source / "a.png", picture(1))
    save(source / "b.png", np.zeros((32, 24, 3), np.uint8))
    table = tmp_path / "index.csv"
    table.write_text(
        "file,identity,landmarks\ntrain/a.png,Ann,1 2 3 4 5 6 7 8 9 10\ntrain/b.png,,0.5 0.5 8.5 4.5 0 0 0 0 0 0\n"
    )
    arguments = [str(source), str(tmp_path / "out"), *SIZE, "--index", str(table), "--margin", "3"]
    assert prepare.main(arguments) == 0
    first, second = rows(tmp_path / "out" / "index.csv")
    assert first["identity"] == "Ann" and second["identity"] == ""
    assert [float(word) for word in first["landmarks"].split()] == list(range(1, 11))  # of the crop, not the margin
    assert second["landmarks"].startswith("0.00 0.00 4.00 2.00 ")  # shrunk to half, pixel centres at whole numbers


def test_folders_name_persons_unless_told_otherwise(tmp_path: Path) -> None:
    for number, name in enumerate(["ann/1", "ann/2", "bob/1"]):
        save(tmp_path / "faces" / f"{name}.png", picture(number))
    for rule, names in (("auto", ["ann", "ann", "bob"]), ("none", ["", "", ""])):
        assert prepare.main([str(tmp_path / "faces"), str(tmp_path / rule), *SIZE, "--identity", rule]) == 0
        assert [row["identity"] for row in rows(tmp_path / rule / "index.csv")] == names


def test_the_same_command_on_a_complete_set_does_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = folder_of(tmp_path / "source", 3)
    for _ in range(2):
        assert prepare.main([str(source), str(tmp_path / "out"), *SIZE]) == 0
    assert "was complete already" in capsys.readouterr().out
    save(source / "new.png", picture(99))
    assert prepare.main([str(source), str(tmp_path / "out"), *SIZE]) == 2
    assert "pictures (3 there, 4 now)" in capsys.readouterr().err
    assert prepare.main([str(source), str(tmp_path / "out"), *SIZE, "--overwrite", "--limit", "2"]) == 0
    assert len(PackedDataset.open(tmp_path / "out")) == 2


def test_ffhq_pictures_become_the_competitions_size(tmp_path: Path) -> None:
    save(tmp_path / "ffhq" / "00000" / "00000.png", picture(0, 256, 256))
    save(tmp_path / "ffhq" / "00000" / "00001.png", picture(1, 100, 100))
    assert prepare.main([str(tmp_path / "ffhq"), str(tmp_path / "out"), "--crop", "ffhq", "--margin", "8"]) == 0
    found = PackedDataset.open(tmp_path / "out")
    assert found.images.shape == (2, 128, 112, 3) and found.identity.tolist() == [-1, -1]
    strict = ["--crop", "ffhq", "--max-enlargement", "1"]
    assert prepare.main([str(tmp_path / "ffhq"), str(tmp_path / "strict"), *strict]) == 0
    assert rows(tmp_path / "strict" / "rejected.csv")[0]["reason"].startswith(
        "too small: the crop would be enlarged 1.20"
    )


def test_progress_is_told_in_lines_where_there_is_no_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(common, "LINE_SECONDS", -1.0)
    monkeypatch.setattr(prepare, "PIECE", 2)
    assert prepare.main([str(folder_of(tmp_path / "source", 3)), str(tmp_path / "out"), *SIZE]) == 0
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(",")[0] for line in lines] == ["2 of 3 pictures", "3 of 3 pictures"]


def test_stopping_by_hand_leaves_work_that_is_gone_on_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    source, calls = folder_of(tmp_path / "source", 4), []

    def stop_at_second(piece: Piece) -> object:
        calls.append(piece)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return crop_piece(piece)

    crop_piece = pieces.crop_piece
    monkeypatch.setattr(pieces, "crop_piece", stop_at_second)
    monkeypatch.setattr(prepare, "PIECE", 2)
    assert prepare.main([str(source), str(tmp_path / "out"), *SIZE]) == 130
    assert "the same command goes on" in capsys.readouterr().err
    assert prepare.main([str(source), str(tmp_path / "out"), *SIZE]) == 0
    assert "went on after 2 pictures" in capsys.readouterr().out


def one_picture(folder: Path) -> None:
    save(folder / "source" / "a.png", picture(0))


def no_picture(folder: Path) -> None:
    (folder / "source").mkdir()
    (folder / "source" / "readme.txt").touch()


def a_useless_picture(folder: Path) -> None:
    no_picture(folder)
    (folder / "source" / "a.png").touch()


def out_is_a_file(folder: Path) -> None:
    one_picture(folder)
    (folder / "out").touch()


@pytest.mark.parametrize(
    ("make", "arguments", "sentence"),
    [
        (lambda folder: None, [], "source does not exist; give the folder"),
        (lambda folder: (folder / "source").touch(), [], "source is not a folder; give the folder"),
        (no_picture, [], "source holds no pictures; give the folder"),
        (a_useless_picture, [], "none of the 1 pictures is usable; "),
        (out_is_a_file, [], "out is a file; give a folder"),
        (one_picture, ["--width", "50"], "--width 50 --height 16: both must be multiples of 4"),
        (one_picture, ["--margin", "-1"], "--margin -1 is out of range; give a whole number from 0 to 1024."),
        (one_picture, ["--limit", "0"], "--limit 0 is out of range"),
        (one_picture, ["--workers", "0"], "--workers 0 is out of range"),
        (one_picture, ["--max-enlargement", "0"], "--max-enlargement 0 is out of range; give a number above 0"),
        (one_picture, ["--max-enlargement", "inf"], "--max-enlargement inf is out of range"),
        (one_picture, ["--width", "4000000"], "--width 4000000 is out of range; give a whole number from 4 to 4096."),
        (one_picture, ["--width", "wide"], "--width wide is no whole number; give one from 4 to 4096."),
        (one_picture, ["--crop", "foo"], "--crop foo is unknown; choose one of as-is, ffhq, detect, template."),
        (one_picture, ["--foo"], "--foo is not known here; see --help."),
        (one_picture, ["--width"], "--width expected one argument; see --help."),
        (one_picture, ["--device", "nonsense"], "--device nonsense is not usable on this machine"),
        (one_picture, ["--index", "/nowhere.csv"], "/nowhere.csv cannot be read: No such file or directory"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    make: Callable[[Path], None],
    arguments: list[str],
    sentence: str,
    code_of: Callable[..., int],
) -> None:
    make(tmp_path)
    assert code_of(prepare.main, [str(tmp_path / "source"), str(tmp_path / "out"), *SIZE, *arguments]) == 2
    assert (tmp_path / "out").is_file() or not (tmp_path / "out").exists() or "usable" in sentence
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 1 and told[0].startswith("error: ") and sentence in told[0]


def test_the_set_may_not_lie_among_its_pictures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one_picture(tmp_path)
    for out in (tmp_path / "source", tmp_path / "source" / "sub" / "out"):
        assert prepare.main([str(tmp_path / "source"), str(out), *SIZE]) == 2
        assert "put the prepared dataset elsewhere" in capsys.readouterr().err
        assert list((tmp_path / "source").iterdir()) == [tmp_path / "source" / "a.png"]


def test_a_table_of_other_pictures_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one_picture(tmp_path)
    (tmp_path / "t.csv").write_text("file,identity\nother/b.png,x\n")
    arguments = [str(tmp_path / "source"), str(tmp_path / "out"), *SIZE, "--index", str(tmp_path / "t.csv")]
    assert prepare.main(arguments) == 2
    assert "names none of the pictures" in capsys.readouterr().err


def test_the_command_runs_without_torch(tmp_path: Path) -> None:
    source = folder_of(tmp_path / "source", 2)
    code = "import sys; sys.modules['torch'] = None; "
    code += "from facesr.data.prepare.prepare import main; sys.exit(main(sys.argv[1:]))"
    assert start(code, [str(source), str(tmp_path / "out"), *SIZE]).wait() == 0
