"""Our statistics against other people's programs: sureal, krippendorff and choix."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from facesr.opinion.agreement import krippendorff
from facesr.opinion.pairs import fit_strengths
from facesr.opinion.screening import annex_e, bt500_rejected
from tests.opinion.oracles import comparisons, oracle_values, ratings, ratings_with_gaps

GOLDEN: dict[str, Any] = json.loads((Path(__file__).parents[1] / "golden" / "opinion.json").read_text())
TABLES = {"whole": ratings, "gaps": ratings_with_gaps}


@pytest.mark.parametrize("name", TABLES)
def test_annex_e_is_that_of_sureal(name: str) -> None:
    found, theirs = annex_e(TABLES[name]()), GOLDEN[name]
    for key in ("quality", "bias", "inconsistency", "inconsistency_low", "inconsistency_high"):
        np.testing.assert_allclose(getattr(found, key), theirs[key], atol=1e-6, rtol=0, err_msg=key)
    np.testing.assert_allclose(np.nanmean(TABLES[name](), axis=0), theirs["mos"], atol=1e-12)


@pytest.mark.parametrize("name", TABLES)
def test_bt500_is_that_of_sureal_but_for_the_sample_standard_deviation(name: str) -> None:
    table, theirs = TABLES[name](), GOLDEN[name]
    found = bt500_rejected(table, ddof=0)
    assert found[:, 0].tolist() == theirs["rejected"]
    # sureal divides by all pictures, also by those that a rater did not see.
    share = found[:, 1] * np.isfinite(table).sum(axis=1) / table.shape[1]
    np.testing.assert_allclose(share, theirs["outliers"], atol=1e-12)
    # A larger deviation can only take outliers away.
    assert (bt500_rejected(table)[:, 1] <= found[:, 1]).all()


def test_bt500_rejects_somebody_here() -> None:
    assert GOLDEN["whole"]["rejected"].count(True) == 1 and GOLDEN["whole"]["rejected"][11]
    assert bt500_rejected(ratings())[11, 0] == 1


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize("level", ["ordinal", "interval"])
def test_alpha_is_that_of_krippendorff(name: str, level: str) -> None:
    assert krippendorff(TABLES[name](), level) == pytest.approx(GOLDEN[name][f"alpha_{level}"], abs=1e-12)


def test_strengths_are_those_of_choix() -> None:
    left, right, won = comparisons().T
    found = fit_strengths(left, right, won.astype(float), 4, with_side=False)
    np.testing.assert_allclose(found.strengths, GOLDEN["strengths"], atol=1e-6)
    # The likelihood's own equations: every method wins as often as the strengths say.
    chance = 1.0 / (1.0 + np.exp(found.strengths[right] - found.strengths[left]))
    for method in range(4):
        wins = (won[left == method]).sum() + (1 - won[right == method]).sum()
        assert chance[left == method].sum() + (1 - chance[right == method]).sum() == pytest.approx(wins, abs=1e-8)


@pytest.mark.filterwarnings("ignore")
def test_the_kept_values_are_what_the_programs_say_today() -> None:
    for package in ("sureal", "choix", "krippendorff"):
        pytest.importorskip(package, reason="needs uv run --group oracles")
    found = oracle_values()
    assert found.keys() == GOLDEN.keys()
    for name in TABLES:
        for key, value in GOLDEN[name].items():
            np.testing.assert_allclose(found[name][key], value, atol=1e-9, err_msg=f"{name} {key}")
    np.testing.assert_allclose(found["strengths"], GOLDEN["strengths"], atol=1e-6)
