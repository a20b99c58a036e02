"""What a validation and the end of a run write and say, against what was worked out by hand."""

import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from facesr import dist
from facesr.energy import EnergyLog
from facesr.photos.trained import ASC19
from facesr.training import outcome, validation
from facesr.training.outcome import final_scores, final_table, finish, score_line, validate
from facesr.training.state import Clock
from facesr.training.validation import Scores, Validator

LOW = np.arange(14, dtype=np.uint8).repeat(3).reshape(14, 1, 1, 3)
PER_FACE = {"psnr_rgb": np.array([20.0, 23.0]), "is/x": np.array([0.25, 0.5]), "ssim": np.array([0.5, 0.75])}
SCORES = Scores(PER_FACE, 0.0125, np.array([2.0, 6.0]))
BICUBIC = Scores(
    {"psnr_rgb": np.array([21.5, 22.0]), "is/x": np.array([0.125, 0.25]), "ssim": np.array([0.5, 0.5])}, 0.5
)


class Doubled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((1,), 2.0))


def run_of(folder: Path, clock: Clock, ranking: str = "is/x", higher: bool = True) -> Any:
    told: list[Any] = []
    average = Doubled()

    def score(restore: Any, network: nn.Module) -> Scores:
        assert network is average
        assert torch.equal(restore(torch.ones(1)), torch.full((1,), 2.0))
        return SCORES

    def note(name: str) -> Any:
        return lambda *given: told.append((name, *given))

    return SimpleNamespace(
        settings=SimpleNamespace(generator={"_target_": "some.Network"}, name="mine", num_snapshots_kept=3),
        config={"seed": 1}, config_sha256="c" * 64, folder=folder, device=torch.device("cpu"), clock=clock, told=told,
        gan=SimpleNamespace(average=average), loss_judges=("y",), bicubic=BICUBIC,
        validator=SimpleNamespace(
            score=score, ranking=SimpleNamespace(name=ranking, higher_is_better=higher),
            pairs=SimpleNamespace(low=LOW, high=10 * LOW, names=["a", "b"]),
        ),
        board=SimpleNamespace(**{name: note(name) for name in ("scalars", "histogram", "pictures", "final")}),
        stats=SimpleNamespace(write=note("stats")), console=SimpleNamespace(say=note("say")),
        meter=SimpleNamespace(sources=("RAPL", "NVML")), framing=ASC19,
        require_folder=lambda: None,
    )  # fmt: skip


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What is written of snapshots; restoring multiplies by the network's weight."""
    calls: list[Any] = []
    monkeypatch.setattr(outcome, "restore_batch", lambda network, low: (low * network.weight).detach())
    monkeypatch.setattr(outcome, "as_columns", lambda *columns: columns)
    monkeypatch.setattr(outcome, "write_snapshot", lambda path, snapshot: calls.append((path, snapshot)))
    monkeypatch.setattr(outcome, "remove_oldest_snapshots", lambda *given: calls.append(given))
    return calls


def test_a_validation_is_drawn_kept_and_told(written: list[Any], tmp_path: Path) -> None:
    run = run_of(tmp_path, Clock(num_images=2500))
    assert validate(run) is SCORES
    figures = {
        "validation/psnr_rgb": 21.5, "validation/is/x": 0.375, "validation/ssim": 0.625,
        "validation/psnr_rgb_lowest": 20.0, "validation/largest_feature": 6.0, "validation/largest_feature_ratio": 1.5,
    }  # fmt: skip
    (_, at, values), (_, when, tag, of_faces), stats, (_, drawn, columns), said, lost = run.told
    assert (at, values) == (2500, figures) and stats == ("stats", 2500, figures)
    assert (when, tag) == (2500, "validation/is_per_face") and of_faces is PER_FACE["is/x"]
    # The first twelve faces: low, twice as bright, and the truth.
    assert drawn == 2500 and [len(column) for column in columns] == [12, 12, 12]
    for column, factor in zip(columns, (1, 2, 10), strict=True):
        assert np.array_equal(column, factor * LOW[:12])
    assert said[1] == "      2.5 kimg  validation  psnr_rgb 21.50 dB  is/x 0.3750  ssim 0.6250  (best)"
    assert lost[1].startswith("                worse than bicubic by PSNR: 1 of 2 pictures, most of all 'a'")
    (path, snapshot), (best, same), removed = written
    assert path == tmp_path / "snapshots" / "000002500.safetensors"
    assert best == tmp_path / "snapshots" / "best.safetensors" and same is snapshot
    assert removed == (tmp_path / "snapshots", 3)
    about = {name: value for name, value in vars(snapshot).items() if name != "state"}
    assert about == {
        "generator": {"_target_": "some.Network"}, "run": "mine", "kimg": 2.5, "config_sha256": "c" * 64,
        "loss_judges": ("y",), "scores": SCORES.means, "sha256": "", "consistency_bound_db": None, "base": None,
        "framing": ASC19,
    }  # fmt: skip
    assert snapshot.state.keys() == {"weight"} and snapshot.state["weight"].item() == 2.0


@pytest.mark.parametrize(
    ("ranking", "higher", "best_so_far", "merit"),
    [
        ("is/x", True, 0.25, 0.375), ("is/x", True, 0.375, None), ("psnr_rgb", True, 21.0, 21.5),
        ("psnr_rgb", False, -22.0, -21.5), ("psnr_rgb", False, -21.0, None),
    ],
)  # fmt: skip
def test_the_best_one_is_kept(
    written: list[Any], tmp_path: Path, ranking: str, higher: bool, best_so_far: float, merit: float | None
) -> None:
    run = run_of(tmp_path, Clock(num_images=2500, best_score=best_so_far), ranking, higher)
    validate(run)
    assert run.clock.best_score == (best_so_far if merit is None else merit)
    assert [path.name for path, _ in written[:-1]] == ["000002500.safetensors", "best.safetensors"][: 1 + bool(merit)]
    assert any("(best)" in str(line) for line in run.told) is bool(merit)
    (tag,) = [told[2] for told in run.told if told[0] == "histogram"]
    assert tag == ("validation/is_per_face" if ranking == "is/x" else "validation/psnr_rgb_per_picture")


