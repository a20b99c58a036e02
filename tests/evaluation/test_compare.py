"""facesr compare: what differs between runs, which is best, and what is no finished run."""

import csv
from pathlib import Path

import pytest
import yaml

from facesr.errors import DataError
from facesr.evaluation.compare import differing, flat, main, read_run, table_of


def write_run(folder: Path, lr: float, values: list[float], column: str = "is/builtin", **config: object) -> Path:
    folder.mkdir(parents=True)
    plain = {"name": folder.name, "device": "cpu", "seed": 1, "generator_optimizer": {"lr": lr}, **config}
    (folder / "config.yaml").write_text(yaml.safe_dump(plain))
    lines = [
        f"picture,kimg,{column},psnr_rgb",
        *(f"{place},6,{value},{20 + value}" for place, value in enumerate(values)),
    ]
    (folder / "final_scores.csv").write_text("\n".join(lines) + "\n")
    return folder


def test_best_first_with_the_settings_that_differ(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_run(tmp_path / "a", 0.1, [0.4, 0.6])
    write_run(tmp_path / "b", 0.2, [0.8, 0.8])
    write_run(tmp_path / "c", 0.3, [0.1, 0.3], device="cuda")
    assert main([*(str(tmp_path / name) for name in "abc"), "--out", str(tmp_path / "out")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[:4] == ["run", "generator_optimizer.lr", "kimg", "is/builtin"]
    assert [line.split()[:4] for line in lines[1:4]] == [
        ["b", "0.2", "6", "0.8000"], ["a", "0.1", "6", "0.5000"], ["c", "0.3", "6", "0.2000"],
    ]  # fmt: skip
    rows = list(csv.reader((tmp_path / "out" / "compare.csv").read_text().splitlines()))
    # Two pictures: resampling gives both, one of them twice, or the other; the middle 95 % reach both ends.
    assert rows[2][4] == "0.4000 to 0.6000" and rows[1][4] == "0.8000 to 0.8000" and rows[1][5] == "20.8000"
    assert "<th scope='row'>b</th>" in (tmp_path / "out" / "compare.html").read_text()


def test_lower_is_better_for_errors(tmp_path: Path) -> None:
    runs = [read_run(write_run(tmp_path / name, 0.1, [value], "rmse")) for name, value in (("x", 3.0), ("y", 2.0))]
    assert [row[0] for row in table_of(runs)] == ["run", "y", "x"] and differing(runs) == []


def test_nested_settings_are_dotted_and_free_keys_left_out() -> None:
    assert flat({"name": "x", "device": "cpu", "a": {"b": {"c": 1}, "device": 2}, "d": {}}) == {
        "a.b.c": 1, "a.device": 2, "d": {},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda folder: (folder / "final_scores.csv").unlink(), "it has not been validated yet"),
        (lambda folder: (folder / "config.yaml").unlink(), "it has no config.yaml"),
        (lambda folder: (folder / "final_scores.csv").write_text("picture,kimg,is/x\n0,6,many\n"), "damaged"),
        (lambda folder: (folder / "final_scores.csv").write_text(""), "damaged"),
        (lambda folder: (folder / "config.yaml").write_text("a: [\n"), "damaged"),
    ],
)
def test_what_is_no_finished_run(spoil, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spoil(write_run(tmp_path / "a", 0.1, [0.5]))
    assert main([str(tmp_path / "a"), "--out", str(tmp_path / "out")]) == 2
    told = capsys.readouterr().err
    assert words in told and told.count("\n") == 1 and not (tmp_path / "out").exists()


def test_runs_with_other_judges_are_not_mixed(tmp_path: Path) -> None:
    runs = [read_run(write_run(tmp_path / name, 0.1, [0.5], f"is/{name}")) for name in "ab"]
    with pytest.raises(DataError, match="ranked by is/a and is/b"):
        table_of(runs)
