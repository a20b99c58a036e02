"""The shape of the project: imports go down only, doors stay doors, and what is named exists.

CONTRIBUTING.md says why; this file keeps it so. A new module gets its floor in FLOORS below.
"""

import ast
import functools
import graphlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "facesr"
SCRIPTS = [ROOT / name for name in ("train.py", "evaluate.py", "submit.py")]

# Units of the package by floor. A unit imports itself and lower floors; only ground modules import each other.
FLOORS: dict[str, int] = {
    **dict.fromkeys(("attempts", "draws", "signals", "lost_rank"), 0),
    **dict.fromkeys(("errors", "protocols", "config", "files", "names", "task", "png", "image", "resample"), 0),
    **dict.fromkeys(
        ("degradation", "facenet_package", "faults", "tiles", "places", "guard", "onnx_nodes", "onnx_writer"), 0
    ),
    **dict.fromkeys(("ranks", "dist", "gradients", "weights", "log", "energy", "power", "processes"), 0),
    **dict.fromkeys(("ranges", "settings", "hydra_words", "overrides", "arguments"), 0),
    **dict.fromkeys(("build", "photos", "models", "web"), 1),
    **dict.fromkeys(("data", "losses", "embedders", "metrics", "figures", "script"), 2),
    "snapshots": 3,
    "methods": 4,
    **dict.fromkeys(("training", "submission", "export", "clips"), 5),
    "evaluation": 6,
    "restore_photo": 7,
    "api": 7,
    "leaderboard": 7,
    "opinion": 7,
    "__main__": 9,
}
HYDRA_DOORS = {PACKAGE / "build.py", PACKAGE / "overrides.py"}
RANK_DOORS = {PACKAGE / "dist.py"}
MAX_LINES = 400
MAX_TEST_LINES = 500


def sources(*folders: str) -> list[Path]:
    """Returns the Python files of folders of the project, sorted; "." gives the scripts beside README.md."""
    found: list[Path] = []
    for folder in folders:
        found += (ROOT / folder).glob("*.py") if folder == "." else (ROOT / folder).rglob("*.py")
    return sorted(found)


def everything() -> list[Path]:
    return sources("facesr", ".", "benchmarks", "tests")


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@functools.cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@functools.cache
def imported(tree: ast.Module) -> tuple[str, ...]:
    """Returns the dotted name of everything that a file imports, inside functions too."""
    names: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are written in full"
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    return tuple(names)


def unit_of(dotted: str) -> str | None:
    """Returns the unit of a name of the package (``facesr.data.feed`` -> ``data``), None for the package itself."""
    parts = dotted.split(".")
    is_inside = parts[0] == "facesr" and len(parts) > 1 and (parts[1] == "__main__" or not parts[1].startswith("__"))
    return parts[1] if is_inside else None


def wrong_imports(unit: str, tree: ast.Module) -> list[str]:
    """Returns what a file of `unit` imports although it lies on the same floor or above."""
    wrong = []
    for name in imported(tree):
        other = unit_of(name)
        if other is None or other == unit:
            continue
        ground = FLOORS[unit] == FLOORS[other] == 0
        if not ground and FLOORS[other] >= FLOORS[unit]:
            wrong.append(name)
    return wrong


@functools.cache
def names_used(tree: ast.Module) -> set[str]:
    """Returns imported names and dotted accesses, so that ``torch.distributed`` is found however it is reached."""
    names = set(imported(tree))
    for node in ast.walk(tree):
        parts: list[str] = []
        inner: ast.AST = node
        while isinstance(inner, ast.Attribute):
            parts.insert(0, inner.attr)
            inner = inner.value
        if parts and isinstance(inner, ast.Name):
            names.add(".".join([inner.id, *parts]))
    return names


def uses(tree: ast.Module, *roots: str) -> bool:
    return any(name == root or name.startswith(f"{root}.") for name in names_used(tree) for root in roots)


# Floors


def test_every_unit_has_a_floor() -> None:
    units = {path.stem for path in PACKAGE.glob("*.py")} | {
        path.name for path in PACKAGE.iterdir() if any(path.glob("*.py"))
    }
    assert units - {"__init__"} <= set(FLOORS), "give the new unit its floor at the top of this file"


def test_imports_go_down_only() -> None:
    wrong = []
    for path in sources("facesr"):
        unit, tree = unit_of(module_name(path)), tree_of(path)
        # The package itself, facesr/__init__.py, imports what it offers, when that is asked for.
        found = (
            wrong_imports(unit, tree)
            if unit
            else [name for name in imported(tree) if unit_of(name) not in ("api", None)]
        )
        wrong += [f"{relative(path)}: {name}" for name in found]
    assert wrong == []


def test_an_import_upwards_or_sideways_is_found() -> None:
    sideways = ast.parse("def load():\n    from facesr.losses import pixel\n")
    assert wrong_imports("data", sideways) == ["facesr.losses.pixel"]
    assert wrong_imports("training", sideways) == []
    assert wrong_imports("training", ast.parse("import facesr.submission.verify")) == ["facesr.submission.verify"]
    assert wrong_imports("image", ast.parse("from facesr import build, errors")) == ["facesr.build"]


def test_no_module_waits_for_itself() -> None:
    modules = {module_name(path): tree_of(path) for path in sources("facesr")}
    graph: dict[str, set[str]] = {}
    for name, tree in modules.items():
        # What is imported from a module may be a module itself or a name inside it.
        targets = {target if target in modules else target.rpartition(".")[0] for target in imported(tree)}
        graph[name] = {target for target in targets if target in modules and target != name}
    graphlib.TopologicalSorter(graph).prepare()


# Doors


