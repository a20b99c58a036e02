"""What a worker elsewhere reports of a job, checked: nothing of it is believed but the numbers themselves."""

import base64
import binascii
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field, TypeAdapter, ValidationError
from sqlalchemy import select
from sqlalchemy.orm import Session

from facesr.errors import SubmissionError
from facesr.leaderboard.desk import require_team
from facesr.leaderboard.entries import REFUSED
from facesr.leaderboard.facts import are_facts, with_power
from facesr.leaderboard.faults import BoardError
from facesr.leaderboard.queue import Job, Outcome, packed, scores_sha256
from facesr.leaderboard.tables import Evaluation, Round, Submission
from facesr.names import one_line
from facesr.png import encode_png, list_png, png_header
from facesr.web.strict import Strict

# A report with its pictures as base64; the rest of it is small.
REPORT_BYTES = 1 << 25
MAX_PICTURE_BYTES = 1 << 24
# No metric gives more; means and resamples of such values stay finite.
_MAX_VALUE = 1e9
_DAY = 86400.0

Value = Annotated[float, Field(ge=-_MAX_VALUE, le=_MAX_VALUE, allow_inf_nan=False)]
Sentence = Annotated[str, Field(min_length=1, max_length=500)]


class BadReport(BoardError):
    """A worker's report is not what a worker would send."""

    kind = "bad_report"


class ScoredReport(Strict):
    """The archive obeys the rules, and these are its scores.

    Attributes:
        answer: ``scored``.
        round: in which it was scored.
        ids: of the faces; those of the round, in its order.
        columns: metric -> a finite value for each face; the metrics of the round.
        facts: of the manifest, `facesr.leaderboard.facts.facts_of`.
        is_isolated: whether bubblewrap held the verifier.
        pixels_sha256: of the decoded pictures.
        seconds: that it took.
        pictures: id of a face -> its pixels, uint8 RGB, row by row, as base64; some of those that the job names.
    """

    answer: Literal["scored"]
    round: Annotated[int, Field(ge=1, le=2**31 - 1)]
    ids: list[str]
    columns: dict[str, list[Value]]
    facts: dict[str, Any]
    is_isolated: bool
    pixels_sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    seconds: Annotated[float, Field(ge=0, le=_DAY, allow_inf_nan=False)]
    pictures: dict[str, str]


class RefusedReport(Strict):
    """The verifier refuses the archive; the sentence is for the team."""

    answer: Literal["refused"]
    sentence: Sentence


class FailedReport(Strict):
    """The machinery failed; the reason is for the organiser."""

    answer: Literal["failed"]
    reason: Sentence


Report = ScoredReport | RefusedReport | FailedReport
_REPORTS: TypeAdapter[Report] = TypeAdapter(Annotated[Report, Field(discriminator="answer")])


@dataclass(frozen=True)
class Checked:
    """A report of scores that may be kept.

    Attributes:
        outcome: the scores.
        pictures: id of a face -> PNG, written here from its pixels.
    """

    outcome: Outcome
    pictures: Mapping[str, bytes]


def parsed(body: bytes) -> Report:
    """Returns the report in a body.

    Raises:
        BadReport: there is none.
    """
    try:
        return _REPORTS.validate_json(body)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"])[:100]
        raise BadReport(one_line(f"the report is not as it has to be: {place or 'body'}: {first['msg']}.")) from error


def checked(session: Session, job: Job, report: ScoredReport, high: Path) -> Checked:
    """Returns what of a report of scores is kept.

    Args:
        session: of a database.
        job: that the worker holds.
        report: of the worker.
        high: folder of the phase's originals, whose sizes the pictures have to have.

    Raises:
        BadReport: it does not fit the job, its round or its faces.
    """
    this = _round_of(session, job, report)
    columns = {name: np.array(values, np.float64) for name, values in report.columns.items()}
    try:
        packed(this, columns)
    except ValueError as error:
        raise BadReport(f"the report is not as it has to be: {error}.") from error
    if not are_facts(report.facts):
        raise BadReport("the report is not as it has to be: facts are not those of a manifest.")
    try:
        require_team(job, str(report.facts["team"]))
    except SubmissionError as error:
        raise BadReport(f"the report gives scores to an archive that is to be refused: {error}") from error
    outcome = Outcome(
        columns=columns,
        facts={**with_power(report.facts), "is_isolated": report.is_isolated},
        pixels_sha256=report.pixels_sha256,
        seconds=report.seconds,
    )
    return Checked(outcome, _pictures(job, report, high))


def _round_of(session: Session, job: Job, report: ScoredReport) -> Round:
    this = session.get(Round, report.round)
    if this is None or this.phase != job.phase:
        raise BadReport("the report is not as it has to be: round is none of the job's phase.")
    if report.ids != this.ids:
        raise BadReport("the report is not as it has to be: ids are not the faces of the round.")
    rule = (Evaluation.submission_id == job.submission_id, Evaluation.round_id == this.id)
    if session.scalar(select(Evaluation.id).where(*rule)) is not None:
        raise BadReport("the report is not as it has to be: the job has scores in this round already.")
    return this


def _pictures(job: Job, report: ScoredReport, high: Path) -> dict[str, bytes]:
    if not set(report.pictures) <= set(job.examples):
        raise BadReport("the report is not as it has to be: pictures are of other faces than the job names.")
    originals = {unicodedata.normalize("NFC", key): path for key, path in list_png(high).items()}
    return {face: _png(face, text, originals[face]) for face, text in report.pictures.items()}


def _png(face: str, text: str, original: Path) -> bytes:
    """Returns a picture as PNG, written here: no byte of the worker's own is shown to anybody."""
    with original.open("rb") as file:
        width, height, *_ = png_header(file.read(64), original.name)
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise BadReport(f"the report is not as it has to be: picture {face} is no base64.") from error
    if len(data) != width * height * 3:
        raise BadReport(f"the report is not as it has to be: picture {face} is not {width}x{height}.")
    return encode_png(np.frombuffer(data, np.uint8).reshape(height, width, 3))


def was_kept(session: Session, code: str, worker: str, report: Report) -> bool:
    """Returns whether this very report of this worker was kept already: then its answer was lost on the way."""
    row = session.scalar(select(Submission).where(Submission.code == code, Submission.worker == worker))
    if row is None or isinstance(report, FailedReport):
        return False
    if isinstance(report, RefusedReport):
        return row.state == REFUSED and row.problem == one_line(report.sentence)[:500]
    rule = (Evaluation.submission_id == row.id, Evaluation.round_id == report.round)
    kept = session.scalar(select(Evaluation).where(*rule))
    if kept is None:
        return False
    this = session.get_one(Round, kept.round_id)
    try:
        values = packed(this, {name: np.array(column, np.float64) for name, column in report.columns.items()})
    except ValueError:
        return False
    return kept.sha256 == scores_sha256(code, this, values)
