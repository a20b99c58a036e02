"""What the analysis finds: planted differences, choices, persons and judges, and studies with hardly any answer."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from facesr.opinion.cells import Cells, acr_cells
from facesr.opinion.correlation import CEILING, Measured, spearman
from facesr.opinion.exclusion import conduct_of, everyone, kept
from facesr.opinion.findings import Findings, components, findings_of
from facesr.opinion.ratings import ORIGINAL, Records
from facesr.opinion.same_person import d_prime
from facesr.opinion.simulation import Deviations, continuous, rounded, true_mos
from tests.opinion.made_ratings import MEANS, pair_study, person_study, study, without

OTHERS = {"biased": 2, "clicker": 4, "straight": 2, "hasty": 1}


def found_in(records: Records, metrics: dict[str, Measured] | None = None) -> Findings:
    return findings_of(records, kept(conduct_of(records)), metrics or {}, 400, 0)


@pytest.mark.parametrize("change", [lambda records: records, lambda records: without(records, 0.15)])
def test_planted_differences_are_recovered_in_spite_of_clickers(change: Callable[[Records], Records]) -> None:
    records = change(study(32, 24, OTHERS, seed=3))
    found = found_in(records)
    truth = dict(zip(MEANS, true_mos(np.array(list(MEANS.values())), Deviations()), strict=True))
    assert found.raters == 25
    for method, score in found.of("mos").items():
        assert score.low is not None and score.high is not None
        assert score.low - 0.1 <= truth[method] <= score.high + 0.1
    for pair in found.pairs_of("mos"):
        planted = truth[pair.first] - truth[pair.second]
        assert pair.low is not None and pair.high is not None and pair.p is not None and pair.p_holm is not None
        assert pair.low - 0.1 <= planted <= pair.high + 0.1
        assert pair.p_holm >= pair.p
        assert pair.p_holm < 0.05 or abs(planted) < 0.6
    assert len(found.pairs_of("mos")) == 6  # the hidden reference is no competitor
    dmos = found.of("dmos")
    assert set(dmos) == set(MEANS) - {ORIGINAL}
    assert dmos["gan"].value == pytest.approx(
        found.of("mos")["gan"].value - found.of("mos")[ORIGINAL].value + 5, abs=0.1
    )


def test_excluding_clickers_moves_the_result_toward_the_truth() -> None:
    records = study(32, 24, {"clicker": 8}, seed=4)
    truth = true_mos(np.array(list(MEANS.values())), Deviations())
    both = [
        findings_of(records, raters, {}, 200, 0).of("mos")
        for raters in (kept(conduct_of(records)), everyone(conduct_of(records)))
    ]
    errors = [abs(found["nearest"].value - found[ORIGINAL].value - truth[0] + truth[-1]) for found in both]
    assert errors[0] < 0.3 < errors[1]


def test_the_components_are_those_that_were_planted() -> None:
    deviations, random = Deviations(), np.random.default_rng(0)
    names = tuple(map(str, range(40)))
    variances = []
    for answers in rounded(continuous(np.array([2.9, 3.0, 3.1]), 40, 40, deviations, random, 12)):
        found = components(Cells(names, ("a", "b", "c"), names, answers))
        variances.append([value**2 for value in found.values() if value is not None])
    # The ends of the scale take some 5 % off, and rounding adds a variance of 1/12 to the noise.
    planted = [deviations.rater, deviations.face, deviations.rater_method, deviations.method_face, 0.757]
    np.testing.assert_allclose(np.sqrt(np.mean(variances, axis=0)), planted, rtol=0.13)


def test_strengths_of_pairs_and_the_side_are_recovered() -> None:
    found = found_in(pair_study(30, 20, side=0.6))
    strengths = {name: one.value for name, one in found.of("bradley_terry").items()}
    assert strengths["gan"] - strengths["bicubic"] == pytest.approx(1.6, abs=0.35)
    assert strengths["psnr"] - strengths["bicubic"] == pytest.approx(0.7, abs=0.35)
    assert sum(strengths.values()) == pytest.approx(0, abs=1e-9)
    sides = found.preferences
    assert sides is not None and sides.is_bounded and sides.side_low is not None and sides.side_high is not None
    assert 0 < sides.side_low < 0.6 < sides.side_high
    assert all(pair.p_holm is not None and pair.p_holm < 0.01 for pair in found.pairs_of("bradley_terry"))
    assert found.main_measure == "bradley_terry"


def test_a_method_that_always_wins_stays_finite_and_is_said_to() -> None:
    records = pair_study(4, 4)
    always = tuple(
        replace(one, answer=0 if one.method == "gan" else 1) if "gan" in (one.method, one.other) else one
        for one in records.ratings
    )
    found = found_in(replace(records, ratings=always))
    assert found.preferences is not None and not found.preferences.is_bounded
    assert 2 < found.of("bradley_terry")["gan"].value < 10


def test_persons_told_apart_are_recovered() -> None:
    found = found_in(person_study(30, 20))
    assert found.of("hit_rate")["gan"].value == pytest.approx(0.9, abs=0.05)
    assert found.of("false_alarm")["gan"].value == pytest.approx(0.2, abs=0.07)
    expected = stats.norm.ppf(0.9) - stats.norm.ppf(0.2)
    assert found.of("d_prime")["gan"].value == pytest.approx(expected, abs=0.3)
    (pair,) = found.pairs_of("d_prime")
    assert pair.p is not None and pair.p < 0.001
    assert found.main_measure == "d_prime"


def test_d_prime_and_its_influence_by_hand() -> None:
    answer = np.array([1, 1, 1, 0, 0, 0, 1, 0], np.float64)
    same = np.array([True] * 4 + [False] * 4)
    value, influence = d_prime(answer, same, ~same)
    assert value == pytest.approx(stats.norm.ppf(3.5 / 5) - stats.norm.ppf(1.5 / 5))
    assert influence.sum() == pytest.approx(0)
    everything, _ = d_prime(np.ones(8), same, ~same)
    assert everything == pytest.approx(0)


def test_the_metric_that_agrees_is_found() -> None:
    records = study(20, 20, seed=6)
    methods = len(records.methods)
    cells = acr_cells(records, {one.rater for one in records.raters})
    mos = np.nanmean(cells.values[:, :methods], axis=0)
    random = np.random.default_rng(0)
    metrics = {
        "bad": Measured(random.normal(0, 1, mos.shape), True),
        "error": Measured(-mos + random.normal(0, 0.2, mos.shape), False),
        "worse": Measured(mos + random.normal(0, 1.5, mos.shape), True),
        "flat": Measured(np.ones(mos.shape), True),
    }
    found = {(one.metric, one.level): one for one in found_in(records, metrics).correlations}
    best = found["error", "pictures"]
    assert best.value is not None and best.value > 0.9 and best.behind == 0
    assert best.low is not None and best.high is not None and best.low < best.value < best.high < 1
    expected = stats.spearmanr(mos.ravel(), metrics["worse"].values.ravel()).statistic
    assert found["worse", "pictures"].value == pytest.approx(expected, abs=1e-9)
    for name in ("bad", "worse"):
        behind = found[name, "pictures"].behind_low
        assert behind is not None and behind > 0
    assert found["flat", "pictures"].value is None
    ceiling = found[CEILING, "pictures"].value
    assert ceiling is not None and 0.9 < ceiling < 1
    assert found["error", "methods"].points == 4


def test_spearman_is_that_of_scipy_with_ties_and_gaps() -> None:
    random = np.random.default_rng(1)
    first, second = random.integers(1, 6, (5, 30)).astype(float), random.integers(1, 4, (5, 30)).astype(float)
    first[0, :7] = np.nan
    for i, found in enumerate(spearman(first, second)):
        there = np.isfinite(first[i])
        assert found == pytest.approx(stats.spearmanr(first[i][there], second[i][there]).statistic)


@pytest.mark.parametrize(
    "records",
    [study(1, 5), study(2, 1), study(3, 4, means={"only": 3.0}), pair_study(1, 1), person_study(1, 2)],
    ids=["one rater", "one face", "one method", "one pair", "one person"],
)
def test_hardly_any_answer_is_told_without_an_interval(records: Records) -> None:
    found = findings_of(records, everyone(conduct_of(records)), {}, 200, 0)
    assert found.scores
    numbers = [value for one in (*found.scores, *found.differences) for value in vars(one).values()]
    assert all(np.isfinite(value) for value in numbers if isinstance(value, float))
    if found.raters == 1:
        assert all(one.low is None and one.high is None for one in found.scores)
