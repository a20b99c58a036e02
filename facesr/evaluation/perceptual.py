"""The perceptual index in an evaluation: which models there are, what is missing and why, and the set's figures.

NIQE needs its pristine model and Ma's metric its forests; both files are the user's to supply. What is missing is
left out with the reason, and the rest still comes: RMSE needs neither.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from facesr.config import EvaluateSettings, PerceptualRules
from facesr.errors import WeightsError
from facesr.evaluation.over_set import over_set
from facesr.metrics import Consistency, PsnrY, Ssim
from facesr.metrics.perceptual import ma as ma_file
from facesr.metrics.perceptual import niqe as niqe_file
from facesr.metrics.perceptual.perceptual_index import (
    Ma,
    Niqe,
    PerceptualIndex,
    RmseY,
    competition_score,
    perceptual_index,
    region_of,
)
from facesr.protocols import Column, Metric
from facesr.weights import find_weights


@dataclass(frozen=True)
class Figure:
    """A figure of the whole set that is no mean over its pictures.

    Attributes:
        name: key in summary.json.
        value: a whole number for a class; None where it cannot be had.
        unit: e.g. ``grey levels``; empty where there is none.
        higher_is_better: direction.
        conditions: how it is taken, or why it is missing.
    """

    name: str
    value: float | int | None
    unit: str
    higher_is_better: bool
    conditions: str


@dataclass(frozen=True)
class Perceptual:
    """What the perceptual index can be taken with here.

    Attributes:
        rules: the protocol's.
        niqe: the metric, or None.
        ma: the metric, or None.
        missing: figure -> why it is missing.
    """

    rules: PerceptualRules
    niqe: Niqe | None
    ma: Ma | None
    missing: dict[str, str] = field(default_factory=dict)

    @property
    def index(self) -> PerceptualIndex | None:
        """The index as a column, None unless both of its parts are there."""
        return PerceptualIndex(self.niqe, self.ma) if self.niqe and self.ma else None

    def metrics(self, with_low: bool) -> list[Metric]:
        """Returns the metrics of the protocol that can be taken."""
        found: list[Metric] = [metric for metric in (self.niqe, self.ma) if metric is not None]
        found += [RmseY(self.rules.border_px), PsnrY(), Ssim()]
        return [*found, Consistency()] if with_low else found

    def identity(self) -> dict[str, str]:
        """Returns the models that the scores depend on, as plain data."""
        models = {"niqe": self.niqe and self.niqe.model.sha256, "ma": self.ma and self.ma.model.sha256}
        return {name: sha256 or "" for name, sha256 in models.items()}


def open_perceptual(settings: EvaluateSettings) -> Perceptual | None:
    """Returns the models of `niqe.model` and `ma.model`, None for a protocol without the perceptual index.

    Raises:
        WeightsError: a file that was asked for is missing or is no such model.
    """
    rules = settings.protocol.perceptual
    if rules is None:
        return None
    missing: dict[str, str] = {}
    niqe_path = _find("niqe.model", settings.niqe.model, niqe_file.FILE_NAME, missing)
    ma_path = _find("ma.model", settings.ma.model, ma_file.FILE_NAME, missing, f" It is part of {ma_file.URL}.")
    return Perceptual(
        rules,
        None
        if niqe_path is None
        else Niqe(niqe_file.read_model(niqe_path), rules.border_px, settings.niqe.strip_blocks),
        None if ma_path is None else Ma(ma_file.read_model(ma_path), rules.border_px),
        missing,
    )


def _find(key: str, configured: str | None, file_name: str, missing: dict[str, str], more: str = "") -> Path | None:
    """Returns a model's path; None, and the reason in `missing`, where none was configured and none lies about."""
    try:
        return find_weights(file_name, key=key, configured=configured)
    except WeightsError as error:
        if configured is not None:
            raise
        missing[key.partition(".")[0]] = f"{error}{more}"
        return None


def with_index(values: dict[str, NDArray[np.float64]], perceptual: Perceptual) -> tuple[Column, ...]:
    """Adds the column of the perceptual index to `values` where it can be had; returns the new columns."""
    column = perceptual.index
    if column is None:
        return ()
    values[column.name] = perceptual_index(*(values[part] for part in column.parts))
    return (column,)


def figures_of(values: Mapping[str, NDArray[np.float64]], perceptual: Perceptual) -> tuple[Figure, ...]:
    """Returns the figures of the set: the index if it is missing, RMSE, the region, and S_PI."""
    rules = perceptual.rules
    figures: list[Figure] = []
    index = perceptual.index
    if index is None:
        needed = " and ".join(perceptual.missing)
        figures.append(Figure("perceptual_index", None, "", False, f"cannot be had without {needed}; see below"))
    metric = RmseY(rules.border_px)
    rmse = over_set(metric.name, values[metric.name])
    how = metric.conditions.rpartition(",")[0]
    figures.append(Figure("rmse_of_set", rmse, metric.unit, False, f"{how}, root of the mean square over the set"))
    region = region_of(rmse, rules.region_rmse)
    limits = ", ".join(f"{limit:g}" for limit in rules.region_rmse)
    figures.append(Figure("region", region, "", False, f"by RMSE of the set, up to {limits}"))
    low, high = rules.rmse_window
    formula = f"{rules.full_score:g} / (index / best index)^4 for {low:g} < RMSE < {high:g}, else 0"
    if index is None or rules.best_index is None:
        wanted = "protocol.perceptual.best_index=PI of the best entry"
        reason = "it needs the perceptual index" if index is None else f"give {wanted}"
        figures.append(Figure("s_pi", None, "points", True, f"{formula}; {reason}"))
    else:
        mean = float(values[index.name].mean())
        score = competition_score(mean, rules.best_index, rmse, rules.full_score, rules.rmse_window)
        figures.append(Figure("s_pi", score, "points", True, f"{formula}; best index {rules.best_index:g}"))
    return tuple(figures)
