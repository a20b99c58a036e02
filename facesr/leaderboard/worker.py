"""A worker: takes submissions from the queue, has them verified apart, scores them, and says what came of it.

Any number of workers may run, on any machine that has the competition's folder and the database. Each holds a
submission by a lease (`facesr.leaderboard.queue`), which a thread prolongs while it works.
"""

import contextlib
import logging
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from facesr.errors import FaceSRError, SubmissionError
from facesr.leaderboard import queue
from facesr.leaderboard.competition import Phase, Place
from facesr.leaderboard.entries import waiting
from facesr.leaderboard.queue import LEASE_SECONDS, Job, Outcome
from facesr.leaderboard.sandbox import verify_apart
from facesr.leaderboard.scoring import Scorer, protocol_named
from facesr.leaderboard.split import example_ids
from facesr.leaderboard.tables import Round, Submission, Team
from facesr.leaderboard.teams import key_of
from facesr.names import shown
from facesr.web.database import Database

POLL_SECONDS = 1.0
_FOLDERS = "facesr-board-"
# No submission takes so long.
_ABANDONED_SECONDS = 3600.0
_AWAY_SECONDS = 5.0
_MAX_EXAMPLE_BYTES = 1 << 24
_log = logging.getLogger("facesr.board.worker")


@dataclass(frozen=True)
class _Ready:
    """What scores the submissions of a phase, and the round it does that in."""

    phase: Phase
    scorer: Scorer
    round_id: int


