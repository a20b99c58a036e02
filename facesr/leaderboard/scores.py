"""Scores of single submissions, as far as they may be seen; and the pictures of the agreed example faces."""

import functools
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import select
from sqlalchemy.orm import Session

from facesr.evaluation.bootstrap import Estimate
from facesr.evaluation.over_set import difference_of, figure_of, over_set
from facesr.leaderboard.access import Viewer
from facesr.leaderboard.board import Board, PhaseNow
from facesr.leaderboard.entries import SCORED
from facesr.leaderboard.faults import NotFound
from facesr.leaderboard.queue import unpacked
from facesr.leaderboard.references import state_of
from facesr.leaderboard.split import example_ids
from facesr.leaderboard.standing import shown_round
from facesr.leaderboard.steps import Shown, first_scored, steps_of
from facesr.leaderboard.tables import Evaluation, Round, Submission, Team
from facesr.png import file_of

RESAMPLES, SEED = 2000, 0


@dataclass(frozen=True)
class Scores:
    """The scores of a submission in a view.

    Attributes:
        ids: of the faces of the view; whoever shows them has made sure that they may be seen.
        columns: metric -> values (N,).
        ranking_metric: which ranks.
        higher_is_better: of it.
    """

    ids: tuple[str, ...]
    columns: dict[str, NDArray[np.float64]]
    ranking_metric: str
    higher_is_better: bool


@dataclass(frozen=True)
class Example:
    """An example face: digests of low-resolution input, restored picture and original."""

    low: str
    restored: str
    high: str


def visible(session: Session, code: str, viewer: Viewer) -> tuple[Submission, Team]:
    """Returns a submission that a viewer may see: any for the organiser, a team's own, and scored ones for everybody.

    Raises:
        NotFound: there is none; the sentence is the same for one that may not be seen.
    """
    row = session.execute(
        select(Submission, Team).join(Team, Team.id == Submission.team_id).where(Submission.code == code)
    ).first()
    if row is not None:
        submission, team = row
        is_own = viewer.team_id is not None and submission.team_id == viewer.team_id
        is_open = submission.state == SCORED and submission.withdrawn is None
        if is_own or is_open or viewer.is_organiser:
            return submission, team
    raise NotFound("there is no such submission.")


def scores_of(board: Board, session: Session, submission: Submission, phase: PhaseNow, view: str) -> Scores | None:
    """Returns the scores of a submission in a view; None where it has none.

    Raises:
        NotFound: the view may not be seen.
    """
    phase.sight.view(view)
    found = _evaluation(session, submission)
    if found is None:
        return None
    this, evaluation = found
    faces = board.faces(this, phase.settings, view)
    if not faces.any():
        return None
    columns = {name: column[faces] for name, column in unpacked(this, evaluation.values).items()}
    ids = tuple(face for face, is_in in zip(this.ids, faces.tolist(), strict=True) if is_in)
    return Scores(ids, columns, this.ranking_metric, this.higher_is_better)


def _evaluation(session: Session, submission: Submission) -> tuple[Round, Evaluation] | None:
    this = shown_round(session, submission.phase)
    if this is None:
        return None
    evaluation = session.scalar(
        select(Evaluation).where(Evaluation.submission_id == submission.id, Evaluation.round_id == this.id)
    )
    return None if evaluation is None else (this, evaluation)


def summary_of(metric: str, values: NDArray[np.float64]) -> Estimate:
    """Returns a metric's figure over faces with its 95 % bootstrap interval, of their values (N,), N >= 1."""
    return _summary(metric, np.ascontiguousarray(values, dtype=np.float64).tobytes(), b"")


def summary_of_difference(metric: str, left: NDArray[np.float64], right: NDArray[np.float64]) -> Estimate:
    """Returns how far a metric's figure of the left ones is above that of the right ones, both (N,), N >= 1."""
    both = (np.ascontiguousarray(values, dtype=np.float64).tobytes() for values in (left, right))
    return _summary(metric, *both)


@functools.lru_cache(2048)
def _summary(metric: str, data: bytes, other: bytes) -> Estimate:
    values = np.frombuffer(data, np.float64)
    if not other:
        return figure_of(metric, values, RESAMPLES, SEED)
    return difference_of(metric, values, np.frombuffer(other, np.float64), RESAMPLES, SEED)


def public_means(
    board: Board, session: Session, phase: PhaseNow, submissions: Sequence[Submission]
) -> dict[int, float]:
    """Returns submission -> the public score that its team sees; with a Ladder that is not always its own, or none.

    Args:
        board: the board.
        session: of its database.
        phase: of the submissions.
        submissions: with a Ladder all of a team, withdrawn ones, too.
    """
    means = _means(board, session, phase, submissions, "public")
    this = shown_round(session, phase.settings.name)
    if this is None or not phase.sight.is_stepped or phase.settings.ladder_step is None:
        return means
    baselines = set(session.scalars(select(Team.id).where(Team.is_baseline)))
    steps = steps_of(
        [Shown(one, means[one.id], one.team_id in baselines) for one in submissions if one.id in means],
        phase.settings.ladder_step,
        first_scored(session, phase.settings.name),
        higher_is_better=this.higher_is_better,
    )
    return {key: value for key, value in steps.items() if value is not None}


