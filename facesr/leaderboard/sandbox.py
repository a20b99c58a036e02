"""Verifying a stranger's archive apart: another process reads it, and only pixels and a few checked facts come back.

Where bubblewrap works, that process sees no network, no other process and no files but Python, the package, the archive
and the low-resolution pictures, all read-only. Elsewhere it is a plain process with bounded memory, time and file
sizes. Either way its answer is not believed: the pixels are a stream of the one length that the pictures must have, and
this process writes the PNG files itself. So nothing of the archive's own bytes goes further.
"""

import functools
import json
import logging
import math
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from hashlib import file_digest, sha256
from pathlib import Path
from typing import Any

import numpy as np

import facesr
from facesr.config import EvaluationProtocol
from facesr.errors import FaceSRError, ImageError, SubmissionError
from facesr.leaderboard.answering import Answering, hurried
from facesr.leaderboard.facts import are_facts, with_power
from facesr.methods.low import LowPictures
from facesr.names import one_line
from facesr.png import write_png
from facesr.submission.png import max_png_bytes

MAX_SENTENCE_LENGTH = 500
_log = logging.getLogger("facesr.board.sandbox")
_PROGRAM = ("-I", "-m", "facesr.leaderboard.verify_child")
# Beside the pictures: the verifier's folder, and room for blocks that are not full.
_SPARE_BYTES = 1 << 26
_SPARE_BYTES_PER_FILE = 1 << 13
_ENVIRONMENT = {
    "PATH": "/usr/bin:/bin",
    "LANG": "C.UTF-8",
    # Each thread of these would take its share of the address space.
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "OPENCV_LOG_LEVEL": "SILENT",
}
_NEEDED_ON_WINDOWS = ("SYSTEMROOT",)
_PICTURES = "the pictures that were given out"


class OrganiserError(FaceSRError):
    """A submission cannot be judged by the fault of the machine or the organiser; it counts for nothing."""


@dataclass(frozen=True)
class VerifyLimits:
    """What verifying one archive may take.

    Attributes:
        memory_bytes: address space of the process.
        cpu_seconds: computing time.
        wall_seconds: from its start to its end, without the time in which this process writes files.
        file_bytes: largest file that it may write.
        needs_isolation: whether to refuse to work without bubblewrap.
    """

    memory_bytes: int = 1 << 31
    cpu_seconds: int = 60
    wall_seconds: float = 60.0
    file_bytes: int = 1 << 29
    needs_isolation: bool = False


@dataclass(frozen=True)
class Verified:
    """A submission that obeys every rule.

    Attributes:
        facts: of its manifest, see `facesr.leaderboard.facts.facts_of`, and ``mean_watts``: claims.
        ids: of the pictures, sorted, in Unicode form C.
        sha256: of the archive.
        num_bytes: of the archive.
        pixels_sha256: digest of ids, sizes and pixels, the same however the PNG files were compressed, and the same
            that `facesr.evaluation.scoring` gives for the restored pictures.
        is_isolated: whether bubblewrap held the process.
    """

    facts: dict[str, Any]
    ids: tuple[str, ...]
    sha256: str
    num_bytes: int
    pixels_sha256: str
    is_isolated: bool


def verify_apart(
    archive: Path, low: Path, protocol: EvaluationProtocol, out: Path, limits: VerifyLimits | None = None
) -> Verified:
    """Verifies an archive in another process and writes its pictures anew, as <id>.png.

    Args:
        archive: the file.
        low: the low-resolution pictures that were given out.
        protocol: the rules.
        out: an empty folder; where the archive is refused nothing stays in it.
        limits: what it may take, by default 2 GiB and a minute.

    Raises:
        SubmissionError: a rule is broken or a limit exceeded; the sentence is for the team and holds no path.
        OrganiserError: the machine, the folders or the installation are at fault.
    """
    limits = VerifyLimits() if limits is None else limits
    given = _given(low, protocol)
    digest, num_bytes = _digest(archive)
    is_isolated = _is_isolated(limits)
    request = {
        "archive": _ARCHIVE_INSIDE if is_isolated else str(archive.absolute()),
        "low": _LOW_INSIDE if is_isolated else str(low.absolute()),
        "protocol": asdict(protocol),
    }
    with _nothing_half_written(out), _started(request, limits, is_isolated, archive, given) as answering:
        answer = answering.line()
        kind = answer.get("answer")
        if kind == "verified" and are_facts(answer.get("facts")):
            pixels = _write_pictures(answering, given, out)
            if pixels is not None and answering.is_well_ended():
                facts = with_power(answer["facts"])
                return Verified(facts, tuple(sorted(_sizes(given))), digest, num_bytes, pixels, is_isolated)
        if kind == "refused" and isinstance(answer.get("sentence"), str):
            raise SubmissionError(_for_strangers(answer["sentence"], archive, low, out))
        if kind == "failed":
            raise OrganiserError(f"the verifier failed: {str(answer.get('sentence'))[:MAX_SENTENCE_LENGTH]}")
        raise _reason(answering, answer, limits, is_isolated)


