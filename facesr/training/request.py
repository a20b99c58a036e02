"""What a command line of ``train`` asks for: runs or a recipe, and whether they are trained or only looked at.

    experiment=NAME KEY=VALUE ...                           one run
    --multirun KEY=A,B ...                                  several
    recipe=NAME KEY=VALUE ... stages.N.KEY=VALUE ...        a chain of runs
    rehearsal=true                                          beside recipe=: every stage tiny, on synthetic pictures
    dry_run=true                                            beside any of them: what it would take; nothing is trained

Nothing here loads torch.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from facesr.build import asked_for
from facesr.config import TrainSettings
from facesr.errors import ConfigError
from facesr.ranges import plain
from facesr.training.recipe import Recipe, compose

_OWN = ("recipe", "rehearsal", "dry_run")
_HELP = {"-h", "--help", "--hydra-help", "--version"}


@dataclass(frozen=True)
class Request:
    """What is to be done.

    Attributes:
        runs: to be trained one after the other; none beside a recipe.
        recipe: to be trained.
        dry_run: whether nothing is trained, and what it would take is told instead.
    """

    runs: tuple[TrainSettings, ...] = ()
    recipe: Recipe | None = None
    dry_run: bool = False


def read_request(arguments: Sequence[str]) -> Request:
    """Returns what a command line asks for; nothing where it asked for --help and the like, which is printed.

    Raises:
        ConfigError: a key or a value is wrong, or keys do not go together.
    """
    own: dict[str, str] = {}
    others: list[str] = []
    for argument in arguments:
        key, equals, value = argument.partition("=")
        if key not in _OWN or not equals:
            others.append(argument)
        elif key in own:
            raise ConfigError(f"{key}= is given twice; give it once.")
        else:
            own[key] = value
    options = {argument.partition("=")[0] for argument in others if argument.startswith("-")}
    dry_run, rehearsal = (_yes(key, own.get(key, "false")) for key in ("dry_run", "rehearsal"))
    if options & _HELP:
        asked_for(others, "train", TrainSettings)
        return Request()
    if "recipe" not in own:
        _check_no_recipe(others, rehearsal)
        return Request(tuple(asked_for(others, "train", TrainSettings)), dry_run=dry_run)
    if options:
        raise ConfigError(
            f"{plain(min(options))} cannot be used with recipe=; dry_run=true shows its settings, and several recipes "
            "are several commands, each with its own runs_dir=FOLDER."
        )
    return Request(recipe=compose(own["recipe"], others, rehearsal), dry_run=dry_run)


def _yes(key: str, text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise ConfigError(f"{key}={plain(text)} has to be true or false.")
    return text.lower() == "true"


def _check_no_recipe(others: Sequence[str], rehearsal: bool) -> None:
    if rehearsal:
        raise ConfigError("rehearsal=true is of a recipe; give recipe=NAME beside it.")
    of_stage = next((word for word in others if word.lstrip("+~").startswith("stages.")), None)
    if of_stage is not None:
        raise ConfigError(f"{plain(of_stage.partition('=')[0])} is a key of a recipe; give recipe=NAME beside it.")
