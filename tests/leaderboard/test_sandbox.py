"""Archives of strangers verified apart: honest ones come through, hostile ones are one sentence, nothing leaks."""

import contextlib
import dataclasses
import hashlib
import io
import json
import os
import shutil
import socket
import stat
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest

from facesr.errors import SubmissionError
from facesr.leaderboard import sandbox, verify_child
from facesr.leaderboard.facts import are_facts, facts_of, with_power
from facesr.leaderboard.sandbox import OrganiserError, VerifyLimits, verify_apart
from facesr.png import encode_png, png_remark, read_png
from tests.submission.conftest import Bench, bench, stored  # noqa: F401

# What the other process reads before it answers, as every stand-in for it does.
READ = "import json,os,sys,time\nrequest = json.loads(sys.stdin.readline())\n"


@pytest.fixture
def isolated(request, monkeypatch) -> bool:
    """Whether bubblewrap holds the other process; without it on this machine only the plain way is tested."""
    if not request.param:
        monkeypatch.setattr(sandbox, "bubblewrap_problem", lambda: "bubblewrap is not installed; install it.")
    elif sandbox.bubblewrap_problem():
        pytest.skip(f"no sandbox here: {sandbox.bubblewrap_problem()}")
    return bool(request.param)


BOTH_WAYS = pytest.mark.parametrize("isolated", [True, False], ids=["bubblewrap", "plain"], indirect=True)
SANDBOXED = pytest.mark.parametrize("isolated", [True], ids=["bubblewrap"], indirect=True)
PLAIN = pytest.mark.parametrize("isolated", [False], ids=["plain"], indirect=True)


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


@pytest.fixture
def desk(bench, tmp_path) -> Desk:  # noqa: F811
    out = tmp_path / "out"
    out.mkdir()
    return Desk(bench, out)


@pytest.fixture
def instead(monkeypatch):
    """Has another program answer in the verifier's place; the machine counts as sound."""

    def replace(code: str) -> None:
        monkeypatch.setattr(sandbox, "_PROGRAM", ("-I", "-S", "-c", READ + code))
        monkeypatch.setattr(sandbox, "_is_sound", lambda is_isolated: True)

    return replace


def pixels_of(pictures: dict[str, bytes], root: Path) -> dict[str, np.ndarray]:
    found = {}
    for name, data in pictures.items():
        (root / "one.png").write_bytes(data)
        found[name] = read_png(root / "one.png")
    return found


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
    return "".join(f"print({json.dumps(answer)!r}, flush=True)\n" for answer in answers)


@BOTH_WAYS
class TestHonest:
    def test_pixels_arrive_and_files_are_new(self, desk, isolated, tmp_path):
        # Compressed in another way, with a remark, the bytes differ and the pixels do not.
        pictures = {name: _otherwise(data) for name, data in desk.bench.pictures.items()}
        archive = stored(desk.bench.members(pictures, energy_joules=30, seconds=0.5))
        verified = desk.verify(archive)
        assert verified.is_isolated is isolated
        assert verified.ids == ("301", "302", "303")
        assert verified.num_bytes == len(archive)
        assert verified.sha256 == hashlib.sha256(archive).hexdigest()
        assert verified.pixels_sha256 == _digest(desk.out)
        facts = verified.facts
        assert (facts["team"], facts["model"], facts["loss_judges"]) == ("Team 1", "demo", ["builtin"])
        assert (facts["energy_joules"], facts["mean_watts"], facts["kimg"]) == (30.0, 60.0, 12.5)
        assert facts["guard_on"] is None and facts["synthetic"] is False
        assert json.loads(json.dumps(facts, allow_nan=False)) == facts
        found = {path.name: path.read_bytes() for path in desk.out.iterdir()}
        assert found.keys() == pictures.keys()
        wanted = pixels_of(pictures, tmp_path)
        for name, data in found.items():
            assert data == encode_png(wanted[name]) != pictures[name]
            assert png_remark(data) == ""
            mode = os.lstat(desk.out / name).st_mode
            assert stat.S_ISREG(mode) and not mode & 0o111
        assert desk.bench.left_behind() == []


def _otherwise(data: bytes) -> bytes:
    import cv2

    done, packed = cv2.imencode(".png", cv2.imdecode(np.frombuffer(data, np.uint8), 1), [16, 0])
    assert done
    return packed.tobytes()