def _given(low: Path, protocol: EvaluationProtocol) -> LowPictures:
    try:
        return LowPictures.open(low, protocol)
    except FaceSRError as error:
        raise OrganiserError(f"the low-resolution pictures are not as they have to be: {error}") from error


def _digest(archive: Path) -> tuple[str, int]:
    try:
        with archive.open("rb") as file:
            return file_digest(file, "sha256").hexdigest(), file.seek(0, os.SEEK_END)
    except OSError as error:
        raise OrganiserError(f"{archive} cannot be read: {error.strerror}.") from error


def _sizes(given: LowPictures) -> dict[str, tuple[int, int]]:
    """Returns id -> (width, height) of the restored pictures, sorted by id."""
    sizes = {name.removesuffix(".png"): given.restored_size(name) for name in given.paths}
    return dict(sorted(sizes.items()))


@contextmanager
def _nothing_half_written(out: Path) -> Iterator[None]:
    if not out.is_dir() or any(out.iterdir()):
        raise OrganiserError(f"{out} is no empty folder; the verified pictures need one.")
    try:
        yield
    except BaseException:
        for path in out.iterdir():
            path.unlink()
        raise


def _write_pictures(answering: Answering, given: LowPictures, out: Path) -> str | None:
    """Writes the pictures that come as pixels and returns their digest, None where there are too few."""
    digests: list[str] = []
    for key, (width, height) in _sizes(given).items():
        data = answering.read(width * height * 3)
        if data is None:
            return None
        with answering.paused():
            digests.append(sha256(f"{key}\0{width}x{height}\0".encode() + data).hexdigest())
            try:
                write_png(out / f"{key}.png", np.frombuffer(data, np.uint8).reshape(height, width, 3))
            except ImageError as error:
                raise OrganiserError(f"the verified pictures cannot be kept: {error}") from error
    return sha256("\n".join(digests).encode()).hexdigest()


def _for_strangers(sentence: str, *paths: Path) -> str:
    """Returns a sentence of the other process, short, printable and without paths of this machine."""
    for path in paths:
        for form in {str(path), str(path.absolute()), str(path.resolve())} - {"."}:
            sentence = sentence.replace(form, _PICTURES)
    return one_line(sentence.replace(_LOW_INSIDE, _PICTURES))[:MAX_SENTENCE_LENGTH]


def _reason(
    answering: Answering, answer: Mapping[str, Any], limits: VerifyLimits, is_isolated: bool
) -> SubmissionError | OrganiserError:
    """Returns why there is no answer: a limit, the archive, or the machine, which then fails without it, too."""
    memory = f"the archive needs more than {limits.memory_bytes >> 20} MiB of memory to be verified"
    time = f"the archive takes more than {limits.wall_seconds:g} s to be verified"
    advice = "send plain PNG files, packed by submit.py."
    code = answering.exit_code
    if answering.is_too_late or answering.is_out_of_cpu_time():
        return SubmissionError(f"{time}; {advice}")
    if answer.get("answer") == "exhausted":
        space = f"the archive needs files of more than {limits.file_bytes >> 20} MiB to be verified"
        return SubmissionError(f"{memory if answer.get('what') == 'memory' else space}; {advice}")
    if answering.is_killed() and not answering.says_too_much:
        return OrganiserError("the verifier was killed from outside, perhaps because the machine is out of memory.")
    told = one_line(answering.complaint())
    if not _is_sound(is_isolated):
        return OrganiserError(f"the verifier cannot work on this machine: {told or 'it says nothing'}")
    _log.warning("the verifier ended without an answer (exit code %s): %s", code, told)
    return SubmissionError(f"the archive makes the verifier fail; {advice}")


def _is_sound(is_isolated: bool) -> bool:
    """Returns whether the verifier works as long as no archive is in the way."""
    request = {"archive": "", "low": "", "protocol": {}}
    with _started(request, VerifyLimits(), is_isolated, None, None) as answering:
        return answering.line() == {"answer": "ready"} and answering.is_well_ended()


