"""A place to have archives verified apart, for tests of the sandbox and of what runs in it."""

import contextlib
import dataclasses
import hashlib
import json
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from facesr.errors import SubmissionError
from facesr.leaderboard import sandbox
from facesr.leaderboard.sandbox import VerifyLimits, verify_apart
from facesr.png import read_png
from tests.submission.conftest import Bench, bench, stored  # noqa: F401

# What the other process reads before it answers, as every stand-in for it does.
READ = "import json,os,sys,time\nrequest = json.loads(sys.stdin.readline())\n"

BOTH_WAYS = pytest.mark.parametrize("isolated", [True, False], ids=["bubblewrap", "plain"], indirect=True)
SANDBOXED = pytest.mark.parametrize("isolated", [True], ids=["bubblewrap"], indirect=True)
PLAIN = pytest.mark.parametrize("isolated", [False], ids=["plain"], indirect=True)


@pytest.fixture(name="isolated")
def whether_isolated(request, monkeypatch) -> bool:
    """Whether bubblewrap holds the other process; without it on this machine only the plain way is tested."""
    if not request.param:
        monkeypatch.setattr(sandbox, "bubblewrap_problem", lambda: "bubblewrap is not installed; install it.")
    elif sandbox.bubblewrap_problem():
        pytest.skip(f"no sandbox here: {sandbox.bubblewrap_problem()}")
    return bool(request.param)


@dataclasses.dataclass
class Desk:
    """A place to have archives verified apart."""

    bench: Bench
    out: Path

    def verify(self, archive: bytes | None = None, limits: VerifyLimits | None = None) -> sandbox.Verified:
        path = self.bench.root / "secret-place.zip"
        path.write_bytes(stored(self.bench.members()) if archive is None else archive)
        return verify_apart(path, self.bench.low, self.bench.protocol, self.out, limits)

    def refused(self, archive: bytes | None = None, limits: VerifyLimits | None = None) -> str:
        """Returns the sentence for the team, after looking for paths in it and for what stayed behind."""
        with pytest.raises(SubmissionError) as caught:
            self.verify(archive, limits)
        sentence = str(caught.value)
        for path in (self.bench.root, "secret-place", "/tmp", "/in/", sys.prefix, sys.base_prefix):
            assert str(path) not in sentence
        assert sentence.isprintable() and len(sentence) <= 500
        self.nothing_left()
        return sentence

    def nothing_left(self) -> None:
        assert list(self.out.iterdir()) == [] == self.bench.left_behind()


@pytest.fixture(name="desk")
def a_desk(bench, tmp_path) -> Desk:  # noqa: F811
    out = tmp_path / "out"
    out.mkdir()
    return Desk(bench, out)


@pytest.fixture(name="instead")
def another_program(monkeypatch):
    """Has another program answer in the verifier's place; the machine counts as sound."""

    def replace(code: str) -> None:
        monkeypatch.setattr(sandbox, "_PROGRAM", ("-I", "-S", "-c", READ + code))
        monkeypatch.setattr(sandbox, "_is_sound", lambda is_isolated: True)

    return replace


def pixels_of(pictures: dict[str, bytes], root: Path) -> dict[str, np.ndarray]:
    """Returns the pixels of PNG files by name."""
    found = {}
    for name, data in pictures.items():
        (root / "one.png").write_bytes(data)
        found[name] = read_png(root / "one.png")
    return found


def digest_of(folder: Path) -> str:
    """Returns the digest of the pictures in a folder, as the verifier states it."""
    parts = []
    for path in sorted(folder.iterdir()):
        picture = read_png(path)
        head = f"{path.stem}\0{picture.shape[1]}x{picture.shape[0]}\0".encode()
        parts.append(hashlib.sha256(head + picture.tobytes()).hexdigest())
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def is_gone(word: bytes) -> bool:
    """Returns whether no process has a word in its command any more, after a moment at most."""
    end = time.monotonic() + 3
    while time.monotonic() < end:
        found = []
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):
                found.append(word in path.read_bytes())
        if not any(found):
            return True
        time.sleep(0.05)
    return False


def lines(*answers: object) -> str:
    """Returns code that prints answers, a line of JSON each."""
    return "".join(f"print({json.dumps(answer)!r}, flush=True)\n" for answer in answers)
