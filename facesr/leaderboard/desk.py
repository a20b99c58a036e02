"""Where workers get their work and report: at the board itself, or at its address (`facesr.leaderboard.remote`).

A worker knows a `Desk` alone, so that one beside the board and one elsewhere score by the same code. The addresses for
workers (`facesr.leaderboard.api_workers`) answer by a `LocalDesk`, so that both are kept by the same code as well.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from facesr.errors import FaceSRError, SubmissionError
from facesr.leaderboard import queue
from facesr.leaderboard.competition import Place
from facesr.leaderboard.entries import waiting
from facesr.leaderboard.faults import OverLimit
from facesr.leaderboard.queue import Job, Outcome
from facesr.leaderboard.split import example_ids
from facesr.leaderboard.tables import Round, Submission
from facesr.leaderboard.teams import key_of
from facesr.names import shown
from facesr.web.database import Database

_MAX_EXAMPLE_BYTES = 1 << 24


class Away(FaceSRError):
    """What gives the jobs out cannot be reached now."""


class Rules(Protocol):
    """What of a phase says how its submissions are scored."""

    @property
    def name(self) -> str:
        """In addresses."""

    @property
    def protocol(self) -> str:
        """Name of configs/protocol/."""

    @property
    def ranking_judge(self) -> str:
        """Name of configs/embedder/."""

    @property
    def held_out_judges(self) -> Sequence[str]:
        """Names of configs/embedder/."""


class Basis(Protocol):
    """What scores are made by, of `facesr.leaderboard.scoring.Scorer`."""

    ids: tuple[str, ...]
    columns: dict[str, dict[str, Any]]
    ranking_metric: str
    higher_is_better: bool
    basis: dict[str, Any]
    basis_sha256: str


class Desk(Protocol):
    """Gives jobs out and takes what came of them.

    Every function may raise `Away`.

    Attributes:
        name: of the worker, for the log and the organiser.
        poll_seconds: pause before it is asked again where nothing waits.
    """

    name: str
    poll_seconds: float

    def waiting(self) -> Sequence[Rules]:
        """Returns the phases that have waiting submissions."""

    def high(self, phase: Rules) -> Path:
        """Returns the folder of a phase's originals."""

    def low(self, phase: Rules) -> Path:
        """Returns the folder of a phase's low-resolution pictures."""

    def round_of(self, phase: Rules, scorer: Basis) -> int:
        """Returns the round in which a scorer scores a phase.

        Raises:
            FaceSRError: the round of the phase has another basis; the sentence says what to do.
        """

    def claim(self, rounds: Mapping[str, int]) -> Job | None:
        """Returns the next job of phases that are scored in these rounds, or None."""

    def prolong(self, job: Job) -> bool:
        """Returns whether the job is still the worker's; its lease then begins anew."""

    def archive(self, job: Job) -> AbstractContextManager[Path]:
        """Holds the archive of a job."""

    def scored(self, job: Job, round_id: int, outcome: Outcome, pictures: Mapping[str, bytes]) -> bool:
        """Hands scores in, with the example faces as PNG, and returns whether the job was still the worker's."""

    def refused(self, job: Job, sentence: str) -> bool:
        """Says that the verifier refused the archive, and returns whether the job was still the worker's."""

    def failed(self, job: Job, reason: str) -> bool:
        """Says that the machinery failed, and returns whether the job was still the worker's."""