@contextmanager
def _started(
    request: Mapping[str, Any],
    limits: VerifyLimits,
    is_isolated: bool,
    archive: Path | None,
    given: LowPictures | None,
) -> Iterator[Answering]:
    """Yields the answers of the other process, which is gone at the end of the context."""
    asked = {
        **request,
        "is_isolated": is_isolated,
        "limits": {
            "memory_bytes": limits.memory_bytes,
            "cpu_seconds": math.ceil(limits.cpu_seconds),
            "file_bytes": limits.file_bytes,
        },
    }
    command = [sys.executable, *_PROGRAM]
    try:
        with tempfile.TemporaryDirectory(prefix="facesr-verify-") as empty:
            environment = {**_ENVIRONMENT, "TMPDIR": empty}
            environment |= {name: os.environ[name] for name in _NEEDED_ON_WINDOWS if name in os.environ}
            if is_isolated:
                files = [] if archive is None or given is None else _files_inside(archive, given)
                command = [*_bubblewrap(_space(given)), *files, "--", *command]
                environment = {}
            with hurried(command, empty, environment, limits.wall_seconds) as answering:
                answering.ask(json.dumps(asked).encode() + b"\n")
                yield answering
    except OSError as error:
        raise OrganiserError(f"the verifier cannot be run: {error.strerror or error}.") from error


def _space(given: LowPictures | None) -> int:
    """Returns how many bytes the pictures of an archive can take, however they are compressed."""
    sizes = [] if given is None else list(_sizes(given).values())
    return _SPARE_BYTES + sum(max_png_bytes(*size) + _SPARE_BYTES_PER_FILE for size in sizes)


_ARCHIVE_INSIDE, _LOW_INSIDE = "/in/archive.zip", "/in/low"


def _files_inside(archive: Path, given: LowPictures) -> list[str]:
    return [
        *("--ro-bind", str(archive.resolve()), _ARCHIVE_INSIDE),
        *("--ro-bind", str(given.folder.resolve()), _LOW_INSIDE),
    ]


def _bubblewrap(tmp_bytes: int) -> list[str]:
    """Returns the command that runs a Python program in a sandbox, up to the files that it may see besides."""
    command = [
        shutil.which("bwrap") or "bwrap",
        *("--unshare-all", "--unshare-user", "--uid", "65534", "--gid", "65534", "--hostname", "judge"),
        *("--die-with-parent", "--new-session", "--cap-drop", "ALL", "--clearenv"),
        *("--size", str(tmp_bytes), "--tmpfs", "/tmp", "--proc", "/proc", "--dev", "/dev"),
        *("--ro-bind", "/usr", "/usr"),
    ]
    for name, value in {**_ENVIRONMENT, "TMPDIR": "/tmp"}.items():
        command += ["--setenv", name, value]
    for folder in ("/lib", "/lib64", "/bin"):
        if Path(folder).is_symlink():
            command += ["--symlink", str(Path(folder).readlink()), folder]
        else:
            command += ["--ro-bind-try", folder, folder]
    command += ["--ro-bind-try", "/etc/ld.so.cache", "/etc/ld.so.cache"]
    for needed in _python_folders():
        command += ["--ro-bind", needed, needed]
    return [*command, "--chdir", "/tmp"]


@functools.cache
def _python_folders() -> tuple[str, ...]:
    """Returns the folders of Python, its packages and this one; nothing else of a checkout."""
    import cv2

    packages = [Path(module.__file__ or "").parent for module in (facesr, np, cv2)]
    folders = [sys.base_prefix, sys.prefix, *(str(path) for path in packages)]
    # A folder inside another one that is there already needs no mount of its own.
    found: list[str] = []
    for folder in sorted({*folders, *map(os.path.realpath, folders)}, key=len):
        if not any(Path(folder).is_relative_to(other) for other in ("/usr", *found)):
            found.append(folder)
    return tuple(found)


def _is_isolated(limits: VerifyLimits) -> bool:
    """Returns whether bubblewrap holds the process.

    Raises:
        OrganiserError: it does not, and it is needed.
    """
    problem = bubblewrap_problem()
    if problem and limits.needs_isolation:
        raise OrganiserError(f"archives are not verified on this machine: {problem}")
    return not problem


@functools.cache
def bubblewrap_problem() -> str:
    """Returns why archives cannot be verified in a sandbox here, "" where they can; asked once, and logged loudly."""
    problem = _find_problem()
    if problem:
        _log.warning(
            "%s Archives of strangers are verified in a plain process, with the network and all files.", problem
        )
    return problem


def _find_problem() -> str:
    advice = "Debian: apt-get install bubblewrap."
    if shutil.which("bwrap") is None:
        return f"bubblewrap is not installed; install it ({advice})"
    command: Sequence[str] = [*_bubblewrap(_SPARE_BYTES), "--", sys.executable, "-I", "-S", "-c", "pass"]
    try:
        done = subprocess.run(command, capture_output=True, stdin=subprocess.DEVNULL, timeout=30, env={}, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"bubblewrap cannot be run ({one_line(str(error))[:200]})."
    said = one_line(done.stderr.decode(errors="replace").strip())[:200]
    return f"bubblewrap does not work on this machine ({said})." if done.returncode else ""
