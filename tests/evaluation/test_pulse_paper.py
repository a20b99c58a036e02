"""study=pulse_paper: faces, rows, degraded searches and known latents, from keys to files, and what is refused."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from facesr.build import load_settings
from facesr.config import EvaluateSettings, OpinionSettings
from facesr.embedders.builtin import SmallRecogniser
from facesr.errors import FaceSRError, WeightsError
from facesr.evaluation import run as evaluate
from facesr.evaluation.studies import pulse_paper
from facesr.evaluation.studies.paper_rows import enlarged, judge_view
from facesr.evaluation.studies.paper_search import chance_distance, degraded_cases, direction_distance
from facesr.methods.pulse import pulse as pulse_module
from facesr.methods.pulse.eigenfaces import write_fit
from facesr.methods.pulse.eigenfaces_fit import fit
from facesr.methods.pulse.operator import Square
from facesr.methods.record import SYNTHETIC
from facesr.metrics.perceptual.niqe import NiqeModel, niqe, read_grey, read_model, write_model
from facesr.models.style_generator import StyleGenerator
from facesr.opinion.making import make_study
from facesr.png import list_png, png_remark, read_png, write_png
from tests.methods.pulse.conftest import random_faces
from tests.ranks import run_worlds

SIDE = 256  # NIQE needs two blocks of 96
ONCE = {"paper.num_faces": 1, "pulse.steps": 1}


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    """Files of a generator of 256x256 pictures, a judge that has learnt nothing, and a NIQE model."""
    folder = tmp_path_factory.mktemp("weights")
    torch.manual_seed(2)
    network = StyleGenerator((4,) * 7, latent_dim=8, num_mapping_layers=1)
    state = {name: value.contiguous() for name, value in network.state_dict().items()}
    for name in state:
        if name.endswith("noise.weight"):
            state[name] = torch.full_like(state[name], 0.1)
    save_file(state, folder / "generator.safetensors")
    torch.save(SmallRecogniser().state_dict(), folder / "judge.pt")
    draw = np.random.default_rng(0)
    write_model(NiqeModel("tiny", draw.normal(size=36), np.eye(36)), folder / "niqe.npz")
    return folder


@pytest.fixture(scope="module")
def eigenfaces_file(weights) -> Path:
    """Eigenfaces of 24x28 pictures, which no square factor and no NIQE fits."""
    write_fit(fit(random_faces(300)), weights / "eigenfaces.safetensors")
    return weights / "eigenfaces.safetensors"


@pytest.fixture
def run(weights, tmp_path, monkeypatch):
    """Runs the study with keys on the small generator and returns its folder."""
    monkeypatch.setenv("FACESR_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("FACESR_WEIGHTS", raising=False)

    def call(**keys) -> Path:
        given = {"study": "pulse_paper", "generator": "stylegan2", "out": tmp_path / "out", "device": "cpu"}
        given |= {"generator.weights": weights / "generator.safetensors", "generator.num_fit_samples": 50}
        given |= {"embedder.weights": weights / "judge.pt", "niqe.model": weights / "niqe.npz"}
        given |= {"pulse.steps": 2, "paper.num_faces": 2, "operators": "[gaussian_noise]", "num_resamples": 10}
        given |= {"restored_dir": tmp_path / "kept", "num_examples": 2, **keys}
        words = [f"{key}={value}" for key, value in given.items() if value is not None]
        evaluate.run(load_settings("evaluate", EvaluateSettings, words))
        return Path(given["out"])

    return call


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_without_data_the_generator_makes_the_originals_and_all_is_as_it_says(run, tmp_path, capsys, monkeypatch):
    out = run()
    pulse = "pulse-stylegan2"
    ids = [path.stem for path in sorted((out / "originals").iterdir())]
    assert ids == ["seed_0000000", "seed_0000001"]
    for key in ids:
        high, low = read_png(out / "originals" / f"{key}.png"), read_png(out / "low" / f"{key}.png")
        assert high.shape == (SIDE, SIDE, 3) and low.shape == (16, 16, 3)
        nearest = read_png(out / "methods" / "nearest" / f"{key}.png")
        np.testing.assert_array_equal(nearest[::16, ::16], low)
        np.testing.assert_array_equal(nearest[15::16, 15::16], low)
        generated = read_png(out / "search" / "generated" / f"{key}.png")
        np.testing.assert_array_equal(read_png(out / "methods" / pulse / f"{key}.png"), generated)
    # Every picture of it says what it is, enlarged and degraded ones too.
    for path in out.rglob("*.png"):
        if path.parent.name in (*ids, "originals", "nearest", "bicubic", pulse, "generated"):
            assert png_remark(path.read_bytes()).startswith(SYNTHETIC), path
    found = {(row["method"], row["column"]): row for row in rows_of(out / "paper.csv")}
    assert float(found["original", "consistency"]["mean"]) == 100.0
    assert float(found["original", "is/builtin"]["mean"]) == pytest.approx(1.0)
    assert {method for method, _ in found} == {"nearest", "bicubic", pulse, "original"}
    summary = json.loads((out / "summary.json").read_text())
    assert summary["originals"] == "generated" and summary["synthetic"] is True
    assert [one["name"] for one in summary["searches"]] == ["as published", "gaussian_noise 20"]
    assert [row["id"] for row in rows_of(out / "self_consistency.csv")] == ids
    page = (out / "report.html").read_text()
    assert "nobody" in page and "invented" in page and "degraded" in page.lower()
    printed = capsys.readouterr().out
    assert "search 2 of 2, gaussian_noise 20" in printed
    # Killed and asked again, it searches nothing twice.
    monkeypatch.setattr(pulse_module, "search", lambda *_: pytest.fail("searched again"))
    before = (out / "paper.csv").read_bytes()
    run(reuse="false")
    assert (out / "paper.csv").read_bytes() == before


def test_scores_are_those_of_the_pictures(run, weights):
    out = run(**{"paper.robustness": "false", "paper.input_px": 32, **ONCE})
    (low,) = list_png(out / "low").values()
    assert read_png(low).shape == (32, 32, 3) and not (out / "degraded").exists()
    model = read_model(weights / "niqe.npz")
    operator = Square(SIDE, 32)
    for row in rows_of(out / "per_face.csv"):
        folder = out / "originals" if row["method"] == "original" else out / "methods" / row["method"]
        path = folder / f"{row['id']}.png"
        if row["niqe/tiny"]:  # enlarged pixels may be flat, where it is not defined
            assert float(row["niqe/tiny"]) == pytest.approx(niqe(read_grey(path, "grey"), model)[0], abs=1e-5)
        picture = torch.from_numpy(read_png(path)).permute(2, 0, 1)[None].float() / 255
        small = (operator.downscale(picture).clamp(0, 1) * 255 + 0.5).floor()
        given = torch.from_numpy(read_png(low)).permute(2, 0, 1)[None]
        square = float(((small - given) / 255).square().mean())
        wanted = 100.0 if square == 0 else -10 * np.log10(square)
        assert float(row["consistency"]) == pytest.approx(wanted, abs=0.2)
    assert any(row["niqe/tiny"] for row in rows_of(out / "per_face.csv") if row["method"] == "original")


def test_an_opinion_study_takes_the_folders_as_they_are(run, eigenfaces_file, tmp_path):
    small = {"generator": "eigenfaces", "generator.weights": eigenfaces_file, "generator.num_fit_samples": None}
    out = run(**small, **{"paper.robustness": "false", "paper.num_faces": 7})
    pulse = out / "methods" / "pulse-eigenfaces"
    keys = [f"dir={tmp_path / 'looks'}", f"folders=[{pulse}]", f"high={out / 'originals'}", f"low={out / 'low'}"]
    keys += ["faces=4", "raters=4", "reserve=1", "repeats=1", "traps=1", "training=2"]
    study = make_study(load_settings("opinion", OpinionSettings, keys))
    assert study.plan.methods == ("pulse-eigenfaces",) and study.plan.anchors == ("bicubic", "nearest")
    face = study.plan.faces[0]
    assert np.array_equal(read_png(study.picture(f"pulse-eigenfaces/{face}")), read_png(pulse / f"{face}.png"))


def test_rows_that_do_not_reach_the_size_are_left_out_in_a_sentence(run, eigenfaces_file, tmp_path, capsys):
    faces = random_faces(2, seed=4)
    for name, pictures in (("high", faces), ("theirs", faces), ("small", faces[:, ::2, ::2])):
        for number, picture in enumerate(pictures):
            (tmp_path / name).mkdir(exist_ok=True)
            write_png(tmp_path / name / f"{number}.png", picture)
    keys = {"generator": "eigenfaces", "generator.weights": eigenfaces_file, "generator.num_fit_samples": None}
    entries = f"[{tmp_path / 'theirs'},{tmp_path / 'small'},pretrained:asc19_psnr]"
    out = run(**keys, high=tmp_path / "high", entries=entries)
    printed = capsys.readouterr().out
    assert "NIQE is left out" in printed and "small is left out: its pictures have 12x14 and not 24x28." in printed
    means = {(row["method"], row["column"]): float(row["mean"]) for row in rows_of(out / "paper.csv")}
    assert means["theirs", "consistency"] == 100.0 and ("asc19_psnr", "consistency") in means
    assert not (out / "self_consistency.csv").exists()  # nobody knows the latents of given pictures
    assert png_remark((out / "methods" / "nearest" / "0.png").read_bytes()) == ""
    out = run(entries="[pretrained:asc19_psnr]", out=tmp_path / "large", **{"paper.robustness": "false", **ONCE})
    assert "asc19_psnr is left out: it restores x4, to 64x64, and not to 256x256." in capsys.readouterr().out


def test_without_a_model_niqe_is_of_the_generators_own_portraits(run, capsys):
    out = run(**{"niqe.model": None, "paper.num_pristine": 12, "paper.robustness": "false", **ONCE})
    columns = {row["column"] for row in rows_of(out / "paper.csv")}
    printed = capsys.readouterr().out
    assert ("niqe/own_portraits" in columns) != ("NIQE is left out: " in printed)
    assert not {path.stem for path in (out / "pristine").iterdir()} & {path.stem for path in (out / "low").iterdir()}


def test_inputs_alone_are_searched_and_not_judged(run, tmp_path):
    low = tmp_path / "inputs"
    low.mkdir()
    write_png(low / "x.png", random_faces(1, 16, 16)[0])
    out = run(low=low)
    summary = json.loads((out / "summary.json").read_text())
    assert summary["originals"] == "none" and len(summary["searches"]) == 1
    assert {row["column"] for row in rows_of(out / "paper.csv")} == {"niqe/tiny", "consistency"}


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"method": "bicubic"}, "leave restored=, submission= and method= out"),
        ({"entries": "[team.zip]"}, "unpack the archive"),
        ({"operators": "[fog]"}, "fog is unknown"),
        ({"paper.input_px": 24}, "another power of two"),
        ({"paper.input_px": 3}, "paper.input_px"),
        ({"paper.num_faces": 0}, "paper.num_faces"),
        ({"high": "HIGH", "low": "HIGH"}, "shrinks the originals itself"),
        ({"high": "HIGH"}, "give pictures of that size"),
        ({"low": "HIGH", "paper.input_px": 16}, "leave one of them out"),
        ({"niqe.model": "/nowhere.mat"}, "niqe.model"),
    ],
)
def test_what_does_not_fit_is_one_sentence(run, tmp_path, keys, words):
    (tmp_path / "HIGH").mkdir()
    write_png(tmp_path / "HIGH" / "a.png", random_faces(1, 16, 16)[0])
    given = {key: tmp_path / "HIGH" if value == "HIGH" else value for key, value in keys.items()}
    with pytest.raises(FaceSRError, match=words):
        run(**{"pulse.steps": 1, "paper.robustness": "false", **given})


def test_the_study_chooses_its_generator_unless_one_is_named(monkeypatch, capsys):
    words = ["study=pulse_paper", "seed=1"]
    monkeypatch.setattr(pulse_paper, "find_place", lambda _: Path("/somewhere"))
    assert pulse_paper.with_portraits(words) == [*words, "generator=mobilestylegan"]
    assert pulse_paper.with_portraits([*words, "generator=faces"]) == [*words, "generator=faces"]
    assert pulse_paper.with_portraits(["study=robustness"]) == ["study=robustness"]

    def nowhere(_):
        raise WeightsError("nowhere")

    monkeypatch.setattr(pulse_paper, "find_place", nowhere)
    assert pulse_paper.with_portraits(words) == [*words, "generator=eigenfaces"]
    assert "--extra portraits" in capsys.readouterr().err


def test_distances_of_directions():
    own = torch.tensor([[3.0, 0.0], [0.0, 2.0]])
    assert direction_distance(7 * own, own) == 0.0
    assert direction_distance(-own, own) == pytest.approx(2.0)
    assert direction_distance(torch.tensor([[1.0, 0.0]]), own) == pytest.approx(2**0.5 / 2)  # one vector for all
    many = torch.randn(18, 512, generator=torch.Generator().manual_seed(1))
    assert chance_distance(many, 0) == pytest.approx(2**0.5, abs=0.02)


def test_each_operator_comes_at_its_harshest():
    assert [case.label for case in degraded_cases([])] == ["motion_blur 17", "gaussian_noise 20"]
    assert [case.label for case in degraded_cases(["nearest", "jpeg"])] == ["nearest", "jpeg 40"]


def test_enlarging_and_what_a_judge_sees():
    low = random_faces(1, 16, 16)[0]
    np.testing.assert_array_equal(enlarged("nearest", low, (64, 64)), low.repeat(4, 0).repeat(4, 1))
    assert np.abs(enlarged("bicubic", np.full((8, 8, 3), 90, np.uint8), (32, 32)).astype(int) - 90).max() == 0
    assert judge_view((256, 256))(torch.rand(1, 3, 256, 256)).shape == (1, 3, 112, 96)
    batch = torch.rand(1, 3, 112, 96)
    assert judge_view((96, 112))(batch) is batch


@pytest.mark.slow
def test_two_ranks_find_what_one_finds(weights, tmp_path):
    common = ["study=pulse_paper", "generator=stylegan2", "generator.num_fit_samples=50", "device=cpu"]
    common += [f"generator.weights={weights / 'generator.safetensors'}", f"embedder.weights={weights / 'judge.pt'}"]
    common += [f"niqe.model={weights / 'niqe.npz'}", "pulse.steps=2", "pulse.batch_size=1", "batch_size=1"]
    common += ["paper.num_faces=3", "operators=[gaussian_noise]", "num_resamples=10", "num_examples=1"]
    worlds = []
    for number in (1, 2):
        # Folders of its own, or one would take what the other has kept.
        folder = tmp_path / str(number)
        own = [f"out={folder / 'out'}", f"restored_dir={folder / 'kept'}"]
        worlds.append((number, [*common, *own], {"FACESR_CACHE": str(folder / "cache")}))
    for result in [one for world in run_worlds("evaluate.py", worlds) for one in world]:
        assert result.returncode == 0, result.stderr
    alone, together = (tmp_path / name / "out" for name in ("1", "2"))
    for name in ("paper.csv", "per_face.csv", "self_consistency.csv"):
        assert rows_of(alone / name) == rows_of(together / name), name
    pictures = sorted(path.relative_to(alone) for path in alone.rglob("*.png"))
    assert len(pictures) > 20
    for path in pictures:
        np.testing.assert_array_equal(read_png(alone / path), read_png(together / path), err_msg=str(path))
