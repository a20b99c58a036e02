"""The desk of a worker elsewhere: it has a board's address and a worker's token, neither folder nor database."""

import base64
import os
import secrets
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import Field, ValidationError

from facesr.errors import DataError, FaceSRError
from facesr.files import ABANDONED_SECONDS
from facesr.leaderboard.desk import Basis, Rules, another_basis
from facesr.leaderboard.line import Line
from facesr.leaderboard.queue import Job, Outcome
from facesr.leaderboard.references import MAX_BYTES, unpack
from facesr.leaderboard.reports import MAX_PICTURE_BYTES
from facesr.names import is_unsafe, one_line, shown_path
from facesr.png import decode_png
from facesr.submission.exchange import Answer
from facesr.web.strict import Strict
from facesr.weights import cache_dir

Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
Name = Annotated[str, Field(pattern="^[a-z0-9-]{1,40}$")]
Judge = Annotated[str, Field(pattern="^[A-Za-z0-9_]{1,64}$")]
Text = Annotated[str, Field(max_length=100)]
_MAX_SENTENCE = 500


class Wanted(Strict):
    """A phase that has waiting submissions; see `facesr.leaderboard.shapes.WantedShape`."""

    name: Name
    protocol: Literal["asc19_final", "asc19_preliminary", "open"]
    ranking_judge: Judge
    held_out_judges: Annotated[list[Judge], Field(max_length=50)]
    round: int | None
    basis_sha256: Sha256 | None
    references_sha256: Sha256
    references_bytes: Annotated[int, Field(ge=1, le=MAX_BYTES)]


class _Phases(Strict):
    worker: Text
    phases: Annotated[list[Wanted], Field(max_length=20)]


class _Job(Strict):
    code: Annotated[str, Field(pattern="^[A-Za-z0-9_-]{1,64}$")]
    phase: Name
    archive_sha256: Sha256
    num_bytes: Annotated[int, Field(ge=1, le=1 << 33)]
    lease: Sha256
    attempt: int
    team: Text | None
    examples: Annotated[list[Annotated[str, Field(max_length=200)]], Field(max_length=12)]
    lease_seconds: Annotated[float, Field(ge=1, le=86400)]


class _Claimed(Strict):
    job: _Job | None


_Shape = TypeVar("_Shape", bound=Strict)