class Worker:
    """A worker of a competition.

    Attributes:
        name: for the log and the organiser.
    """

    def __init__(self, place: Place, database: Database, name: str, device: str = "cpu") -> None:
        self.name = name
        self._place = place
        self._database = database
        self._device = device
        self._scorers: dict[str, Scorer] = {}
        # Phases that this worker cannot score: the reason, which is told once.
        self._told: dict[str, str] = {}

    def run(self, stop: threading.Event, *, until_idle: bool = False) -> int:
        """Works until it is stopped, or until nothing waits; returns how many submissions it dealt with."""
        _sweep()
        count = 0
        while not stop.is_set():
            try:
                is_done = self.step(stop)
            except DBAPIError as error:
                # It is away for a moment, or stays away; a job that was held goes back when its lease ends.
                _log.error("the database failed: %s", error.orig)
                if until_idle:
                    raise
                stop.wait(_AWAY_SECONDS)
                continue
            if is_done:
                count += 1
            elif until_idle:
                break
            else:
                stop.wait(POLL_SECONDS)
        return count

    def step(self, stop: threading.Event | None = None) -> bool:
        """Deals with the next submission, and returns whether there was one."""
        ready = {one.phase.name: one for one in self._ready()}
        if not ready:
            return False
        with self._database.write() as session:
            job = queue.claim(self._database, session, self.name, list(ready))
            if job is not None and not _is_current(session, job, ready[job.phase]):
                # A round was begun since this worker looked: it has to see whether it can score in that one.
                queue.give_back(self._database, session, job)
                return True
        if job is None:
            return False
        start = time.perf_counter()
        _log.info("submission %s: attempt %d", job.code, job.attempt)
        with self._prolonged(job):
            self._deal_with(job, ready[job.phase], stop)
        _log.info("submission %s: done in %.1f s", job.code, time.perf_counter() - start)
        return True

    def _ready(self) -> Iterator[_Ready]:
        """Yields the phases that have waiting submissions and that this worker can score."""
        with self._database.read() as session:
            wanted = [
                phase
                for phase in self._place.competition.phases
                if session.query(Submission.id).filter(waiting(), Submission.phase == phase.name).first() is not None
            ]
        for phase in wanted:
            try:
                scorer = self.scorer(phase)
            except FaceSRError as error:
                self._tell_once(phase, str(error))
                continue
            with self._database.write() as session:
                this = round_for(self._database, session, phase, scorer, f"worker {self.name}")
            if this is None:
                self._tell_once(
                    phase,
                    f"phase {phase.name} was scored with other metrics, judges or references than this worker has; "
                    "run facesr board rescore, or bring this machine to the version of the others.",
                )
                continue
            self._told.pop(phase.name, None)
            yield _Ready(phase, scorer, this.id)

    def scorer(self, phase: Phase) -> Scorer:
        """Returns what scores the submissions of a phase; it is opened once.

        Raises:
            FaceSRError: a judge, its weights or the references are missing.
        """
        if phase.name not in self._scorers:
            self._scorers[phase.name] = open_scorer(self._place, phase, self._device)
        return self._scorers[phase.name]

    def _tell_once(self, phase: Phase, sentence: str) -> None:
        if self._told.get(phase.name) != sentence:
            self._told[phase.name] = sentence
            _log.error("phase %s is not scored: %s", phase.name, sentence)

    def _deal_with(self, job: Job, ready: _Ready, stop: threading.Event | None) -> None:
        try:
            outcome = self._scored(job, ready)
            with self._database.write() as session:
                kept = queue.finish_scored(self._database, session, job, ready.round_id, outcome)
            if not kept:
                _log.warning("submission %s: the lease was lost, another worker has it", job.code)
        except SubmissionError as error:
            with self._database.write() as session:
                queue.finish_refused(self._database, session, job, str(error))
        except DBAPIError:
            raise
        except Exception as error:
            # Whatever it is, the next submission has to be dealt with; organisers see the reason.
            _log.exception("submission %s: attempt %d failed", job.code, job.attempt)
            with self._database.write() as session:
                queue.finish_failed(self._database, session, job, f"{type(error).__name__}: {error}")
            if stop is not None:
                stop.wait(POLL_SECONDS)

    def _scored(self, job: Job, ready: _Ready) -> Outcome:
        """Returns the scores of a submission.

        Raises:
            SubmissionError: the verifier refuses the archive.
            FaceSRError: the machinery is at fault.
        """
        start = time.perf_counter()
        place, phase = self._place, ready.phase
        store = place.store()
        with tempfile.TemporaryDirectory(prefix=_FOLDERS) as folder:
            verified = verify_apart(
                store.path(job.archive_sha256), place.low(phase), protocol_named(phase.protocol), Path(folder)
            )
            self._check_team(job, str(verified.facts.get("team", "")))
            scored = ready.scorer.score(Path(folder))
            examples = {
                key: store.put([(Path(folder) / f"{key}.png").read_bytes()], _MAX_EXAMPLE_BYTES).sha256
                for key in example_ids(place.key, phase.name, scored.ids, phase.public_share, phase.num_examples)
            }
        return Outcome(
            columns=scored.columns,
            facts={**verified.facts, "is_isolated": verified.is_isolated},
            pixels_sha256=verified.pixels_sha256,
            examples=examples,
            seconds=time.perf_counter() - start,
        )

    def _check_team(self, job: Job, name: str) -> None:
        """Checks that an archive was packed for the team that sent it.

        Raises:
            SubmissionError: it was packed for another one.
        """
        with self._database.read() as session:
            team = session.get_one(Team, session.get_one(Submission, job.submission_id).team_id)
        if not team.is_baseline and key_of(name) != team.key:
            raise SubmissionError(
                f"the archive was packed for team {shown([name])}, and team {shown([team.name])} sent it; "
                f"pack it with team={shown([team.name])}."
            )

    @contextmanager
    def _prolonged(self, job: Job) -> Iterator[None]:
        """Prolongs the lease of a job again and again until the block ends."""
        done = threading.Event()

        def prolong() -> None:
            while not done.wait(LEASE_SECONDS / 4):
                try:
                    with self._database.write() as session:
                        if not queue.prolong(self._database, session, job):
                            return
                except Exception:  # a database that is away for a moment: the lease lasts for three more attempts
                    _log.exception("submission %s: the lease could not be prolonged", job.code)

        thread = threading.Thread(target=prolong, name="facesr-lease", daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()


def _is_current(session: Session, job: Job, ready: _Ready) -> bool:
    current = queue.current_round(session, job.phase)
    return current is not None and current.id == ready.round_id


def _sweep() -> None:
    """Removes the folders of pictures that killed workers of this machine have left."""
    for path in Path(tempfile.gettempdir()).glob(f"{_FOLDERS}*"):
        with contextlib.suppress(OSError):
            if time.time() - path.stat().st_mtime > _ABANDONED_SECONDS:
                shutil.rmtree(path)


def open_scorer(place: Place, phase: Phase, device: str = "cpu") -> Scorer:
    """Returns what scores the submissions of a phase.

    Raises:
        FaceSRError: a judge, its weights or the references are missing.
    """
    return Scorer.open(
        protocol_named(phase.protocol),
        phase.ranking_judge,
        phase.held_out_judges,
        place.high(phase),
        place.low(phase),
        device=device,
    )


def round_for(database: Database, session: Session, phase: Phase, scorer: Scorer, actor: str) -> Round | None:
    """Returns the round in which a scorer scores, None where the phase's has another basis; the first one is begun."""
    current = queue.current_round(session, phase.name)
    if current is None:
        return queue.begin_round(database, session, new_round(phase, scorer), actor)
    return current if current.basis_sha256 == scorer.basis_sha256 else None


def new_round(phase: Phase, scorer: Scorer) -> Round:
    """Returns a round with what a scorer scores by; it is not in the database yet."""
    return Round(
        phase=phase.name,
        basis=scorer.basis,
        basis_sha256=scorer.basis_sha256,
        ids=list(scorer.ids),
        columns={name: dict(about) for name, about in scorer.columns.items()},
        ranking_metric=scorer.ranking_metric,
        higher_is_better=scorer.higher_is_better,
    )
