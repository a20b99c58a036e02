"""The command ``facesr compare``: runs beside each other, what their settings differ in and how they scored.

    facesr compare runs/sweep_* [--out DIR]

Best first. The score is the mean over the run's validation pictures at its last validation, with the 95 % bootstrap
interval. DIR gets compare.csv and compare.html.
"""

import argparse
import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from facesr.arguments import Parser
from facesr.errors import DataError, exit_code_of
from facesr.evaluation.bootstrap import Statistics, describe
from facesr.evaluation.out_folder import write_text
from facesr.evaluation.report.tables import aligned
from facesr.names import shown_path
from facesr.training.outcome import FINAL_SCORES
from facesr.training.rundir import FREE_KEYS
from facesr.web.page import render

NUM_RESAMPLES = 2000


@dataclass(frozen=True)
class FinishedRun:
    """A run that has scores.

    Attributes:
        name: of its folder.
        settings: dotted key -> value of its configuration.
        kimg: thousands of images at its last validation.
        ranking: name of the column that ranks.
        scores: column -> statistics over the validation pictures; the ranking one first.
        higher_is_better: of the ranking column.
    """

    name: str
    settings: Mapping[str, Any]
    kimg: float
    ranking: str
    scores: Mapping[str, Statistics]
    higher_is_better: bool


def read_run(folder: Path) -> FinishedRun:
    """Returns what a run's folder says.

    Raises:
        DataError: it is no run's folder, or the run has not been validated yet.
    """
    try:
        config = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8-sig"))
        rows = list(csv.DictReader((folder / FINAL_SCORES).read_text(encoding="utf-8-sig").splitlines()))
        columns = [name for name in rows[0] if name not in ("picture", "kimg")]
        values: dict[str, NDArray[np.float64]] = {
            name: np.array([float(row[name]) for row in rows], np.float64) for name in columns
        }
        kimg = float(rows[0]["kimg"])
        scores = {name: describe(column, NUM_RESAMPLES, 0) for name, column in values.items()}
    except FileNotFoundError as error:
        missing = Path(error.filename or "").name
        reason = f"it has no {missing}" if missing == "config.yaml" else "it has not been validated yet"
        raise DataError(f"{shown_path(folder)} cannot be compared: {reason}; give folders of finished runs.") from error
    except (OSError, ValueError, KeyError, IndexError, TypeError, yaml.YAMLError) as error:
        raise DataError(
            f"{shown_path(folder)} cannot be compared: its files are damaged ({type(error).__name__})."
        ) from error
    ranking = columns[0]
    return FinishedRun(folder.name, flat(config or {}), kimg, ranking, scores, ranking not in ("rmse",))


def flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Returns a configuration as dotted keys; what does not change a run is left out."""
    found: dict[str, Any] = {}
    for key, value in config.items():
        if not prefix and (key in FREE_KEYS or key == "name"):
            continue
        if isinstance(value, Mapping) and value:
            found |= flat(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = value
    return found


def differing(runs: Sequence[FinishedRun]) -> list[str]:
    """Returns the keys that not all runs have with one value, sorted."""
    keys = sorted({key for run in runs for key in run.settings})
    return [key for key in keys if len({repr(run.settings.get(key)) for run in runs}) > 1]


def table_of(runs: Sequence[FinishedRun]) -> list[list[str]]:
    """Returns the table, best first, its heads in the first row.

    Raises:
        DataError: the runs were ranked by different columns, whose values do not compare.
    """
    rankings = {run.ranking for run in runs}
    if len(rankings) > 1:
        raise DataError(f"the runs are ranked by {' and '.join(sorted(rankings))}; compare runs with one judge.")
    keys = differing(runs)
    first = runs[0]
    ordered = sorted(runs, key=lambda run: run.scores[run.ranking].mean, reverse=first.higher_is_better)
    others = [name for name in ("psnr_rgb", "ssim", "consistency") if name in first.scores and name != first.ranking]
    rows = [["run", *keys, "kimg", first.ranking, "95 % interval", *others]]
    for run in ordered:
        score = run.scores[run.ranking]
        rows.append(
            [
                run.name,
                *(str(run.settings.get(key, "-")) for key in keys),
                f"{run.kimg:g}",
                f"{score.mean:.4f}",
                f"{score.low:.4f} to {score.high:.4f}",
                *(f"{run.scores[name].mean:.4f}" if name in run.scores else "-" for name in others),
            ]
        )
    return rows


def write_comparison(out: Path, rows: Sequence[Sequence[str]]) -> None:
    """Writes compare.csv and compare.html.

    Raises:
        DataError: the folder cannot be written.
    """
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    write_text(out / "compare.csv", text.getvalue())
    write_text(out / "compare.html", render("compare.html", title="Runs compared", heads=rows[0], rows=rows[1:]))


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit code, 2 on a user's error."""
    parser = Parser(prog="facesr compare", description="Runs beside each other: settings that differ, final scores.")
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="folders of finished runs")
    parser.add_argument("--out", type=Path, help="folder for compare.csv and compare.html")
    chosen = parser.parse_args(arguments)
    return exit_code_of(lambda: run_compare(chosen))


def run_compare(chosen: argparse.Namespace) -> None:
    """Prints the table, and writes it where a folder is given."""
    rows = table_of([read_run(folder) for folder in chosen.runs])
    print("\n".join(aligned(rows)))
    if chosen.out is not None:
        try:
            chosen.out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DataError(f"--out {chosen.out} cannot be made: {error.strerror}.") from error
        write_comparison(chosen.out, rows)
        print(f"written: {shown_path(chosen.out / 'compare.csv')}, {shown_path(chosen.out / 'compare.html')}")