def _digest(folder: Path) -> str:
    parts = []
    for path in sorted(folder.iterdir()):
        picture = read_png(path)
        head = f"{path.stem}\0{picture.shape[1]}x{picture.shape[0]}\0".encode()
        parts.append(hashlib.sha256(head + picture.tobytes()).hexdigest())
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def told(desk: Desk, archive: bytes) -> list[bytes]:
    """Returns what the verifier answers, asked in this process: its line, and the pixels behind it."""
    path = desk.bench.root / "secret-place.zip"
    path.write_bytes(archive)
    request = {
        "archive": str(path),
        "low": str(desk.bench.low),
        "protocol": dataclasses.asdict(desk.bench.protocol),
        "is_isolated": False,
    }
    answers = io.BytesIO()
    verify_child._answer(request, answers)
    assert desk.bench.left_behind() == []
    return answers.getvalue().split(b"\n", 1)


class TestVerifier:
    """The program of the other process, run in this one."""

    def test_pixels_follow_the_facts(self, desk, tmp_path):
        line, data = told(desk, stored(desk.bench.members()))
        assert json.loads(line)["facts"] == facts_of(desk.bench.manifest, is_synthetic=False)
        wanted = pixels_of(desk.bench.pictures, tmp_path)
        assert data == b"".join(wanted[name].tobytes() for name in sorted(wanted))

    def test_an_invented_face_is_told(self, desk, tmp_path):
        picture = pixels_of(desk.bench.pictures, tmp_path)["302.png"]
        pictures = {**desk.bench.pictures, "302.png": encode_png(picture, "synthetic face: invented by facesr pulse")}
        assert json.loads(told(desk, stored(desk.bench.members(pictures)))[0])["facts"]["synthetic"] is True

    @pytest.mark.parametrize(
        ("bend", "words"),
        [
            (lambda members: [*members, ("../evil.png", b"x")], "unsafe names"),
            (lambda members: [*members, ("extra.png", b"x")], "leave extra files out"),
            (lambda members: members[:-1], "no manifest.json"),
            (lambda members: [("301.png", b"no picture"), *members[1:]], "another sha256"),
            (lambda members: [], "empty archive"),
        ],
    )
    def test_broken_rules_are_told_without_paths(self, desk, bend, words):
        line, data = told(desk, stored(bend(desk.bench.members())))
        answer = json.loads(line)
        assert answer["answer"] == "refused" and data == b""
        assert words in answer["sentence"] and str(desk.bench.root) not in answer["sentence"]

    def test_the_folder_of_low_pictures_has_no_path(self, desk):
        for archive in (
            stored(desk.bench.members(low_sha256="0" * 64)),
            stored(desk.bench.members(dict(list(desk.bench.pictures.items())[:2]))),
        ):
            sentence = json.loads(told(desk, archive)[0])["sentence"]
            assert "the pictures that were given out" in sentence and str(desk.bench.root) not in sentence

    def test_a_bomb(self, desk):
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as opened:
            for name, data in desk.bench.members():
                opened.writestr(name, b"\0" * (16 << 20) if name == "301.png" else data)
        assert "unpacks more than 100-fold" in json.loads(told(desk, file.getvalue())[0])["sentence"]

    @pytest.mark.parametrize(("number", "answer"), [(27, "exhausted"), (28, "failed"), (5, "failed")])
    def test_files_that_cannot_be_written(self, desk, monkeypatch, number, answer):
        def full(path, data):
            raise OSError(number, "no space")

        monkeypatch.setattr(Path, "write_bytes", full)
        path = desk.bench.root / "secret-place.zip"
        with path.open("wb") as file:
            file.write(stored(desk.bench.members()))
        answers = io.BytesIO()
        asked = {"archive": str(path), "low": str(desk.bench.low), "is_isolated": False}
        verify_child._answer({**asked, "protocol": dataclasses.asdict(desk.bench.protocol)}, answers)
        assert json.loads(answers.getvalue())["answer"] == answer

    def test_it_bounds_itself(self, monkeypatch):
        resource = pytest.importorskip("resource")
        set_to = {}
        infinite = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
        monkeypatch.setattr(resource, "getrlimit", lambda kind: (9, 9) if kind == resource.RLIMIT_CPU else infinite)
        monkeypatch.setattr(resource, "setrlimit", set_to.__setitem__)
        verify_child._limit({"memory_bytes": 1 << 31, "cpu_seconds": 60, "file_bytes": 1 << 29})
        assert set_to == {
            resource.RLIMIT_AS: (1 << 31, 1 << 31),
            resource.RLIMIT_CPU: (8, 9),
            resource.RLIMIT_FSIZE: (1 << 29, 1 << 29),
            resource.RLIMIT_NOFILE: (256, 256),
            resource.RLIMIT_CORE: (0, 0),
            resource.RLIMIT_NPROC: (0, 0),
        }


