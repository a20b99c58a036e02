"""The documents' promises: commands that exist and compose, a complete file map, a step that can be followed."""

import re
import shlex
from pathlib import Path

import pytest

from facesr.__main__ import COMMANDS
from facesr.build import known_names, load_settings
from facesr.config import (
    EvaluateSettings,
    FaceGeneratorSettings,
    OpinionSettings,
    RestoreSettings,
    SubmitSettings,
    TrainSettings,
)
from facesr.errors import ConfigError
from facesr.opinion.command import with_dir
from facesr.overrides import combinations
from facesr.restore_photo.command import with_inputs
from facesr.training.request import read_request

ROOT = Path(__file__).resolve().parent.parent
KEYED = {
    "train": ("train", TrainSettings),
    "evaluate": ("evaluate", EvaluateSettings),
    "submit": ("submit", SubmitSettings),
    "face-generator": ("face_generator", FaceGeneratorSettings),
    "restore": ("restore", RestoreSettings),
    "opinion init": ("opinion", OpinionSettings),
}
TOOLS = {"dask", "pytest", "ruff", "mypy", "tensorboard"}
MAX_STEP_FILES = 12
MAX_STEP_LINES = 2100
# A newcomer reads these two first, so they stay short; docs/log.md takes what is left out.
MAX_LINES = {"README.md": 150, "docs/results.md": 150}


def documents() -> list[Path]:
    named = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "data/README.md")]
    return [*named, *sorted((ROOT / "docs").glob("*.md"))]


def linking_documents() -> list[Path]:
    return [*documents(), ROOT / "CHANGELOG.md", ROOT / "facesr" / "pretrained" / "README.md"]


def anchors_of(text: str) -> set[str]:
    """Returns the anchors of a page's headings as GitHub makes them; headings of equal name are numbered from -1 on."""
    anchors: set[str] = set()
    prose = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    for heading in re.findall(r"^#{1,6} +(.*?) *#*$", prose, re.MULTILINE):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "").replace("*", "")
        anchor = re.sub(r"[^\w\- ]", "", plain.lower()).replace(" ", "-")
        repeated, name = 0, anchor
        while name in anchors:
            repeated += 1
            name = f"{anchor}-{repeated}"
        anchors.add(name)
    return anchors


def dead_links(path: Path, text: str) -> list[str]:
    """Returns the links of a page to files and headings that do not exist; addresses are not asked."""
    prose = re.sub(r"`[^`\n]*`", "", re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE))
    dead = []
    for link in re.findall(r"\]\(([^)\s]+)\)", prose):
        if re.match(r"[a-z]+:", link):
            continue
        name, _, anchor = link.partition("#")
        target = path.parent / name
        if name and not target.exists():
            dead.append(link)
            continue
        if anchor and anchor not in anchors_of(target.read_text("utf-8") if name else text):
            dead.append(link)
    return dead


def commands_of(text: str) -> list[str]:
    """Returns the commands in code blocks and in single code spans, continued lines joined."""
    lines: list[str] = []
    blocks = re.findall(r"^```\w*\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    for block in blocks:
        lines += re.sub(r"\\\n *", "", block).splitlines()
    lines += re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE))
    starts = (
        "uv run ",
        "sbatch ",
        *(f"facesr {name}" for name in COMMANDS),
        "python -m facesr",
        "python train.py",
        ".venv/bin/python ",
    )
    return [line.strip() for line in lines if line.strip().startswith(starts)]


def words_of(command: str) -> list[str]:
    """Returns a command's words from the script or tool on; what explains it after wide space is left out."""
    words = shlex.split(re.split(r"\s{3,}", command)[0], comments=True)
    for prefix in (["uv", "run"], [".venv/bin/python"], ["python"]):
        if words[: len(prefix)] == prefix:
            words = words[len(prefix) :]
    # uv's options: a package for this command alone, an extra of this project; none anew.
    while words and words[0] in ("--with", "--extra", "--no-sync"):
        words = words[1 if words[0] == "--no-sync" else 2 :]
    if "--wrap" in words:
        return words_of(words[words.index("--wrap") + 1])
    if words and words[0] == "sbatch":
        script = next(word for word in words if word.endswith(".sbatch"))
        # A job takes what its script takes, and a list of what to score.
        return [script.removeprefix("slurm/").replace(".sbatch", ".py"), *words_behind(words, script)]
    if words and words[0] == "torchrun":
        while not words[0].endswith(".py"):
            words = words[1:]
    return words


def words_behind(words: list[str], script: str) -> list[str]:
    """Returns the KEY=VALUE words behind a script; a missing file stays one that cannot be found."""
    behind = words[words.index(script) + 1 :]
    return [word for word in behind if "=" in word] if (ROOT / script).is_file() else [f"{script}=missing"]


