"""What has to start quickly and in little memory loads neither torch nor other large libraries."""

import subprocess
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from facesr.png import write_png

ROOT = Path(__file__).resolve().parent.parent
HEAVY = (
    "torch",
    "torchvision",
    "scipy",
    "onnx",
    "onnxruntime",
    "safetensors",
    "tensorboard",
    "facenet_pytorch",
    "torch._dynamo",
    "sympy",
)
LIMIT_BYTES = 2 << 30


def loaded_by(code: str) -> list[str]:
    """Returns which heavy packages a program in a process of its own has loaded at its end."""
    told = f"import sys\n{code}\nprint(*[name for name in {HEAVY!r} if name in sys.modules])"
    command = [sys.executable, "-c", told]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT, timeout=300)
    return done.stdout.split()


LIGHT = (
    "facesr.data.prepare.prepare",
    "facesr.data.prepare.patches",
    "facesr.data.synthetic.face.render",
    "facesr.data.synthetic.dead_leaves",
    "facesr.data.prepare.workers",
    "facesr.submission.verify",
    "facesr.leaderboard.ranking",
    "facesr.leaderboard.split",
    "facesr.leaderboard.sandbox",
    "facesr.leaderboard.verify_child",
    "facesr.leaderboard.app",
    "facesr.opinion.app",
    "facesr.restore_photo.command",
    "facesr.evaluation.command",
    "facesr.training.command",
    "facesr.build",
    "facesr.png",
    "submit",
)


def first_heavy(modules: Sequence[str]) -> list[str]:
    """Returns the first of these modules, imported in turn by one process, that loads a heavy package, and which."""
    told = f"""
import importlib, sys
for module in {modules!r}:
    importlib.import_module(module)
    heavy = [name for name in {HEAVY!r} if name in sys.modules]
    if heavy:
        print(module, *heavy)
        break
"""
    done = subprocess.run(
        [sys.executable, "-c", told], capture_output=True, text=True, check=True, cwd=ROOT, timeout=300
    )
    return done.stdout.split()


def test_no_light_module_loads_anything_heavy() -> None:
    assert first_heavy(LIGHT) == []


@pytest.mark.slow
def test_no_command_loads_the_compiler_of_torch() -> None:
    code = "import facesr.evaluation.run, facesr.training.dry_run, facesr.training.recipe_run, torch"
    code += "; from facesr.resample import downscale; downscale(torch.zeros(1, 3, 8, 8))"
    assert "torch._dynamo" not in loaded_by(code)


@pytest.mark.slow
def test_restoring_photographs_and_facenet_load_no_torchvision_and_no_compiler() -> None:
    code = "import facesr.restore_photo.work, facesr.photos.detect as d, facesr.embedders.facenet as f; d.Detector()"
    code += "; f.facenet_module('inception_resnet_v1')"
    loaded = loaded_by(code)
    assert "torch" in loaded and not {"torchvision", "facenet_pytorch", "torch._dynamo", "sympy"} & {*loaded}


@pytest.mark.slow
def test_scripts_load_no_onnxruntime_and_start_no_thread() -> None:
    code = "import os; os.environ['OMP_NUM_THREADS'] = '1'"  # as ranks have it; else NumPy and torch start their own
    code += "; import facesr.evaluation.run, facesr.training.loop, facesr.submission.command"
    loaded = loaded_by(code + "; num_threads = len(os.listdir('/proc/self/task')); assert num_threads == 1")
    assert "torch" in loaded and "onnxruntime" not in loaded


@pytest.mark.slow
def test_opening_a_snapshot_loads_neither_the_compiler_of_torch_nor_what_no_method_needs() -> None:
    code = "import torch, facesr.methods.open as o; o.open_method('pretrained:asc19_final', torch.device('cpu'))"
    assert loaded_by(code) == ["torch", "safetensors"]


def test_heavy_packages_are_found() -> None:
    assert first_heavy(["json", "safetensors", "zipfile"]) == ["safetensors", "safetensors"]


def a_submission(folder: Path) -> Path:
    """Returns an honest archive for the pictures in <folder>/low."""
    from facesr.build import load_settings
    from facesr.config import SubmitSettings
    from facesr.submission.command import run

    (folder / "low").mkdir()
    for number in range(3):
        picture = np.random.default_rng(number).integers(0, 256, (28, 24, 3), dtype=np.uint8)
        write_png(folder / "low" / f"{number}.png", picture)
    keys = {"checkpoint": "bicubic", "low": folder / "low", "team": "Team", "out": folder / "team.zip"}
    keys |= {"device": "cpu", "restored_dir": folder / "kept", "protocol": "open"}
    run(load_settings("submit", SubmitSettings, [f"{key}={value}" for key, value in keys.items()]))
    return folder / "team.zip"


def verified(archive: Path, low: Path) -> subprocess.CompletedProcess[str]:
    """Runs submit.py verify= in 2 GiB of address space, and tells what it has loaded."""
    pytest.importorskip("resource")
    code = f"""
import resource, runpy, sys
resource.setrlimit(resource.RLIMIT_AS, ({LIMIT_BYTES}, {LIMIT_BYTES}))
sys.argv = ["submit.py", "verify={archive}", "low={low}", "protocol=open"]
try:
    runpy.run_path("submit.py", run_name="__main__")
finally:
    print("loaded:", *[name for name in {HEAVY!r} if name in sys.modules])
"""
    command = [sys.executable, "-c", code]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT, timeout=300)


def test_verifying_needs_neither_torch_nor_much_memory(tmp_path: Path) -> None:
    archive = a_submission(tmp_path)
    done = verified(archive, tmp_path / "low")
    assert done.returncode == 0, done.stderr
    assert "is a valid submission" in done.stdout and done.stdout.splitlines()[-1] == "loaded:"
    with zipfile.ZipFile(archive, "a") as opened:
        opened.writestr("more.png", b"")
    done = verified(archive, tmp_path / "low")
    assert done.returncode == 2 and "more.png" in done.stderr
    assert done.stdout == "loaded:\n"
