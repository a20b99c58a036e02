"""A worker: takes submissions from the queue, has them verified apart, scores them, and says what came of it.

Any number of workers may run: on machines that have the competition's folder and the database, and elsewhere by the
board's address (`facesr.leaderboard.desk`). Each holds a submission by a lease (`facesr.leaderboard.queue`), which a
thread prolongs while it works.
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

from facesr.errors import FaceSRError, SubmissionError
from facesr.leaderboard.desk import Away, Desk, Rules, require_team
from facesr.leaderboard.faults import NotAllowed
from facesr.leaderboard.queue import Job, Outcome
from facesr.leaderboard.sandbox import verify_apart
from facesr.leaderboard.scoring import Scorer, protocol_named
from facesr.names import shown

_FOLDERS = "facesr-board-"
# No submission takes so long.
_ABANDONED_SECONDS = 3600.0
_AWAY_SECONDS, _MOST_AWAY_SECONDS = 5.0, 60.0
_log = logging.getLogger("facesr.board.worker")


@dataclass(frozen=True)
class _Ready:
    """What scores the submissions of a phase, and the round it does that in."""

    phase: Rules
    scorer: Scorer
    round_id: int


class Worker:
    """A worker of a competition."""

    def __init__(self, desk: Desk, device: str = "cpu") -> None:
        self._desk = desk
        self._device = device
        self._scorers: dict[str, Scorer] = {}
        # Phases that this worker cannot score: the reason, which is told once.
        self._told: dict[str, str] = {}

    def run(self, stop: threading.Event, *, until_idle: bool = False) -> int:
        """Works until it is stopped, or until nothing waits; returns how many submissions it dealt with.

        Raises:
            NotAllowed: the board does not take this worker's token any more.
            Away: only `until_idle`: the jobs cannot be reached.
        """
        _sweep()
        count, pause = 0, _AWAY_SECONDS
        while not stop.is_set():
            try:
                is_done = self.step(stop)
            except Away as error:
                # For a moment, or for longer; a job that was held goes back when its lease ends.
                _log.error("%s", error)
                if until_idle:
                    raise
                stop.wait(pause)
                pause = min(2 * pause, _MOST_AWAY_SECONDS)
                continue
            pause = _AWAY_SECONDS
            if is_done:
                count += 1
            elif until_idle:
                break
            else:
                stop.wait(self._desk.poll_seconds)
        return count

    def step(self, stop: threading.Event | None = None) -> bool:
        """Deals with the next submission, and returns whether there was one."""
        ready = {one.phase.name: one for one in self._ready()}
        if not ready:
            return False
        job = self._desk.claim({name: one.round_id for name, one in ready.items()})
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
        for phase in self._desk.waiting():
            try:
                scorer = self.scorer(phase)
                round_id = self._desk.round_of(phase, scorer)
            except (Away, NotAllowed):
                raise
            except FaceSRError as error:
                self._tell_once(phase, str(error))
                continue
            self._told.pop(phase.name, None)
            yield _Ready(phase, scorer, round_id)

    def scorer(self, phase: Rules) -> Scorer:
        """Returns what scores the submissions of a phase; it is opened once.

        Raises:
            FaceSRError: a judge, its weights or the references are missing.
        """
        if phase.name not in self._scorers:
            high, low = self._desk.high(phase), self._desk.low(phase)
            self._scorers[phase.name] = open_scorer(phase, high, low, self._device)
        return self._scorers[phase.name]

    def _tell_once(self, phase: Rules, sentence: str) -> None:
        if self._told.get(phase.name) != sentence:
            self._told[phase.name] = sentence
            _log.error("phase %s is not scored: %s", phase.name, sentence)

    def _deal_with(self, job: Job, ready: _Ready, stop: threading.Event | None) -> None:
        try:
            outcome, pictures = self._scored(job, ready)
            if not self._desk.scored(job, ready.round_id, outcome, pictures):
                _log.warning("submission %s: the lease was lost, another worker has it", job.code)
        except SubmissionError as error:
            self._desk.refused(job, str(error))
        except (Away, NotAllowed):
            raise
        except Exception as error:
            # Whatever it is, the next submission has to be dealt with; organisers see the reason.
            _log.exception("submission %s: attempt %d failed", job.code, job.attempt)
            self._desk.failed(job, f"{type(error).__name__}: {error}")
            if stop is not None:
                stop.wait(self._desk.poll_seconds)

    def _scored(self, job: Job, ready: _Ready) -> tuple[Outcome, dict[str, bytes]]:
        """Returns the scores of a submission, and its example faces as PNG.

        Raises:
            SubmissionError: the verifier refuses the archive.
            FaceSRError: the machinery is at fault.
        """
        start = time.perf_counter()
        phase = ready.phase
        with tempfile.TemporaryDirectory(prefix=_FOLDERS) as folder, self._desk.archive(job) as archive:
            verified = verify_apart(archive, self._desk.low(phase), protocol_named(phase.protocol), Path(folder))
            require_team(job, str(verified.facts.get("team", "")))
            scored = ready.scorer.score(Path(folder))
            if strange := set(job.examples) - set(scored.ids):
                # A board elsewhere names them, and no word of it may lead out of the archive's folder.
                raise FaceSRError(f"the job asks for pictures that are no faces of the phase: {shown(sorted(strange))}")
            pictures = {face: (Path(folder) / f"{face}.png").read_bytes() for face in job.examples}
        outcome = Outcome(
            columns=scored.columns,
            facts={**verified.facts, "is_isolated": verified.is_isolated},
            pixels_sha256=verified.pixels_sha256,
            seconds=time.perf_counter() - start,
            ids=tuple(scored.ids),
        )
        return outcome, pictures

    @contextmanager
    def _prolonged(self, job: Job) -> Iterator[None]:
        """Prolongs the lease of a job again and again until the block ends."""
        done = threading.Event()

        def prolong() -> None:
            while not done.wait(job.lease_seconds / 4):
                try:
                    if not self._desk.prolong(job):
                        return
                except Exception:  # the desk is away for a moment: the lease lasts for three more attempts
                    _log.exception("submission %s: the lease could not be prolonged", job.code)

        thread = threading.Thread(target=prolong, name="facesr-lease", daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()


def _sweep() -> None:
    """Removes the folders of pictures that killed workers of this machine have left."""
    for path in Path(tempfile.gettempdir()).glob(f"{_FOLDERS}*"):
        with contextlib.suppress(OSError):
            if time.time() - path.stat().st_mtime > _ABANDONED_SECONDS:
                shutil.rmtree(path)


def open_scorer(phase: Rules, high: Path, low: Path, device: str = "cpu") -> Scorer:
    """Returns what scores the submissions of a phase.

    Args:
        phase: what of it says how.
        high: folder of the originals.
        low: folder of the low-resolution pictures.
        device: ``auto``, ``cpu`` or ``cuda``.

    Raises:
        FaceSRError: a judge, its weights or the references are missing.
    """
    return Scorer.open(
        protocol_named(phase.protocol), phase.ranking_judge, phase.held_out_judges, high, low, device=device
    )