@SANDBOXED
def test_a_refusal_comes_through(desk, isolated):
    pictures = dict(list(desk.bench.pictures.items())[:2])
    sentence = desk.refused(stored(desk.bench.members(pictures)))
    assert sentence == "the archive lacks '303.png'; the pictures that were given out asks for 3 pictures."


@BOTH_WAYS
class TestLimits:
    def test_wall_time(self, desk, isolated, instead):
        instead("time.sleep(60)")
        start = time.monotonic()
        assert "takes more than 0.5 s" in desk.refused(limits=VerifyLimits(wall_seconds=0.5))
        assert time.monotonic() - start < 5

    def test_pixels_that_never_end(self, desk, isolated, instead):
        facts = facts_of(desk.bench.manifest, is_synthetic=False)
        instead(lines({"answer": "verified", "facts": facts}) + "while True: os.write(1, bytes(65536))")
        assert "makes the verifier fail" in desk.refused()

    def test_words_that_never_end(self, desk, isolated, instead):
        instead("while True: os.write(1, b'x' * 65536); os.write(2, b'y' * 65536)")
        assert "makes the verifier fail" in desk.refused()

    def test_silence_behind_the_answer(self, desk, isolated, instead):
        facts = facts_of(desk.bench.manifest, is_synthetic=False)
        instead(lines({"answer": "verified", "facts": facts}) + "os.write(1, bytes(3456)); time.sleep(60)")
        assert "takes more than" in desk.refused(limits=VerifyLimits(wall_seconds=0.5))


@SANDBOXED
def test_cpu_time(desk, isolated, instead):
    instead(
        "import resource\nmost = request['limits']['cpu_seconds']\n"
        "resource.setrlimit(resource.RLIMIT_CPU, (most, most + 1))\nwhile True: pass"
    )
    assert "takes more than" in desk.refused(limits=VerifyLimits(cpu_seconds=1))


@SANDBOXED
def test_memory(desk, isolated):
    sentence = desk.refused(limits=VerifyLimits(memory_bytes=64 << 20))
    assert sentence == (
        "the archive needs more than 64 MiB of memory to be verified; send plain PNG files, packed by submit.py."
    )


