"""Command lines of the programs: one sentence for each mistake, and a range for each number."""

import ast
import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import cv2
import numpy as np
import pytest

from facesr.arguments import Parser, number
from facesr.data import export
from facesr.data.packed.reader import PackedDataset
from facesr.data.prepare.annotations import read_annotations
from facesr.errors import SubmissionError
from facesr.methods.pulse import eigenfaces
from facesr.methods.record import parse_restoration
from facesr.metrics.perceptual import niqe
from facesr.ranges import Range
from facesr.training.distill import distill

ROOT = Path(__file__).resolve().parent.parent


def test_every_program_has_the_parser_of_one_sentence_and_numbers_with_ranges() -> None:
    wrong = []
    for path in sorted((ROOT / "facesr").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            if ast.unparse(node.func) in ("argparse.ArgumentParser", "ArgumentParser"):
                wrong.append(f"{path.name}: {ast.unparse(node)}")
            wrong += [
                f"{path.name}: {ast.unparse(node)}"
                for keyword in node.keywords
                if keyword.arg == "type" and ast.unparse(keyword.value) in ("int", "float")
            ]
    assert wrong == []


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--share", "2"], "--share 2 is out of range; give a number from 0 to 1."),
        (["--share", "nan"], "--share nan is no number; give one from 0 to 1."),
        (["--share", "half"], "--share half is no number; give one from 0 to 1."),
        (["-n", "1.5"], "--num 1.5 is no whole number; give one from 1 to 9."),
        (
            ["--num", "9" * 5000],
            "--num 9999999999999999999999999999999999999999... is no whole number; give one from 1 to 9.",
        ),
        (["--way", "c"], "--way c is unknown; choose one of a, b."),
        (["--wya", "\x1b[2J"], "'--wya \\x1b[2J' is not known here; see --help."),
        (["--share"], "--share expected one argument; see --help."),
    ],
)
def test_a_mistake_is_one_sentence(arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    parser = Parser()
    parser.add_argument("--share", type=number(Annotated[float, Range(0, 1)]))
    parser.add_argument("-n", "--num", type=number(Annotated[int, Range(1, 9)]))
    parser.add_argument("--way", choices=("a", "b"))
    with pytest.raises(SystemExit) as left:
        parser.parse_args(arguments)
    assert left.value.code == 2 and capsys.readouterr().err == f"error: {sentence}\n"
    assert parser.parse_args(["--share", "0.5", "-n", "9"]).num == 9


@pytest.mark.parametrize(
    ("main", "arguments", "words"),
    [
        (export.main, ["builtin", "out", "--num", "-3"], "--num -3 is out of range"),
        (export.main, ["builtin"], "out must be given"),
        (eigenfaces.main, ["fit", "set", "out.safetensors", "--faces", "0"], "--faces 0 is out of range"),
        (eigenfaces.main, ["draw"], "command draw is unknown; choose one of fit, sample."),
        (niqe.main, ["score", "x", "--model", "y", "--strip-blocks", "0"], "--strip-blocks 0 is out of range"),
        (distill.main, ["train", "--out", "x", "--faces", "y", "--kimg", "inf"], "--kimg inf is out of range"),
        (distill.main, ["train", "--out", "x", "--faces", "y", "--batch", "0"], "--batch 0 is out of range"),
    ],
)
def test_programs_refuse_numbers_before_they_begin(
    main: Callable[[list[str]], int],
    arguments: list[str],
    words: str,
    code_of: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert code_of(main, arguments) == 2
    told = capsys.readouterr().err
    assert words in told and told.count("\n") == 1 and told.startswith("error: ")


def test_niqe_names_a_picture_with_alpha_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((200, 200, 4), np.uint8))
    model = niqe.NiqeModel("m", np.zeros(36), np.eye(36), "0" * 64)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(niqe, "read_model", lambda path: model)
        assert niqe.main(["score", str(tmp_path), "--model", "x"]) == 2
    told = capsys.readouterr().err
    assert told.count("a.png") == 1 and "RGBA" in told


# Files of text that begin with a byte order mark, as Windows' editors write them


def marked(path: Path) -> None:
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())


def test_a_byte_order_mark_is_read_over(tmp_path: Path) -> None:
    table = tmp_path / "table.csv"
    table.write_text("file,identity\na.png,anna\n", encoding="utf-8")
    marked(table)
    assert read_annotations(table)["a.png"].identity == "anna"
    folder = tmp_path / "set"
    folder.mkdir()
    np.save(folder / "images.npy", np.zeros((1, 8, 8, 3), np.uint8))
    about = {"format": 1, "count": 1, "height": 8, "width": 8, "margin": 0}
    (folder / "set.json").write_text(json.dumps(about), encoding="utf-8")
    (folder / "index.csv").write_text("source,identity\na.png,anna\n", encoding="utf-8")
    for name in ("set.json", "index.csv"):
        marked(folder / name)
    assert PackedDataset.open(folder).sources == ("a.png",)
    with pytest.raises(SubmissionError, match="has the format none"):
        parse_restoration(b"\xef\xbb\xbf{}", "restored.json")


# They read files of the kernel, which nobody edits.
THE_KERNELS = ("processes.py", "power.py", "provenance.py")


def test_readers_of_text_pass_over_a_byte_order_mark() -> None:
    """JSON, CSV and YAML are opened as utf-8-sig everywhere; what is appended to is not read so."""
    wrong = []
    for path in sorted((ROOT / "facesr").rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        wrong += [
            f"{path.name}: {line.strip()}"
            for line in text.splitlines()
            if path.name not in THE_KERNELS
            and ('read_text(encoding="utf-8")' in line or 'open(newline="", encoding="utf-8")' in line)
        ]
    assert wrong == []
