"""The scorer of the board says what facesr.evaluation says, and whose fault it is when it cannot."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from facesr.config import EvaluationProtocol
from facesr.errors import ConfigError, ImageError, SubmissionError, WeightsError
from facesr.evaluation.flow import Options, evaluate
from facesr.evaluation.result import Subject
from facesr.leaderboard.sandbox import OrganiserError
from facesr.leaderboard.scoring import Scorer, protocol_named
from facesr.metrics.pixels import grey_levels
from facesr.png import write_png
from tests.judges import Quarters

PROTOCOL = EvaluationProtocol("tiny", True, 16, 24, None)
IDS = ("a", "b", "c", "d", "e")


def write(folder: Path, width: int, height: int, seed: int) -> Path:
    folder.mkdir()
    random = np.random.default_rng(seed)
    for key in IDS:
        write_png(folder / f"{key}.png", random.integers(0, 256, (height, width, 3), dtype=np.uint8))
    return folder


@pytest.fixture
def folders(tmp_path):
    return {
        "high": write(tmp_path / "high", 16, 24, 0),
        "low": write(tmp_path / "low", 4, 6, 1),
        "restored": write(tmp_path / "restored", 16, 24, 2),
    }


class Counting(Quarters):
    """Counts the pictures that it is shown."""

    name = "counting"

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, batch: torch.Tensor) -> torch.Tensor:
        self.count += len(batch)
        return super().__call__(batch)


def scorer_of(folders, judges=(), protocol: EvaluationProtocol = PROTOCOL, batch_size: int = 2) -> Scorer:
    judges = judges or [Quarters()]
    return Scorer(protocol, judges, None, folders["high"], folders["low"], torch.device("cpu"), batch_size)


def test_scores_are_those_of_an_evaluation(folders):
    scorer = scorer_of(folders)
    scored = scorer.score(folders["restored"])
    options = Options(torch.device("cpu"), 5, 100, 1, 0)
    subject = Subject("restored", "x", folders["restored"])
    wanted = evaluate(subject, folders["high"], folders["low"], PROTOCOL, [Quarters()], options)
    assert scored.ids == scorer.ids == wanted.scores.ids == IDS
    assert list(scored.columns) == list(wanted.scores.values)
    for name, values in wanted.scores.values.items():
        np.testing.assert_allclose(scored.columns[name], values, rtol=1e-6)
    assert scored.ranking_metric == wanted.ranking_column == "is/quarters"
    assert scored.pixels_sha256 == wanted.scores.pixels_sha256["restored"]
    assert scorer.basis["references"]["high"] == wanted.scores.pixels_sha256["high"]
    assert scored.about["psnr_rgb"]["unit"] == "dB" and scored.higher_is_better is True


def test_originals_are_embedded_once(folders):
    judge = Counting()
    scorer = scorer_of(folders, [judge])
    scorer.score(folders["restored"])
    before = judge.count
    again = scorer.score(folders["restored"])
    assert judge.count == before + len(IDS)
    assert np.array_equal(again.columns["is/counting"], scorer.score(folders["restored"]).columns["is/counting"])


class TestBasis:
    def test_it_is_plain_and_says_what_scores_depend_on(self, folders):
        basis = scorer_of(folders).basis
        assert json.loads(json.dumps(basis)) == basis
        assert basis["metrics"]["is/quarters"] == 1 and basis["protocol"]["width"] == 16
        assert basis["ranking_metric"] == "is/quarters"

    def test_it_changes_with_what_it_depends_on_alone(self, folders, tmp_path):
        first = scorer_of(folders).basis_sha256
        assert scorer_of(folders, batch_size=3).basis_sha256 == first
        others = [scorer_of(folders, [Quarters(), Counting()]), scorer_of(folders, [Counting()])]
        others.append(scorer_of(folders, protocol=replace(PROTOCOL, num_pictures=5)))
        for kind, sizes in (("high", (16, 24)), ("low", (4, 6))):
            others.append(scorer_of({**folders, kind: write(tmp_path / f"other {kind}", *sizes, 7)}))
        assert len({first, *(one.basis_sha256 for one in others)}) == 6

    def test_a_metrics_version_changes_it(self, folders, monkeypatch):
        first = scorer_of(folders).basis_sha256
        monkeypatch.setattr("facesr.metrics.psnr.PsnrY.version", 99)
        assert scorer_of(folders).basis_sha256 != first


class Undefined:
    """A metric that flat pictures have no value of, as NIQE is."""

    name, unit, higher_is_better, version, conditions, needs_low = "niqe", "1", False, 1, "", False

    def __call__(self, inputs):
        levels = grey_levels(inputs.restored)
        return levels.flatten(1).std(1).numpy().astype(np.float64) * np.where(levels.flatten(1).std(1) > 0, 1, np.nan)


class TestFaults:
    def test_a_flat_picture_is_the_teams(self, folders):
        scorer = scorer_of(folders)
        scorer._metrics.append(Undefined())
        write_png(folders["restored"] / "c.png", np.full((24, 16, 3), 9, np.uint8))
        with pytest.raises(SubmissionError) as caught:
            scorer.score(folders["restored"])
        assert str(caught.value) == (
            "c.png: niqe is not defined for it, as for a picture that is flat almost everywhere; "
            "restore that picture again."
        )

    def test_a_damaged_original_is_the_organisers(self, folders):
        (folders["high"] / "b.png").write_bytes((folders["high"] / "b.png").read_bytes()[:-20])
        with pytest.raises(OrganiserError, match="damaged PNG"):
            scorer_of(folders)

    def test_an_original_that_is_damaged_later_is_the_organisers(self, folders):
        scorer = scorer_of(folders)
        (folders["high"] / "b.png").write_bytes((folders["high"] / "b.png").read_bytes()[:-20])
        with pytest.raises(OrganiserError, match="damaged PNG"):
            scorer.score(folders["restored"])

    def test_another_original_is_noticed(self, folders):
        scorer = scorer_of(folders)
        write_png(folders["high"] / "b.png", np.zeros((24, 16, 3), np.uint8))
        with pytest.raises(OrganiserError, match="have changed"):
            scorer.score(folders["restored"])

    def test_names_of_the_references_differ(self, folders):
        (folders["low"] / "b.png").unlink()
        with pytest.raises(OrganiserError, match=r"b\.png"):
            scorer_of(folders)

    def test_a_metric_that_wants_larger_pictures_is_found_at_once(self, folders, monkeypatch):
        def refuse(self, inputs):
            raise ImageError("pictures are too small.")

        monkeypatch.setattr("facesr.metrics.ssim.Ssim.__call__", refuse)
        with pytest.raises(OrganiserError, match="too small"):
            scorer_of(folders)


class TestOpen:
    def test_protocols_by_name(self):
        final = protocol_named("asc19_final")
        assert (final.name, final.width, final.height, final.strict) == ("asc19_final", 96, 112, True)
        assert protocol_named("asc19_preliminary").perceptual.border_px == 4
        with pytest.raises(ConfigError):
            protocol_named("none")

    def test_the_built_in_judge(self, folders, tmp_path):
        scorer = Scorer.open(PROTOCOL, "builtin", ["builtin"], folders["high"], folders["low"])
        assert scorer.ranking_metric == "is/builtin" and len(scorer.basis["judges"]["builtin"]) == 64
        assert scorer.score(folders["high"]).columns["is/builtin"] == pytest.approx(1.0)

    def test_no_judge_of_that_name(self, folders):
        with pytest.raises(ConfigError, match="nobody"):
            Scorer.open(PROTOCOL, "nobody", [], folders["high"], folders["low"])

    def test_the_perceptual_index_needs_its_models(self, folders, monkeypatch, tmp_path):
        monkeypatch.setenv("FACESR_WEIGHTS", str(tmp_path / "none"))
        monkeypatch.setattr("facesr.evaluation.perceptual.find_weights", _none)
        protocol = replace(protocol_named("asc19_preliminary"))
        with pytest.raises(WeightsError, match="ranks by the perceptual index, which cannot be had"):
            Scorer.open(protocol, "builtin", [], folders["high"], folders["low"])


def _none(*args, **kwargs):
    raise WeightsError("modelparameters.mat is nowhere.")