@PLAIN
class TestHostileAnswers:
    """The other process was taken over and says what it likes."""

    def answers(self, desk: Desk, instead, *, cut: int = 0, more: bytes = b"", facts=None, code: int = 0) -> str:
        honest = facts_of(desk.bench.manifest, is_synthetic=False)
        head = lines({"answer": "verified", "facts": {**honest, **(facts or {})}})
        body = f"os.write(1, bytes(3 * 16 * 24 * 3 - {cut}) + {more!r})\n"
        instead(f"{head}{body}sys.exit({code})")
        return desk.refused()

    def test_as_many_pixels_as_needed_pass(self, desk, isolated, instead):
        facts = facts_of(desk.bench.manifest, is_synthetic=False)
        instead(lines({"answer": "verified", "facts": facts}) + "os.write(1, bytes(3 * 16 * 24 * 3))")
        assert desk.verify().ids == ("301", "302", "303")
        assert not read_png(desk.out / "303.png").any()

    @pytest.mark.parametrize("what", [{"cut": 1}, {"more": b"x"}, {"code": 1}])
    def test_too_few_or_many_pixels_or_a_bad_end(self, desk, isolated, instead, what):
        assert "makes the verifier fail" in self.answers(desk, instead, **what)

    @pytest.mark.parametrize(
        "facts",
        [
            {"team": "<script>"},
            {"team": "x" * 65},
            {"model": "\x1b[2J"},
            {"loss_judges": "builtin"},
            {"loss_judges": ["a"] * 65},
            {"seconds": -1},
            {"seconds": True},
            {"kimg": "1"},
            {"guard_replaced": 10**9},
            {"num_parameters": 0},
            {"extra": 1},
            {"weights_sha256": "g" * 64},
        ],
    )
    def test_facts_that_no_manifest_has(self, desk, isolated, facts):
        honest = facts_of(desk.bench.manifest, is_synthetic=False)
        assert are_facts(honest) and not are_facts({**honest, **facts})

    def test_hostile_facts_are_refused(self, desk, isolated, instead):
        assert "makes the verifier fail" in self.answers(desk, instead, facts={"team": "<script>"})

    @pytest.mark.parametrize("text", ["", "[1]\n", "{\n", '"refused"\n', "[" * 100_000 + "\n", "9" * 9999 + "\n"])
    def test_nonsense(self, desk, isolated, instead, text):
        long = f"sys.stdout.write({text[:1]!r} * {len(text) - 1} + {text[-1:]!r})"
        instead(long if len(text) > 50 else f"sys.stdout.write({text!r})")
        assert "makes the verifier fail" in desk.refused()

    def test_the_digest_is_that_of_the_pixels(self, desk, isolated, instead):
        facts = facts_of(desk.bench.manifest, is_synthetic=False)
        found = set()
        for value in (b"\0", b"\1"):
            instead(lines({"answer": "verified", "facts": facts}) + f"os.write(1, bytes(3455) + {value!r})")
            verified = desk.verify()
            assert verified.pixels_sha256 == _digest(desk.out)
            found.add(verified.pixels_sha256)
            for path in desk.out.iterdir():
                path.unlink()
        assert len(found) == 2

    def test_a_sentence_is_cut_and_cleaned(self, desk, isolated, instead):
        words = f"\x1b[31m{desk.bench.low} {desk.bench.root / 'secret-place.zip'} " + "x" * 1000
        instead(lines({"answer": "refused", "sentence": words}))
        sentence = desk.refused()
        assert sentence.startswith("\\x1b[31mthe pictures that were given out ")

    def test_a_crash_counts_against_the_archive_where_the_machine_is_sound(self, desk, isolated, instead):
        instead("os.abort()")
        assert desk.refused() == "the archive makes the verifier fail; send plain PNG files, packed by submit.py."


class TestOrganisersFaults:
    def fault(self, desk: Desk, *words: str, limits: VerifyLimits | None = None) -> None:
        with pytest.raises(OrganiserError) as caught:
            desk.verify(limits=limits)
        for word in words:
            assert word in str(caught.value)

    @PLAIN
    def test_low_pictures_are_missing(self, desk, isolated):
        for path in desk.bench.low.iterdir():
            path.unlink()
        self.fault(desk, "low-resolution pictures", "holds no PNG files")

    @PLAIN
    def test_archive_is_missing(self, desk, isolated, tmp_path):
        with pytest.raises(OrganiserError, match="cannot be read"):
            verify_apart(tmp_path / "none.zip", desk.bench.low, desk.bench.protocol, desk.out)

    @PLAIN
    def test_folder_is_not_empty(self, desk, isolated):
        (desk.out / "mine.txt").write_text("keep")
        self.fault(desk, "no empty folder")
        assert (desk.out / "mine.txt").read_text() == "keep"

    @BOTH_WAYS
    def test_the_installation_is_broken(self, desk, isolated, monkeypatch):
        monkeypatch.setattr(sandbox, "_PROGRAM", ("-I", "-m", "facesr.leaderboard.gone"))
        self.fault(desk, "cannot work on this machine", "gone")
        desk.nothing_left()

    @PLAIN
    def test_killed_from_outside(self, desk, isolated, instead):
        instead("os.kill(os.getpid(), 9)")
        self.fault(desk, "killed from outside")

    @PLAIN
    def test_the_disk_is_full(self, desk, isolated, monkeypatch):
        def full(path):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("facesr.png.whole_file", full)
        self.fault(desk, "cannot be kept", "No space left")
        desk.nothing_left()

    @PLAIN
    def test_a_sandbox_is_asked_for_and_is_not_there(self, desk, isolated):
        self.fault(desk, "bubblewrap is not installed", limits=VerifyLimits(needs_isolation=True))


