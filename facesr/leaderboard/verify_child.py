"""The verifier in a process of its own: ``python -I -m facesr.leaderboard.verify_child``, run by `sandbox`.

It needs no file but the archive and the low-resolution pictures, no network and no torch. The request is one line of
JSON on standard input; the answer is one line of JSON on standard output, ``{"answer": ...}``:

    verified   with ``facts``; behind the line the pixels of all pictures, uint8 RGB, by id
    refused    with ``sentence``: the archive breaks a rule; ``exhausted`` with ``what``: it does not fit the limits
    failed     with ``sentence``: the machine is at fault
"""

import errno
import json
import os
import sys
import unicodedata
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import cv2

from facesr.config import EvaluationProtocol, PerceptualRules
from facesr.errors import FaceSRError, SubmissionError
from facesr.leaderboard.facts import facts_of
from facesr.methods.record import SYNTHETIC
from facesr.names import one_line
from facesr.png import decode_png, png_remark
from facesr.submission.verify import VerifiedSubmission, opened_submission

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

ARCHIVE = "the archive"
LOW = "the pictures that were given out"
_MAX_OPEN_FILES = 256


def main() -> None:
    """Answers the request on standard input."""
    # Whatever libraries print must not get between the pixels.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    request = json.loads(sys.stdin.buffer.readline())
    sys.stdin.close()
    cv2.setNumThreads(1)
    _limit(request["limits"])
    with answers:
        if request["archive"]:
            _answer(request, answers)
        else:
            _say(answers, answer="ready")


def _limit(limits: Mapping[str, int]) -> None:
    """Bounds what this process can take; a limit that is lower already stays."""
    if resource is None:
        return
    wanted = {
        resource.RLIMIT_AS: limits["memory_bytes"],
        resource.RLIMIT_CPU: limits["cpu_seconds"],
        resource.RLIMIT_FSIZE: limits["file_bytes"],
        resource.RLIMIT_NOFILE: _MAX_OPEN_FILES,
        resource.RLIMIT_CORE: 0,
        # No thread and no process is started from here on.
        resource.RLIMIT_NPROC: 0,
    }
    for kind, most in wanted.items():
        _, hard = resource.getrlimit(kind)
        bound = most if hard == resource.RLIM_INFINITY else min(most, hard)
        above = bound
        if kind == resource.RLIMIT_CPU:
            # The soft limit has to come first: its signal says what happened, the hard one's does not.
            bound = max(1, bound - 1) if bound == hard else bound
            above = bound + 1
        resource.setrlimit(kind, (bound, above))


def _answer(request: Mapping[str, Any], answers: BinaryIO) -> None:
    low = Path(request["low"])
    try:
        with opened_submission(
            Path(request["archive"]), _protocol(request["protocol"]), low, shown_as=ARCHIVE
        ) as submission:
            _deliver(submission, answers)
    except MemoryError:
        _say(answers, answer="exhausted", what="memory")
    except SubmissionError as error:
        _say(answers, answer="refused", sentence=without_paths(str(error), low))
    except FaceSRError as error:
        number = error.__cause__.errno if isinstance(error.__cause__, OSError) else None
        # A full disk is the machine's fault; the sandbox's own one is as large as the pictures may be.
        if number == errno.EFBIG or (number == errno.ENOSPC and request["is_isolated"]):
            _say(answers, answer="exhausted", what="space")
        else:
            _say(answers, answer="failed", sentence=str(error))


def _deliver(submission: VerifiedSubmission, answers: BinaryIO) -> None:
    """Writes the answer and the pixels of a verified submission, by ids in Unicode form C."""
    files = {unicodedata.normalize("NFC", key): submission.folder / f"{key}.png" for key in submission.sizes}
    is_synthetic = any(png_remark(path.read_bytes()).startswith(SYNTHETIC) for path in files.values())
    _say(answers, answer="verified", facts=facts_of(submission.manifest, is_synthetic=is_synthetic))
    for key in sorted(files):
        answers.write(decode_png(files[key].read_bytes(), key).tobytes())


def _protocol(fields: Mapping[str, Any]) -> EvaluationProtocol:
    rules = fields["perceptual"]
    return EvaluationProtocol(**{**fields, "perceptual": None if rules is None else PerceptualRules(**rules)})


def without_paths(sentence: str, low: Path) -> str:
    """Returns a sentence for a stranger, in which the folder of low pictures has no path."""
    return sentence.replace(one_line(str(low)), LOW)


def _say(answers: BinaryIO, **answer: Any) -> None:
    answers.write(json.dumps(answer, ensure_ascii=True, allow_nan=False).encode("ascii") + b"\n")


if __name__ == "__main__":
    main()
