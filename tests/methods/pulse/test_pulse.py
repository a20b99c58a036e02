"""method=pulse: kept results and resuming, what is refused, and the two scripts from folder to report."""

import csv
import json
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from facesr.build import known_names, load_settings
from facesr.config import EvaluateSettings, SubmitSettings
from facesr.errors import ConfigError, FaceSRError, ImageError
from facesr.evaluation import run as evaluate
from facesr.image import to_float
from facesr.methods.method import Method
from facesr.methods.pulse import pulse as module
from facesr.methods.pulse.kept import Kept
from facesr.methods.pulse.pulse import Pulse
from facesr.methods.pulse.status import STATUS, tell
from facesr.methods.restore import restore_pictures
from facesr.png import png_remark, read_png, write_png
from facesr.resample import downscale_uint8
from facesr.script import run_script
from facesr.submission import command as submit
from facesr.submission.verify import opened_submission
from facesr.tiles import Tiles
from tests.methods.pulse.conftest import random_faces, write_folders

CPU = torch.device("cpu")


@pytest.fixture
def counted(monkeypatch):
    """Counts the faces that are searched, and fails after `limit` of them where one is set."""
    searched: list[int] = []
    plain = module.search

    def count(generator, operator, low, *rest):
        if counting.limit is not None and sum(searched) >= counting.limit:
            raise KeyboardInterrupt
        searched.append(len(low))
        return plain(generator, operator, low, *rest)

    class Counting:
        limit: int | None = None

        @property
        def total(self) -> int:
            return sum(searched)

    counting = Counting()
    monkeypatch.setattr(module, "search", count)
    return counting


@pytest.fixture
def settings(pulse_settings):
    return replace(pulse_settings, steps=15, batch_size=2, eps=1e-3)


@pytest.fixture
def restorer(eigenfaces, settings, tmp_path):
    return Pulse(eigenfaces, settings, Kept(tmp_path / "kept"), {"_target_": "x"})


@pytest.fixture
def low():
    return downscale_uint8(random_faces(5, seed=9))


def test_a_stopped_search_does_only_the_rest(restorer, low, counted):
    counted.limit = 4
    with pytest.raises(KeyboardInterrupt):
        restorer(to_float(low))
    assert counted.total == 4
    counted.limit = None
    whole = restorer(to_float(low))
    assert counted.total == 5 and whole.shape == (5, 3, 28, 24)
    assert torch.equal(restorer(to_float(low)), whole) and counted.total == 5
    # However the faces are batched.
    assert torch.equal(torch.cat([restorer(to_float(low[i : i + 1])) for i in range(5)]), whole) and counted.total == 5


def test_another_question_is_searched_and_a_damaged_result_too(restorer, settings, eigenfaces, low, counted, tmp_path):
    restorer(to_float(low[:1]))
    kept = Kept(tmp_path / "kept")
    for changed in (replace(settings, seed=1), replace(settings, eps=1e-4), replace(settings, reuse=False)):
        Pulse(eigenfaces, changed, kept, {"_target_": "x"})(to_float(low[:1]))
    Pulse(eigenfaces, settings, kept, {"_target_": "x", "spread": 2.0})(to_float(low[:1]))
    assert counted.total == 5
    Pulse(eigenfaces, replace(settings, batch_size=7), kept, {"_target_": "x"})(to_float(low[:1]))
    assert counted.total == 5
    for path in (tmp_path / "kept").rglob("*.safetensors"):
        path.write_bytes(path.read_bytes()[:100])
    restorer(to_float(low[:1]))
    assert counted.total == 6


def test_a_picture_given_twice_is_searched_once(restorer, low, counted):
    twice = restorer(to_float(low[[0, 1, 0]]))
    assert counted.total == 2 and torch.equal(twice[0], twice[2])


def test_faces_larger_than_a_tile_are_not_cut(restorer, low):
    method = Method("pulse", restorer.eval(), whole_only=True)
    whole = restore_pictures(method, low[:1], device=CPU)
    np.testing.assert_array_equal(restore_pictures(method, low[:1], device=CPU, tiles=Tiles(16, 0)), whole)
    with pytest.raises(ImageError, match="an input of 8x8 and a generator of 24x28"):
        restore_pictures(method, np.zeros((1, 8, 8, 3), np.uint8), device=CPU)