@SANDBOXED
class TestSandbox:
    """What a program in the verifier's place can do there: nothing."""

    def seen(self, desk: Desk, instead, code: str) -> str:
        """Returns what a program inside says, which comes out as the sentence of a refusal."""
        instead(f"{code}\nprint(json.dumps({{'answer': 'refused', 'sentence': str(said)}}))")
        return desk.refused()

    def test_files_of_the_host_are_absent(self, desk, isolated, instead):
        checkout = [str(Path(__file__)), str(Path(__file__).parents[2] / "README.md")]
        places = [str(desk.bench.root), "/etc/passwd", *checkout, "/var", "/root/.ssh", str(Path.home() / ".config")]
        assert self.seen(desk, instead, f"said = [os.path.exists(p) for p in {places!r}]") == str([False] * len(places))

    def test_no_network(self, desk, isolated, instead):
        with socket.create_server(("127.0.0.1", 0)) as server:
            code = (
                "import socket\nsaid = []\n"
                f"for address in (('127.0.0.1', {server.getsockname()[1]}), ('1.1.1.1', 53)):\n"
                "    try: socket.create_connection(address, 2); said.append('open')\n"
                "    except OSError as error: said.append(error.errno)"
            )
            # Inside nobody listens, although somebody does outside, and there is no way out.
            assert self.seen(desk, instead, code) == "[111, 101]"

    def test_nothing_can_be_written_but_the_temporary_folder(self, desk, isolated, instead):
        code = (
            "said = []\n"
            f"for path in ('/in/archive.zip', '/in/low/301.png', '/usr/x', {sys.prefix + '/x'!r}, '/tmp/x'):\n"
            "    try: open(path, 'ab').close(); said.append('written')\n"
            "    except OSError as error: said.append(error.errno)"
        )
        assert self.seen(desk, instead, code) == "[30, 30, 30, 30, 'written']"

    def test_environment_and_processes_are_its_own(self, desk, isolated, instead, monkeypatch):
        monkeypatch.setenv("SECRET_TOKEN", "hush")
        code = (
            "said = ['SECRET_TOKEN' in os.environ, os.getuid(), os.uname().nodename, "
            "len([p for p in os.listdir('/proc') if p.isdigit()]) < 4]"
        )
        assert self.seen(desk, instead, code) == "[False, 65534, 'judge', True]"

    def test_the_temporary_folder_is_bounded(self, desk, isolated, instead):
        code = (
            "try:\n    with open('/tmp/x', 'wb') as file:\n        while True: file.write(bytes(1 << 20))\n"
            "except OSError as error: said = error.errno"
        )
        assert self.seen(desk, instead, code) == "28"

    def test_children_end_with_it(self, desk, isolated, instead):
        instead("if os.fork() == 0: os.setsid()\ntime.sleep(987654)")
        desk.refused(limits=VerifyLimits(wall_seconds=0.5))
        assert is_gone(b"987654")


@PLAIN
@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="processes are looked for in /proc")
def test_children_of_a_plain_process_end_with_it(desk, isolated, instead, tmp_path):
    instead("os.fork(); time.sleep(876543)")
    desk.refused(limits=VerifyLimits(wall_seconds=0.5))
    assert is_gone(b"876543")


def test_power_is_finite(bench):  # noqa: F811
    facts = facts_of(bench.manifest, is_synthetic=False)
    assert with_power(facts)["mean_watts"] is None
    for joules, seconds, watts in ((30.0, 0.5, 60.0), (1.0, 0.0, None), (1e17, 1e-300, None), (0.0, 2.0, 0.0)):
        assert with_power({**facts, "energy_joules": joules, "seconds": seconds})["mean_watts"] == watts


def test_the_sandbox_works_wherever_bubblewrap_does():
    """Arguments that bubblewrap refuses would otherwise show as skipped tests alone."""
    if shutil.which("bwrap") is None:
        pytest.skip("bubblewrap is not installed")
    bare = ["bwrap", "--unshare-all", "--die-with-parent", "--ro-bind", "/", "/", "true"]
    if subprocess.run(bare, capture_output=True, check=False).returncode == 0:
        assert sandbox.bubblewrap_problem() == ""