def private_means(
    board: Board, session: Session, phase: PhaseNow, submissions: Sequence[Submission]
) -> dict[int, float]:
    """Returns submission -> its private score.

    Raises:
        NotFound: private scores may not be seen.
    """
    phase.sight.view("private")
    return _means(board, session, phase, submissions, "private")


def _means(
    board: Board, session: Session, phase: PhaseNow, submissions: Sequence[Submission], view: str
) -> dict[int, float]:
    this = shown_round(session, phase.settings.name)
    if this is None or not submissions:
        return {}
    faces = board.faces(this, phase.settings, view)
    if not faces.any():
        return {}
    rows = session.execute(
        select(Evaluation.submission_id, Evaluation.values).where(
            Evaluation.round_id == this.id, Evaluation.submission_id.in_([one.id for one in submissions])
        )
    )
    ranking = this.ranking_metric
    return {key: over_set(ranking, unpacked(this, values)[ranking][faces]) for key, values in rows}


def examples_of(board: Board, session: Session, submission: Submission, phase: PhaseNow) -> list[Example]:
    """Returns the example faces of a submission; they are public faces."""
    return [example for _, example in _examples(board, session, submission, phase)]


def example_files(
    board: Board, session: Session, submission: Submission, phase: PhaseNow
) -> list[tuple[Path, Path, Path]]:
    """Returns the files of the example faces, as they are there: low-resolution input, restored picture, original."""
    low, high = board.place.low(phase.settings), board.place.high(phase.settings)
    files = [
        (file_of(low, face), board.store.path(example.restored), file_of(high, face))
        for face, example in _examples(board, session, submission, phase)
    ]
    return [three for three in files if all(file.is_file() for file in three)]


def _examples(board: Board, session: Session, submission: Submission, phase: PhaseNow) -> list[tuple[str, Example]]:
    found = _evaluation(session, submission)
    if found is None:
        return []
    this, evaluation = found
    agreed = _agreed(board, this, phase)
    references = _references(board, phase, tuple(agreed))
    return [
        (face, Example(references[face][0], evaluation.examples[face], references[face][1]))
        for face in agreed
        if face in evaluation.examples and face in references
    ]


def given_picture(board: Board, session: Session, sha256: str, viewer: Viewer) -> Path:
    """Returns the file of an agreed example face as it is given: low resolution or original.

    Raises:
        NotFound: it is none.
    """
    for settings in board.competition.phases:
        phase = board.phase_now(session, settings, viewer)
        this = shown_round(session, settings.name)
        if this is None:
            continue
        for face, (low, high) in _references(board, phase, tuple(_agreed(board, this, phase))).items():
            if sha256 in (low, high):
                folder = board.place.low(settings) if sha256 == low else board.place.high(settings)
                return file_of(folder, face)
    raise NotFound("there is no such picture.")


def restored_picture(board: Board, session: Session, code: str, sha256: str, viewer: Viewer) -> Path:
    """Returns the file of an agreed example face as a submission has it.

    Raises:
        NotFound: it is none, or the submission may not be seen.
    """
    submission, _ = visible(session, code, viewer)
    phase = board.phase_now(session, board.phase(submission.phase), viewer)
    this = shown_round(session, submission.phase)
    examples = None
    if this is not None:
        mine = (Evaluation.submission_id == submission.id, Evaluation.round_id == this.id)
        examples = session.scalar(select(Evaluation.examples).where(*mine))
    if this is None or examples is None or sha256 not in map(examples.get, _agreed(board, this, phase)):
        raise NotFound("there is no such picture.")
    return board.store.path(sha256)


def _agreed(board: Board, this: Round, phase: PhaseNow) -> list[str]:
    settings = phase.settings
    return list(example_ids(board.place.key, settings.name, this.ids, settings.public_share, settings.num_examples))


def _references(board: Board, phase: PhaseNow, faces: tuple[str, ...]) -> dict[str, tuple[str, str]]:
    """Returns face -> sha256 of its low-resolution and its original file, for those that are there."""
    low, high = board.place.low(phase.settings), board.place.high(phase.settings)
    files = [(face, file_of(low, face), file_of(high, face)) for face in faces]
    there = tuple(three for three in files if three[1].is_file() and three[2].is_file())
    return _digests(there, state_of({str(file): file for _, *pair in there for file in pair}))


@functools.lru_cache(64)
def _digests(files: tuple[tuple[str, Path, Path], ...], _state: str) -> dict[str, tuple[str, str]]:
    """Returns face -> sha256 of its two files, read anew where their state is another."""
    return {face: (_digest(low), _digest(high)) for face, low, high in files}


def _digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()
