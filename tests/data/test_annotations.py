"""Whose a picture is: folder names that are persons, folder names that are not, and tables."""

from pathlib import Path

import pytest

from facesr.data.prepare.annotations import (
    Annotation,
    identities_from_folders,
    match_annotations,
    read_annotations,
)
from facesr.errors import DataError


@pytest.mark.parametrize(
    ("sources", "identities"),
    [
        (["a.jpg", "b.jpg"], ["", ""]),
        (["ann/1.jpg", "ann/2.jpg", "bob/1.jpg"], ["ann", "ann", "bob"]),
        (["x/ann/1.jpg", "x/ann/2.jpg", "x/0000045/1.jpg", "c.jpg"], ["ann", "ann", "0000045", ""]),
        (["ann/1.jpg", "bob/1.jpg"], ["", ""]),  # no folder holds several pictures
        (["all/1.jpg", "all/2.jpg"], ["", ""]),  # one folder only
        (["00000/00000.png", "00000/00001.png", "69000/69000.png"], ["", "", ""]),
        (["train/1.jpg", "train/2.jpg", "VAL/1.jpg", "VAL/2.jpg"], ["", "", "", ""]),
    ],
)
def test_folders_that_name_persons_are_told_from_others(sources: list[str], identities: list[str]) -> None:
    assert identities_from_folders(sources, "auto") == identities


def test_the_rule_can_be_given() -> None:
    sources = ["00000/a.png", "b.png"]
    assert identities_from_folders(sources, "folder") == ["00000", ""]
    assert identities_from_folders(["ann/1.jpg", "ann/2.jpg", "bob/1.jpg"], "none") == ["", "", ""]


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_a_table_is_matched_by_the_longest_common_end(tmp_path: Path) -> None:
    table = write(
        tmp_path / "index.csv",
        "file,identity,landmarks,extra\n"
        "train/a.jpg,Ann,1 2 3 4 5 6 7 8 9 10,x\n"
        "dev/a.jpg,Bob,,\n"
        "a.jpg,Nobody,,\n"
        "sub\\\u00e9.jpg,Zo\u00eb,,\n",
    )
    annotations = read_annotations(table)
    (tmp_path / "train").mkdir()
    sources = ["a.jpg", "sub/\u00e9.jpg", "c.jpg", "xa.jpg", "other/a.jpg"]
    found = match_annotations(sources, tmp_path / "train", annotations)
    assert found[0] == Annotation("Ann", tuple(float(value) for value in range(1, 11)))
    assert [line.identity if line else None for line in found] == ["Ann", "Zo\u00eb", None, None, "Nobody"]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("name,identity\na,b\n", "needs a column 'file'"),
        ("file,attributes\na,b\n", "one of 'identity' and 'landmarks'"),
        ("", "needs a column 'file'"),
        ("file,landmarks\na.jpg,1 2 3\n", "line 2: landmarks must be 10 numbers"),
        ("file,landmarks\na.jpg,1 2 3 4 5 6 7 8 9 x\n", "line 2: landmarks must be 10 numbers"),
        ("file,landmarks\na.jpg,1 2 3 4 5 6 7 8 9 nan\n", "line 2: landmarks must be 10 numbers"),
    ],
)
def test_a_malformed_table_is_one_sentence(tmp_path: Path, text: str, sentence: str) -> None:
    with pytest.raises(DataError, match=sentence):
        read_annotations(write(tmp_path / "index.csv", text))


def test_a_file_may_be_written_with_dots_and_double_slashes(tmp_path: Path) -> None:
    table = write(tmp_path / "i.csv", "file,identity\n./a.png,Ann\ndir//b.png,Bob\n.\\dir\\.\\c.png,Cy\n,Dee\n,Eve\n")
    annotations = read_annotations(table)
    assert [name for name in annotations if name] == ["a.png", "dir/b.png", "dir/c.png"]
    found = match_annotations(["a.png", "dir/b.png", "dir/c.png", "d.png"], tmp_path, annotations)
    assert [line.identity if line else None for line in found] == ["Ann", "Bob", "Cy", None]


def test_a_file_named_twice_has_to_say_the_same(tmp_path: Path) -> None:
    alike = write(tmp_path / "alike.csv", "file,identity\na.png,Ann\n./a.png,Ann\n")
    assert read_annotations(alike) == {"a.png": Annotation("Ann")}
    with pytest.raises(DataError, match=r"differ.csv line 3: a.png is there twice and differs; keep one line\.$"):
        read_annotations(write(tmp_path / "differ.csv", "file,identity\na.png,Ann\n./a.png,Bob\n"))


def test_a_missing_or_binary_table_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        read_annotations(tmp_path / "none.csv")
    (tmp_path / "b.csv").write_bytes(b"\xff\xfe\x00\x81")
    with pytest.raises(DataError, match="UTF-8"):
        read_annotations(tmp_path / "b.csv")
