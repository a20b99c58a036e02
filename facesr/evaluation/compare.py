"""The command ``facesr compare``: runs beside each other, what their settings differ in and how they scored.

    facesr compare runs/sweep_* [--out DIR] [--meter CSV] [--power-limit 3000]

Best first. The score is the mean over the run's validation pictures at its last validation, with the 95 % bootstrap
interval. Where energy was measured, it stands beside the score, its nodes and ranks below, and the power of the whole
cluster is compared with a limit. DIR gets compare.csv, compare.html and energy.csv.
"""

import argparse
import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import yaml
from numpy.typing import NDArray

from facesr.arguments import Parser, number
from facesr.errors import DataError, exit_code_of
from facesr.evaluation.bootstrap import Statistics, describe
from facesr.evaluation.energy import HEADS, RunEnergy, energy_of_run, rows_by_rank
from facesr.evaluation.meter import Meter, read_meter
from facesr.evaluation.out_folder import write_text
from facesr.evaluation.report.tables import aligned
from facesr.names import shown_path
from facesr.ranges import Range
from facesr.training.outcome import FINAL_SCORES
from facesr.training.rundir import FREE_KEYS
from facesr.web.page import render

NUM_RESAMPLES = 2000
Watts = Annotated[float, Range(0, 1e15, above=True)]
POWER_LIMIT_WATTS = 3000.0  # of a team's whole cluster in the final of 2019


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
        energy: what it took.
    """

    name: str
    settings: Mapping[str, Any]
    kimg: float
    ranking: str
    scores: Mapping[str, Statistics]
    higher_is_better: bool
    energy: RunEnergy


def read_run(folder: Path, meters: Sequence[Meter] = ()) -> FinishedRun:
    """Returns what a run's folder says, and what power meters have logged meanwhile.

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
    ranking, energy = columns[0], energy_of_run(folder, meters)
    return FinishedRun(folder.name, flat(config or {}), kimg, ranking, scores, ranking not in ("rmse",), energy)


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
    measured = any(run.energy.joules is not None for run in runs)
    rows = [["run", *keys, "kimg", first.ranking, "95 % interval", *others, *(HEADS if measured else ())]]
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
                *(run.energy.cells() if measured else ()),
            ]
        )
    return rows


def told_of_energy(runs: Sequence[FinishedRun], limit_watts: float, has_meters: bool) -> list[str]:
    """Returns what is to be said of the runs' energy: what was not measured, and whether each kept the limit."""
    if all(run.energy.joules is None for run in runs):
        return ["energy: not measured; neither NVML nor RAPL could be read, and no --meter covers these runs"]
    lines = [run.energy.check(run.name, limit_watts) for run in runs]
    if has_meters:
        missed = [run.name for run in runs if run.energy.by_meter is None]
        lines += [f"{name} was not measured by the meters all of its time" for name in missed]
    return lines


def write_comparison(
    out: Path, rows: Sequence[Sequence[str]], by_rank: Sequence[Sequence[str]] = (), told: Sequence[str] = ()
) -> list[Path]:
    """Writes compare.csv, compare.html and, where there is any, the energy by node and rank; returns what was written.

    Raises:
        DataError: the folder cannot be written.
    """
    tables = {"compare.csv": rows, **({"energy.csv": by_rank} if by_rank else {})}
    for name, table in tables.items():
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(table)
        write_text(out / name, text.getvalue())
    page = render(
        "compare.html", title="Runs compared", heads=rows[0], rows=rows[1:], by_rank=list(by_rank), told=list(told)
    )
    write_text(out / "compare.html", page)
    return [out / name for name in (*tables, "compare.html")]


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit code, 2 on a user's error."""
    parser = Parser(prog="facesr compare", description="Runs beside each other: settings that differ, final scores.")
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="folders of finished runs")
    parser.add_argument("--out", type=Path, help="folder for compare.csv, compare.html and energy.csv")
    parser.add_argument(
        "--meter",
        type=Path,
        action="append",
        default=[],
        metavar="CSV",
        help="log of a power meter: time and watts; once for each meter, and all together are the cluster",
    )
    parser.add_argument(
        "--power-limit",
        type=number(Watts),
        default=POWER_LIMIT_WATTS,
        metavar="W",
        help=f"of the whole cluster (default {POWER_LIMIT_WATTS:g})",
    )
    chosen = parser.parse_args(arguments)
    return exit_code_of(lambda: run_compare(chosen))


def run_compare(chosen: argparse.Namespace) -> None:
    """Prints the tables, and writes them where a folder is given."""
    meters = [read_meter(path) for path in chosen.meter]
    runs = [read_run(folder, meters) for folder in chosen.runs]
    rows, by_rank = table_of(runs), rows_by_rank([(run.name, run.energy) for run in runs])
    told = told_of_energy(runs, chosen.power_limit, bool(meters))
    print("\n".join([*aligned(rows), *(["", *aligned(by_rank)] if by_rank else []), "", *told]))
    if chosen.out is not None:
        try:
            chosen.out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DataError(f"--out {chosen.out} cannot be made: {error.strerror}.") from error
        print("written: " + ", ".join(shown_path(path) for path in write_comparison(chosen.out, rows, by_rank, told)))
