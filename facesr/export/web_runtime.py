"""onnxruntime-web, which runs a network in a browser: where it comes from, and that it is what is expected.

It is no part of this package. It comes from npm, of one version; every file of it that is used has a known size and
sha256, so that it does not matter by which way it came.
"""

import contextlib
import hashlib
import io
import os
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import onnxruntime

from facesr.errors import ConfigError, WeightsError
from facesr.files import write_bytes
from facesr.names import shown_path
from facesr.weights import cache_dir

PACKAGE, VERSION = "onnxruntime-web", "1.30.0"
_NPM_SECONDS = 300
# Of the package as `npm pack` writes it, which is as npm has it. Its sha512 is the one that npm states.
_TGZ_BYTES, _TGZ_SHA256 = 33106585, "d2228df7e4616bc3348bf504ee888f3bec43789a273f0a63f3e68d203ce3bf71"
# The package has no licence file; the Python package of the same project has.
LICENCES = {"LICENSE": "LICENSE.txt", "ThirdPartyNotices.txt": "ThirdPartyNotices.txt"}


@dataclass(frozen=True)
class _File:
    """A file of the package: its name on the page, size and sha256."""

    name: str
    num_bytes: int
    sha256: str


# The module with its loader inside (one thread, no WebGPU), and the program. Source: onnxruntime-web 1.30.0 of npm.
_FILES = {
    "dist/ort.wasm.bundle.min.mjs": _File(
        # Not every web server knows what .mjs is.
        "ort.js", 73054, "11e64bd8ffe11bd1a2a2f0d6275fdfbbba7262f0b76b99b53d228a8a22ef3d90"
    ),
    "dist/ort-wasm-simd-threaded.wasm": _File(
        "ort.wasm", 14239897, "3398c10d07d229bd91b364548e130e0e51a8e5704b88c7c083ebbeb78842dee2"
    ),
}  # fmt: skip
_ADVICE = (
    f"fetch it where there is a network with: npm pack {PACKAGE}@{VERSION}, and give --runtime {PACKAGE}-{VERSION}.tgz."
)


def runtime_files(runtime: Path | None = None) -> dict[str, bytes]:
    """Returns what a page needs of onnxruntime-web, by name, with the licence of ONNX Runtime.

    Args:
        runtime: a folder or .tgz of the npm package; by default what an earlier call has kept in the cache, else npm
            fetches it.

    Raises:
        ConfigError: `runtime` is not that package of that version.
        WeightsError: npm cannot fetch it, or may not.
    """
    found = _from_user(runtime) if runtime is not None else _kept() or _fetched()
    return found | _licences()


def _from_user(runtime: Path) -> dict[str, bytes]:
    place = shown_path(runtime)
    if runtime.is_dir():
        return _checked(lambda name, size: _first_bytes(runtime / name, size), place)
    if not runtime.is_file():
        raise ConfigError(f"--runtime {place} is no folder and no file; {_ADVICE}")
    return _from_tgz(runtime)


def _first_bytes(path: Path, size: int) -> bytes | None:
    """Returns at most so many bytes of a file; None where it cannot be read."""
    try:
        if not path.is_file():
            return None
        with path.open("rb") as file:
            return file.read(size)
    except OSError:
        return None


def _from_tgz(path: Path) -> dict[str, bytes]:
    """Returns the files of a package from anybody: only what is npm's to the last byte is opened."""
    place = shown_path(path)
    data = _first_bytes(path, _TGZ_BYTES + 1)
    if data is None or hashlib.sha256(data).hexdigest() != _TGZ_SHA256:
        raise ConfigError(f"--runtime {place} is not {PACKAGE} {VERSION} as npm has it; {_ADVICE}")
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:gz") as archive:

        def read(name: str, size: int) -> bytes:
            file = archive.extractfile(f"package/{name}")
            assert file is not None
            return file.read(size)

        return _checked(read, place)


def _checked(read: Callable[[str, int], bytes | None], place: str) -> dict[str, bytes]:
    """Returns the files under the names that they get, when they are what they have to be.

    Args:
        read: gives at most so many bytes of a file of the package, None where it is not there.
        place: where they come from, for errors.

    Raises:
        ConfigError: one is missing or another one.
    """
    found = {}
    for name, known in _FILES.items():
        data = read(name, known.num_bytes + 1)
        if data is None:
            raise ConfigError(f"--runtime {place} has no {name}, so it is no npm package {PACKAGE}; {_ADVICE}")
        if hashlib.sha256(data).hexdigest() != known.sha256:
            raise ConfigError(f"{name} in --runtime {place} is not that of {PACKAGE} {VERSION}; {_ADVICE}")
        found[known.name] = data
    return found


def _cache() -> Path:
    return cache_dir() / f"{PACKAGE}-{VERSION}"


def _kept() -> dict[str, bytes] | None:
    """Returns what an earlier call has kept; None where something is missing or damaged."""
    try:
        return _checked(lambda name, size: _first_bytes(_cache() / name, size), "")
    except ConfigError:
        return None


def _fetched() -> dict[str, bytes]:
    npm = shutil.which("npm")
    if os.environ.get("FACESR_OFFLINE") or npm is None:
        reason = "npm is not installed" if npm is None else "FACESR_OFFLINE is set"
        raise WeightsError(f"a web page needs {PACKAGE} {VERSION}, and {reason}; {_ADVICE}")
    with tempfile.TemporaryDirectory() as folder:
        command = [npm, "pack", "--ignore-scripts", "--silent", "--fetch-retries=1", f"{PACKAGE}@{VERSION}"]
        try:
            # In an empty folder, so that no project's settings count.
            done = subprocess.run(
                command, cwd=folder, capture_output=True, text=True, timeout=_NPM_SECONDS, check=False,
                stdin=subprocess.DEVNULL,
            )  # fmt: skip
        except (OSError, subprocess.TimeoutExpired):
            done = None
        archive = Path(folder) / f"{PACKAGE}-{VERSION}.tgz"
        if done is None or done.returncode or not archive.is_file():
            raise WeightsError(f"npm could not fetch {PACKAGE} {VERSION}; {_ADVICE}")
        found = _from_tgz(archive)
    _keep(found)
    return found


def _keep(found: Mapping[str, bytes]) -> None:
    # What cannot be kept is fetched again.
    with contextlib.suppress(Exception):
        for name, known in _FILES.items():
            write_bytes(_cache() / name, found[known.name])


def _licences() -> dict[str, bytes]:
    folder = Path(onnxruntime.__file__).parent
    try:
        return {name: (folder / source).read_bytes() for source, name in LICENCES.items()}
    except OSError as error:
        raise WeightsError(
            f"{error.filename} cannot be read, and the licence of ONNX Runtime has to go with it; install onnxruntime "
            "again."
        ) from error
