"""A contest from start to end by the commands of docs/organising.md, with a real server, worker, judge and archives."""

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from facesr.__main__ import main
from facesr.data.export import export_synthetic

ROOT = Path(__file__).resolve().parents[2]
NUM_FACES = 6


class Contest:
    """The folder of a contest, and what was run in it."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder = folder
        self.url = ""
        self.done: set[str] = set()
        self._capsys = capsys

    def board(self, command: str, *rest: object, code: int = 0) -> str:
        """Runs a subcommand on the contest and returns what it prints."""
        self.done.add(command)
        arguments = [self.folder, *rest] if command != "restore" else [*rest]
        return self.run("board", command, *arguments, code=code)

    def run(self, *words: object, code: int = 0) -> str:
        self._capsys.readouterr()
        try:
            found = main([str(word) for word in words])
        except SystemExit as left:
            found = left.code if isinstance(left.code, int) else 0
        told = self._capsys.readouterr()
        assert found == code, f"{words}: {told.out}{told.err}"
        return told.out + told.err

    def get(self, path: str) -> Any:
        with urllib.request.urlopen(f"{self.url}/api/v1/{path}", timeout=30) as answer:
            return json.load(answer)

    def post(self, path: str, data: dict[str, Any]) -> Any:
        request = urllib.request.Request(
            f"{self.url}/api/v1/{path}", json.dumps(data).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)

    @contextlib.contextmanager
    def served(self) -> Iterator[subprocess.Popen[bytes]]:
        """Serves the contest, with one worker beside it."""
        self.done |= {"serve", "worker"}
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        command = [sys.executable, "-m", "facesr", "board", "serve", str(self.folder), "--port", str(port)]
        process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        try:
            until = time.monotonic() + 120
            while True:
                with contextlib.suppress(OSError):
                    urllib.request.urlopen(f"{self.url}/healthz", timeout=5).close()
                    break
                assert process.poll() is None and time.monotonic() < until
                time.sleep(0.2)
            yield process
        finally:
            process.send_signal(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(30)
            process.kill()
            process.wait()


def workers_of(folder: Path) -> list[int]:
    """Returns the processes that work on a contest."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            words = path.read_bytes().split(b"\0")
            if b"worker" in words and str(folder).encode() in words:
                found.append(int(path.parent.name))
    return found


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks for processes in /proc")
def test_contest(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    faces = tmp_path / "faces"
    export_synthetic(faces, NUM_FACES)
    low = faces / "low"
    contest = Contest(tmp_path / "contest", capsys)
    told = contest.board("init", "--high", faces / "high", "--low", low, "--title", "Faces 2027", "--no-baselines")
    assert re.search(r"^  [A-Za-z0-9_-]{43}$", told, re.MULTILINE)
    assert "final  open" in contest.board("phase")
    contest.board("baseline", "nearest")
    codes = contest.board("invite", "--count", 3).split()
    with contest.served() as server:
        tokens = []
        for name, code in zip(["Alpha", "Beta", "Gamma"], codes, strict=True):
            tokens.append(tmp_path / f"{name}.token")
            tokens[-1].write_text(contest.post("teams", {"code": code, "team": name})["token"])

        def submit(team: str, method: str, token: Path, *more: object) -> str:
            archive = tmp_path / f"{team}-{method.replace(':', '-')}.zip"
            words = [f"method={method}", f"low={low}", f"team={team}", f"out={archive}", *more]
            words += [f"restored_dir={tmp_path / 'restored'}", f"board={contest.url}", f"token={token}"]
            told = contest.run("submit", *words)
            return re.findall(r"/submissions/(\S+)", told)[0]

        sent = [
            submit("Alpha", "pretrained:asc19_psnr", tokens[0]),
            submit("Beta", "bicubic", tokens[1]),
            submit("Gamma", "bicubic", tokens[2]),
        ]
        assert "was sent before" in contest.run(
            "submit",
            f"verify={tmp_path / 'Beta-bicubic.zip'}",
            f"low={low}",
            f"board={contest.url}",
            f"token={tokens[1]}",
        )
        until = time.monotonic() + 240
        while any(contest.get(f"submissions/{code}")["state"] != "scored" for code in sent if reachable(contest, code)):
            assert time.monotonic() < until
            time.sleep(0.5)
        while not all(reachable(contest, code) for code in sent):
            assert time.monotonic() < until
            time.sleep(0.5)
        rows = contest.get("phases/final/standing")["entries"]
        assert [row["team"] for row in rows if row["place"]] == ["Alpha", "Beta", "Gamma"]
        assert [row["place"] for row in rows] == ["1", "2-3", "2-3", ""]
        contest.board("backup", tmp_path / "monday.tar")
        contest.board("token", "--team", "Alpha", "--revoke")
        box = tmp_path / "box.token"
        box.write_text(contest.board("worker-token", "box"))
        assert "box  since" in contest.board("worker-token")
        contest.run("board", "worker", contest.url, f"token={box}", "--until-idle")
        contest.board("worker-token", "box", "--revoke")
        assert "not take" in contest.run("board", "worker", contest.url, f"token={box}", code=2)
        assert "not valid" in contest.run(
            "submit",
            f"verify={tmp_path / 'Alpha-pretrained-asc19_psnr.zip'}",
            f"low={low}",
            f"board={contest.url}",
            f"token={tokens[0]}",
            code=2,
        )
        # A server that is killed takes its worker along; the next one goes on.
        os.kill(server.pid, signal.SIGKILL)
        until = time.monotonic() + 60
        while workers_of(contest.folder):
            assert time.monotonic() < until
            time.sleep(0.2)
    contest.board("phase", "final", "--ends", "2099-01-01T00:00:00Z", "--reason", "the network was down")
    assert "nothing to do" in contest.board("rescore", code=2)
    assert "private scores" in contest.board("phase", "final", "--dry-run")
    assert "closed" in contest.board("phase", "final", "--close", "--reason", "end")
    assert "keep_days" in contest.board("tidy", "--dry-run", code=2)
    settings = contest.folder / "competition.yaml"
    settings.write_text(settings.read_text().replace("# keep_days: 30", "keep_days: 30"))
    assert "archives of 0 submissions were deleted" in contest.board("tidy")
    assert "lines, whole" in contest.board("verify-log")
    contest.board("export", tmp_path / "results")
    assert "Alpha" in (tmp_path / "results" / "site" / "phases" / "final.html").read_text()
    assert (tmp_path / "results" / "final-private.csv").read_text().count("\n") == 5
    contest.board("restore", tmp_path / "monday.tar", tmp_path / "again")
    broken = tmp_path / "broken.zip"
    broken.write_bytes(b"PK not really")
    archives = [tmp_path / "Alpha-pretrained-asc19_psnr.zip", tmp_path / "Beta-bicubic.zip", broken]
    assert "2 ranked, 1 refused" in contest.board("score", *archives, "--out", tmp_path / "ranking")
    table = (tmp_path / "ranking" / "ranking.csv").read_text().splitlines()
    assert [line.split(",")[:2] for line in table[1:]] == [["1", "1"], ["2", "2"], ["", ""]]
    document = (ROOT / "docs" / "organising.md").read_text(encoding="utf-8")
    assert set(re.findall(r"facesr board ([a-z-]+)", document)) == contest.done


def reachable(contest: Contest, code: str) -> bool:
    """Returns whether a submission can be seen by everybody, as scored ones can."""
    try:
        contest.get(f"submissions/{code}")
    except OSError:
        return False
    return True
