"""Groups of faces: reading the table, and the scores per group."""

import numpy as np
import pytest

from facesr.errors import DataError
from facesr.evaluation.attributes import read_attributes, scores_by_group
from facesr.evaluation.identities import read_identities


def write(path, text: str):
    path.write_text(text, encoding="utf-8")
    return path


def test_groups_are_read_in_the_order_of_ids(tmp_path):
    path = write(tmp_path / "a.csv", "\ufeffid,light,hat\nb,day,yes\na.png,night,\n\nunused,day,no\n")
    assert read_attributes(path, ["a", "b"]) == {"light": ("night", "day"), "hat": ("not given", "yes")}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "first line id,NAME"),
        ("name,light\na,day\n", "first line id,NAME"),
        ("id\na\n", "first line id,NAME"),
        ("id,light,light\na,day,day\n", "first line id,NAME"),
        ("id,light\na,day,more\n", "line 2 has 3 cells"),
        ("id,light\na,day\na,night\n", "names id a twice"),
        ("id,light\na,day\n", "no line for id 'b'"),
        ("id,age\n" + "\n".join(f"{key},{key}" for key in ["a", "b", *map(str, range(40))]), None),
    ],
)
def test_a_table_that_does_not_fit(tmp_path, text, reason):
    path = write(tmp_path / "a.csv", text)
    if reason is None:
        assert len(read_attributes(path, ["a", "b"])["age"]) == 2
        reason = "age has 42 different values"
        ids = ["a", "b", *map(str, range(40))]
    else:
        ids = ["a", "b"]
    with pytest.raises(DataError, match=reason):
        read_attributes(path, ids)


def test_a_file_that_is_none(tmp_path):
    with pytest.raises(DataError, match="cannot be read"):
        read_attributes(tmp_path / "absent.csv", ["a"])
    (tmp_path / "binary.csv").write_bytes(b"id,x\na,\xff\xfe\n")
    with pytest.raises(DataError, match="UTF-8"):
        read_attributes(tmp_path / "binary.csv", ["a"])


def test_scores_by_group_are_the_means_of_their_members():
    found = scores_by_group(
        {"light": ("day", "night", "day")}, {"is/x": np.array([0.2, 0.9, 0.4])}, num_resamples=50, seed=0
    )
    assert list(found["light"]) == ["day", "night"]
    assert found["light"]["day"]["is/x"].mean == pytest.approx(0.3)
    assert (found["light"]["day"]["is/x"].count, found["light"]["night"]["is/x"].count) == (2, 1)


@pytest.mark.parametrize("first", [0, 20150000, -1e9])
def test_numbers_without_thresholds_are_parted_into_thirds_however_far_from_0(tmp_path, first):
    ids = [f"{place:03d}" for place in range(300)]
    path = write(tmp_path / "a.csv", "id,day\n" + "".join(f"{key},{first + int(key):.0f}\n" for key in ids))
    groups = read_attributes(path, ids)["day"]
    sizes = [groups.count(name) for name in dict.fromkeys(groups)]
    assert len(sizes) == 3 and max(abs(size - 100) for size in sizes) <= 3
    assert groups == tuple(sorted(groups))


def test_names_in_unicode_form_d_are_those_of_form_c(tmp_path):
    composed, decomposed = "Jos\u00e9", "Jose\u0301"
    assert read_attributes(write(tmp_path / "a.csv", f"id,age\n{decomposed},old\n"), [composed]) == {"age": ("old",)}
    assert read_identities(write(tmp_path / "i.csv", f"id,identity\n{decomposed}.png,A\n"), [composed]) == ["A"]
