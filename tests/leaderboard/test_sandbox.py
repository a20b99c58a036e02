"""What a program in the verifier's place can do: nothing; and what it may take is bounded."""

import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from facesr.leaderboard import sandbox
from facesr.leaderboard.facts import facts_of
from facesr.leaderboard.sandbox import VerifyLimits
from tests.leaderboard.sandboxes import (  # noqa: F401
    BOTH_WAYS,
    PLAIN,
    SANDBOXED,
    Desk,
    a_desk,
    another_program,
    is_gone,
    lines,
    whether_isolated,
)
from tests.submission.conftest import bench  # noqa: F401


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


def test_the_sandbox_works_wherever_bubblewrap_does():
    """Arguments that bubblewrap refuses would otherwise show as skipped tests alone."""
    if shutil.which("bwrap") is None:
        pytest.skip("bubblewrap is not installed")
    bare = ["bwrap", "--unshare-all", "--die-with-parent", "--ro-bind", "/", "/", "true"]
    if subprocess.run(bare, capture_output=True, check=False).returncode == 0:
        assert sandbox.bubblewrap_problem() == ""


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
