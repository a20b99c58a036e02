"""The page of a submission, and two of them compared face by face."""

from collections.abc import Mapping
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Path, Query, Request
from sqlalchemy import select
from sqlalchemy.orm import Session
from starlette.responses import Response

from facesr.evaluation.over_set import kind_of
from facesr.leaderboard import chain
from facesr.leaderboard.answers import kept, page_text
from facesr.leaderboard.board import Asked, AskedNow, PhaseNow
from facesr.leaderboard.drawings import curve_svg, label_of
from facesr.leaderboard.entries import QUEUED, place_in_queue
from facesr.leaderboard.faults import BoardError, NotNow
from facesr.leaderboard.pages import Digest, picture_answer, table_mark
from facesr.leaderboard.rows import guard_count
from facesr.leaderboard.scores import (
    Scores,
    examples_of,
    public_means,
    restored_picture,
    scores_of,
    summary_of,
    summary_of_difference,
    visible,
)
from facesr.leaderboard.standing import Standing
from facesr.leaderboard.tables import Submission, Team

router = APIRouter(include_in_schema=False)
_MAX_FACT = 200
_MOST_FACES = 12
_NUM_OTHERS = 5
# Shown by name; what else a manifest holds is for programs.
_FACTS = {
    "model": "model",
    "num_parameters": "parameters",
    "weights_sha256": "sha256 of the weights",
    "kimg": "thousands of training images",
    "loss_judges": "judges in the training loss",
    "self_ensemble": "self-ensemble",
    "device": "device",
    "seconds": "seconds of restoring",
    "energy_joules": "energy in joules",
    "mean_watts": "mean power in watts",
    "commit": "commit",
}

Code = Annotated[str, Path(pattern="^[A-Za-z0-9_-]{1,64}$")]
CodeWord = Annotated[str, Query(pattern="^[A-Za-z0-9_-]{0,64}$")]


@router.api_route("/submissions/{code}", methods=["GET", "HEAD"])
def submission_page(asked: AskedNow, request: Request, code: Code) -> Response:
    """A submission: scores, faces, and what its manifest says."""
    board = asked.board
    with board.database.read() as session:
        submission, team = visible(session, code, asked.viewer)
        phase = board.phase_now(session, board.phase(submission.phase), asked.viewer)
        head = chain.head(session)
    is_own = asked.viewer.team_id == team.id or asked.viewer.is_organiser
    table = board.standings.get(phase.settings, phase.sight.views[0], is_over=phase.sight.is_over)
    # Others see nothing that an upload changes, so that theirs is not made anew with every line of the log.
    mark = head if is_own else table_mark(table, phase)

    def make() -> str:
        others = _others(table, submission)
        with board.database.read() as session:
            return _submission_text(asked, session, phase, submission, team, others, is_own=is_own)

    return kept(asked, request, (mark, phase.sight, is_own), make)


@router.api_route("/submissions/{code}/pictures/{sha256}.png", methods=["GET", "HEAD"])
def picture_file(asked: AskedNow, code: Code, sha256: Digest) -> Response:
    """An example face as a submission has it."""
    with asked.board.database.read() as session:
        path = restored_picture(asked.board, session, code, sha256, asked.viewer)
    return picture_answer(path)


def _submission_text(
    asked: Asked,
    session: Session,
    phase: PhaseNow,
    submission: Submission,
    team: Team,
    others: list[tuple[str, str]],
    *,
    is_own: bool,
) -> str:
    board, parts, stepped = asked.board, [], None
    if phase.sight.is_stepped:
        mine = (Submission.team_id == team.id, Submission.phase == phase.settings.name)
        rows = session.scalars(select(Submission).where(*mine).order_by(Submission.received, Submission.id)).all()
        stepped = public_means(board, session, phase, rows).get(submission.id)
    else:
        found = [(view, scores_of(board, session, submission, phase, view)) for view in phase.sight.views]
        parts = [(view, _charts(scores, phase)) for view, scores in found if scores is not None]
    return page_text(
        board,
        asked.viewer,
        "submission.html",
        f"{team.name}, {phase.settings.title}",
        submission=submission,
        team=team,
        phase=phase,
        is_own=is_own,
        scores=parts,
        stepped=stepped,
        examples=examples_of(board, session, submission, phase),
        queue=place_in_queue(session, submission) if submission.state == QUEUED and is_own else None,
        facts=facts_of(submission.facts),
        others=others,
    )


def _others(table: Standing, submission: Submission) -> list[tuple[str, str]]:
    """Returns names and codes of what it may be compared with at a click: the first entries and the baselines."""
    found = [one for one in table.entries if one.submission.id != submission.id]
    first = [one for one in found if one.rank is not None][:_NUM_OTHERS]
    return [(one.team.name, one.submission.code) for one in [*first, *(one for one in found if one.team.is_baseline)]]


