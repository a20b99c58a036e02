"""Ratings and raters as CSV files: what is written is read again, and nothing else is believed."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from facesr.errors import DataError
from facesr.opinion.ratings import Rater, Rating, raters_csv, ratings_csv, read_raters, read_ratings

AT = datetime(2026, 3, 1, 12, 0, 0, 250_000, UTC)
RATING = Rating("r0001", 3, "main", "acr", "000004", "=cmd|' /C", "", 4, None, 2.25, AT)
RATER = Rater("r0001", AT, None, False, "zh", 1.5, 1280, 720, 3, True)


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    ratings = (
        RATING,
        replace(RATING, place=4, part="trap", expected=1, face='\'a, "b"\n-', method="-m"),
        replace(RATING, place=5, kind="same", answer=0, expected=1, other="000004"),
        replace(RATING, place=6, kind="pair", answer=1, other="bicubic", method="''x"),
    )
    (tmp_path / "ratings.csv").write_text(ratings_csv(ratings), newline="")
    (tmp_path / "raters.csv").write_text(raters_csv([RATER, replace(RATER, rater="r2", finished=AT)]), newline="")
    assert read_ratings(tmp_path / "ratings.csv") == ratings
    assert read_raters(tmp_path / "raters.csv") == (RATER, replace(RATER, rater="r2", finished=AT))
    assert "\n=" not in ratings_csv(ratings) and ",=" not in ratings_csv(ratings)


def test_further_columns_are_written_and_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "raters.csv"
    path.write_text(raters_csv([RATER], ["excluded"], {"r0001": ["-yes"]}))
    assert path.read_text().splitlines()[1].endswith(",'-yes")
    assert read_raters(path) == (RATER,)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"answer": 6}, "answer must be from 1 to 5 for acr"),
        ({"answer": 0}, "answer must be from 1 to 5"),
        ({"kind": "pair", "other": "b", "answer": 2}, "from 0 to 1 for pair"),
        ({"kind": "pair", "answer": 1}, "other must be empty for acr, and only there"),
        ({"other": "x"}, "other must be empty"),
        ({"kind": "dcr"}, "kind must be one of"),
        ({"part": "extra"}, "part must be one of"),
        ({"part": "trap"}, "expected is missing"),
        ({"seconds": float("nan")}, "seconds must be a number"),
        ({"rater": ""}, "rater is empty"),
    ],
)
def test_a_wrong_value_names_its_line(tmp_path: Path, change: dict[str, object], told: str) -> None:
    path = tmp_path / "ratings.csv"
    path.write_text(ratings_csv([RATING, replace(RATING, place=9, **change)]))  # type: ignore[arg-type]
    with pytest.raises(DataError, match=rf"ratings.csv, line 3: .*{told}"):
        read_ratings(path)


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "ratings.csv"
    for text, told in (
        ("", "has no column rater"),
        (ratings_csv([RATING, RATING]), "two answers at place 3"),
        (ratings_csv([RATING]).replace(",4,,", ",4"), "cells are missing"),
        (ratings_csv([RATING]).replace("+00:00", ""), "needs its time zone"),
        (ratings_csv([RATING]).replace(",3,main", ",\u0663,main"), "place must be a whole number"),
    ):
        path.write_text(text, encoding="utf-8")
        with pytest.raises(DataError, match=told):
            read_ratings(path)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="it is no text"):
        read_ratings(path)
    with pytest.raises(DataError, match="cannot be read"):
        read_ratings(tmp_path / "none.csv")
    (tmp_path / "raters.csv").write_text(raters_csv([RATER, RATER]))
    with pytest.raises(DataError, match="comes twice"):
        read_raters(tmp_path / "raters.csv")
