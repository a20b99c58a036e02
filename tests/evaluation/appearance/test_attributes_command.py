"""facesr attributes: the table, its sidecar, hostile names, and the groups that evaluate.py makes of it."""

import csv
import json
import os

import numpy as np
import pytest

from facesr.data.packed.reader import synthetic
from facesr.errors import DataError
from facesr.evaluation.appearance import command
from facesr.evaluation.appearance.column import Bins
from facesr.evaluation.attributes import EMPTY, binned, read_attributes
from facesr.png import write_png as write_png_there


def write_png(path, picture):
    path.parent.mkdir(parents=True, exist_ok=True)
    write_png_there(path, picture)


def plain(*colour):
    return np.full((112, 96, 3), colour, np.uint8)


def rows_of(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


HOSTILE = ("=1+1", "a,b", 'quo"te', "line\nfeed", "\x1b[31m", "<b>x", "-rf", "\u00fc")


def test_hostile_names_stay_one_cell_and_are_found_again(tmp_path, capsys):
    for name in HOSTILE:
        write_png(tmp_path / "in" / f"{name}.png", plain(200, 150, 120))
    out = tmp_path / "out.csv"
    assert command.main([str(tmp_path / "in"), str(out), "--no-pose"]) == 0
    assert "\x1b" not in capsys.readouterr().out
    rows = rows_of(out)
    assert len(rows) == len(HOSTILE) and {row["id"] for row in rows} >= {"'=1+1", "a,b", "line\nfeed", "'-rf", "\u00fc"}
    assert not out.read_text(encoding="utf-8").startswith(("=", "-")) and "\n=1+1" not in out.read_text("utf-8")
    assert read_attributes(out, HOSTILE)["grey"] == ("no",) * len(HOSTILE)


def test_sub_folders_and_formats_and_what_is_refused(tmp_path, capsys):
    folder, out = tmp_path / "in", tmp_path / "o.csv"

    def refused(*arguments) -> str:
        assert command.main([str(folder), *map(str, arguments)]) == 2
        assert not out.exists()
        return capsys.readouterr().err

    assert "does not exist" in refused(out)
    write_png(folder / "sub" / "a.png", plain(9, 9, 9))
    assert "does not end in .csv" in refused(tmp_path / "o.txt")
    assert "lies in" in refused(folder / "o.csv")
    assert "is unknown" in refused(out, "--model", "x")
    (folder / "sub" / "a.jpg").write_bytes(b"x")
    assert "two pictures have that name" in refused(out)
    (folder / "sub" / "a.jpg").rename(folder / "b.jpg")
    assert "not usable" in refused(out)
    (folder / "b.jpg").unlink()
    (folder / os.fsdecode(b"\xff.png")).write_bytes((folder / "sub" / "a.png").read_bytes())
    assert "not a name in UTF-8" in refused(out)
    (folder / os.fsdecode(b"\xff.png")).unlink()
    assert command.main([str(folder), str(out), "--no-pose"]) == 0
    assert [row["id"] for row in rows_of(out)] == ["sub/a"]
    assert command.main([str(folder), str(out)]) == 2 and "exists" in capsys.readouterr().err


def test_synthetic_faces_need_no_data_and_become_groups(tmp_path, monkeypatch):
    monkeypatch.setenv("FACESR_CACHE", str(tmp_path / "cache"))
    for number, picture in enumerate(synthetic(12, 1, 1).images):
        write_png(tmp_path / "in" / f"{number:02d}.png", np.ascontiguousarray(picture))
    out = tmp_path / "out.csv"
    assert command.main([str(tmp_path / "in"), str(out)]) == 0
    rows = rows_of(out)
    assert len(rows) == 12 and sum(bool(row["yaw"]) for row in rows) >= 10
    told = {one["name"]: one for one in json.loads((tmp_path / "out.columns.json").read_text())["columns"]}
    assert set(told) == set(rows[0]) - {"id"} and all(one["weakness"] and one["model"] for one in told.values())
    groups = read_attributes(out, [row["id"] for row in rows])
    assert sorted(groups["brightness"].count(name) for name in set(groups["brightness"])) == [4, 4, 4]
    assert set(groups["grey"]) <= {"yes", "no"}
    for row, group in zip(rows, groups["ita"], strict=True):
        if row["ita"] and float(row["ita"]) >= 55:
            assert group == "6: from 55 (very light)"


def test_bins_by_hand():
    published = Bins((10.0, 28.0), ("dark", "tan", "light"))
    cells = ("9.9", "10", "27.99", EMPTY, "28", "-3e1")
    assert binned(cells, published, "x") == (
        "1: below 10 (dark)",
        "2: 10 to 28 (tan)",
        "2: 10 to 28 (tan)",
        EMPTY,
        "3: from 28 (light)",
        "1: below 10 (dark)",
    )
    thirds = binned(tuple(str(number) for number in range(9)), None, "x")
    assert thirds == ("1: below 2.667",) * 3 + ("2: 2.667 to 5.333",) * 3 + ("3: from 5.333",) * 3
    with pytest.raises(DataError, match="x is a column of numbers, and 'tall' is none"):
        binned(("1", "tall"), published, "x")


def test_a_long_column_of_numbers_is_parted_without_a_sidecar(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("id,n\n" + "\n".join(f"{key},{key}" for key in range(60)))
    groups = read_attributes(path, [str(key) for key in range(60)])["n"]
    assert [groups.count(name) for name in sorted(set(groups))] == [20, 20, 20]


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        '{"columns": 3}',
        '{"columns": [{"name": "n", "is_number": true, "bins": {"edges": [2, 1], "names": []}}]}',
        '{"columns": [{"name": "n", "is_number": true, "bins": {"edges": [1], "names": ["one"]}}]}',
    ],
)
def test_a_sidecar_that_is_none_is_named(tmp_path, text):
    (tmp_path / "a.csv").write_text("id,n\nx,1\n")
    (tmp_path / "a.columns.json").write_text(text)
    with pytest.raises(DataError, match=r"a\.columns\.json does not describe columns"):
        read_attributes(tmp_path / "a.csv", ["x"])
