"""The output folder is claimed for one question."""

import json
import os

import pytest

from facesr.errors import DataError
from facesr.evaluation.out_folder import check_free, claim, write_text

QUESTION = {"method": "bicubic", "protocol": {"name": "open"}, "judges": ["builtin"]}


def test_a_new_and_an_empty_folder_are_claimed(tmp_path):
    claim(tmp_path / "new" / "deep", QUESTION)
    assert json.loads((tmp_path / "new" / "deep" / "question.json").read_text()) == QUESTION
    (tmp_path / "empty").mkdir()
    claim(tmp_path / "empty", QUESTION)


def test_the_same_question_may_be_asked_again_and_first_loses_its_answer(tmp_path):
    claim(tmp_path / "out", QUESTION)
    (tmp_path / "out" / "summary.json").write_text("{}")
    (tmp_path / "out" / "per_image.csv").write_text("id")
    claim(tmp_path / "out", QUESTION)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["per_image.csv", "question.json"]


def test_another_question_is_refused_and_nothing_changes(tmp_path):
    claim(tmp_path / "out", QUESTION)
    (tmp_path / "out" / "summary.json").write_text("{}")
    with pytest.raises(DataError, match=r"another evaluation \(method was bicubic, now nearest\)"):
        claim(tmp_path / "out", {**QUESTION, "method": "nearest"})
    assert (tmp_path / "out" / "summary.json").is_file()


def test_a_folder_with_other_files_and_a_file_are_refused(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("x")
    with pytest.raises(DataError, match="holds other files"):
        claim(tmp_path / "mine", QUESTION)
    with pytest.raises(DataError, match="is a file"):
        claim(tmp_path / "mine" / "thesis.txt", QUESTION)


def test_a_question_that_was_refused_before_any_answer_binds_nobody(tmp_path):
    claim(tmp_path / "out", {**QUESTION, "method": "bicubik"})
    claim(tmp_path / "out", QUESTION)
    assert json.loads((tmp_path / "out" / "question.json").read_text()) == QUESTION


def test_a_question_that_cannot_be_read_is_another_one(tmp_path):
    claim(tmp_path / "out", QUESTION)
    (tmp_path / "out" / "summary.json").write_text("{}")
    (tmp_path / "out" / "question.json").write_text("[1")
    with pytest.raises(DataError, match="another evaluation"):
        claim(tmp_path / "out", QUESTION)


def test_a_write_that_fails_leaves_the_old_file_and_no_rest(tmp_path, monkeypatch):
    write_text(tmp_path / "a.csv", "old")

    def fail(source, target):
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr("pathlib.Path.replace", fail)
    with pytest.raises(DataError, match="No space left"):
        write_text(tmp_path / "a.csv", "new")
    assert [path.name for path in tmp_path.iterdir()] == ["a.csv"]
    assert (tmp_path / "a.csv").read_text() == "old"


def test_checking_writes_nothing_and_knows_part_of_the_question(tmp_path):
    check_free(tmp_path / "new", QUESTION)
    assert not (tmp_path / "new").exists()
    claim(tmp_path / "out", QUESTION)
    (tmp_path / "out" / "summary.json").write_text("{}")
    before_judges = {key: value for key, value in QUESTION.items() if key != "judges"}
    check_free(tmp_path / "out", before_judges)
    with pytest.raises(DataError, match=r"another evaluation \(method was bicubic, now nearest\)"):
        check_free(tmp_path / "out", {**before_judges, "method": "nearest"})
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / ".DS_Store").write_text("x")
    check_free(tmp_path / "mine", QUESTION)
    (tmp_path / "mine" / "thesis.txt").write_text("x")
    with pytest.raises(DataError, match="holds other files"):
        check_free(tmp_path / "mine", QUESTION)
