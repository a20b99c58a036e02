"""Recipes: runs that start from each other, one file of configs/recipe/ each, composed before any of them starts.

A recipe is a list of stages, each an experiment with overrides of its own. A stage starts from the best snapshot of the
one before.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from facesr.build import known_names, load_group, load_settings
from facesr.config import TrainSettings
from facesr.errors import ConfigError
from facesr.hydra_words import unknown_choice
from facesr.ranges import plain
from facesr.training.rehearsal import rehearsal_of

# Of all stages together, or of the recipe itself; none of them can be given to one stage.
WHOLE_KEYS = ("device", "runs_dir", "experiment")
_OF_STAGE = re.compile(r"([+~]*)stages\.([^.=]*)\.?(.*)", re.DOTALL)


@dataclass(frozen=True)
class Stage:
    """One run of a recipe.

    Attributes:
        number: from 1 on.
        count: stages of the recipe.
        settings: of the run.
    """

    number: int
    count: int
    settings: TrainSettings

    @property
    def label(self) -> str:
        """What users see of it."""
        return f"stage {self.number} of {self.count}: {self.settings.name}"


@dataclass(frozen=True)
class Recipe:
    """A chain of runs.

    Attributes:
        name: of its file.
        stages: in order; each starts from the best snapshot of the one before.
    """

    name: str
    stages: tuple[Stage, ...]


def compose(name: str, given: Sequence[str] = (), rehearsal: bool = False) -> Recipe:
    """Returns a recipe with every stage's settings composed and checked as those of a single run are.

    Args:
        name: of configs/recipe/NAME.yaml.
        given: ``KEY=VALUE`` for all stages, ``stages.N.KEY=VALUE`` for one.
        rehearsal: whether all stages are made tiny, under names of their own.

    Raises:
        ConfigError: there is no such recipe, its file is wrong, or a key does not fit; the stage is named.
    """
    if name not in known_names("recipe"):
        raise ConfigError(unknown_choice("recipe", name, known_names("recipe")))
    planned = _planned(name, load_group("recipe", name))
    of_all, of_one = _shared_out(given, len(planned))
    stages: list[Stage] = []
    for number, (experiment, overrides) in enumerate(planned, 1):
        where = f"stage {number} of {len(planned)} ({experiment})"
        own = [f"experiment={experiment}", *overrides]
        if rehearsal:
            own += rehearsal_of(_composed(own, where))
        settings = _composed(own, where, of_all, of_one.get(number, []))
        if stages:
            before = stages[-1].settings
            settings = replace(settings, start_from=f"{before.runs_dir}/{before.name}/snapshots/best.safetensors")
        twin = next((stage for stage in stages if stage.settings.name == settings.name), None)
        if twin is not None:
            raise ConfigError(
                f"stages {twin.number} and {number} are both called {plain(settings.name)}, and would be one run; "
                f"give stages.{number}.name=NAME."
            )
        stages.append(Stage(number, len(planned), settings))
    return Recipe(name, tuple(stages))


def _planned(name: str, node: Mapping[str, Any]) -> list[tuple[str, list[str]]]:
    """Returns the experiment and the overrides of each stage of a recipe's file."""
    file = f"configs/recipe/{name}.yaml"
    stages = node.get("stages")
    if set(node) != {"stages"} or not isinstance(stages, list) or not stages:
        raise ConfigError(f"{file} has to hold `stages:` and nothing else, a list of one stage or more.")
    planned: list[tuple[str, list[str]]] = []
    for number, stage in enumerate(stages, 1):
        known = isinstance(stage, Mapping) and set(stage) <= {"experiment", "overrides"} and "experiment" in stage
        overrides = stage.get("overrides", []) if known else None
        if not isinstance(overrides, list) or not all(isinstance(one, str) for one in overrides):
            raise ConfigError(
                f"{file}: stage {number} has to be `experiment: NAME` and, if any, `overrides: [KEY=VALUE]`."
            )
        planned.append((str(stage["experiment"]), overrides))
    return planned


def _shared_out(given: Sequence[str], count: int) -> tuple[list[str], dict[int, list[str]]]:
    """Returns the overrides for all stages, and those of single ones by their number."""
    of_all: list[str] = []
    of_one: dict[int, list[str]] = {}
    for override in given:
        key = override.partition("=")[0].lstrip("+~")
        found = _OF_STAGE.fullmatch(override)
        if found is None:
            _check_of_all(key)
            of_all.append(override)
            continue
        sign, number, rest = found.groups()
        if number not in map(str, range(1, count + 1)) or not rest.partition("=")[0]:
            raise ConfigError(f"{plain(key)} names no stage: give stages.N.KEY=VALUE, N from 1 to {count}.")
        inner = rest.partition("=")[0]
        if inner in WHOLE_KEYS:
            raise ConfigError(f"{plain(key)} cannot be of one stage; {_whole(inner)}")
        if inner == "start_from" and number != "1":
            raise ConfigError(f"{plain(key)}: a stage starts from the one before; leave the key out.")
        of_one.setdefault(int(number), []).append(f"{sign}{rest}")
    return of_all, of_one


def _whole(key: str) -> str:
    if key == "experiment":
        return "the recipe says which experiments are run; leave the key out."
    return f"give {key}=VALUE for the whole recipe."


def _check_of_all(key: str) -> None:
    """Raises ConfigError for a key that not all stages can have alike."""
    if key == "experiment":
        raise ConfigError(f"experiment= cannot stand beside recipe=: {_whole(key)}")
    if key == "name":
        raise ConfigError(
            "name= would make all stages of the recipe one run; give another runs_dir=FOLDER, or stages.N.name=NAME."
        )
    if key == "start_from":
        raise ConfigError(
            "start_from= is of the first stage, the others start from the one before; give stages.1.start_from=VALUE."
        )


def _composed(own: Sequence[str], where: str, of_all: Sequence[str] = (), of_one: Sequence[str] = ()) -> TrainSettings:
    """Returns a stage's settings, later overrides over earlier ones; what is wrong is told with the stage.

    Args:
        own: what the recipe says.
        where: what users see of the stage.
        of_all: what the user says of all stages.
        of_one: what the user says of this one.
    """
    try:
        return load_settings("train", TrainSettings, [*own, *of_all, *of_one])
    except ConfigError as error:
        advice = " To give a key to one stage alone, write stages.N.KEY=VALUE." if of_all else ""
        raise ConfigError(f"{where}: {error}{advice}") from error
