"""The original's identity in the loss: what it moves, and that it is told wherever its results go."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from facesr.build import load_settings
from facesr.config import EvaluateSettings, SubmitSettings
from facesr.errors import ConfigError, FaceSRError
from facesr.evaluation import run as evaluate
from facesr.image import to_uint8
from facesr.methods.open import Asked, open_asked
from facesr.methods.pulse.operator import operator_for
from facesr.methods.pulse.originals import Originals, Wanted, digest_of, open_originals
from facesr.methods.pulse.search import search
from facesr.png import png_remark
from tests.methods.pulse.conftest import write_folders

CPU = torch.device("cpu")


class Judge(torch.nn.Module):
    """Sees the mean colour, minus grey, as a direction."""

    name, dim, weights_sha256, differentiable = "colour", 3, "d" * 64, True

    def forward(self, batch):
        return torch.nn.functional.normalize(batch.mean(dim=(2, 3)) - 0.25, dim=1)


def test_the_distance_by_hand():
    wanted = Wanted(Judge(), torch.tensor([[1.0, 0, 0], [0, 1.0, 0], [-1.0, 0, 0]]))
    red = torch.tensor([0.75, 0.25, 0.25]).view(1, 3, 1, 1).expand(3, 3, 2, 2)
    torch.testing.assert_close(wanted.distance(red), torch.tensor([0.0, 1.0, 2.0]))
    torch.testing.assert_close(wanted.rows([2, 0]).distance(red[:2]), torch.tensor([2.0, 0.0]))


def test_each_face_is_drawn_to_its_own_original(toy, low, pulse_settings):
    # Two originals of other colours than their inputs; each row has its own, also when a neighbour has left.
    operator = operator_for("auto", toy.size, (4, 4))
    wanted = Wanted(Judge(), torch.nn.functional.normalize(torch.tensor([[1.0, 0, 0], [0, 0, 1.0]]), dim=1))
    settings = replace(pulse_settings, eps=1e-12, steps=20, identity_weight=100.0)
    ends = []
    for weight, some in ((100.0, None), (0.01, wanted)):
        walked = []
        watch = lambda step, variables, _: walked.append((variables.latents.clone(), list(variables.noises)))  # noqa: B023, E731
        search(toy, operator, low[:2], replace(settings, l2_weight=weight), watch, some)
        latents, noises = walked[-1]
        with torch.no_grad():
            ends.append(wanted.distance(toy.synthesise(toy.map(latents), noises)))
    assert (ends[1] < ends[0] - 0.05).all()
    # So near that the other face's original would not do.
    assert (ends[1] < 0.3).all()


def test_weight_0_moves_nothing(toy, low, pulse_settings):
    operator = operator_for("auto", toy.size, (4, 4))
    wanted = Wanted(Judge(), torch.eye(3)[:1])
    settings = replace(pulse_settings, steps=5)
    first, again = (search(toy, operator, low[:1], settings, None, some)[0] for some in (None, wanted))
    np.testing.assert_array_equal(first.picture, again.picture)


def test_another_original_is_another_result_and_an_unknown_input_is_refused(low):
    pixels = to_uint8(low)[0].tobytes()
    keys = [Originals(Judge(), {digest_of(pixels): torch.eye(3)[row]}) for row in (0, 1, 0)]
    assert keys[0].key(pixels) == keys[2].key(pixels) != keys[1].key(pixels)
    assert keys[0].sha256 == keys[2].sha256 != keys[1].sha256
    with pytest.raises(ConfigError, match="an input has none in high="):
        keys[0].wanted(low[1:2])


@pytest.fixture
def folders(tmp_path, monkeypatch):
    monkeypatch.setenv("FACESR_CACHE", str(tmp_path / "cache"))
    write_folders(tmp_path, num_faces=2)
    return tmp_path


def keys_of(folders, eigenfaces_file, **changed):
    found = {"method": "pulse", "generator": "eigenfaces", "generator.weights": eigenfaces_file, "protocol": "open"}
    found |= {"low": folders / "low", "pulse.steps": 4, "device": "cpu"}
    found |= {"pulse.identity_weight": 0.5, "pulse.identity_judge": "builtin", **changed}
    return [f"{key}={value}" for key, value in found.items()]


def test_an_evaluation_says_that_the_original_was_used(folders, eigenfaces_file, capsys):
    given = {"high": folders / "high", "out": folders / "out", "num_resamples": 20, "num_examples": 1}
    given |= {"restored_dir": folders / "kept", "embedder": "builtin"}
    evaluate.run(load_settings("evaluate", EvaluateSettings, keys_of(folders, eigenfaces_file, **given)))
    printed = capsys.readouterr().out
    assert "uses the original" in printed and "pulse-eigenfaces-with-original" in printed
    summary = json.loads((folders / "out" / "summary.json").read_text())
    assert summary["white_box"] is True and any(one.startswith("White-box: builtin") for one in summary["warnings"])
    for path in (folders / "out" / "generated").iterdir():
        assert png_remark(path.read_bytes()).endswith("; the search used the original")


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({}, "give low=DIR and high=DIR"),
        ({"high": "HIGH", "study": "robustness"}, "no study="),
        ({"high": "HIGH", "pulse.identity_judge": "null"}, r"give pulse\.identity_judge=NAME"),
    ],
)
def test_what_it_needs_is_said_before_any_work(folders, eigenfaces_file, changed, words):
    changed = {key: folders / "high" if value == "HIGH" else value for key, value in changed.items()}
    settings = load_settings("evaluate", EvaluateSettings, keys_of(folders, eigenfaces_file, **changed))
    with pytest.raises(ConfigError, match=words):
        open_asked(settings, CPU, Asked("pulse"))


def test_no_archive_may_use_it(folders, eigenfaces_file):
    settings = load_settings("submit", SubmitSettings, keys_of(folders, eigenfaces_file, team="T", out="x.zip"))
    with pytest.raises(ConfigError, match="which no archive may"):
        open_asked(settings, CPU, Asked("pulse"))


def test_judges_that_cannot_be_used(folders):
    with pytest.raises(ConfigError, match="is no recogniser"):
        open_originals(folders / "low", folders / "high", "none", CPU)
    (folders / "high" / "0.png").unlink()
    with pytest.raises(FaceSRError, match=r"0\.png"):
        open_originals(folders / "low", folders / "high", "builtin", CPU)