def wrong_with(command: str) -> str | None:
    """Returns why a command cannot work, None where nothing is found; files that it names need not exist."""
    words = [word for word in words_of(command) if "..." not in word]
    first, rest = words[0], words[1:]
    if first in TOOLS:
        return None
    if first == "facesr":
        if not rest or rest[0].startswith("-"):
            return None
        if rest[0] not in COMMANDS:
            return f"{rest[0]} is no command of facesr"
        if rest[0] in KEYED:
            return wrong_with_keys(rest[0], rest[1:])
        if " ".join(rest[:2]) in KEYED:
            return wrong_with_keys(" ".join(rest[:2]), rest[2:])
        module, options = ROOT / (COMMANDS[rest[0]][0].replace(".", "/") + ".py"), rest[1:]
    elif first == "-m":
        module, options = ROOT / (rest[0].replace(".", "/") + ".py"), rest[1:]
    else:
        module, options = ROOT / first, rest
    if not module.is_file():
        return f"{module.relative_to(ROOT)} does not exist"
    if first.removesuffix(".py") in KEYED:
        return wrong_with_keys(first.removesuffix(".py"), options)
    source = module.read_text(encoding="utf-8")
    # Commands of one folder share options.
    folder = ".".join(module.parent.relative_to(ROOT).parts)
    shared = [path for path in module.parent.glob("*.py") if f"from {folder}.{path.stem} import" in source]
    source += "".join(path.read_text(encoding="utf-8") for path in shared)
    unknown = [option for option in options if option.startswith("--") and f'"{option.split("=")[0]}"' not in source]
    return f"{unknown[0]} is no option of {module.name}" if unknown else None


def wrong_with_keys(command: str, options: list[str]) -> str | None:
    """Returns why a command that takes KEY=VALUE cannot work."""
    overrides = [option for option in options if not option.startswith("--")]
    if command == "restore":
        overrides = with_inputs(overrides)
    elif command == "opinion init":
        overrides = with_dir(overrides)
    config_name, schema = KEYED[command]
    try:
        if command == "train" and any(word.startswith(("recipe=", "dry_run=")) for word in overrides):
            read_request(options)
            return None
        for one in combinations(overrides) if "--multirun" in options else [overrides]:
            load_settings(config_name, schema, one)
    except ConfigError as error:
        return str(error)
    return None


ALL = sorted(
    {
        (path.relative_to(ROOT).as_posix(), command)
        for path in documents()
        for command in commands_of(path.read_text("utf-8"))
    }
)


def parts_of(command: str) -> set[str]:
    """Returns what a command is made of: its script, the keys that it sets, and the options that it chooses."""
    first, *rest = words_of(command)
    chosen = {word for word in rest if "@" in word or known_names(word.lstrip("+~").partition("=")[0])}
    return {first, *chosen, *(word.partition("=")[0] for word in rest)}


def costly(command: str) -> bool:
    """Returns whether a command's settings are composed, which takes a tenth of a second."""
    words = words_of(command)
    return words[0].removesuffix(".py") in KEYED or (words[0] == "facesr" and not KEYED.keys().isdisjoint(words[1:2]))


def repeating() -> set[tuple[str, str]]:
    """Returns the costly commands that are made of nothing but what others, longer ones, show to work."""
    seen: set[str] = set()
    found = set()
    for one in sorted(filter(lambda one: costly(one[1]), ALL), key=lambda one: (-len(parts_of(one[1])), one)):
        if parts_of(one[1]) <= seen:
            found.add(one)
        seen |= parts_of(one[1])
    return found


# What only puts known parts together in another way is left to the slow tests, except on the two front pages.
LATER = {one for one in repeating() if one[0] not in ("README.md", "CONTRIBUTING.md")}


@pytest.mark.parametrize(
    ("name", "command"),
    [
        pytest.param(*one, id=f"{one[0]}-{number}", marks=[pytest.mark.slow] if one in LATER else [])
        for number, one in enumerate(ALL)
    ],
)
def test_a_documents_command_can_work(name: str, command: str) -> None:
    assert wrong_with(command) is None, f"{name}: {command}"


@pytest.mark.parametrize(
    "command",
    [
        "uv run train.py experiment=nothing",
        "uv run train.py batch_sise=3",
        "uv run train.py recipe=nothing",
        "uv run facesr face-generator generator=facesr",
        "uv run torchrun --nproc-per-node 2 train.py generator=nothing",
        "uv run submit.py checkpont=runs/x",
        "uv run nothing.py",
        "sbatch --nodes=2 slurm/train.sbatch batch_sise=3",
        "sbatch slurm/nothing.sbatch",
        "uv run facesr nothing a b",
        "uv run facesr prepare a b --crops ffhq",
        "uv run facesr opinion init a foldrs=[b]",
        "uv run benchmarks/submission.py --picture 3",
    ],
)
def test_a_command_that_cannot_work_is_found(command: str) -> None:
    assert wrong_with(command) is not None


