"""The modules of the package that a search may run, found from their imports, and their digest.

A kept result is the answer of this code; whatever its pixels depend on is imported, directly or on the way, by a
module of `facesr.methods.pulse`. Reading the imports, instead of a list by hand, keeps the digest whole when modules
move.
"""

import ast
import functools
import hashlib
from collections.abc import Iterator
from pathlib import Path

import torch

PACKAGE_DIR = Path(__file__).resolve().parents[2]


def modules_behind(folder: str, package: Path = PACKAGE_DIR) -> list[Path]:
    """Returns the package's files that the modules of one of its folders import, themselves included, sorted.

    Imports inside functions count, and so do the ``__init__`` of every package on the way.
    """
    waiting = sorted((package / folder).glob("*.py"))
    found: set[Path] = set()
    while waiting:
        path = waiting.pop()
        if path in found:
            continue
        found.add(path)
        # The package's own __init__ names what it offers to Python programs; it imports that only when asked for it.
        names = () if path == package / "__init__.py" else _imported(path)
        for name in names:
            waiting += _files_of(name, package)
    return sorted(found)


def _imported(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_bytes(), str(path))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            # What is imported from a package may be a module itself.
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _files_of(dotted: str, package: Path) -> Iterator[Path]:
    """Yields the files that Python runs for a dotted name: its packages' and, where it is one, the module's own."""
    first, *parts = dotted.split(".")
    if first != package.name:
        return
    for length in range(len(parts) + 1):
        place = package.joinpath(*parts[:length])
        yield from (path for path in (place / "__init__.py", place.with_suffix(".py")) if path.is_file())


def digest_of(paths: list[Path], package: Path = PACKAGE_DIR) -> str:
    """Returns the digest of files of the package, names and contents, and of torch's version."""
    digest = hashlib.sha256(str(torch.__version__).encode())
    for path in paths:
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        digest.update(f"{path.relative_to(package).as_posix()}\0{content}\n".encode())
    return digest.hexdigest()


@functools.cache
def search_code_sha256() -> str:
    """Returns the digest of everything in the package that may move a pixel of a search."""
    return digest_of(modules_behind("methods/pulse"))
