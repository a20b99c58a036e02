"""The digest of the code behind a search: a change of whatever its pixels depend on moves it."""

import shutil
from pathlib import Path

import pytest

from facesr.methods.pulse.code import PACKAGE_DIR, digest_of, modules_behind

# What restores, downscales, rounds, crops, or is searched; the list only has to be part of what is found.
DECIDING = [
    *("models/style_generator.py", "models/style_layers.py", "image.py", "task.py", "resample.py", "weights.py"),
    *("photos/crop.py", "methods/pulse/search.py", "methods/pulse/operator.py", "methods/pulse/eigenfaces.py"),
    *("methods/pulse/__init__.py", "methods/method.py", "__init__.py", "models/__init__.py"),
]


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("code") / "facesr"
    shutil.copytree(PACKAGE_DIR, folder, ignore=shutil.ignore_patterns("*.safetensors", "__pycache__", "*.onnx"))
    return folder


@pytest.fixture(scope="module")
def found(package: Path) -> list[Path]:
    return modules_behind("methods/pulse", package)


@pytest.mark.parametrize("name", DECIDING)
def test_one_byte_of_what_decides_pixels_moves_the_digest(package: Path, found: list[Path], name: str) -> None:
    path, before = package / name, digest_of(found, package)
    content = path.read_bytes()
    path.write_bytes(content + b"#")
    changed = digest_of(found, package)
    path.write_bytes(content)
    assert changed != before == digest_of(found, package)


def test_what_no_search_runs_is_not_in_it(package: Path, found: list[Path]) -> None:
    names = [path.relative_to(package).as_posix() for path in found]
    assert not [name for name in names if name.startswith(("training/", "evaluation/", "submission/"))]


def test_imports_are_found_in_every_form(tmp_path: Path) -> None:
    package = tmp_path / "facesr"
    texts = {
        "__init__.py": "",
        "latent/__init__.py": "",
        "latent/a.py": "import facesr.one\nimport numpy\ndef late():\n    from facesr.sub import two\n",
        "one.py": "from facesr.sub.three import name, other\n",
        "sub/__init__.py": "",
        "sub/two.py": "import facesr.latent.a\n",
        "sub/three.py": "name = other = 1\n",
        "sub/unused.py": "",
    }
    for name, text in texts.items():
        (package / name).parent.mkdir(parents=True, exist_ok=True)
        (package / name).write_text(text)
    found = [path.relative_to(package).as_posix() for path in modules_behind("latent", package)]
    assert found == sorted(set(texts) - {"sub/unused.py"})
