"""The wheel: installed in an empty environment, by another Python where there is one, it works in an empty folder."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PYTHONS = ("3.13", "3.12", "3.11")
SHORT = ["duration_kimg=0.016", "batch_size=8", "data.train.num_faces=16", "data.validation.num_faces=4", "name=short"]


def another_python() -> str:
    """Returns the path of an installed Python of another version than this one, or of this one."""
    own = f"{sys.version_info.major}.{sys.version_info.minor}"
    for version in PYTHONS:
        # Those of pyenv are not on the path unless they are chosen.
        of_pyenv = sorted((Path.home() / ".pyenv" / "versions").glob(f"{version}.*/bin/python"))
        for found in filter(None, [shutil.which(f"python{version}"), *map(str, of_pyenv)]):
            code = "import sys; print('%d.%d' % sys.version_info[:2])"
            said = subprocess.run([found, "-c", code], capture_output=True, text=True, check=False, timeout=60)
            if version != own and said.stdout.strip() == version:
                return found
    return sys.executable


def test_another_python_is_told_from_this_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    assert another_python() == sys.executable
    version = next(version for version in PYTHONS if version != f"3.{sys.version_info.minor}")
    other = tmp_path / ".pyenv" / "versions" / f"{version}.1" / "bin" / "python"
    for path, said in ((tmp_path / "bin" / f"python{version}", "no such version"), (other, version)):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"#!/bin/sh\necho '{said}'\n")
        path.chmod(0o755)
    assert another_python() == str(other)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("uv") is None, reason="no uv to build it")
def test_a_built_wheel_works_in_an_empty_environment_and_folder(tmp_path: Path) -> None:
    build = ["uv", "build", "--wheel", "--quiet", "--out-dir", str(tmp_path / "dist")]
    subprocess.run(build, cwd=ROOT, check=True, timeout=300)
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        entry = next(name for name in names if name.endswith("entry_points.txt"))
        assert b"facesr = facesr.__main__:main" in archive.read(entry)
    assert {"facesr/configs/train.yaml", "facesr/py.typed", "facesr/pretrained/asc19_psnr.safetensors"} <= names
    assert {
        f"facesr/web/templates/{name}"
        for name in (
            "page.html",
            "report.html",
            "style.css",
            "restored.css",
            "restored.js",
            "browser/index.html",
            "browser/page.js",
            "opinion/question.html",
            "opinion/opinion.js",
        )
    } <= names
    assert {
        f"facesr/opinion/{name}"
        for name in ("languages/en.yaml", "languages/zh.yaml", "migrations/versions/0001_the_first_tables.py")
    } <= names
    assert not any(name.startswith(("tests/", "data/", "configs/")) for name in names)

    # The pinned versions without uv's overrides, of which pip knows nothing: there has to be a set that fits.
    pins = subprocess.run(
        ["uv", "export", "--quiet", "--no-hashes", "--no-emit-project", "--no-annotate", "--no-header"],
        cwd=ROOT, capture_output=True, text=True, check=True, timeout=300,
    ).stdout.splitlines()  # fmt: skip
    constraints = tmp_path / "constraints.txt"
    constraints.write_text("\n".join(pin for pin in pins if not pin.startswith("facenet-pytorch")), encoding="utf-8")
    python, made = another_python(), tmp_path / "environment"
    subprocess.run(["uv", "venv", "--no-config", "--quiet", "--python", python, str(made)], check=True, timeout=300)
    installed = made / ("Scripts" if os.name == "nt" else "bin")
    install = ["uv", "pip", "install", "--no-config", "--quiet", "--python", str(installed / "python")]
    install += ["--constraint", str(constraints), str(wheel)]
    # What a command imports is compiled then and kept; to compile all that is installed takes a minute and more.
    subprocess.run(install, env={**os.environ, "UV_COMPILE_BYTECODE": "0"}, check=True, timeout=600)

    empty = tmp_path / "empty"
    empty.mkdir()
    environment = {**os.environ, "FACESR_CACHE": str(tmp_path / "cache")}
    environment.pop("PYTHONPATH", None)

    def run(*command: str) -> str:
        program, *arguments = command
        done = subprocess.run(
            [str(installed / program), *arguments],
            cwd=empty, env=environment, capture_output=True, text=True, check=False, timeout=300,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    where = run("python", "-c", "import facesr; print(facesr.__file__)")
    assert where.startswith(str(made))
    assert "usage: facesr COMMAND" in run("facesr", "--help")
    assert "is/builtin" in run("facesr", "evaluate", "method=pretrained:asc19_psnr", "num_resamples=20")
    assert "short" in run("facesr", "train", *SHORT)
    assert {path.name for path in empty.iterdir()} == {"runs", "restored"}