def test_commands_are_found_in_blocks_and_spans() -> None:
    text = "Say `uv run pytest`, or\n\n```\nuv run train.py   the default\nuv run submit.py a=1 \\\n    b=2\n```\n"
    assert [words_of(command) for command in commands_of(text)] == [
        ["train.py"],
        ["submit.py", "a=1", "b=2"],
        ["pytest"],
    ]


def test_readme_opens_with_the_two_commands() -> None:
    assert commands_of((ROOT / "README.md").read_text("utf-8"))[:2] == ["uv run train.py", "uv run pytest"]


@pytest.mark.parametrize("path", linking_documents(), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_no_link_is_dead(path: Path) -> None:
    assert dead_links(path, path.read_text("utf-8")) == []


@pytest.mark.parametrize(
    ("link", "dead"),
    [
        ("docs/results.md", False),
        ("docs/results.md#robustness", False),
        ("#a-heading-of-its-own-24x28", False),
        ("https://example.org/nothing#there", False),
        ("docs/nothing.md", True),
        ("docs/images/nothing.png", True),
        ("docs/results.md#nothing", True),
        ("#robustness", True),
    ],
)
def test_a_dead_link_is_found(link: str, dead: bool) -> None:
    text = f"# A page\n\n## A `heading` of its own: 24x28\n\nSee [there]({link}), and `code[0](x)`.\n"
    assert dead_links(ROOT / "PAGE.md", text) == ([link] if dead else [])


def test_headings_of_equal_name_have_anchors_of_their_own() -> None:
    assert anchors_of("# One\n\n## One\n\n## `Two` of [them](x.md)\n") == {"one", "one-1", "two-of-them"}


@pytest.mark.parametrize("name", MAX_LINES)
def test_a_document_keeps_its_limit(name: str) -> None:
    lines = len((ROOT / name).read_text("utf-8").splitlines())
    assert lines <= MAX_LINES[name], f"{name} has {lines} lines; what is no front page belongs into docs/"


def test_architecture_maps_every_module() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text("utf-8")
    modules = [path.relative_to(ROOT / "facesr").with_suffix("") for path in (ROOT / "facesr").rglob("*.py")]
    names = sorted(path.as_posix() for path in modules if path.name != "__init__")
    mapped = re.findall(r"^\| `([\w/]+)` \|", text, re.MULTILINE)
    assert sorted(mapped) == names, "docs/architecture.md names every module once"


def test_contributing_names_every_benchmark() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
    named = re.findall(r"^\| `uv run [^`]*?benchmarks/(\w+)\.py", text, re.MULTILINE)
    programs = [path.stem for path in (ROOT / "benchmarks").glob("*.py") if "__main__" in path.read_text("utf-8")]
    assert sorted(named) == sorted(programs)


@pytest.mark.parametrize(
    ("name", "key", "group"),
    [
        ("training.md", "experiment", "experiment"),
        ("training.md", "recipe", "recipe"),
        ("judges.md", "embedder", "embedder"),
        ("pulse.md", "generator", "latent_generator"),
    ],
)
def test_a_table_of_choices_names_every_one(name: str, key: str, group: str) -> None:
    text = (ROOT / "docs" / name).read_text("utf-8")
    (table,) = re.findall(rf"^\| `{key}=` \|.*\n\|[-|]+\n((?:\|.*\n)+)", text, re.MULTILINE)
    listed = [
        word for cell in re.findall(r"^\| ([^|]*) \|", table, re.MULTILINE) for word in re.findall(r"`(\w+)`", cell)
    ]
    assert sorted(listed) == known_names(group)


def test_changelog_states_every_metrics_version() -> None:
    text = (ROOT / "CHANGELOG.md").read_text("utf-8")
    newest = dict(re.findall(r"^\|[^|]*\| `([\w/<>]+)` \| (\d+) \|$", text, re.MULTILINE))
    for path in sorted((ROOT / "facesr" / "metrics").rglob("*.py")):
        source = path.read_text("utf-8")
        names = re.findall(r'^ +(?:self\.)?name = f?"([\w/]+)', source, re.MULTILINE)
        versions = re.findall(r"^    version = (\d+)", source, re.MULTILINE)
        assert len(names) == len(versions), path
        for name, version in zip(names, versions, strict=True):
            key = "is/<judge>" if name == "is/" else name
            assert newest.get(key) == version, f"CHANGELOG.md, Scores: {key} has version {version}"


def test_one_training_step_can_be_followed() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
    section = text.split("### One GAN training step")[1].split("###")[0]
    rows = {name: int(lines) for name, lines in re.findall(r"^\| `([\w./]+\.py)` \| (\d+) \|", section, re.MULTILINE)}
    lines = {name: len((ROOT / name).read_text("utf-8").splitlines()) for name in rows}
    assert 0 < len(rows) <= MAX_STEP_FILES
    assert sum(lines.values()) <= MAX_STEP_LINES
    assert f"{sum(rows.values())} lines" in section
    # The figures in the table may lag behind by a few lines, not by a rewrite.
    assert all(abs(lines[name] - rows[name]) <= 15 for name in rows), lines
