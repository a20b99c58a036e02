"""The command `facesr`: its help, its commands, and what it says of others."""

import importlib
import inspect
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from facesr import __main__ as command
from facesr import __version__

ROOT = Path(__file__).resolve().parent.parent


def test_help_fits_a_screen_and_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in ([], ["--help"], ["help"]):
        assert command.main(arguments) == 0
        lines = capsys.readouterr().out.splitlines()
        assert len(lines) <= 24 and max(map(len, lines)) <= 100
        assert {line.split()[0] for line in lines if line.startswith("  ")} == set(command.COMMANDS)


def test_help_may_be_cut_off() -> None:
    reader, writer = os.pipe()
    os.close(reader)  # as behind `| head -0`
    with os.fdopen(writer, "wb") as closed:
        done = subprocess.run(
            [sys.executable, "-m", "facesr"], cwd=ROOT, stdout=closed, stderr=subprocess.PIPE, check=False
        )
    assert (done.returncode, done.stderr) == (0, b"")


def test_every_command_has_a_main() -> None:
    for module, _ in command.COMMANDS.values():
        (arguments,) = inspect.signature(importlib.import_module(module).main).parameters.values()
        assert arguments.default is None


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["trian"], "'trian' is no command of facesr; did you mean train?"),
        (["\x1b[31m"], r"'\x1b[31m' is no command of facesr; facesr --help lists them."),
    ],
)
def test_an_unknown_command(arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(arguments) == 2
    assert capsys.readouterr().err == f"error: {words}\n"


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["--version"]) == 0
    assert capsys.readouterr().out == f"facesr {__version__}\n"


def test_the_program_takes_what_stands_behind_a_command(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "facesr", "prepare", "nothing", "out"],
        cwd=tmp_path, capture_output=True, text=True, check=False, env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin"},
    )  # fmt: skip
    assert done.returncode == 2 and "nothing does not exist" in done.stderr and done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["evaluate", "method=nothing"], "nothing is neither bicubic"),
        (["face-generator", "widht=2"], "did you mean width?"),
    ],
)
def test_commands_take_what_stands_behind_them(
    arguments: list[str],
    words: str,
    code_of: Callable[..., int],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    # In a process that goes on, a program that listens for requests to stop would end it at the next one.
    listening: list[str] = []
    monkeypatch.setattr(command.requests, "listen", lambda: listening.append(arguments[0]))
    before = signal.getsignal(signal.SIGTERM)
    try:
        assert code_of(command.main, arguments) == 2
    finally:
        signal.signal(signal.SIGTERM, before)
    told = capsys.readouterr().err
    assert told.startswith("error: ") and words in told and told.count("\n") == 1
    assert listening == [name for name in arguments[:1] if name == "face-generator"]
    assert list(tmp_path.iterdir()) == []
