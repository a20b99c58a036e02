"""Who is excluded: clickers, straight-liners and hasty raters are found, honest and biased ones stay."""

from dataclasses import replace

import numpy as np
import pytest

from facesr.opinion.cells import acr_cells
from facesr.opinion.exclusion import conduct_of, everyone, kept, reasons_of
from facesr.opinion.screening import annex_e_of, bt500_of, unusual_raters
from tests.opinion.made_ratings import pair_study, study

OTHERS = {"biased": 2, "clicker": 3, "straight": 2, "hasty": 2}


@pytest.mark.parametrize("seed", range(3))
def test_those_who_do_not_look_are_excluded_and_the_others_stay(seed: int) -> None:
    conducts = conduct_of(study(24, 15, OTHERS, seed=seed))
    assert kept(conducts) == {f"r{number:04d}" for number in range(24 - 7)}
    assert len(everyone(conducts)) == 24
    counted = reasons_of(conducts)
    assert counted["failed traps"] >= 3 and counted["answers hardly vary"] == 2 and counted["too fast"] == 2


def test_annex_e_shows_biased_and_erratic_raters() -> None:
    records = study(24, 15, OTHERS)
    cells = acr_cells(records, {one.rater for one in records.raters})
    found = annex_e_of(cells)
    assert found is not None
    honest, biased, clickers = np.arange(15), [15, 16], [17, 18, 19]
    assert found.inconsistency[clickers].min() > 1.5 * found.inconsistency[honest].max()
    assert found.bias[biased].mean() > found.bias[honest].mean() + 0.4
    assert found.bias.mean() == pytest.approx(0, abs=1e-12)
    assert any(rejected for name, rejected in bt500_of(cells).items() if name >= "r0017")
    unusual = unusual_raters(cells, found)
    assert {"r0017", "r0018", "r0019"} <= set(unusual) and min(unusual) > "r0014"
    assert "inconsistency" in unusual["r0017"]
    assert unusual_raters(cells, None) == {}


def test_each_rule_says_its_numbers() -> None:
    records = study(4, 10)
    first = [one for one in records.ratings if one.rater == "r0000"]
    rest = [one for one in records.ratings if one.rater != "r0000"]

    def reasons(**changes: object) -> tuple[str, ...]:
        changed = replace(records, rules=replace(records.rules, **changes))
        return conduct_of(changed)[0].reasons

    assert reasons() == ()
    assert "repeated trials differ by" in reasons(max_repeat_difference=-0.1)[0]
    assert reasons(max_failed_traps=-1) == ("failed 0 of 4 traps (at most -1)",)
    assert reasons(min_seconds=100.0) == ("100 % of the answers within 100 s (at most 20 %)",)
    assert "SD" in reasons(min_answers_sd=4.0)[0]
    half = replace(
        records,
        ratings=(*first[:20], *rest),
        raters=(replace(records.raters[0], finished=None), *records.raters[1:]),
    )
    assert conduct_of(half)[0].reasons == ("32 % of the session done (at least 80 %)",)
    # Without the plan's length the longest session stands for it.
    assert conduct_of(replace(half, trials=None))[0].completed_share == pytest.approx(20 / 63)


def test_training_is_not_counted_and_withdrawn_raters_are_named() -> None:
    records = study(3, 10)
    fast = replace(
        records, ratings=tuple(replace(r, seconds=0.0) if r.part == "training" else r for r in records.ratings)
    )
    assert all(one.share_too_fast == 0 for one in conduct_of(fast))
    gone = replace(
        records,
        raters=(replace(records.raters[0], withdrawn=True), *records.raters[1:]),
        ratings=tuple(one for one in records.ratings if one.rater != "r0000"),
    )
    assert conduct_of(gone)[0].reasons == ("withdrew",)
    assert kept(conduct_of(gone)) == {"r0001", "r0002"}
    nothing = replace(gone, raters=(replace(gone.raters[0], withdrawn=False), *gone.raters[1:]))
    assert conduct_of(nothing)[0].reasons == ("no answer that counts",)


def test_a_repeated_pair_is_the_same_choice_whichever_stood_left() -> None:
    records = pair_study(2, 4)
    first = records.ratings[0]
    turned = replace(first, place=99, part="repeat", method=first.other, other=first.method, answer=1 - first.answer)
    same = conduct_of(replace(records, ratings=(*records.ratings, turned)))[0]
    other = conduct_of(replace(records, ratings=(*records.ratings, replace(turned, answer=first.answer))))[0]
    assert (same.repeat_difference, other.repeat_difference) == (0.0, 1.0)
