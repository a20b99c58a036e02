"""submit.py as a user meets it: what it prints, what it writes, and one sentence and code 2 for bad input."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch

from facesr.build import load_settings
from facesr.config import SubmitSettings
from facesr.errors import FaceSRError
from facesr.png import write_png
from facesr.script import run_script
from facesr.snapshots.snapshot import Snapshot, write_snapshot
from facesr.submission import command as submit

pytestmark = pytest.mark.usefixtures("steady_code")


@pytest.fixture
def low(tmp_path: Path) -> Path:
    folder = tmp_path / "low"
    folder.mkdir()
    for key in ("1", "2"):
        picture = np.random.default_rng(int(key)).integers(0, 256, (28, 24, 3), dtype=np.uint8)
        write_png(folder / f"{key}.png", picture)
    return folder


def settings(tmp_path: Path, **keys: object) -> SubmitSettings:
    """Returns composed settings; None leaves a key as configs/submit.yaml has it."""
    honest = {"checkpoint": "bicubic", "low": tmp_path / "low", "team": "Team", "out": tmp_path / "out.zip"}
    given = {"device": "cpu", "restored_dir": tmp_path / "restored", **honest, **keys}
    return load_settings(
        "submit", SubmitSettings, [f"{key}={value}" for key, value in given.items() if value is not None]
    )


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_submitting_twice_and_verifying(tmp_path, low, capsys):
    submit.run(settings(tmp_path))
    printed = capsys.readouterr().out
    digest = sha256(tmp_path / "out.zip")
    assert digest in printed and "2 of 96x112" in printed and "faces/s" in printed and "verified" in printed
    submit.run(settings(tmp_path, out=tmp_path / "again.zip"))
    assert sha256(tmp_path / "again.zip") == digest
    submit.run(settings(tmp_path))
    assert "was there already" in capsys.readouterr().out
    absent = {"checkpoint": None, "team": None, "out": None}
    submit.run(settings(tmp_path, verify=tmp_path / "out.zip", **absent))
    assert "valid submission" in capsys.readouterr().out
    submit.run(settings(tmp_path, verify=tmp_path / "out.zip", low=None, **absent))
    assert "with the manifest only" in capsys.readouterr().out


def test_method_is_the_same_key(tmp_path, low):
    submit.run(settings(tmp_path))
    submit.run(settings(tmp_path, checkpoint=None, method="bicubic", out=tmp_path / "again.zip"))
    assert sha256(tmp_path / "out.zip") == sha256(tmp_path / "again.zip")


@pytest.mark.slow
def test_a_run_with_flip_ensemble(tmp_path, low, capsys):
    from facesr.submission.verify import opened_submission

    node = {"_target_": "facesr.models.interpolation.Bicubic"}
    snapshot = Snapshot({"unused": torch.zeros(1)}, node, "demo", 1.5, "b" * 64, ("builtin",), {}, "")
    path = tmp_path / "runs" / "demo" / "snapshots" / "best.safetensors"
    with pytest.raises(FaceSRError, match="unused"):
        write_snapshot(path, snapshot)
        submit.run(settings(tmp_path, checkpoint=path))
    from facesr.models.sicnn import SICNN

    network = SICNN()
    node = {"_target_": "facesr.models.sicnn.SICNN"}
    digest = write_snapshot(path, Snapshot(network.state_dict(), node, "demo", 1.5, "b" * 64, ("builtin",), {}, ""))
    given = settings(tmp_path, checkpoint=tmp_path / "runs" / "demo", self_ensemble=True)
    submit.run(given)
    with opened_submission(tmp_path / "out.zip", given.protocol, low) as submission:
        record = submission.manifest.restoration
    assert (record.model, record.weights_sha256, record.kimg) == ("demo", digest, 1.5)
    assert record.loss_judges == ("builtin",) and record.flip_ensemble


BAD = {
    "missing low": ({"low": "absent"}, "absent is not a folder"),
    "no low": ({"low": None}, "give low=DIR"),
    "empty low": ({"low": "{tmp}/empty"}, "holds no PNG files"),
    "low of another size": ({"low": "{tmp}/large"}, "48x56 where protocol asc19_final gives out 24x28"),
    "text among the pictures": ({"low": "{tmp}/mixed"}, "readme.txt"),
    "empty team": ({"team": "''"}, "team is empty"),
    "no team": ({"team": None}, "team is empty"),
    "odd team": ({"team": "a/b"}, "team is 'a/b'"),
    "out of another kind": ({"out": "{tmp}/out.tar"}, "does not end in .zip"),
    "no out": ({"out": None}, "give out=FILE.zip"),
    "out below a file": ({"out": "{tmp}/file/out.zip"}, "cannot be written"),
    "out is a folder": ({"out": "{tmp}/folder.zip"}, "is a folder"),
    "restored_dir below a file": ({"restored_dir": "{tmp}/file/restored"}, "restored_dir=DIR"),
    "no checkpoint": ({"checkpoint": None}, "give one of checkpoint="),
    "two checkpoints": ({"method": "nearest"}, "give one of checkpoint="),
    "unknown checkpoint": ({"checkpoint": "runs/absent"}, "runs/absent is neither"),
    "run without a snapshot": ({"checkpoint": "{tmp}/empty"}, "best.safetensors"),
    "damaged checkpoint": ({"checkpoint": "{tmp}/damaged.safetensors"}, "damaged.safetensors"),
    "unknown device": ({"device": "tpu"}, "device=tpu is unknown"),
    "batch of none": ({"batch_size": 0}, "batch_size=0"),
    "unknown protocol": ({"protocol": "asc20"}, "asc20"),
    "unknown key": ({"teem": "x"}, "teem"),
    "wrong type": ({"batch_size": "many"}, "batch_size"),
    "verify and out": (
        {"verify": "x.zip", "checkpoint": None, "team": None},
        "out has no meaning together",
    ),
    "verify nothing": ({"verify": "x.zip", "checkpoint": None, "team": None, "out": None}, "x.zip is not a file"),
}


@pytest.mark.parametrize("case", BAD, ids=list(BAD))
def test_bad_input_is_one_sentence(tmp_path, low, case):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    (tmp_path / "folder.zip").mkdir()
    for name, height, width in (("large", 56, 48), ("mixed", 28, 24)):
        (tmp_path / name).mkdir()
        write_png(tmp_path / name / "1.png", np.zeros((height, width, 3), np.uint8))
    (tmp_path / "mixed" / "readme.txt").touch()
    (tmp_path / "damaged.safetensors").write_bytes(b"\x10" * 100)
    keys, word = BAD[case]
    keys = {key: value.format(tmp=tmp_path) if isinstance(value, str) else value for key, value in keys.items()}
    with pytest.raises(FaceSRError) as caught:
        submit.run(settings(tmp_path, **keys))
    sentence = str(caught.value)
    assert word in sentence and "\n" not in sentence and sentence.endswith(".")
    assert not (tmp_path / "out.zip").exists()


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["checkpoint=bicubic", "low=absent", "team=A", "out=a.zip"], "absent is not a folder"),
        (["checkpoint=bicubic", "teem=A"], "teem"),
        (["verify=absent.zip"], "absent.zip is not a file"),
    ],
)
def test_exit_code_and_the_single_line(monkeypatch, capfd, arguments, word):
    monkeypatch.setattr("sys.argv", ["submit.py", *arguments])
    with pytest.raises(SystemExit) as caught:
        run_script(submit.run, "submit", SubmitSettings)
    printed = capfd.readouterr()
    assert (caught.value.code, printed.out) == (2, "")
    assert printed.err.startswith("error: ") and printed.err.count("\n") == 1 and word in printed.err


@pytest.mark.parametrize("name", ["\u00e9quipe (1)", "\u6e05\u534e", "a=b", "it's", "a#b; c"])
def test_paths_hold_any_letters(tmp_path, low, monkeypatch, capfd, name):
    folder = tmp_path / name
    low.rename(folder)
    keys = {"checkpoint": "bicubic", "low": folder, "out": folder.with_suffix(".zip"), "team": "A", "device": "cpu"}
    arguments = [f"{key}={value}" for key, value in keys.items()]
    monkeypatch.setattr("sys.argv", ["submit.py", *arguments, f"restored_dir={tmp_path}/restored"])
    with pytest.raises(SystemExit) as caught:
        run_script(submit.run, "submit", SubmitSettings)
    assert caught.value.code == 0 and folder.with_suffix(".zip").is_file(), capfd.readouterr().err


@pytest.mark.parametrize("letter", ["\x1b", "\n", "\u202e", "\udcff"])
def test_the_name_of_an_archive_commands_no_terminal(tmp_path, low, capsys, letter):
    submit.run(settings(tmp_path))
    capsys.readouterr()
    path = tmp_path / f"a{letter}[2Jb.zip"
    (tmp_path / "out.zip").rename(path)
    asked = settings(tmp_path, checkpoint=None, team=None, out=None)
    asked.verify = str(path)
    submit.run(asked)
    assert capsys.readouterr().out.splitlines()[0] == f"{str(path)!a} is a valid submission"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(FaceSRError) as caught:
        submit.run(asked)
    assert str(caught.value).startswith(f"{str(path)!a} has a comment") and str(caught.value).isprintable()


@pytest.mark.parametrize("keys", [{"restored_dir": "low"}, {"out": "low/x.zip"}, {"out": "low/new/x.zip"}])
def test_a_folder_that_is_read_is_never_written_into(tmp_path, low, keys):
    before = sorted(path.name for path in low.iterdir())
    with pytest.raises(FaceSRError, match="lies in low="):
        submit.run(settings(tmp_path, **{key: tmp_path / value for key, value in keys.items()}))
    assert sorted(path.name for path in low.iterdir()) == before
    assert [path.name for path in tmp_path.iterdir()] == ["low"]


def test_what_a_file_manager_left_is_passed_over(tmp_path, low):
    submit.run(settings(tmp_path))
    for name in ("._1.png", ".DS_Store", "Thumbs.db"):
        (low / name).write_bytes(b"Mac OS X")
        (next((tmp_path / "restored").iterdir()) / "pictures" / name).write_bytes(b"Mac OS X")
    submit.run(settings(tmp_path, out=tmp_path / "again.zip"))
    assert (tmp_path / "again.zip").read_bytes() == (tmp_path / "out.zip").read_bytes()


def test_more_ranks_are_refused(tmp_path, low, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(FaceSRError, match="one process"):
        submit.run(settings(tmp_path))


@pytest.mark.slow
@pytest.mark.shared
def test_the_official_validation_pictures(tmp_path, shared, capsys):
    submit.run(settings(tmp_path, low=shared / "asc19" / "val_LR"))
    assert "300 of 96x112" in capsys.readouterr().out
