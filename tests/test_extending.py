"""docs/extending.md: its files, written where it says, into a copy of the package, train and score."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
DOCUMENT = ROOT / "docs" / "extending.md"
SHORT = ["duration_kimg=0.016", "batch_size=8", "data.train.num_faces=16", "data.validation.num_faces=4"]

# Prints what each command said: one start for all of them, because loading torch takes longer than what they do.
IN_TURN = """
import contextlib, io, json, sys
from facesr.__main__ import main
told = []
for command in json.loads(sys.argv[1]):
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        try:
            code = main(command)
        except SystemExit as left:
            code = left.code
    told.append(said.getvalue() if code == 0 else f"{code}: {said.getvalue()}")
print(json.dumps(told))
"""


def files_of(text: str) -> dict[str, str]:
    """Returns path -> content of the files that the document shows."""
    return dict(re.findall(r"^`([\w/.]+)`:\n\n```\w+\n(.*?)^```", text, re.DOTALL | re.MULTILINE))


def test_it_shows_two_files_for_a_generator_a_loss_and_a_judge() -> None:
    files = files_of(DOCUMENT.read_text("utf-8"))
    for kind, place in (("models", "generator"), ("losses", "loss"), ("embedders", "embedder")):
        (module,) = (path for path in files if path.startswith(f"facesr/{kind}/"))
        assert f"configs/{place}/{Path(module).stem}.yaml" in files


@pytest.mark.slow
def test_the_files_of_the_document_work(tmp_path: Path) -> None:
    for name in ("facesr", "configs"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    for path, content in files_of(DOCUMENT.read_text("utf-8")).items():
        assert not (tmp_path / path).exists()
        (tmp_path / path).write_text(content)
    listed = tmp_path / "facesr" / "metrics" / "__init__.py"
    text = listed.read_text().replace("Rmse()]", "Rmse(), Brightness()]")
    first = "from facesr.metrics.consistency"
    listed.write_text(text.replace(first, f"from facesr.metrics.brightness import Brightness\n{first}"))
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "FACESR_CACHE": str(tmp_path / "cache")}

    def run(*commands: list[str]) -> list[str]:
        """Returns what each of some commands printed, run in turn by one process that has read the files."""
        done = subprocess.run(
            [sys.executable, "-c", IN_TURN, json.dumps(commands)],
            cwd=tmp_path, env=environment, capture_output=True, text=True, check=True, timeout=300,
        )  # fmt: skip
        told: list[str] = json.loads(done.stdout.splitlines()[-1])
        return told

    trained, scored = run(
        ["train", *SHORT, "name=mine", "generator=plain", "generator.channels=48", "+loss@losses.edges=edges"],
        ["evaluate", "method=runs/mine", "judges=[tiny]", "num_resamples=20"],
    )
    assert "mine" in trained and "Plain with" in trained, trained
    assert '"loss/edges"' in (tmp_path / "runs" / "mine" / "stats.jsonl").read_text()
    assert "is/tiny" in scored and "brightness" in scored, scored
    # And what the page says of a missing step.
    (tmp_path / "facesr" / "models" / "plain.py").unlink()
    (tmp_path / "configs" / "generator" / "plain.yaml").rename(tmp_path / "configs" / "generator" / "plainer.yaml")
    no_module, no_file = run(*(["train", *SHORT, "name=n", f"generator={name}"] for name in ("plainer", "plain")))
    assert "cannot be built: No module named 'facesr.models.plain'" in no_module
    assert "generator=plain is unknown; choose one of" in no_file
