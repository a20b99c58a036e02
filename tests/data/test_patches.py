"""Large pictures cut into patches: which ones, what is left out, and going on where a run was stopped."""

import csv
import itertools
import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from facesr.data.packed import writer as set_writer
from facesr.data.packed.reader import PackedDataset
from facesr.data.prepare import patches
from facesr.data.prepare.patches import Cutting, choose_places, cut_folder, detail_of, main, spread_over
from facesr.errors import DataError
from facesr.photos.trained import TrainedFraming
from facesr.png import write_png

SMALL = Cutting(size=16, margin=2, stride=16)


def picture(height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Pictures of 60x40, 20x20 and 100x36, one too small, one cut short, one copy, and something else."""
    source = tmp_path / "pictures"
    (source / "b").mkdir(parents=True)
    write_png(source / "a.png", picture(40, 60, 1))
    write_png(source / "b" / "c.png", picture(20, 20, 2))
    write_png(source / "b" / "d.png", picture(36, 100, 3))
    write_png(source / "small.png", picture(19, 60))
    (source / "broken.png").write_bytes((source / "a.png").read_bytes()[:700])
    (source / "copy.png").write_bytes((source / "a.png").read_bytes())
    (source / "notes.txt").write_text("no picture")
    return source


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_a_folder_becomes_a_prepared_set(folder: Path, tmp_path: Path) -> None:
    outcome = cut_folder(folder, tmp_path / "out", SMALL)
    assert (outcome.num_patches, outcome.num_pictures, outcome.num_found_done) == (19, 3, 0)
    assert outcome.left_out == {"damaged": 1, "duplicate": 1, "too small": 1}
    found = PackedDataset.open(tmp_path / "out")
    assert found.framing == TrainedFraming("pieces", 16, 16)
    assert found.images.shape == (19, 20, 20, 3) and found.margin == 2 and set(found.identity) == {-1}
    assert found.sources[:3] == ("a.png#4,2", "a.png#20,2", "a.png#36,2")
    for source, patch in zip(found.sources, found.images, strict=True):
        name, place = source.split("#")
        x, y = map(int, place.split(","))
        whole = {"a.png": picture(40, 60, 1), "b/c.png": picture(20, 20, 2), "b/d.png": picture(36, 100, 3)}[name]
        assert np.array_equal(patch, whole[y : y + 20, x : x + 20])
    reasons = {row["source"]: row["reason"] for row in rows_of(tmp_path / "out" / "rejected.csv")}
    assert reasons["small.png"] == "too small: 60x19 pixels, a patch with its margin takes 20x20"
    assert reasons["copy.png"] == "duplicate: same file as a.png" and reasons["broken.png"].startswith("damaged")
    facts = json.loads((tmp_path / "out" / "set.json").read_text())
    assert (facts["count"], facts["rejected"], facts["width"], facts["margin"]) == (19, 3, 16, 2)


def test_patches_cover_the_picture_and_share_what_is_left_over() -> None:
    places = choose_places(picture(40, 60), SMALL)
    assert places == [(4, 2), (20, 2), (36, 2), (4, 18), (20, 18), (36, 18)]
    assert choose_places(picture(20, 20), SMALL) == [(0, 0)]
    dense = choose_places(picture(20, 28), Cutting(16, 2, 4))
    assert dense == [(0, 0), (4, 0), (8, 0)]


def test_at_most_so_many_spread_evenly() -> None:
    some = choose_places(picture(36, 340), Cutting(16, 2, 16, max_per_picture=3))
    assert sorted(x for x, _ in some) == [48, 160, 272]  # the middles of its thirds


@pytest.mark.parametrize(("columns", "rows"), list(itertools.product((1, 2, 5, 10, 15), repeat=2)))
def test_however_many_are_spread_in_both_directions(columns: int, rows: int) -> None:
    grid = [(7 + 16 * x, 3 + 16 * y) for y in range(rows) for x in range(columns)]
    assert math.dist(spread_over(grid, 1)[0], grid[-1]) <= math.dist(grid[0], grid[-1]) / 2 + 16
    for count in sorted({*range(1, 24), 37, 49, 64, len(grid)} & {*range(1, len(grid) + 1)}):
        some = spread_over(grid, count)
        assert len(set(some)) == count and set(some) <= set(grid) and some == spread_over(grid, count)
        # No hole: whatever is asked for, the next one is hardly farther than in the best arrangement.
        between = 16 * max(math.sqrt(len(grid) / count), max(columns, rows) / count, 1)
        assert max(min(math.dist(place, one) for one in some) for place in grid) < 1.4 * between
        # No crowd: each half of a long side holds about half of them, beside a middle row or column.
        for axis, length in enumerate((columns, rows)):
            middle = (grid[0][axis] + grid[-1][axis]) / 2
            sides = [sum(one[axis] < middle for one in some), sum(one[axis] > middle for one in some)]
            assert length < 5 or abs(sides[0] - sides[1]) <= 2 + 0.25 * count, (count, sides)


def test_eleven_of_a_photograph_are_not_its_border() -> None:
    places = choose_places(picture(1356, 2040), Cutting(max_per_picture=11))
    assert len({x for x, _ in places}) >= 5 and len({y for _, y in places}) >= 5
    assert places == sorted(places, key=lambda place: place[::-1])


def test_flat_patches_are_left_out_where_asked(tmp_path: Path) -> None:
    half = picture(40, 60)
    half[:, 24:] = 128
    assert len(choose_places(half, SMALL)) == 6
    assert choose_places(half, Cutting(16, 2, 16, min_detail=30.0)) == [(4, 2), (4, 18)]
    assert detail_of(np.full((8, 8, 3), 9, np.uint8)) == 0.0 < 40 < detail_of(picture(32, 32))
    source = tmp_path / "flat"
    source.mkdir()
    write_png(source / "grey.png", np.full((40, 40, 3), 128, np.uint8))
    write_png(source / "noise.png", picture(40, 40))
    outcome = cut_folder(source, tmp_path / "out", Cutting(16, 2, 16, min_detail=1.0))
    assert outcome.left_out == {"flat": 1} and outcome.num_pictures == 1


@pytest.mark.parametrize("min_detail", [0.0, 1.0])
def test_a_picture_of_one_colour_is_listed(tmp_path: Path, min_detail: float) -> None:
    source, out = tmp_path / "pictures", tmp_path / "out"
    source.mkdir()
    write_png(source / "grey.png", np.full((40, 40, 3), (9, 128, 200), np.uint8))
    one_pixel = np.full((20, 20, 3), 128, np.uint8)
    one_pixel[9, 9, 2] = 129
    write_png(source / "nearly.png", one_pixel)
    write_png(source / "noise.png", picture(40, 40))
    outcome = cut_folder(source, out, Cutting(16, 2, 16, min_detail=min_detail))
    listed = (out / "rejected.csv").read_text(encoding="utf-8").splitlines()[1:]
    assert listed[0] == "grey.png,flat: of one colour"
    assert len(listed) == outcome.left_out["flat"] == (2 if min_detail else 1)
    assert outcome.num_patches == (4 if min_detail else 5)


def test_a_stopped_run_goes_on_to_the_same_bytes(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(set_writer, "SYNC_SECONDS", -1.0)
    cut_folder(folder, tmp_path / "whole", SMALL)
    plain, calls = patches.cut_file, []

    def interrupted(path: Path, *arguments: object) -> object:
        calls.append(path)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return plain(path, *arguments)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(patches, "cut_file", interrupted)
        assert main([str(folder), str(tmp_path / "parts"), "--size", "16", "--margin", "2"]) == 130
    outcome = cut_folder(folder, tmp_path / "parts", SMALL)
    assert outcome.num_found_done == 3
    assert contents(tmp_path / "parts") == contents(tmp_path / "whole")
    assert cut_folder(folder, tmp_path / "parts", SMALL).num_found_done == 6  # complete: nothing is done again


def test_the_command(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [str(folder), str(tmp_path / "out"), "--size", "16", "--margin", "2"]
    assert main(arguments) == 0
    printed = capsys.readouterr().out
    assert "19 patches of 3 pictures" in printed and "left out 3 (1 damaged, 1 duplicate, 1 too small)" in printed
    assert main(arguments) == 0 and "was complete already" in capsys.readouterr().out
    assert main([*arguments, "--stride", "8"]) == 2
    assert "stride (16 there, 8 now)" in capsys.readouterr().err
    assert main([*arguments, "--stride", "8", "--overwrite"]) == 0
    assert len(PackedDataset.open(tmp_path / "out")) > 19


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["absent", "out"], "absent does not exist"),
        (["empty", "out"], "empty holds no pictures"),
        (["pictures", "pictures/out"], "lies inside pictures"),
        (["pictures", "file"], "file is a file"),
        (["pictures", "out", "--size", "18"], "--size 18 must be a multiple of 4"),
        (["pictures", "out", "--size", "0"], "--size 0 is out of range; give a whole number from 4 to 4096."),
        (["pictures", "out", "--margin", "-1"], "--margin -1 is out of range"),
        (["pictures", "out", "--stride", "0"], "--stride 0 is out of range"),
        (["pictures", "out", "--max-per-picture", "0"], "--max-per-picture 0 is out of range"),
        (["pictures", "out", "--min-detail", "nan"], "--min-detail nan is no number"),
        (["pictures", "out", "--size", "512"], "none of the 6 pictures is usable"),
    ],
)
def test_bad_input_is_one_sentence(
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    words: str,
    code_of: Callable[..., int],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    assert code_of(main, options) == 2
    printed = capsys.readouterr().err
    assert printed.startswith("error: ") and words in printed and printed.count("\n") == 1


def test_no_usable_picture_is_an_error_of_the_data(tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "empty.png").touch()
    with pytest.raises(DataError, match=r"rejected\.csv says why"):
        cut_folder(tmp_path / "pictures", tmp_path / "out", SMALL)
