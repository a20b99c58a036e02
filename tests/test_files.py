"""Files that are whole or absent, whatever happens while they are written."""

from pathlib import Path

import pytest

from facesr.errors import DataError
from facesr.files import make_empty, whole_file


def test_a_file_takes_its_place_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    with whole_file(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old" and temporary.parent == tmp_path
    assert path.read_text() == "new" and list(tmp_path.iterdir()) == [path]


def test_what_fails_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(KeyError), whole_file(path) as temporary:
        temporary.write_text("half")
        raise KeyError
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_a_folder_that_is_missing_is_told(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), whole_file(tmp_path / "none" / "a.txt") as temporary:
        temporary.write_text("new")


def test_a_folder_is_made_and_emptied_of_pictures_alone(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "folder"
    make_empty(folder)
    for name in ("1.png", ".2.png.77.tmp", "notes.txt"):
        (folder / name).write_text("")
    make_empty(folder)
    assert [path.name for path in folder.iterdir()] == ["notes.txt"]
    with pytest.raises(DataError, match=r"notes\.txt cannot be written"):
        make_empty(folder / "notes.txt")