class LocalDesk:
    """The desk of whoever has the competition's folder and database.

    Attributes:
        name: of the worker.
        poll_seconds: see `Desk`.
    """

    def __init__(self, place: Place, database: Database, name: str) -> None:
        self.name = name
        self.poll_seconds = 1.0
        self._place = place
        self._database = database
        self._store = place.store()

    def waiting(self) -> Sequence[Rules]:
        """Returns the phases that have waiting submissions."""
        with self._read() as session:
            return [
                phase
                for phase in self._place.competition.phases
                if session.query(Submission.id).filter(waiting(), Submission.phase == phase.name).first() is not None
            ]

    def high(self, phase: Rules) -> Path:
        """Returns the folder of a phase's originals."""
        return self._place.high(self._place.competition.phase(phase.name))

    def low(self, phase: Rules) -> Path:
        """Returns the folder of a phase's low-resolution pictures."""
        return self._place.low(self._place.competition.phase(phase.name))

    def round_of(self, phase: Rules, scorer: Basis) -> int:
        """Returns the round in which a scorer scores a phase; the first one is begun.

        Raises:
            FaceSRError: the round of the phase has another basis.
        """
        with self._write() as session:
            current = queue.current_round(session, phase.name)
            if current is None:
                current = queue.begin_round(
                    self._database, session, new_round(phase.name, scorer), f"worker {self.name}"
                )
            if current.basis_sha256 != scorer.basis_sha256:
                raise another_basis(phase)
            return current.id

    def claim(self, rounds: Mapping[str, int], lease: str = "", most: int | None = None) -> Job | None:
        """Returns the next job of phases that are scored in these rounds, or None.

        Args:
            rounds: phase -> round in which the worker would score it; one that is not the newest gets no job.
            lease: the worker's secret, by default a new one. The same one again gives the same job again.
            most: jobs that a worker of this name may hold.

        Raises:
            OverLimit: it holds so many.
        """
        with self._write() as session:
            job = queue.held(session, lease) if lease else None
            if job is None:
                if most is not None and queue.num_held(self._database, session, self.name) >= most:
                    raise OverLimit(f"worker {self.name} holds {most} jobs already; it gets another when one is done.")
                newest = {name: queue.current_round(session, name) for name in rounds}
                phases = [name for name, this in newest.items() if this is not None and this.id == rounds[name]]
                job = queue.claim(self._database, session, self.name, phases, lease)
            return None if job is None else self.with_examples(session, job)

    def prolong(self, job: Job) -> bool:
        """Returns whether the job is still the worker's; its lease then begins anew."""
        with self._write() as session:
            return queue.prolong(self._database, session, job)

    @contextmanager
    def archive(self, job: Job) -> Iterator[Path]:
        """Holds the archive of a job."""
        yield self._store.path(job.archive_sha256)

    def scored(self, job: Job, round_id: int, outcome: Outcome, pictures: Mapping[str, bytes]) -> bool:
        """Keeps scores and the example faces, and returns whether the job was still the worker's.

        Raises:
            ValueError: the columns are not those of the round, or not all values are finite.
        """
        examples = {face: self._store.put([data], _MAX_EXAMPLE_BYTES).sha256 for face, data in pictures.items()}
        with self._write() as session:
            return queue.finish_scored(self._database, session, job, round_id, replace(outcome, examples=examples))

    def refused(self, job: Job, sentence: str) -> bool:
        """Keeps that the verifier refused the archive, and returns whether the job was still the worker's."""
        with self._write() as session:
            return queue.finish_refused(self._database, session, job, sentence)

    def failed(self, job: Job, reason: str) -> bool:
        """Keeps that the machinery failed, and returns whether the job was still the worker's."""
        with self._write() as session:
            return queue.finish_failed(self._database, session, job, reason)

    def with_examples(self, session: Session, job: Job) -> Job:
        """Returns a job that names the faces whose pictures everybody may see."""
        this = queue.current_round(session, job.phase)
        assert this is not None
        phase = self._place.competition.phase(job.phase)
        faces = example_ids(self._place.key, phase.name, this.ids, phase.public_share, phase.num_examples)
        return replace(job, examples=tuple(faces))

    @contextmanager
    def _read(self) -> Iterator[Session]:
        with _or_away(), self._database.read() as session:
            yield session

    @contextmanager
    def _write(self) -> Iterator[Session]:
        with _or_away(), self._database.write() as session:
            yield session


@contextmanager
def _or_away() -> Iterator[None]:
    try:
        yield
    except DBAPIError as error:
        raise Away(f"the database failed: {error.orig}") from error


def another_basis(phase: Rules) -> FaceSRError:
    """Returns why a worker cannot score a phase: its round has another basis."""
    return FaceSRError(
        f"phase {phase.name} was scored with other metrics, judges or references than this worker has; "
        "run facesr board rescore, or bring this machine to the version of the others."
    )


def new_round(phase: str, scorer: Basis) -> Round:
    """Returns a round with what a scorer scores by; it is not in the database yet."""
    return Round(
        phase=phase,
        basis=scorer.basis,
        basis_sha256=scorer.basis_sha256,
        ids=list(scorer.ids),
        columns={name: dict(about) for name, about in scorer.columns.items()},
        ranking_metric=scorer.ranking_metric,
        higher_is_better=scorer.higher_is_better,
    )


def require_team(job: Job, name: str) -> None:
    """Checks that an archive was packed for the team that sent it.

    Raises:
        SubmissionError: it was packed for another one.
    """
    if job.team is not None and key_of(name) != key_of(job.team):
        raise SubmissionError(
            f"the archive was packed for team {shown([name])}, and team {shown([job.team])} sent it; "
            f"pack it with team={shown([job.team])}."
        )