# The scripts


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """Originals and inputs of three faces, and a cache of their own."""
    monkeypatch.setenv("FACESR_CACHE", str(tmp_path / "cache"))
    write_folders(tmp_path, num_faces=3)
    return tmp_path


@pytest.fixture
def keys(folders, eigenfaces_file):
    """Keys of both scripts."""
    found = {"method": "pulse", "generator": "eigenfaces", "generator.weights": eigenfaces_file, "low": folders / "low"}
    return found | {"protocol": "open", "pulse.steps": 12, "device": "cpu"}


@pytest.fixture
def run_evaluate(folders, keys):
    def run(**changed) -> Path:
        given = {**keys, "high": folders / "high", "out": folders / "out", "num_resamples": 20, "num_examples": 1}
        given |= {"restored_dir": folders / "kept"}
        given |= {"embedder.weights": folders / "judge.pt", **changed}
        evaluate.run(load_settings("evaluate", EvaluateSettings, [f"{key}={value}" for key, value in given.items()]))
        return Path(given["out"])

    return run


def pictures_of(folder: Path) -> Path:
    """Returns where the pictures lie that an evaluation has scored."""
    return Path(json.loads((folder / "summary.json").read_text())["subject"]["pictures"])


def test_evaluate_restores_scores_and_tells_what_it_is(run_evaluate, folders, capsys, counted):
    out = run_evaluate()
    printed = capsys.readouterr().out
    assert "synthetic method pulse-eigenfaces" in printed and "pulse_status.csv" in printed and "Synthetic: " in printed
    with (out / "pulse_status.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["id"] for row in rows] == ["0", "1", "2"] and counted.total == 3
    for row in rows:
        assert row["converged"] == ("yes" if float(row["best_l2"]) <= 1e-4 else "no")
        assert 1 <= int(row["steps"]) <= 12 and row["seed"] == "0"
        picture, small = (
            read_png(out / "generated" / f"{row['id']}.png"),
            read_png(out / "downscaled" / f"{row['id']}.png"),
        )
        assert np.abs(downscale_uint8(picture[None])[0].astype(int) - small).max() <= 1
        target = read_png(folders / "low" / f"{row['id']}.png") / 255.0
        assert float(((small / 255.0 - target) ** 2).mean()) == pytest.approx(float(row["best_l2"]), abs=5e-5, rel=0.05)
    remark = png_remark((pictures_of(out) / "0.png").read_bytes())
    assert remark.startswith("synthetic face") and "not the person" in remark
    found = json.loads((out / "summary.json").read_text())
    assert found["subject"]["synthetic"] is True and found["warnings"][0].startswith("Synthetic")
    assert "synthetic method" in (out / "report.html").read_text()
    # The folder says what it is wherever it is scored later, and nothing is searched again.
    capsys.readouterr()
    keys = [f"restored={pictures_of(out)}", f"high={folders / 'high'}", "protocol=open", f"out={folders / 'again'}"]
    keys += [f"embedder.weights={folders / 'judge.pt'}", "num_resamples=20", "device=cpu"]
    evaluate.run(load_settings("evaluate", EvaluateSettings, keys))
    assert "synthetic restored" in capsys.readouterr().out
    run_evaluate()
    assert counted.total == 3
    with pytest.raises(FaceSRError, match="another evaluation"):
        run_evaluate(**{"pulse.steps": 13})


def test_submit_packs_verifies_and_leaves_the_status(folders, keys, capsys):
    given = {**keys, "team": "Team", "out": folders / "team.zip", "restored_dir": folders / "kept"}
    settings = load_settings("submit", SubmitSettings, [f"{key}={value}" for key, value in given.items()])
    submit.run(settings)
    assert "pulse_status.csv" in capsys.readouterr().out
    (status,) = (folders / "kept").glob("pulse-eigenfaces-*/pulse_status.csv")
    assert len(status.read_text().splitlines()) == 4
    assert len(list((status.parent / "generated").glob("*.png"))) == 3
    with opened_submission(folders / "team.zip", settings.protocol, folders / "low") as submission:
        record = submission.manifest.restoration
        assert record.model == "pulse-eigenfaces" and len(record.config_sha256) == len(record.weights_sha256) == 64
        assert png_remark((submission.folder / "0.png").read_bytes()).startswith("synthetic face")
    status.unlink()
    submit.run(settings)
    assert "restored before" in capsys.readouterr().out and status.is_file()


@pytest.mark.slow
def test_reuse_false_searches_again_and_so_does_a_lost_cache(run_evaluate, folders, keys, capsys, counted):
    def is_whole(folder: Path) -> bool:
        ids = [line.split(",")[0] for line in (folder / STATUS).read_text().splitlines()]
        pictures = [sorted(path.name for path in (folder / kind).iterdir()) for kind in ("generated", "downscaled")]
        return ids == ["id", "0", "1", "2"] and pictures == [["0.png", "1.png", "2.png"]] * 2

    out = run_evaluate()
    assert counted.total == 3 and is_whole(out)
    run_evaluate(**{"pulse.reuse": "false", "out": folders / "again"})
    assert counted.total == 6 and "restored before" not in capsys.readouterr().out
    next((folders / "cache" / "pulse").rglob("*.safetensors")).unlink()
    run_evaluate()
    assert counted.total == 7 and "for 1 of 3 faces is no longer kept" in capsys.readouterr().out
    assert is_whole(out)
    (folders / "cache" / "pulse").rename(folders / "moved")
    given = {**keys, "team": "Team", "out": folders / "team.zip", "restored_dir": folders / "kept"}
    submit.run(load_settings("submit", SubmitSettings, [f"{key}={value}" for key, value in given.items()]))
    assert counted.total == 10 and "3 of 3 faces is no longer kept" in capsys.readouterr().out
    (status,) = (folders / "kept").glob(f"*/{STATUS}")
    assert is_whole(status.parent)


def test_nothing_is_removed_where_a_result_is_no_longer_kept(restorer, low, tmp_path):
    write_png(tmp_path / "low.png", low[0])
    write_png(tmp_path / "lost.png", low[1])
    restorer(to_float(low[:1]))
    result_of, out = partial(restorer.result_of, device=CPU), tmp_path / "out"
    tell(result_of, "", {"a": tmp_path / "low.png"}, out)
    before = {path: path.read_bytes() for path in out.rglob("*.*")}
    with pytest.raises(FaceSRError, match=r"for 1 of 2 faces is no longer kept, so .*status\.csv is left as it is"):
        tell(result_of, "", {"a": tmp_path / "low.png", "b": tmp_path / "lost.png"}, out)
    assert before == {path: path.read_bytes() for path in out.rglob("*.*")} and len(before) == 3


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"pulse.eps": 0}, r"pulse\.eps=0 is out of range; give a number above 0"),
        ({"pulse.eps": -1}, r"pulse\.eps=-1"),
        ({"pulse.learning_rate": 0}, r"pulse\.learning_rate=0"),
        ({"pulse.steps": 0}, r"pulse\.steps=0"),
        ({"pulse.seed": -1}, r"pulse\.seed=-1"),
        ({"pulse.num_seeds": 0}, r"pulse\.num_seeds=0"),
        ({"pulse.l2_weight": 0}, "both 0"),
        ({"pulse.geocross_weight": -1}, "geocross_weight=-1"),
        ({"pulse.schedule": "cosine"}, "schedule=cosine is unknown"),
        ({"pulse.optimizer": "lbfgs"}, "optimizer=lbfgs is unknown"),
        ({"pulse.operator": "box"}, "operator=box is unknown"),
        ({"pulse.precision": "float16"}, "precision=float16 is unknown"),
        ({"pulse.stepps": 1}, "stepps"),
        ({"generator": "facesr"}, "facesr is unknown; choose one of eigenfaces"),
        ({"generator.weights": "/nowhere.safetensors"}, "is not a file"),
        ({"self_ensemble": "true"}, "self_ensemble"),
        ({"protocol": "asc19_preliminary"}, "makes faces"),
        ({"low": "{tmp}/rgba"}, "RGB with alpha"),
        ({"low": "{tmp}/jpeg"}, "no PNG file"),
        ({"low": "{tmp}/wide"}, "0.png is 8x7, not 24x28 divided by 4"),
    ],
)
def test_bad_input_is_one_sentence(run_evaluate, folders, changed, words):
    for name in ("rgba", "jpeg", "wide"):
        (folders / name).mkdir()
    for number in range(3):
        cv2.imwrite(str(folders / "rgba" / f"{number}.png"), np.zeros((7, 6, 4), np.uint8))
        cv2.imwrite(str(folders / "jpeg" / f"{number}.jpg"), np.zeros((7, 6, 3), np.uint8))
        write_png(folders / "wide" / f"{number}.png", np.zeros((7, 8, 3), np.uint8))
    changed = {key: value.format(tmp=folders) if isinstance(value, str) else value for key, value in changed.items()}
    with pytest.raises(FaceSRError, match=words) as caught:
        run_evaluate(**changed)
    assert "\n" not in str(caught.value) and str(caught.value).endswith((".", "?"))


