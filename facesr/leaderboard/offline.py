"""A ranking of archives without a server: every archive verified and scored, refusals listed among them."""

import argparse
import csv
import io
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facesr.errors import DataError, SubmissionError
from facesr.evaluation.out_folder import write_text
from facesr.evaluation.over_set import over_set
from facesr.leaderboard.competition import Phase, Place
from facesr.leaderboard.ranking import Rank, ranks
from facesr.leaderboard.sandbox import verify_apart
from facesr.leaderboard.scoring import protocol_named
from facesr.names import one_line, shown, shown_cell, shown_path
from facesr.web.page import render


@dataclass(frozen=True)
class Scored:
    """An archive that was scored.

    Attributes:
        file: its name, printable.
        facts: what its manifest says.
        pixels_sha256: of its decoded pictures.
        columns: metric -> values (N,).
        alike: another archive with equal pixels that was given before it, or "".
    """

    file: str
    facts: Mapping[str, Any]
    pixels_sha256: str
    columns: Mapping[str, NDArray[np.float64]]
    alike: str = ""


@dataclass(frozen=True)
class Refused:
    """An archive that was not scored.

    Attributes:
        file: its name, printable.
        sentence: why.
    """

    file: str
    sentence: str


def score(options: argparse.Namespace) -> None:
    """Ranks archives by all faces of a phase, and writes ranking.csv and ranking.html."""
    from facesr.leaderboard.worker import open_scorer

    place = Place(options.folder)
    phase = place.competition.phase(options.phase or place.competition.phases[0].name)
    for path in options.archives:
        if not path.is_file():
            raise DataError(f"{shown_path(path)} is not a file; give submission archives.")
    out = options.out or place.folder / "ranking"
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"{out} cannot be made ({error.strerror}); choose another --out.") from error
    scorer = open_scorer(phase, place.high(phase), place.low(phase), options.device)
    scored: list[Scored] = []
    refused: list[Refused] = []
    for path in options.archives:
        found = _score_one(place, phase, scorer, path, scored)
        if isinstance(found, Refused):
            refused.append(found)
            print(f"refused  {shown([path.name])}: {found.sentence}")
        else:
            scored.append(found)
            print(f"{over_set(scorer.ranking_metric, found.columns[scorer.ranking_metric]):.4f}  {shown([path.name])}")
    rows = ranked(scored, scorer.ranking_metric, higher_is_better=scorer.higher_is_better)
    write_text(out / "ranking.csv", ranking_csv(rows, refused, scorer.ranking_metric))
    write_text(out / "ranking.html", _page(place, phase, scorer, rows, refused))
    print(f"{len(rows)} ranked, {len(refused)} refused: {shown_path(out / 'ranking.html')}")


def _score_one(place: Place, phase: Phase, scorer: Any, path: Path, before: Sequence[Scored]) -> Scored | Refused:
    with tempfile.TemporaryDirectory(prefix="facesr-board-") as folder:
        try:
            verified = verify_apart(path, place.low(phase), protocol_named(phase.protocol), Path(folder))
            found = scorer.score(Path(folder))
        except SubmissionError as error:
            return Refused(one_line(path.name), str(error))
    alike = next((one.file for one in before if one.pixels_sha256 == verified.pixels_sha256), "")
    return Scored(one_line(path.name), verified.facts, verified.pixels_sha256, found.columns, alike)


def ranked(scored: Sequence[Scored], metric: str, *, higher_is_better: bool) -> list[tuple[Rank, Scored]]:
    """Returns archives with their ranks, best first; equal ones as they were given."""
    if not scored:
        return []
    found = ranks(np.stack([one.columns[metric] for one in scored]), higher_is_better=higher_is_better)
    sign = -1.0 if higher_is_better else 1.0
    order = sorted(range(len(scored)), key=lambda i: sign * found[i].score)
    return [(found[i], scored[i]) for i in order]


def ranking_csv(rows: Sequence[tuple[Rank, Scored]], refused: Sequence[Refused], metric: str) -> str:
    """Returns ranking.csv: a line for each archive, refused ones last with their sentence."""
    names = sorted({name for _, one in rows for name in one.columns} - {metric})
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["first", "last", "file", "team", metric, "low", "high", *names, "equal_to", "refused"])
    for rank, one in rows:
        means = [f"{over_set(name, one.columns[name]):.6f}" for name in names]
        numbers = [f"{value:.6f}" for value in (rank.score, rank.low, rank.high)]
        team = shown_cell(str(one.facts.get("team", "")))
        file, alike = shown_cell(one.file), shown_cell(one.alike)
        writer.writerow([rank.first, rank.last, file, team, *numbers, *means, alike, ""])
    for other in refused:
        file, sentence = shown_cell(other.file), shown_cell(other.sentence)
        writer.writerow(["", "", file, "", "", "", "", *("" for _ in names), "", sentence])
    return text.getvalue()


def _page(
    place: Place, phase: Phase, scorer: Any, rows: Sequence[tuple[Rank, Scored]], refused: Sequence[Refused]
) -> str:
    metric: str = scorer.ranking_metric
    held_out = sorted({name for _, one in rows for name in one.columns if name.startswith("is/")} - {metric})
    return render(
        "board/ranking.html",
        title=f"{place.competition.title}: {phase.title}",
        metric=metric,
        unit=phase.unit,
        direction="higher" if scorer.higher_is_better else "lower",
        held_out=held_out,
        rows=[
            {
                "place": str(rank.first) if rank.first == rank.last else f"{rank.first}-{rank.last}",
                "file": one.file,
                "team": one.facts.get("team", ""),
                "score": rank.score,
                "low": rank.low,
                "high": rank.high,
                "held_out": [over_set(name, one.columns[name]) for name in held_out],
                "alike": one.alike,
            }
            for rank, one in rows
        ],
        refused=refused,
    )
