"""evaluate.py as a user meets it: the commands of its docstring, and one sentence and code 2 for bad input."""

import functools
import hashlib
import json
import sys
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
import torch

from facesr.build import load_settings
from facesr.config import EvaluateSettings, SubmitSettings
from facesr.data.export import export_synthetic
from facesr.embedders.builtin import BuiltinEmbedder, SmallRecogniser
from facesr.errors import FaceSRError
from facesr.evaluation import run as evaluate
from facesr.evaluation import subjects
from facesr.methods import open as methods
from facesr.png import read_png
from facesr.script import run_script
from facesr.snapshots.snapshot import Snapshot, write_snapshot
from facesr.submission import command as submit
from tests.ranks import run_as_ranks

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights of the built-in judge."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "random.pt"
    torch.save(SmallRecogniser().state_dict(), path)
    return path


@pytest.fixture
def big(make_faces, tmp_path):
    """Three faces of the competition's size."""
    return make_faces(tmp_path / "big", 96, 112, ("301", "302", "303"))


@pytest.fixture
def run(tmp_path, weights, monkeypatch):
    """Runs evaluate.py's main with keys and returns its output folder."""
    monkeypatch.setenv("FACESR_CACHE", str(tmp_path / "cache"))

    def call(**keys) -> Path:
        given = {"device": "cpu", "out": tmp_path / "out", "embedder.weights": weights, "num_resamples": 50}
        given |= {"restored_dir": tmp_path / "kept", **keys}
        overrides = [f"{key}={value}" for key, value in given.items() if value is not None]
        evaluate.run(load_settings("evaluate", EvaluateSettings, overrides))
        return Path(given["out"] or "")

    return call


def summary(folder: Path) -> dict:
    return json.loads((folder / "summary.json").read_text())


def pictures_of(folder: Path) -> Path:
    """Returns where the pictures lie that an evaluation has scored."""
    return Path(summary(folder)["subject"]["pictures"])


def test_a_folder_of_restored_pictures(run, big, capsys):
    out = run(restored=big.restored, high=big.high, low=big.low)
    found = summary(out)
    assert found["num_pictures"] == 3 and found["ranking_judge"] == "builtin" and found["protocol"]["strict"]
    printed = capsys.readouterr().out
    assert f"{found['score']:.4f}" in printed and "report.html" in printed and "consistency" in printed


def test_the_same_question_again_is_answered_again_and_another_one_refused(run, big):
    out = run(restored=big.restored, high=big.high)
    first = summary(out)
    again = summary(run(restored=big.restored, high=big.high, batch_size=1))
    assert again["metrics"]["rmse"] == first["metrics"]["rmse"]
    assert again["score"] == pytest.approx(first["score"], abs=1e-6)
    with pytest.raises(FaceSRError, match=r"another evaluation \(low was null"):
        run(restored=big.restored, high=big.high, low=big.low)


@pytest.mark.slow
def test_the_originals_are_embedded_once_for_several_evaluations(run, big, tmp_path, monkeypatch):
    seen = []
    judged = BuiltinEmbedder.run
    monkeypatch.setattr(BuiltinEmbedder, "run", lambda self, pixels: seen.append(len(pixels)) or judged(self, pixels))
    first = summary(run(restored=big.restored, high=big.high, num_examples=0))
    cold = sum(seen)
    seen.clear()
    second = summary(run(restored=big.restored, high=big.high, num_examples=0, out=tmp_path / "second"))
    assert cold - sum(seen) == 3 and second["score"] == first["score"]
    seen.clear()
    run(restored=big.restored, high=big.high, num_examples=0, out=tmp_path / "third", reuse_embeddings=False)
    assert sum(seen) == 6


def test_a_method_restores_first_and_is_scored_from_its_files(run, big, tmp_path):
    out = run(method="bicubic", high=big.high, low=big.low)
    assert sorted(path.name for path in pictures_of(out).iterdir()) == ["301.png", "302.png", "303.png"]
    second = run(restored=pictures_of(out), high=big.high, low=big.low, out=tmp_path / "second")
    assert summary(second)["metrics"] == summary(out)["metrics"]
    assert summary(out)["subject"]["kind"] == "method" and "restore" in summary(out)["seconds"]