def _charts(scores: Scores, phase: PhaseNow) -> list[dict[str, Any]]:
    """Returns a summary and a sorted curve for every metric, the ranking one first."""
    found = []
    for name in ordered(scores):
        values = np.sort(scores.columns[name])
        summary = summary_of(name, scores.columns[name])
        drawn = None
        if phase.sight.shows_faces(name):
            drawn = curve_svg(
                values,
                f"{label_of(name)} of {len(values)} {phase.settings.unit}, sorted",
                f"{phase.settings.unit}, sorted",
                lines={summary.value: f"{kind_of(name)} {summary.value:.4f}"},
            )
        ends: list[tuple[str, float]] = []
        if phase.sight.has_ids and name == scores.ranking_metric:
            order = np.argsort(scores.columns[name], kind="stable")
            order = order if scores.higher_is_better else order[::-1]
            ends = [(scores.ids[index], float(scores.columns[name][index])) for index in order[:_MOST_FACES].tolist()]
        found.append({"name": label_of(name), "summary": summary, "chart": drawn, "worst": ends})
    return found


def facts_of(facts: Mapping[str, Any]) -> dict[str, str]:
    """Returns what a manifest says, in text; names of pictures are no part of it."""
    found = {label: _text(facts[key]) for key, label in _FACTS.items() if facts.get(key) not in (None, "")}
    replaced = guard_count(facts)
    return found if replaced is None else {**found, "pictures that the guard replaced": str(replaced)}


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list | tuple):
        return ", ".join(map(_text, value))[:_MAX_FACT] or "none"
    return str(value)[:_MAX_FACT]


@router.api_route("/compare", methods=["GET", "HEAD"])
def compare_page(
    asked: AskedNow, request: Request, a: CodeWord = "", b: CodeWord = "", view: CodeWord = ""
) -> Response:
    """Two submissions face by face."""
    board = asked.board
    if not a or not b:
        raise BoardError("name two submissions, as in /compare?a=CODE&b=CODE; their pages have links to this one.")
    with board.database.read() as session:
        head = chain.head(session)
        sides = [visible(session, code, asked.viewer) for code in (a, b)]
        if sides[0][0].phase != sides[1][0].phase:
            raise BoardError("these submissions are of different phases; only those of one phase can be compared.")
        phase = board.phase_now(session, board.phase(sides[0][0].phase), asked.viewer)
        if phase.sight.is_stepped:
            raise NotNow("in this phase single faces are compared after its end.")
        shown = phase.sight.view(view)
        left, right = (scores_of(board, session, one, phase, shown) for one, _ in sides)
    if left is None or right is None:
        raise NotNow("one of these submissions has no score yet.")

    def make() -> str:
        return page_text(
            board,
            asked.viewer,
            "compare.html",
            " and ".join(team.name for _, team in sides),
            phase=phase,
            view=shown,
            sides=sides,
            differences=[_difference(name, left, right, phase) for name in ordered(left)],
            views=[(one, f"/compare?a={a}&b={b}&view={one}") for one in phase.sight.views],
        )

    return kept(asked, request, (head, phase.sight, a, b, shown), make)


def ordered(scores: Scores) -> list[str]:
    """Returns the metrics, the ranking one first, then the judges."""
    return sorted(scores.columns, key=lambda name: (name != scores.ranking_metric, not name.startswith("is/"), name))


def _difference(name: str, left: Scores, right: Scores, phase: PhaseNow) -> dict[str, Any]:
    difference = left.columns[name] - right.columns[name]
    order = np.argsort(difference, kind="stable")
    faces: list[tuple[str, float]] = []
    if phase.sight.has_ids:
        ends = order.tolist() if len(order) <= _MOST_FACES else [*order[:6].tolist(), *order[-6:].tolist()]
        faces = [(left.ids[index], float(difference[index])) for index in ends]
    summary = summary_of_difference(name, left.columns[name], right.columns[name])
    return {
        "name": label_of(name),
        "summary": summary,
        "is_clear": summary.low > 0 or summary.high < 0,
        "higher": int((difference > 0).sum()),
        "equal": int((difference == 0).sum()),
        "lower": int((difference < 0).sum()),
        "faces": faces,
        "chart": curve_svg(
            difference[order],
            f"difference of {label_of(name)}, sorted",
            f"{phase.settings.unit}, sorted",
            lines={0.0: "equal"},
        )
        if phase.sight.shows_faces(name)
        else None,
    }