@pytest.mark.parametrize("key", ["generator.spread", "pulse.steps"])
def test_a_number_out_of_range_is_refused_before_a_folder_is_made(run_evaluate, folders, key):
    with pytest.raises(FaceSRError, match=f"{key}=-1 is out of range"):
        run_evaluate(**{key: -1, "out": folders / "never"})
    assert not (folders / "never").exists()


@pytest.mark.slow
def test_studies_take_it_and_tell_each_search(run_evaluate, capsys):
    out = run_evaluate(study="tradeoff", entries="[nearest,pulse]", method="null")
    assert "Synthetic: the faces of pulse are invented" in capsys.readouterr().out
    assert "the faces of pulse are invented" in (out / "report.html").read_text()
    entries = json.loads((out / "summary.json").read_text())["entries"]
    assert [entry["name"] for entry in entries] == ["bicubic", "nearest", "pulse"] and entries[2]["synthetic"] is True
    assert len((out / "details" / "02" / "pulse_status.csv").read_text().splitlines()) == 4
    out = run_evaluate(study="robustness", operators="[jpeg]", low="null", out=out.with_name("robust"))
    assert len(list((out / "details").glob("*/pulse_status.csv"))) == len(list((out / "low").iterdir())) > 1


def test_eigenfaces_of_nobodys_choice_say_that_they_know_synthetic_faces(
    run_evaluate, folders, capsys, monkeypatch, eigenfaces_file
):
    run_evaluate()
    assert "fitted to synthetic faces" not in capsys.readouterr().out
    monkeypatch.setattr("facesr.methods.pulse.eigenfaces.default_fit", lambda: eigenfaces_file)
    run_evaluate(**{"generator.weights": "null", "out": folders / "default"})
    assert capsys.readouterr().out.count("note: generator=eigenfaces is fitted to synthetic faces") == 1


