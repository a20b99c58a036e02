"""The wheel: it holds configs and weights, and its commands work in an empty folder, away from the checkout."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SHORT = ["duration_kimg=0.016", "batch_size=8", "data.train.num_faces=16", "data.validation.num_faces=4", "name=short"]


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("uv") is None, reason="no uv to build it")
def test_a_built_wheel_works_in_an_empty_folder(tmp_path: Path) -> None:
    build = ["uv", "build", "--wheel", "--quiet", "--out-dir", str(tmp_path / "dist")]
    subprocess.run(build, cwd=ROOT, check=True, timeout=300)
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    installed, empty = tmp_path / "installed", tmp_path / "empty"
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        archive.extractall(installed)
    assert {"facesr/configs/train.yaml", "facesr/py.typed", "facesr/pretrained/asc19_psnr.safetensors"} <= names
    assert {f"facesr/web/templates/{name}" for name in ("page.html", "report.html", "style.css")} <= names
    assert not any(name.startswith(("tests/", "data/", "configs/")) for name in names)
    entry = next(name for name in names if name.endswith("entry_points.txt"))
    assert "facesr = facesr.__main__:main" in (installed / entry).read_text()

    empty.mkdir()
    environment = {**os.environ, "PYTHONPATH": str(installed), "FACESR_CACHE": str(tmp_path / "cache")}

    def run(*arguments: str) -> str:
        command = [sys.executable, "-m", "facesr", *arguments]
        done = subprocess.run(
            command, cwd=empty, env=environment, capture_output=True, text=True, check=False, timeout=300
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    code = "import facesr; print(facesr.__file__)"
    where = subprocess.run(
        [sys.executable, "-c", code], cwd=empty, env=environment, capture_output=True, text=True, check=True
    ).stdout
    assert where.startswith(str(installed))
    assert "usage: facesr COMMAND" in run("--help")
    assert "is/builtin" in run("evaluate", "method=pretrained:asc19_psnr", "num_resamples=20")
    assert "short" in run("train", *SHORT)
    assert {path.name for path in empty.iterdir()} == {"runs", "restored"}
