"""Everything the analysis finds, for one set of raters: the whole of it twice, with and without the exclusions."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np

from facesr.opinion.agreement import Alpha, alpha_of
from facesr.opinion.cells import Cells, acr_cells, cells_of, main_part, same_cells
from facesr.opinion.correlation import Correlation, Measured, correlations
from facesr.opinion.intervals import crossed_mean
from facesr.opinion.pairs import Preferences, preferences
from facesr.opinion.ratings import ORIGINAL, SAME, Records
from facesr.opinion.same_person import recognition
from facesr.opinion.scores import Difference, Score, hidden_reference_scores, mean_differences, mean_scores


@dataclass(frozen=True)
class Findings:
    """What the answers of a set of raters say.

    Attributes:
        raters: how many gave an answer that counts.
        answers: how many count.
        scores: of each measure and method.
        differences: between methods.
        alphas: agreement, by kind of question.
        correlations: with judges and metrics.
        preferences: of the comparisons, None where there are none.
        components: standard deviations, in points of the scale, as `facesr opinion plan` takes them; None each where it
            cannot be told; empty without ratings from 1 to 5.
    """

    raters: int
    answers: int
    scores: tuple[Score, ...]
    differences: tuple[Difference, ...]
    alphas: Mapping[str, tuple[Alpha, ...]]
    correlations: tuple[Correlation, ...]
    preferences: Preferences | None
    components: Mapping[str, float | None]

    def of(self, measure: str) -> dict[str, Score]:
        """Returns the scores of one measure by method."""
        return {one.method: one for one in self.scores if one.measure == measure}

    def pairs_of(self, measure: str) -> list[Difference]:
        """Returns the differences of one measure."""
        return [one for one in self.differences if one.measure == measure]

    @property
    def main_measure(self) -> str | None:
        """What is told first: MOS, else Bradley-Terry strengths, else d'; None without any answer."""
        measures = {one.measure for one in self.scores}
        return next((name for name in ("mos", "bradley_terry", "d_prime", "hit_rate") if name in measures), None)


def findings_of(
    records: Records, raters: Collection[str], metrics: Mapping[str, Measured], num_resamples: int, seed: int
) -> Findings:
    """Returns what the answers of these raters say.

    Args:
        records: of the study.
        raters: whose answers count.
        metrics: column -> values (methods, faces) in the order of the records; may be empty.
        num_resamples: of raters and faces.
        seed: of those.
    """
    scores: list[Score] = []
    differences: list[Difference] = []
    alphas: dict[str, tuple[Alpha, ...]] = {}
    related: list[Correlation] = []
    stars = acr_cells(records, raters)
    if stars.raters:
        scores += mean_scores(stars, "mos", num_resamples, seed) + hidden_reference_scores(stars)
        differences += mean_differences(stars, "mos")
        alphas["acr"] = tuple(alpha_of(stars, level) for level in ("ordinal", "interval"))
        related += correlations(*_matched(stars, records, metrics), "mos", num_resamples, seed)
    chosen = preferences(records, raters)
    if chosen is not None:
        scores += chosen.scores
        differences += chosen.differences
    seen = recognition(records, raters, num_resamples, seed)
    if seen is not None:
        scores += seen.scores
        differences += seen.differences
        same, _ = same_cells(records, raters)
        # On yes and no all levels are one.
        alphas["same"] = (alpha_of(_all_trials(records, raters), "interval"),)
        if same.raters:
            related += correlations(*_matched(same, records, metrics), "hit_rate", num_resamples, seed)
    counted = [one for kind in ("acr", "pair", "same") for one in main_part(records, kind, raters)]
    return Findings(
        raters=len({one.rater for one in counted}),
        answers=len(counted),
        scores=tuple(scores),
        differences=tuple(differences),
        alphas=alphas,
        correlations=tuple(related),
        preferences=chosen,
        components=components(stars) if stars.raters else {},
    )


def _all_trials(records: Records, raters: Collection[str]) -> Cells:
    """Returns the answers on persons; a face stands for a picture shown with its own or another original."""
    found = main_part(records, SAME, raters)
    methods = sorted({one.method for one in found})
    tables = [cells_of([one for one in found if one.expected == truth], methods, records.faces) for truth in (1, 0)]
    names = sorted({one.rater for one in found})
    values = np.full((len(names), len(methods), 2 * len(records.faces)), np.nan)
    for i, table in enumerate(tables):
        rows = [names.index(name) for name in table.raters]
        values[rows, :, i * len(records.faces) : (i + 1) * len(records.faces)] = table.values
    return Cells(tuple(names), tuple(methods), records.faces * 2, values)


def _matched(cells: Cells, records: Records, metrics: Mapping[str, Measured]) -> tuple[Cells, dict[str, Measured]]:
    """Returns answers and metrics for the same methods: those of the study but the original, which equals itself."""
    methods = [name for name in cells.methods if name != ORIGINAL]
    rows = [cells.methods.index(name) for name in methods]
    measured = [records.methods.index(name) for name in methods]
    found = {
        name: Measured(one.values[measured], one.higher_is_better) for name, one in (metrics.items() if methods else ())
    }
    return Cells(cells.raters, tuple(methods), cells.faces, cells.values[:, rows, :]), found


def components(cells: Cells) -> dict[str, float | None]:
    """Returns the standard deviations of `facesr.opinion.simulation.Deviations`, estimated from ratings.

    In a difference of two methods leniency and face drop out and the interactions count twice; what one method's
    ratings have beside is leniency and face. Means over methods and pairs of them, the original left out.
    """
    methods = [name for name in cells.methods if name != ORIGINAL]
    single = [crossed_mean(cells.of(name)) for name in methods]
    paired = [crossed_mean(cells.of(a) - cells.of(b)) for i, a in enumerate(methods) for b in methods[i + 1 :]]

    def mean(values: list[float]) -> float:
        known = [value for value in values if np.isfinite(value)]
        return float(np.mean(known)) if known else np.nan

    taste, per_face = mean([float(one.rater) for one in paired]) / 2, mean([float(one.face) for one in paired]) / 2
    found = {
        "rater": mean([float(one.rater) for one in single]) - taste,
        "face": mean([float(one.face) for one in single]) - per_face,
        "rater_method": taste,
        "method_face": per_face,
        "noise": mean([float(one.rest) for one in single]),
    }
    return {name: float(np.sqrt(max(value, 0.0))) if np.isfinite(value) else None for name, value in found.items()}