def test_pictures_without_originals_are_restored_and_not_scored(run, big, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(evaluate, "open_judges", lambda *arguments: pytest.fail("judges were loaded"))
    out = run(method="nearest", low=big.low)
    printed = capsys.readouterr().out
    assert "restored: 3 pictures in " in printed and "would give scores" in printed
    (folder,) = (tmp_path / "kept").glob("*/pictures")
    assert read_png(folder / "301.png").shape == (112, 96, 3) and not (out / "summary.json").exists()


def test_a_method_stands_beside_bicubic_which_scores_as_it_does_alone(run, big, tmp_path):
    before = datetime.now(UTC).replace(microsecond=0)
    found = summary(run(method="nearest", high=big.high, low=big.low))
    alone = summary(run(method="bicubic", high=big.high, low=big.low, out=tmp_path / "second"))
    assert alone["bicubic"] == {} and list(found["bicubic"]) == list(found["metrics"])
    assert found["bicubic"] == pytest.approx({name: each["mean"] for name, each in alone["metrics"].items()}, abs=1e-6)
    assert before <= datetime.fromisoformat(found["created"]) <= datetime.now(UTC)


@pytest.mark.slow
def test_files_of_an_earlier_restoration_do_not_stay(run, big):
    out = run(method="nearest", high=big.high, low=big.low)
    for folder in (big.high, big.low):
        (folder / "303.png").unlink()
    assert summary(run(method="nearest", high=big.high, low=big.low))["num_pictures"] == 2
    assert len(list(pictures_of(out).iterdir())) == 2


def test_a_snapshot_tells_its_judges(run, big, tmp_path, capsys):
    node = {"_target_": "facesr.models.interpolation.Bicubic"}
    path = tmp_path / "best.safetensors"
    write_snapshot(path, Snapshot({}, node, "run7", 1.5, "c" * 64, ("builtin",), {}, ""))
    out = run(method=path, high=big.high, low=big.low)
    found = summary(out)
    assert found["white_box"] is True and found["subject"]["name"] == "run7" and found["subject"]["kimg"] == 1.5
    assert "White-box" in capsys.readouterr().out


@pytest.mark.parametrize("keys", [{}, {"study": "tradeoff", "entries": "[{}]"}])
def test_a_snapshot_is_opened_once(run, big, tmp_path, monkeypatch, keys):
    path = tmp_path / "best.safetensors"
    node = {"_target_": "facesr.models.interpolation.Bicubic"}
    write_snapshot(path, Snapshot({}, node, "run7", 1.5, "c" * 64, (), {}, ""))
    opened = []
    plain = methods.read_snapshot
    monkeypatch.setattr(methods, "read_snapshot", lambda path: opened.append(path) or plain(path))
    asked = {key: value.format(path) for key, value in keys.items()} or {"method": path}
    run(**asked, high=big.high, low=big.low)
    assert opened == [path]


def test_an_archive_is_verified_and_its_claims_are_called_claims(run, big, tmp_path):
    packed(big, tmp_path)
    found = summary(run(submission=tmp_path / "team.zip", high=big.high, low=big.low))
    assert found["subject"]["kind"] == "submission" and found["subject"]["name"] == "Team"
    assert found["subject"]["loss_judges"] == [] and found["subject"]["loss_judges_are_a_claim"]
    (pictures,) = (tmp_path / "kept").glob("*/pictures")
    from_folder = summary(run(restored=pictures, high=big.high, low=big.low, out=tmp_path / "folder"))
    assert from_folder["metrics"] == found["metrics"] and from_folder["inputs"] == found["inputs"]
    # submit.py leaves its record beside the pictures.
    assert from_folder["subject"]["name"] == "bicubic" and from_folder["subject"]["loss_judges"] == []


def packed(big, folder: Path, method: str = "bicubic") -> Path:
    """Returns an honest archive."""
    keys = {
        "checkpoint": method,
        "low": big.low,
        "team": "Team",
        "out": folder / "team.zip",
        "restored_dir": folder / "kept",
    }
    keys |= {"device": "cpu", "restored_dir": folder / "kept"}
    submit.run(load_settings("submit", SubmitSettings, [f"{key}={value}" for key, value in keys.items()]))
    return folder / "team.zip"


def test_archives_of_one_name_keep_their_results(run, big, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    archives = [packed(big, tmp_path / method, method) for method in ("bicubic", "nearest")]
    for archive in archives:
        run(submission=archive, high=big.high, low=big.low, out=None, num_examples=0)
    folders = sorted((tmp_path / "runs" / "evaluations").iterdir())
    digests = sorted(hashlib.sha256(archive.read_bytes()).hexdigest()[:12] for archive in archives)
    assert [folder.name for folder in folders] == [f"team-{digest}" for digest in digests]
    assert {summary(folder)["subject"]["model"] for folder in folders} == {"bicubic", "nearest"}
    # The same path with other content is another question.
    run(submission=archives[0], high=big.high, low=big.low, num_examples=0)
    archives[0].write_bytes(archives[1].read_bytes())
    with pytest.raises(FaceSRError, match="holds another evaluation"):
        run(submission=archives[0], high=big.high, low=big.low, num_examples=0)
    assert summary(tmp_path / "out")["subject"]["model"] == "bicubic"


def test_an_archive_is_an_entry_of_the_tradeoff(run, big, tmp_path):
    out = run(study="tradeoff", entries=f"[{packed(big, tmp_path, 'nearest')}]", high=big.high, low=big.low)
    points = {entry["name"]: entry for entry in json.loads((out / "summary.json").read_text())["entries"]}
    assert list(points) == ["bicubic", "team"] and points["team"]["model"] == "nearest"
    assert points["team"]["means"]["rmse"] != points["bicubic"]["means"]["rmse"]


CHEAP = {
    "tampered archive": ({"submission": "bad.zip"}, "stray bytes|no ZIP archive|bytes that belong"),
    "tampered entry": ({"study": "tradeoff", "entries": "[bad.zip]"}, "stray bytes|no ZIP archive|bytes that belong"),
    "no snapshot among the entries": ({"study": "tradeoff", "entries": "[weights.pth]"}, "weights.pth"),
    "no snapshot": ({"method": "weights.pth"}, "weights.pth"),
    "names that do not fit": ({"restored": "few"}, "in high but not in few"),
    "groups that do not fit": ({"restored": "restored", "attributes": "absent.csv"}, "cannot be read"),
    "a folder of other files": ({"restored": "restored", "low": None, "out": "few"}, "holds other files"),
}


@pytest.mark.parametrize("case", CHEAP)
def test_what_is_cheap_to_check_comes_before_judges_are_loaded(run, big, monkeypatch, case):
    keys, reason = CHEAP[case]
    root = big.high.parent
    monkeypatch.chdir(root)
    monkeypatch.setattr(evaluate, "open_judges", lambda *arguments: pytest.fail("judges were loaded"))
    (root / "few").mkdir()
    (root / "few" / "301.png").write_bytes((big.restored / "301.png").read_bytes())
    if case.startswith("tampered"):
        (root / "bad.zip").write_bytes(b"x" + packed(big, root / "packed").read_bytes())
    (root / "weights.pth").write_bytes(b"x" * 100)
    with pytest.raises(FaceSRError, match=reason):
        run(**{"high": "high", "low": "low", "out": root / "result", **keys})
    assert not (root / "result").exists()


def test_the_power_an_archive_states_is_compared_with_a_limit(run, big, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("facesr.power.PowerMeter.stop", lambda meter: setattr(meter, "cpu_joules", 6000.0))
    packed(big, tmp_path)
    asked = {"submission": tmp_path / "team.zip", "high": big.high, "low": big.low}
    # 6000 J in the moment that three faces take are far above any limit; in a fraction of it they are within one.
    found = summary(run(**asked, power_limit_watts=3000, out=tmp_path / "above"))["subject"]
    assert found["energy_joules"] == 6000.0 and found["mean_watts"] > 3000 and found["within_power_limit"] is False
    assert "above the limit of 3000 W" in capsys.readouterr().out
    assert "above the limit of 3000 W" in (tmp_path / "above" / "report.html").read_text()
    found = summary(run(**asked, power_limit_watts=1e12, out=tmp_path / "within"))["subject"]
    assert found["within_power_limit"] is True and "limit" not in capsys.readouterr().out
    assert "within the limit of 1e+12 W" in (tmp_path / "within" / "report.html").read_text()
    made = {"method": "bicubic", "high": big.high, "low": big.low, "power_limit_watts": 3000}
    found = summary(run(**made, out=tmp_path / "made"))["subject"]
    assert found["energy_joules"] == 6000.0 == found["energy"]["nodes"][0]["cpu_joules"]
    assert found["within_power_limit"] is False
    page = (tmp_path / "made" / "report.html").read_text()
    assert "<h2>Energy</h2>" in page and "took 6,000.0 J" in page and "above the limit of 3000 W" in page
    with pytest.raises(FaceSRError, match=r"power_limit_watts checks one submission, method or restored folder"):
        run(**made, study="robustness")
    with pytest.raises(FaceSRError, match=r"power_limit_watts=0 is out of range; give a number above 0"):
        run(**asked, power_limit_watts=0)


def test_without_any_folder_built_in_faces_are_scored(run, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(subjects, "export_synthetic", functools.partial(export_synthetic, num_faces=2))
    out = run()
    assert summary(out)["num_pictures"] == 2 and summary(out)["subject"]["name"] == "bicubic"
    assert "synthetic faces" in capsys.readouterr().out
    assert read_png(out / "faces" / "high" / "000000.png").shape == (112, 96, 3)


def test_the_resolution_study(run, big, capsys):
    out = run(study="resolution", high=big.high)
    assert sorted(path.name for path in out.iterdir()) == ["question.json", "resolution.csv", "resolution.png"]
    assert "builtin" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("keys", "reason"),
    [
        ({"restored": "restored"}, "high has no value"),
        ({"restored": "restored", "method": "bicubic", "high": "high"}, "restored and method was given"),
        ({"high": "high"}, "none was given"),
        ({"method": "bicubic", "high": "high"}, "method restores low=DIR"),
        ({"method": "bicubic", "low": "low", "judges": "[builtin]"}, "judges compares with originals"),
        ({"method": "bicubic", "low": "low", "embedder": "facenet_casia"}, "embedder compares with originals"),
        ({"method": "bicubic", "low": "low", "attributes": "a.csv"}, "attributes compares with originals"),
        ({"restored": "absent", "high": "high"}, "absent is not a folder"),
        ({"restored": "low", "high": "high"}, "low-resolution size"),
        ({"restored": "restored", "high": "high", "protocol": "open", "protocol.strict": "false"}, "open has none"),
        ({"restored": "restored", "high": "high", "protocol.num_pictures": "300"}, "asks for 300"),
        ({"restored": "restored", "high": "high", "judges": "[nobody]"}, "nobody is unknown"),
        ({"restored": "restored", "high": "high", "batch_size": "0"}, "batch_size=0"),
        ({"restored": "restored", "high": "high", "self_ensemble": "true"}, "needs method="),
        ({"restored": "restored", "high": "high", "attributes": "absent.csv"}, "cannot be read"),
        ({"restored": "restored", "high": "high", "embedder.weights": "absent.pt"}, "is not a file"),
        ({"restored": "restored", "high": "high", "embedder.weights": "high/301.png"}, "not a readable weights file"),
        ({"method": "absent", "low": "low", "high": "high"}, "neither bicubic nor nearest"),
        ({"submission": "absent.zip", "low": "low", "high": "high"}, "is not a file"),
        ({"submission": "absent.zip", "high": "high", "out": None}, "absent.zip cannot be read"),
        ({"restored": "restored", "high": "high", "out": "high/eval"}, "out=high/eval lies in high=high"),
        ({"method": "bicubic", "high": "high", "low": "low", "out": "low"}, "lies in low=low"),
        ({"restored": "restored", "high": "high", "out": "restored/a/b"}, "lies in restored=restored"),
        ({"study": "resolution", "high": "high", "out": "high/eval"}, "lies in high=high"),
        (
            {"study": "tradeoff", "entries": "[restored]", "high": "high", "out": "restored/a"},
            "lies in entries: restored",
        ),
        ({"study": "colour", "high": "high"}, "study=colour is unknown"),
        ({"study": "resolution", "high": "high", "method": "bicubic"}, "alone"),
        ({"study": "resolution", "high": "absent"}, "absent is not a folder"),
    ],
)
def test_bad_input_is_one_sentence(run, big, monkeypatch, keys, reason):
    monkeypatch.chdir(big.high.parent)
    with pytest.raises(FaceSRError, match=reason) as caught:
        run(**keys)
    assert "\n" not in str(caught.value) and str(caught.value).endswith(".")


@pytest.mark.parametrize(
    ("argument", "reason"),
    [("restord=x", "restord"), ("batch_size=many", "batch_size"), ("protocol=pirm", "pirm"), ("restored=x", "high")],
)
def test_the_door_prints_one_line_and_exits_with_2(monkeypatch, capsys, tmp_path, argument, reason):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["evaluate.py", argument])
    with pytest.raises(SystemExit) as left:
        run_script(evaluate.run, "evaluate", EvaluateSettings)
    assert left.value.code == 2
    printed = capsys.readouterr().err
    assert printed.startswith("error: ") and reason in printed and printed.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_two_ranks_give_the_numbers_of_one(run, big, weights, tmp_path):
    arguments = f"method=bicubic high={big.high} low={big.low} embedder.weights={weights} num_resamples=50"
    arguments += f" device=cpu batch_size=1 out={tmp_path / 'two'}"
    ranks = run_as_ranks(2, "evaluate.py", arguments.split(), timeout_s=120)
    assert [rank.returncode for rank in ranks] == [0, 0]
    assert "report.html" in ranks[0].stdout and ranks[1].stdout == ""
    one = summary(run(method="bicubic", high=big.high, low=big.low, batch_size=1))
    two = summary(tmp_path / "two")
    assert two["environment"]["num_ranks"] == 2 and two["inputs"]["pixels_sha256"] == one["inputs"]["pixels_sha256"]
    for name, metric in one["metrics"].items():
        np.testing.assert_allclose(two["metrics"][name]["mean"], metric["mean"], rtol=0, atol=1e-6)
