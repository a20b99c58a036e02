"""What can be said of the jobs where no Slurm is."""

import subprocess
from pathlib import Path

import pytest

from tests.ranks import ROOT

SCRIPTS = sorted((ROOT / "slurm").iterdir())


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_a_script_can_be_read(script: Path) -> None:
    subprocess.run(["bash", "-n", str(script)], check=True, timeout=60)


def test_the_trap_comes_first() -> None:
    lines = (ROOT / "slurm" / "train.sbatch").read_text("utf-8").splitlines()
    first, second, *_ = [line for line in lines if line and not line.startswith("#")]
    assert first == "asked=" and second.startswith("trap ") and second.endswith(" USR1 TERM")


@pytest.mark.parametrize(
    ("script", "words"), [("train.sbatch", "run uv sync there"), ("evaluate.sbatch", "give --array=1-N")]
)
def test_a_job_that_cannot_work_says_so(script: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "slurm").mkdir()
    for path in SCRIPTS:
        (tmp_path / "slurm" / path.name).write_text(path.read_text("utf-8"))
    command = ["bash", f"slurm/{script}", "name=x"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 2 and words in done.stderr and done.stderr.count("\n") == 1
