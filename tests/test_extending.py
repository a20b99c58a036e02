"""docs/extending.md: its files, written where it says, into a copy of the package, train and score."""

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

    def run(*arguments: str) -> str:
        command = [sys.executable, "-m", "facesr", *arguments]
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=300
        )
        return done.stdout if done.returncode == 0 else f"{done.returncode}: {done.stderr}"

    trained = run("train", *SHORT, "name=mine", "generator=plain", "generator.channels=48", "+loss@losses.edges=edges")
    assert "mine" in trained and "Plain with" in trained, trained
    assert '"loss/edges"' in (tmp_path / "runs" / "mine" / "stats.jsonl").read_text()
    scored = run("evaluate", "method=runs/mine", "judges=[tiny]", "num_resamples=20")
    assert "is/tiny" in scored and "brightness" in scored, scored
    # And what the page says of a missing step.
    (tmp_path / "facesr" / "models" / "plain.py").unlink()
    assert "cannot be built: No module named 'facesr.models.plain'" in run("train", *SHORT, "name=n", "generator=plain")
    (tmp_path / "configs" / "generator" / "plain.yaml").unlink()
    assert "generator=plain is unknown; choose one of" in run("train", *SHORT, "name=n", "generator=plain")