def test_hydra_stops_at_the_door() -> None:
    users = {path for path in sources("facesr", ".", "benchmarks") if uses(tree_of(path), "hydra", "omegaconf")}
    assert users <= HYDRA_DOORS
    assert PACKAGE / "build.py" in users


def test_ranks_are_known_in_one_module() -> None:
    users = {path for path in sources("facesr", ".", "benchmarks") if uses(tree_of(path), "torch.distributed")}
    assert users == RANK_DOORS


@pytest.mark.parametrize(
    "text",
    ["import torch.distributed as td", "from torch import distributed", "import torch\ntorch.distributed.barrier()"],
)
def test_every_way_to_the_ranks_is_found(text: str) -> None:
    assert uses(ast.parse(text), "torch.distributed")


# Form


@pytest.mark.parametrize("folder", ["facesr", ".", "benchmarks", "tests", "configs", ".ci"])
def test_sources_are_ascii(folder: str) -> None:
    endings = {".py", ".yaml", ".toml", ""}
    entries = (ROOT / folder).glob("*") if folder == "." else (ROOT / folder).rglob("*")
    files = [path for path in entries if path.is_file() and path.suffix in endings and not path.name.startswith(".")]
    assert [relative(path) for path in files if not path.read_bytes().isascii()] == []


def test_files_can_be_read_in_one_sitting() -> None:
    lines = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in everything()}
    limits = {path: MAX_TEST_LINES if path.is_relative_to(ROOT / "tests") else MAX_LINES for path in lines}
    assert [f"{relative(path)}: {lines[path]}" for path in lines if lines[path] > limits[path]] == []


def test_every_file_opens_with_what_it_is() -> None:
    assert [relative(path) for path in everything() if not ast.get_docstring(tree_of(path))] == []


def public_definitions(body: list[ast.stmt], prefix: str = "") -> Iterator[tuple[str, ast.AST]]:
    """Yields public functions, classes and methods by name."""
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            yield prefix + node.name, node
            if isinstance(node, ast.ClassDef):
                yield from public_definitions(node.body, f"{prefix}{node.name}.")


def test_everything_public_is_explained() -> None:
    silent = [
        f"{relative(path)}: {name}"
        for path in sources("facesr", ".")
        for name, node in public_definitions(tree_of(path).body)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and not ast.get_docstring(node)
    ]
    assert silent == []


# Names that are promised


def bound_names(tree: ast.Module) -> set[str]:
    """Returns the names that a module binds at its top level."""
    names: set[str] = set()
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names |= {alias.asname or alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names |= {inner.id for target in targets for inner in ast.walk(target) if isinstance(inner, ast.Name)}
    return names


def exists(dotted: str) -> bool:
    """Returns whether a dotted name of the package is a module, or bound in one; nothing is imported."""
    parts = dotted.split(".")
    for length in range(len(parts), 0, -1):
        folder = ROOT.joinpath(*parts[:length])
        path = folder.with_suffix(".py") if folder.with_suffix(".py").is_file() else folder / "__init__.py"
        if path.is_file():
            return length == len(parts) or parts[length] in bound_names(tree_of(path))
    return False


def test_existing_names_are_told_from_others() -> None:
    assert exists("facesr")
    assert exists("facesr.models.srresnet")
    assert exists("facesr.models.srresnet.SRResNet")
    assert not exists("facesr.models.srresnet.SrResNet")
    assert not exists("facesr.models.nothing")


def exported(tree: ast.Module) -> list[str]:
    """Returns the names in ``__all__``, none where there is no such list."""
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return [str(name) for name in ast.literal_eval(node.value)]
    return []


def test_exported_names_exist() -> None:
    trees = {relative(path): tree_of(path) for path in sources("facesr")}
    # facesr/__init__.py hands out what facesr.api defines, when it is asked for; tests/test_api.py asks.
    trees.pop("facesr/__init__.py")
    missing = {name: set(exported(tree)) - bound_names(tree) for name, tree in trees.items()}
    assert {name: names for name, names in missing.items() if names} == {}
    assert exported(trees["facesr/metrics/__init__.py"])


def test_configurations_name_things_that_exist() -> None:
    targets = {
        (relative(path), found)
        for path in (ROOT / "configs").rglob("*.yaml")
        for found in re.findall(r"_target_:\s*([\w.]+)", path.read_text())
    }
    assert len(targets) > 20
    own = [pair for pair in sorted(targets) if pair[1].startswith("facesr.")]
    assert [pair for pair in own if not exists(pair[1])] == []
    others = {name for _, name in targets} - {name for _, name in own}
    assert [name for name in others if not hasattr(torch.optim, name.removeprefix("torch.optim."))] == []


def documents() -> list[Path]:
    return [path for path in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")] if path.name != "CHANGELOG.md"]


def test_documents_name_files_that_exist() -> None:
    pattern = re.compile(r"\b(?:facesr|configs|tests|benchmarks|docs)/[\w./-]*\.(?:py|yaml|md|json)\b")
    # docs/extending.md names the files that its reader adds; tests/test_extending.py adds them.
    told = [path for path in documents() if path.name != "extending.md"]
    named = {(relative(path), name) for path in told for name in pattern.findall(path.read_text("utf-8"))}
    assert [pair for pair in sorted(named) if not (ROOT / pair[1]).exists()] == []


def test_documents_and_docstrings_name_commands_that_exist() -> None:
    named = {
        (relative(path), name)
        for path in [*documents(), *sources("facesr", ".", "benchmarks")]
        for name in re.findall(r"python -m (facesr[\w.]+)", path.read_text("utf-8"))
    }
    assert [pair for pair in sorted(named) if not exists(pair[1].rstrip("."))] == []
