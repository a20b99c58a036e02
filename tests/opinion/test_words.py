"""Languages: the shipped ones are whole, one more is a file, and a wrong file is told in one sentence."""

from pathlib import Path

import pytest
import yaml

from facesr.errors import ConfigError
from facesr.opinion.words import chosen, read_languages

LANGUAGES = Path(__file__).resolve().parents[2] / "facesr" / "opinion" / "languages"
ENGLISH = yaml.safe_load((LANGUAGES / "en.yaml").read_bytes())


def test_shipped_languages_have_the_same_texts_and_braces(tmp_path: Path) -> None:
    # As files of a study they are checked as strictly as those of anybody else.
    for path in LANGUAGES.glob("*.yaml"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    assert sorted(read_languages(tmp_path)) == ["en", "zh"]
    assert read_languages(tmp_path)["zh"]("progress", number=3, count=9).count("3") == 1


def test_a_study_adds_a_language_and_changes_one(tmp_path: Path) -> None:
    (tmp_path / "pt-BR.yaml").write_text(
        yaml.safe_dump({**ENGLISH, "agree": "Concordo \u00e7"}, allow_unicode=True), "utf-8"
    )
    (tmp_path / "en.yaml").write_text(yaml.safe_dump({**ENGLISH, "agree": "Fine"}), "utf-8")
    found = read_languages(tmp_path)
    assert found["pt-BR"]("agree") == "Concordo \u00e7" and found["en"]("agree") == "Fine"
    assert chosen(found, "", "pt-br").code == "pt-BR"


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("de.yaml", {"agree": None}, "has to hold KEY: TEXT alone"),
        ("de.yaml", {"agre": "x"}, "has the unknown text 'agre'"),
        ("de.yaml", {"progress": "{number.__class__}"}, r"progress may have {count}, {number} in braces"),
        ("de.yaml", {"progress": "{number:>99}"}, r"progress may have {count}, {number} in braces"),
        ("de.yaml", {"progress": "{number:%Y}"}, "progress may have"),
        ("de.yaml", {"progress": "{count!z}"}, "progress may have"),
        ("de.yaml", {"progress": "{count!r} {number:{count}}"}, "progress may have"),
        ("de.yaml", {"progress": "{"}, "progress may have"),
        ("de.yaml", {"agree": "{count}"}, "agree may have nothing in braces"),
        ("de.yaml", {"direction": "up"}, "direction has to be ltr or rtl"),
        ("../x y.yaml", {}, ""),
        ("d_e.yaml", {}, "is not named like a language"),
    ],
)
def test_a_wrong_file_is_one_sentence(tmp_path: Path, name: str, change: dict[str, str], words: str) -> None:
    folder = tmp_path / "languages"
    folder.mkdir()
    (folder / name).write_text(yaml.safe_dump({**ENGLISH, **change}), "utf-8")
    if not words:
        assert set(read_languages(folder)) <= {"en", "zh", "de"}
        return
    with pytest.raises(ConfigError, match=words):
        read_languages(folder)


def test_a_missing_text_is_named(tmp_path: Path) -> None:
    (tmp_path / "de.yaml").write_text(
        yaml.safe_dump({key: text for key, text in ENGLISH.items() if key != "agree"}), "utf-8"
    )
    with pytest.raises(ConfigError, match="lacks 'agree'; its keys are those of the English file"):
        read_languages(tmp_path)


@pytest.mark.parametrize(
    ("asked", "accepted", "code"),
    [
        ("", "", "en"),
        ("zh", "en", "zh"),
        ("xx", "zh", "zh"),
        ("", "de, zh-TW;q=0.5", "zh"),
        ("", "zh;q=0.1, en;q=0.2", "en"),
        ("", "zh;q=0", "en"),
        ("", "zh;q=nonsense,,;;", "en"),
        ("", "*", "en"),
    ],
)
def test_the_language_of_a_reader(tmp_path: Path, asked: str, accepted: str, code: str) -> None:
    assert chosen(read_languages(tmp_path), asked, accepted).code == code