class RemoteDesk:
    """A board's desk at its address.

    Attributes:
        name: that the board gives this worker.
        poll_seconds: see `facesr.leaderboard.desk.Desk`.
    """

    def __init__(self, line: Line, cache: Path | None = None) -> None:
        """Asks the board who this worker is.

        Args:
            line: to the board.
            cache: folder where references are kept, by default that of `facesr.weights.cache_dir`.

        Raises:
            FaceSRError: the board cannot be reached, is none, or does not take the token.
        """
        self.poll_seconds = 5.0
        self._line = line
        self._cache = (cache_dir() if cache is None else cache) / "references"
        self._nonce = secrets.token_hex(16)
        # Phase -> digest of the references by which it is scored here.
        self._opened: dict[str, str] = {}
        self.name = self._phases().worker

    def waiting(self) -> Sequence[Wanted]:
        """Returns the phases that have waiting submissions."""
        return self._phases().phases

    def high(self, phase: Rules) -> Path:
        """Returns the folder of a phase's originals, which are fetched once."""
        return self._references(phase) / "high"

    def low(self, phase: Rules) -> Path:
        """Returns the folder of a phase's low-resolution pictures, which are fetched once."""
        return self._references(phase) / "low"

    def round_of(self, phase: Rules, scorer: Basis) -> int:
        """Returns the round in which a scorer scores a phase.

        Raises:
            FaceSRError: it has none yet, or one of another basis.
        """
        assert isinstance(phase, Wanted)
        if phase.round is None:
            raise FaceSRError(f"phase {phase.name} has no round of scoring; run facesr board rescore at the board.")
        if phase.references_sha256 != self._opened[phase.name]:
            raise FaceSRError(f"the references of phase {phase.name} have changed; start this worker again.")
        if phase.basis_sha256 != scorer.basis_sha256:
            raise another_basis(phase)
        return phase.round

    def claim(self, rounds: Mapping[str, int]) -> Job | None:
        """Returns the next job of phases that are scored in these rounds, or None."""
        answer = self._line.once("POST", "/claims", {"nonce": self._nonce, "rounds": dict(rounds)})
        found = self._shaped(answer, _Claimed).job
        # Not before there was an answer: one that was lost leaves a job that the same nonce brings back.
        self._nonce = secrets.token_hex(16)
        if found is None:
            return None
        if found.phase not in rounds or any("/" in face or is_unsafe(face) for face in found.examples):
            raise self._no_board()
        return Job(
            submission_id=0,
            code=found.code,
            phase=found.phase,
            archive_sha256=found.archive_sha256,
            lease=found.lease,
            attempt=found.attempt,
            num_bytes=found.num_bytes,
            team=found.team,
            examples=tuple(found.examples),
            lease_seconds=found.lease_seconds,
        )

    def prolong(self, job: Job) -> bool:
        """Returns whether the job is still the worker's; its lease then begins anew."""
        return self._is_kept(self._line.once("POST", f"/jobs/{job.code}/lease", {}, job.lease))

    @contextmanager
    def archive(self, job: Job) -> Iterator[Path]:
        """Holds the archive of a job, which is fetched and removed at the end."""
        with tempfile.TemporaryDirectory(prefix="facesr-board-archive-") as folder:
            path = Path(folder) / "archive.zip"
            self._line.fetch(f"/jobs/{job.code}/archive", path, job.archive_sha256, job.num_bytes, job.lease)
            yield path

    def scored(self, job: Job, round_id: int, outcome: Outcome, pictures: Mapping[str, bytes]) -> bool:
        """Sends scores and the example faces, and returns whether the job was still the worker's."""
        facts = {key: value for key, value in outcome.facts.items() if key not in ("is_isolated", "mean_watts")}
        return self._report(
            job,
            answer="scored",
            round=round_id,
            ids=list(outcome.ids),
            columns={name: values.tolist() for name, values in outcome.columns.items()},
            facts=facts,
            is_isolated=outcome.facts["is_isolated"],
            pixels_sha256=outcome.pixels_sha256,
            seconds=outcome.seconds,
            pictures=_pixels(pictures),
        )

    def refused(self, job: Job, sentence: str) -> bool:
        """Sends that the verifier refused the archive, and returns whether the job was still the worker's."""
        return self._report(job, answer="refused", sentence=_short(sentence))

    def failed(self, job: Job, reason: str) -> bool:
        """Sends that the machinery failed, and returns whether the job was still the worker's."""
        return self._report(job, answer="failed", reason=_short(reason))

    def _report(self, job: Job, **report: Any) -> bool:
        return self._is_kept(self._line.patiently("POST", f"/jobs/{job.code}/report", report, job.lease))

    def _is_kept(self, answer: Answer) -> bool:
        if answer.status == 409:
            return False
        if answer.status != 200:
            raise FaceSRError(f"{self._line.board}: {answer.sentence()}")
        return True

    def _phases(self) -> _Phases:
        return self._shaped(self._line.once("GET", "/phases"), _Phases)

    def _shaped(self, answer: Answer, shape: type[_Shape]) -> _Shape:
        if answer.is_refusal and "error" in answer.body:
            raise DataError(f"{self._line.board}: {one_line(answer.sentence())}")
        try:
            return shape.model_validate(dict(answer.body))
        except ValidationError as error:
            raise self._no_board() from error

    def _no_board(self) -> DataError:
        return DataError(
            f"{self._line.board} gave an answer that is none of a board of this version; check the address."
        )

    def _references(self, phase: Rules) -> Path:
        """Returns the folder of the references that a phase has now, or had when they were opened first."""
        assert isinstance(phase, Wanted)
        sha256 = self._opened.setdefault(phase.name, phase.references_sha256)
        folder = self._cache / sha256
        if not folder.is_dir():
            self._fetch(phase, folder)
        return folder

    def _fetch(self, phase: Wanted, folder: Path) -> None:
        sha256 = phase.references_sha256
        part = self._part(sha256)
        try:
            # Where the board is away for long, what has come stays for the next attempt of this process.
            self._line.fetch(f"/references/{phase.name}", part, sha256, phase.references_bytes)
            unpack(part, folder)
        except DataError:
            if not folder.is_dir():  # another worker of this machine may have been faster
                raise
        part.unlink(missing_ok=True)

    def _part(self, sha256: str) -> Path:
        """Returns the file of this process that takes references in; those of killed ones are removed."""
        try:
            self._cache.mkdir(mode=0o700, parents=True, exist_ok=True)
            for left in self._cache.glob("*.part"):
                if time.time() - left.stat().st_mtime > ABANDONED_SECONDS:
                    left.unlink(missing_ok=True)
        except OSError as error:
            raise DataError(
                f"{shown_path(self._cache)} cannot be written ({error.strerror}); set FACESR_CACHE to another folder."
            ) from error
        return self._cache / f"{sha256}.{os.getpid()}.part"


def _short(text: str) -> str:
    return one_line(text)[:_MAX_SENTENCE] or "no reason was given"


def _pixels(pictures: Mapping[str, bytes]) -> dict[str, str]:
    """Returns the pixels of pictures as base64, as many as a report may hold."""
    found, left = {}, MAX_PICTURE_BYTES
    for face, data in pictures.items():
        pixels = decode_png(data, face).tobytes()
        left -= len(pixels)
        if left < 0:
            break
        found[face] = base64.b64encode(pixels).decode("ascii")
    return found