def test_other_ranks_only_score(written: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dist, "is_main", lambda: False)
    run = run_of(tmp_path, Clock())
    assert validate(run) is SCORES
    finish(run, SCORES)
    assert run.told == [] and written == [] and list(tmp_path.iterdir()) == []


def test_decibels_have_two_decimals_and_the_others_four() -> None:
    means = {"psnr_rgb": 24.0, "psnr_y": 25.125, "consistency": 40.5, "is/x": 0.5, "ssim": 0.71236}
    assert score_line(means) == "psnr_rgb 24.00 dB  psnr_y 25.12 dB  consistency 40.50 dB  is/x 0.5000  ssim 0.7124"


def test_the_final_scores_begin_with_the_ranking_one(tmp_path: Path) -> None:
    assert final_scores(run_of(tmp_path, Clock(num_images=2500)), SCORES) == (
        "picture,kimg,is/x,psnr_rgb,ssim\n"
        "a,2.5,0.250000,20.000000,0.500000\n"
        "b,2.5,0.500000,23.000000,0.750000\n"
    )  # fmt: skip


def test_the_final_table_has_a_row_for_each_method() -> None:
    assert final_table("is/x", [("bicubic", BICUBIC), ("my own run", SCORES)]).splitlines() == [
        "                IS      PSNR    SSIM   ms/face   (IS by x)",
        "bicubic     0.1875  21.75 dB  0.5000    500.00",
        "my own run  0.3750  21.50 dB  0.6250     12.50",
    ]


@pytest.mark.parametrize(
    ("joules", "energy"), [(23450.0, " and 23.4 kJ (RAPL, NVML)"), (float("nan"), "")]
)  # fmt: skip
def test_the_end_of_a_run_tells_table_time_and_energy(tmp_path: Path, joules: float, energy: str) -> None:
    run = run_of(tmp_path, Clock(num_images=2500, seconds=150.0, joules=joules))
    run.energy = EnergyLog()
    finish(run, SCORES)
    final, table, spent = run.told
    assert final == ("final", {"seed": 1}, SCORES.means)
    assert table[1] == "\n" + final_table("is/x", [("bicubic", BICUBIC), ("mine", SCORES)])
    assert spent[1] == f"\n2.5 kimg in 2.5 minutes{energy}; best snapshot: {tmp_path}/snapshots/best.safetensors"
    assert (tmp_path / "final_scores.csv").read_text() == final_scores(run, SCORES)


def test_scores_of_ranks_are_put_in_the_order_of_the_pairs() -> None:
    validator = Validator.__new__(Validator)
    validator.pairs = SimpleNamespace(names=list("abcde"))  # type: ignore[assignment]
    validator.metrics = [SimpleNamespace(name="psnr_rgb")]  # type: ignore[list-item]
    first = ([0, 2, 4], {"psnr_rgb": [1.0, 3.0, 5.0]}, 2.0, [10.0, 30.0, 50.0])
    second = ([1, 3], {"psnr_rgb": [2.0, 4.0]}, 3.0, [20.0, 40.0])
    scores = validator._merge([first, second])
    assert scores.per_face["psnr_rgb"].tolist() == [1, 2, 3, 4, 5]
    assert scores.largest_feature.tolist() == [10, 20, 30, 40, 50] and scores.restore_seconds == 1.0
    without = validator._merge([(*first[:3], []), (*second[:3], [])])
    assert without.largest_feature.shape == (0,) and without.means == {"psnr_rgb": 3.0}


def test_a_rank_scores_every_so_many_pictures_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(validation, "BATCH_SIZE", 2)
    monkeypatch.setattr(dist, "rank", lambda: 1)
    monkeypatch.setattr(dist, "world_size", lambda: 2)
    gathered: list[Any] = []
    monkeypatch.setattr(dist, "gather_objects", lambda mine: gathered.append(mine))
    shown: list[tuple[list[float], ...]] = []

    def levels(batch: Tensor) -> list[float]:
        return (batch[:, 0, 0, 0] * 255.0).round(decimals=2).tolist()

    def metric(inputs: Any) -> np.ndarray:
        now[0] += 100.0
        shown.append(tuple(levels(part) for part in (inputs.low, inputs.restored, inputs.high)))
        return np.array(levels(inputs.high), np.float64)

    metric.name = "psnr_rgb"  # type: ignore[attr-defined]
    validator = Validator.__new__(Validator)
    pairs = SimpleNamespace(names=list("abcdefg"), low=LOW[:7], high=10 * LOW[:7])
    validator.pairs, validator.device, validator.metrics = pairs, torch.device("cpu"), [metric]  # type: ignore

    def restore(low: Tensor) -> Tensor:
        now[0] += 1.5
        assert not torch.is_grad_enabled()
        return low * 3.0 + 0.1 / 255.0

    scores = validator.score(restore)
    assert scores.per_face == {} and scores.restore_seconds == 0.0, "the first rank alone knows them"
    assert shown == [([1, 3], [3, 9], [10, 30]), ([5], [15], [50])]
    assert gathered[0] == ([1, 3, 5], {"psnr_rgb": [10.0, 30.0, 50.0]}, 3.0, [])