def test_seed_0_is_valid_and_differs_from_seed_1(run_evaluate, folders):
    first = read_png(pictures_of(run_evaluate(**{"pulse.seed": 0})) / "0.png")
    other = read_png(pictures_of(run_evaluate(**{"pulse.seed": 1, "out": folders / "other"})) / "0.png")
    assert not np.array_equal(first, other)


def test_a_generator_without_latents_is_refused(folders, keys, pulse_settings):
    settings = load_settings("evaluate", EvaluateSettings, [f"{key}={value}" for key, value in keys.items()])
    settings.latent_generator = {"_target_": "facesr.models.interpolation.Bicubic"}
    with pytest.raises(ConfigError, match="not allowed as a latent generator"):
        module.open_pulse(settings, CPU)


@pytest.mark.parametrize("name", known_names("latent_generator"))
def test_every_generator_has_its_search(name):
    settings = load_settings("submit", SubmitSettings, [f"generator={name}"])
    module.check_pulse(settings.pulse)
    assert str(settings.latent_generator["_target_"]).startswith("facesr.methods.pulse.")
    if name.startswith("stylegan"):
        found = settings.pulse
        assert (found.steps, found.learning_rate, found.eps) == (100, 0.4, 2e-3)
        assert (found.l2_weight, found.geocross_weight, found.schedule) == (100, 0.05, "linear1cycledrop")


@pytest.mark.parametrize("script", ["evaluate", "submit"])
def test_the_door_knows_the_short_name(monkeypatch, capsys, script):
    main, schema = {"evaluate": (evaluate.run, EvaluateSettings), "submit": (submit.run, SubmitSettings)}[script]
    monkeypatch.setattr(sys, "argv", [f"{script}.py", "method=pulse", "generator=nothing"])
    with pytest.raises(SystemExit) as left:
        run_script(main, script, schema)
    printed = capsys.readouterr().err
    assert left.value.code == 2 and printed.startswith("error: ") and printed.count("\n") == 1
    assert "choose one of eigenfaces" in printed
