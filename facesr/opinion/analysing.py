"""The command ``facesr opinion analyse``: from a study's answers to tables and a report.

OUT holds ratings.csv, raters.csv, methods.csv, differences.csv, correlations.csv, summary.json and report.html. It is
whole or as it was before: a new analysis takes the place of an earlier one, and of nothing else.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from facesr.errors import DataError
from facesr.files import unfinished_folder
from facesr.names import is_left_behind, shown_path
from facesr.opinion.cells import acr_cells
from facesr.opinion.conclusions import conclusions_of, warnings_of
from facesr.opinion.exclusion import conduct_of, everyone, kept
from facesr.opinion.findings import findings_of
from facesr.opinion.ratings import Records, ratings_csv
from facesr.opinion.report import annex_e_points, report_html
from facesr.opinion.results import (
    SUMMARY,
    correlations_csv,
    differences_csv,
    methods_csv,
    raters_table,
    summary_of,
)
from facesr.opinion.screening import annex_e_of, bt500_of, unusual_raters

FILES = ("ratings.csv", "raters.csv", "methods.csv", "differences.csv", "correlations.csv", SUMMARY, "report.html")


def analyse(options: argparse.Namespace) -> None:
    """Analyses a study's folder and writes the result.

    Raises:
        FaceSRError: there is no study or no rating yet, OUT holds something else, or a judge or picture is missing.
    """
    from facesr.opinion.records import read_records

    out = Path(options.out) if options.out is not None else Path(options.folder) / "analysis"
    require_replaceable(out)
    records = read_records(Path(options.folder))
    require_ratings(records, Path(options.folder))
    judges = judges_of(options.judges)
    write_analysis(records, judges, out, options.resamples, options.seed)


def judges_of(text: str) -> list[str]:
    """Returns the judges of ``a,b``; none for ``none`` or an empty text."""
    names = list(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    return [] if names == ["none"] else names


def require_ratings(records: Records, folder: Path) -> None:
    """Checks that there is something to analyse.

    Raises:
        DataError: nobody has given an answer of the main part.
    """
    if not any(one.part == "main" for one in records.ratings):
        raise DataError(f"{shown_path(folder)} has no answer that counts yet; analyse it when somebody has rated.")


def write_analysis(records: Records, judges: Sequence[str], out: Path, num_resamples: int, seed: int) -> None:
    """Analyses records and writes OUT, printing the conclusions.

    Args:
        records: with at least one answer that counts.
        judges: by configuration name; where there are none, no metric is measured either.
        out: folder to write.
        num_resamples: of raters and faces.
        seed: of those.

    Raises:
        FaceSRError: OUT holds something else or cannot be written, or a judge or picture is missing.
    """
    require_replaceable(out)
    metrics = {}
    if judges:
        # Loads torch, which takes seconds.
        from facesr.opinion.measuring import measure

        metrics = measure(records, judges, lambda name: print(f"measuring {name}", flush=True))
    conducts = conduct_of(records)
    those, all_of_them = kept(conducts), everyone(conducts)
    found = findings_of(records, those, metrics, num_resamples, seed)
    without = found if those == all_of_them else findings_of(records, all_of_them, metrics, num_resamples, seed)
    stars = acr_cells(records, all_of_them)
    model = annex_e_of(stars)
    people = annex_e_points(stars.raters, model)
    unusual = {name: why for name, why in unusual_raters(stars, model).items() if name in those}
    sets = {"kept": found, "all": without}
    origin = {
        "Resamples and seed": f"{num_resamples}, {seed}",
        "Judges": ", ".join(judges) or "none",
        "Ratings": f"{min(r.at for r in records.ratings):%Y-%m-%d} to {max(r.at for r in records.ratings):%Y-%m-%d}",
    }
    files = {
        "ratings.csv": ratings_csv(records.ratings),
        "raters.csv": raters_table(records, conducts, stars.raters, model, bt500_of(stars)),
        "methods.csv": methods_csv(sets, records.anchors),
        "differences.csv": differences_csv(sets),
        "correlations.csv": correlations_csv(sets),
        SUMMARY: json.dumps(summary_of(records, conducts, sets, unusual, origin), indent=2, allow_nan=False) + "\n",
        "report.html": report_html(records, conducts, found, without, people, unusual, origin),
    }
    write_folder(out, files)
    for sentence in (*warnings_of(records, found, without), *conclusions_of(records, found)):
        print(sentence)
    print(f"written: {shown_path(out / 'report.html')}")


def require_replaceable(out: Path) -> None:
    """Checks that a folder holds nothing but an earlier analysis.

    Raises:
        DataError: it holds something else.
    """
    try:
        found = {entry.name for entry in out.iterdir() if not is_left_behind(entry.name)} if out.exists() else set()
    except OSError as error:
        raise DataError(f"--out {shown_path(out)} cannot be used: {error.strerror}.") from error
    if found - set(FILES) or (found and SUMMARY not in found):
        raise DataError(f"--out {shown_path(out)} holds other files; give a new folder.")


def write_folder(out: Path, files: dict[str, str]) -> None:
    """Writes the files of OUT together, in the place of an earlier analysis.

    Raises:
        DataError: it cannot be written.
    """
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with unfinished_folder(out.parent, out.name) as made:
            for name, text in files.items():
                (made / name).write_text(text, encoding="utf-8", newline="")
            if out.exists():
                # Beside the new one, where it goes with what is unfinished.
                out.rename(made.parent / "earlier")
            made.rename(out)
    except OSError as error:
        raise DataError(f"--out {shown_path(out)} cannot be written: {error.strerror}.") from error
