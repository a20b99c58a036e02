"""What the API answers with; OpenAPI's descriptions are made of these."""

from datetime import datetime
from typing import Any

from pydantic import BaseModel


class Problem(BaseModel):
    """Why something cannot be done: a sentence for people, a word for programs."""

    error: str
    kind: str
    retry_after: int | None = None


class PhaseShape(BaseModel):
    """A phase; times are in UTC."""

    name: str
    title: str
    protocol: str
    state: str
    starts: datetime
    ends: datetime
    rank_rule: str
    num_chosen: int
    public_share: float
    power_limit_watts: float | None
    limits: dict[str, int]


class CompetitionShape(BaseModel):
    """The competition."""

    title: str
    description: str
    contact: str
    max_archive_bytes: int
    log_seq: int
    log_hash: str
    phases: list[PhaseShape]


class EntryShape(BaseModel):
    """A row of a phase's table; with a Ladder there may be no score, and then no place.

    `means` has of `rmse_y` the root of the mean square.
    """

    place: str
    first: int | None
    last: int | None
    team: str
    submission: str
    is_baseline: bool
    disqualified: bool
    score: float | None
    low: float | None
    high: float | None
    means: dict[str, float]
    white_box: bool | None
    guard_replaced: int | None
    mean_watts: float | None
    within_power_limit: bool | None
    num_parameters: int | None
    num_entries: int
    received: datetime


class StandingShape(BaseModel):
    """A phase's table, and the line of the log that it stands on."""

    phase: str
    view: str
    views: list[str]
    num_faces: int
    ranking_metric: str | None
    higher_is_better: bool
    log_seq: int
    log_hash: str
    entries: list[EntryShape]


class ScoreShape(BaseModel):
    """Mean of a metric with its 95 % bootstrap interval; of `rmse_y` the root of the mean square."""

    mean: float
    low: float
    high: float


class SubmissionShape(BaseModel):
    """A submission; scores are those that may be seen, by view and metric. The facts are its team's word."""

    code: str
    phase: str
    team: str
    state: str
    received: datetime
    withdrawn: bool
    chosen: bool
    disqualified: bool
    scores: dict[str, dict[str, ScoreShape]]
    facts: dict[str, str]
    archive_sha256: str | None
    place_in_queue: int | None
    problem: str | None


class UploadShape(BaseModel):
    """An archive that comes in pieces: the next one begins at `offset`; at the end there is the submission."""

    code: str
    num_bytes: int
    offset: int
    max_piece_bytes: int
    expires: datetime | None
    submission: SubmissionShape | None


class AllowanceShape(BaseModel):
    """What a team may still send to a phase, and when the counts of the day begin anew (UTC)."""

    phase: str
    state: str
    is_left: bool
    scored_left: int
    refused_left: int
    in_all_left: int
    waiting_left: int
    storage_left_bytes: int
    resets: datetime


class LineShape(BaseModel):
    """A line of the log; `data` is the text that was hashed."""

    seq: int
    at: str
    actor: str
    kind: str
    data: str
    previous: str
    hash: str


class LogShape(BaseModel):
    """Lines of the log, oldest first; `more` says whether others follow."""

    lines: list[LineShape]
    more: bool


class WantedShape(BaseModel):
    """A phase that has waiting submissions, for workers: how it is scored, and its references as a ZIP file."""

    name: str
    protocol: str
    ranking_judge: str
    held_out_judges: list[str]
    round: int | None
    basis_sha256: str | None
    references_sha256: str
    references_bytes: int


class WantedListShape(BaseModel):
    """What a worker may ask for, and the name that the board gives it."""

    worker: str
    phases: list[WantedShape]


class JobShape(BaseModel):
    """A job that is leased to a worker for some seconds; `team` is whose name the archive has to state."""

    code: str
    phase: str
    archive_sha256: str
    num_bytes: int
    lease: str
    attempt: int
    team: str | None
    examples: list[str]
    lease_seconds: float


class ClaimShape(BaseModel):
    """A job, or none where nothing waits."""

    job: JobShape | None


class KeptShape(BaseModel):
    """That what a worker said holds now."""

    kept: bool


class RegistrationShape(BaseModel):
    """A new team; the token is shown this once."""

    team: str
    token: str


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Returns OpenAPI's description of refusals."""
    return {status: {"model": Problem} for status in (*statuses, 429)}
