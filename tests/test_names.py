"""Names of files: what folders of pictures may hold beside pictures, and that no name commands a terminal."""

import pytest

from facesr.errors import FaceSRError
from facesr.names import is_left_behind, is_passed_over, one_line, shown, shown_cell, shown_path

ESCAPE, OVERRIDE, UNDECODABLE = chr(27), chr(0x202E), chr(0xDCFF)


@pytest.mark.parametrize("name", ["._1.png", ".DS_Store", "Thumbs.db", "thumbs.db", "desktop.ini", "__MACOSX"])
def test_what_file_managers_leave_behind(name: str) -> None:
    assert is_left_behind(name) and is_passed_over(name)


@pytest.mark.parametrize("name", ["1.png", "_1.png", "thumbs.png", "a._b.png", "MACOSX"])
def test_pictures_are_not_passed_over(name: str) -> None:
    assert not is_left_behind(name) and not is_passed_over(name)


def test_hidden_files_are_passed_over_but_nobody_left_them_behind() -> None:
    assert is_passed_over(".a.png") and not is_left_behind(".a.png")


def test_names_are_quoted_and_cut() -> None:
    assert shown(["a", "b", "c", "d"]) == "'a', 'b', 'c' and 1 more"
    assert shown([f"{ESCAPE}[2J\n"]) == r"'\x1b[2J\n'"
    assert len(shown(["x" * 1000])) == 61


@pytest.mark.parametrize("name", ["a.zip", "runs/Team 1.zip", f"{chr(0xE9)}quipe.zip"])
def test_plain_paths_are_shown_as_they_are(name: str) -> None:
    assert shown_path(name) == name == one_line(name)


@pytest.mark.parametrize("letter", [ESCAPE, "\n", "\r", OVERRIDE, UNDECODABLE, "\0"])
def test_no_name_commands_a_terminal(letter: str) -> None:
    name = f"a{letter}b.zip"
    assert shown_path(name) == ascii(name)
    assert one_line(name) == ascii(name)[1:-1]
    sentence = str(FaceSRError(f"{name} is no archive."))
    assert sentence.isprintable() and sentence == f"{ascii(name)[1:-1]} is no archive."


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1"])
def test_no_spreadsheet_takes_a_name_for_a_formula(text: str) -> None:
    assert shown_cell(text) == f"'{text}"
    assert shown_cell(f"a{text}") == f"a{text}"
