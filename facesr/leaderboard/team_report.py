"""A team's report of a scored submission, one file that needs no other: what the team may see of it, face by face.

It is made as the team sees the board, whoever asks for it, so that an organiser who passes it on tells nothing else.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Path, Request
from markupsafe import Markup
from sqlalchemy import select
from sqlalchemy.orm import Session
from starlette.responses import Response

from facesr.evaluation.bootstrap import Estimate
from facesr.evaluation.over_set import kind_of
from facesr.leaderboard.access import NOBODY, Viewer
from facesr.leaderboard.answers import kept
from facesr.leaderboard.board import AskedNow, Board, PhaseNow
from facesr.leaderboard.drawings import curve_svg, label_of
from facesr.leaderboard.entries import SCORED
from facesr.leaderboard.faults import NotFound
from facesr.leaderboard.scores import Scores, example_files, public_means, scores_of, summary_of, visible
from facesr.leaderboard.standing import shown_round
from facesr.leaderboard.submission_pages import facts_of, ordered
from facesr.leaderboard.tables import Submission, Team
from facesr.web.page import png_address, render

router = APIRouter(include_in_schema=False)
# A report of 2,000 faces and 10 metrics has about 1 MB; more faces are in the export after the end.
MAX_FACES = 2000
MAX_PICTURE_BYTES = 2 << 20


@dataclass(frozen=True)
class Metric:
    """A metric in a view: its figure, and the sorted curve where values of single faces may be seen."""

    name: str
    summary: Estimate
    chart: Markup | None


@dataclass(frozen=True)
class Part:
    """A view: its metrics, and a row for each face, the worst first.

    Attributes:
        view: ``public`` or ``private``.
        num_faces: of the view.
        metrics: the ranking one first.
        heads: of the table of faces.
        rows: what a face is called, and its values.
    """

    view: str
    num_faces: int
    metrics: list[Metric]
    heads: list[str]
    rows: list[list[str]]


@router.api_route("/submissions/{code}/report.html", methods=["GET", "HEAD"])
def report_file(
    asked: AskedNow, request: Request, code: Annotated[str, Path(pattern="^[A-Za-z0-9_-]{1,64}$")]
) -> Response:
    """The report of a submission, for its team and the organiser."""
    board = asked.board
    with board.database.read() as session:
        submission, team = _own(session, code, asked.viewer)
        phase = board.phase_now(session, board.phase(submission.phase), NOBODY)
        this = shown_round(session, submission.phase)
        stepped = _stepped(board, session, submission, phase)

    def make() -> str:
        with board.database.read() as session:
            return _text(board, session, submission, team, phase, stepped)

    flags = (submission.withdrawn, submission.disqualified, team.disqualified, submission.chosen)
    answer = kept(asked, request, (None if this is None else this.id, phase.sight, flags, stepped), make)
    answer.headers["content-disposition"] = f'attachment; filename="report-{code}.html"'
    return answer


def _own(session: Session, code: str, viewer: Viewer) -> tuple[Submission, Team]:
    """Returns a scored submission of the viewer's team, or for the organiser any.

    Raises:
        NotFound: there is none; the sentence is the same for another team's.
    """
    submission, team = visible(session, code, viewer)
    if not (viewer.is_organiser or viewer.team_id == submission.team_id) or submission.state != SCORED:
        raise NotFound("there is no such report.")
    return submission, team


def _stepped(board: Board, session: Session, submission: Submission, phase: PhaseNow) -> float | None:
    """Returns the score in steps of the Ladder, None where scores are seen as they are."""
    if not phase.sight.is_stepped:
        return None
    mine = (Submission.team_id == submission.team_id, Submission.phase == submission.phase)
    rows = session.scalars(select(Submission).where(*mine).order_by(Submission.received, Submission.id)).all()
    return public_means(board, session, phase, rows).get(submission.id)


def _text(
    board: Board, session: Session, submission: Submission, team: Team, phase: PhaseNow, stepped: float | None
) -> str:
    parts = []
    if not phase.sight.is_stepped:
        found = [(view, scores_of(board, session, submission, phase, view)) for view in phase.sight.views]
        parts = [_part(view, scores, phase) for view, scores in found if scores is not None]
    pictures = example_files(board, session, submission, phase)
    return render(
        "board/report.html",
        title=f"{team.name}, {phase.settings.title}",
        competition=board.competition.title,
        submission=submission,
        team=team,
        phase=phase,
        stepped=stepped,
        parts_of=parts,
        max_faces=MAX_FACES,
        examples=_addresses(pictures),
        num_examples=len(pictures),
        facts=facts_of(submission.facts),
    )


def _part(view: str, scores: Scores, phase: PhaseNow) -> Part:
    names = ordered(scores)
    shown = [name for name in names if phase.sight.shows_faces(name)]
    metrics = [_metric(name, scores.columns[name], phase.settings.unit, has_chart=name in shown) for name in names]
    first = scores.columns[scores.ranking_metric if scores.ranking_metric in shown else shown[0]] if shown else None
    if first is None:
        return Part(view, len(scores.ids), metrics, [], [])
    order = np.argsort(first, kind="stable")
    order = order if scores.higher_is_better else order[::-1]
    # Without names, in the order of the scores: another order would tell which faces they are.
    rows = [
        [
            scores.ids[index] if phase.sight.has_ids else str(number),
            *(f"{scores.columns[name][index]:.4f}" for name in shown),
        ]
        for number, index in enumerate(order[:MAX_FACES].tolist(), 1)
    ]
    return Part(view, len(scores.ids), metrics, [phase.settings.unit[:-1], *map(label_of, shown)], rows)


def _metric(name: str, values: Any, unit: str, *, has_chart: bool) -> Metric:
    summary = summary_of(name, values)
    chart = None
    if has_chart:
        title = f"{label_of(name)} of {len(values)} {unit}, sorted"
        lines = {summary.value: f"{kind_of(name)} {summary.value:.4f}"}
        chart = curve_svg(np.sort(values), title, f"{unit}, sorted", lines=lines)
    return Metric(label_of(name), summary, chart)


def _addresses(pictures: Sequence[tuple[Any, Any, Any]]) -> list[tuple[str, ...]]:
    """Returns low-resolution input, restored picture and original of faces, as many as a report has room for."""
    found: list[tuple[str, ...]] = []
    left = MAX_PICTURE_BYTES
    for files in pictures:
        left -= sum(file.stat().st_size for file in files)
        if left < 0:
            break
        found.append(tuple(png_address(file.read_bytes()) for file in files))
    return found
