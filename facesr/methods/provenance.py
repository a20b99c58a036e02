"""Where a restoration comes from: the code, the packages and the device that made it.

Nothing here needs git: the digest of the package's own source files names the code also in an unpacked archive or
in a working tree with uncommitted changes.
"""

import functools
import hashlib
import platform
import subprocess
from pathlib import Path

import cv2
import numpy as np
import torch

import facesr

PACKAGE_DIR = Path(__file__).resolve().parent.parent
_GIT_SECONDS = 20


def commit_of(folder: Path) -> tuple[str | None, bool | None]:
    """Returns (commit, whether tracked files differ from it) of the git tree that tracks a folder, else (None, None).

    A folder that merely lies inside another project's tree (a virtual environment, say) is not tracked by it.
    """
    try:
        tracked = _git(folder, "ls-files", "--", ".")
        commit = _git(folder, "rev-parse", "HEAD")
        changed = _git(folder, "status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.SubprocessError):
        return None, None
    return (commit, bool(changed)) if tracked else (None, None)


def _git(folder: Path, *arguments: str) -> str:
    command = ["git", "--no-optional-locks", "-C", str(folder), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=_GIT_SECONDS)
    return done.stdout.strip()


def code_sha256(folder: Path = PACKAGE_DIR) -> str:
    """Returns the digest of a folder's Python files, names and contents, in a fixed order."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*.py"), key=lambda path: path.relative_to(folder).as_posix()):
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        digest.update(f"{path.relative_to(folder).as_posix()}\0{content}\n".encode())
    return digest.hexdigest()


def package_versions() -> dict[str, str]:
    """Returns name -> version of python and of what decides the pixels and the bytes of a PNG."""
    return {
        "facesr": facesr.__version__,
        "numpy": np.__version__,
        "opencv": cv2.__version__,
        "python": platform.python_version(),
        "torch": str(torch.__version__),
    }


@functools.cache
def device_name(device: torch.device) -> str:
    """Returns a readable name of a device: ``cuda: NVIDIA H200`` or ``cpu: <model>, <n> threads``."""
    if device.type == "cuda":
        return f"cuda: {torch.cuda.get_device_name(device)}"
    model = platform.processor() or platform.machine() or "unknown"
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
        model = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        pass
    return f"{device.type}: {model}, {torch.get_num_threads()} threads"
