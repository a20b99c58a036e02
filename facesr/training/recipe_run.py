"""Training a recipe: every stage checked first, then one after the other; the same command goes on where it stopped.

How long the whole takes is told from the stage that runs: a later stage's image counts as many times as long as its
generator has more multiply-accumulates a face. What a stage has besides (a recogniser in its loss, a discriminator,
validation) is left out until it runs itself.
"""

from collections.abc import Mapping, Sequence
from functools import partial

from facesr import dist
from facesr.errors import EXIT_REQUEUE
from facesr.log import Console, shown_kimg
from facesr.signals import requests
from facesr.snapshots.snapshot import BEST
from facesr.training.loop import train
from facesr.training.outcome import score_line
from facesr.training.recipe import Recipe, Stage
from facesr.training.recipe_check import check_stages
from facesr.training.rundir import record_start, run_folder
from facesr.training.stages import Standing, best_scores, standings
from facesr.training.state import Part


def train_recipe(recipe: Recipe) -> int:
    """Trains every stage that is not finished and returns the exit code: 0, or 75 where it was asked to stop.

    Raises:
        FaceSRError: a stage cannot be trained or is no longer what it was, told before anything is written; or what
            `facesr.training.loop.train` raises.
    """
    device = dist.choose_device(recipe.stages[0].settings.device)
    dist.initialise(device)
    found = standings(recipe)
    costs = check_stages(recipe, found, device)
    _remember_starts(recipe, found)
    console = Console()
    for line in plan_of(recipe, found):
        console.say(line)
    for stage, standing in zip(recipe.stages, found, strict=True):
        if standing.finished:
            continue
        # A request that came during a stage's last step ends the recipe, not that stage.
        if dist.any_rank(requests.came, device):
            console.say(f"asked to stop before {stage.label}; the same command goes on.")
            return EXIT_REQUEUE
        code = train(stage.settings, Part(stage.label, images_after(recipe, found, costs, stage)))
        if code:
            return code
    console.say(f"recipe {recipe.name} is complete: {run_folder(recipe.stages[-1].settings) / BEST}")
    return 0


def plan_of(recipe: Recipe, found: Sequence[Standing]) -> list[str]:
    """Returns what is told before the first stage: each one's length, and where it stands."""
    total = sum(stage.settings.duration_kimg for stage in recipe.stages)
    width = max(len(stage.settings.name) for stage in recipe.stages)
    lines = [f"recipe {recipe.name}: {len(recipe.stages)} stages, {shown_kimg(total)} kimg"]
    for stage, standing in zip(recipe.stages, found, strict=True):
        told = "to do"
        if standing.finished:
            told = f"finished  {score_line(best_scores(stage))}"
        elif standing.num_images:
            told = f"goes on at {shown_kimg(standing.num_images / 1000)} kimg"
        if not standing.start_known and standing.num_images:
            told += "  (its folder does not say which snapshot it started from: trusted)"
        length = f"{shown_kimg(stage.settings.duration_kimg):>7} kimg"
        lines.append(f"  {stage.number}  {stage.settings.name:{width}}  {length}  {told}")
    return lines


def images_after(recipe: Recipe, found: Sequence[Standing], costs: Mapping[int, float], stage: Stage) -> float:
    """Returns what comes after a stage, in images of this stage that take as long.

    Args:
        recipe: whose stages follow each other.
        found: where each of them stands.
        costs: multiply-accumulates for one face of each stage that is not finished, by its number.
        stage: one of those.
    """
    later = zip(recipe.stages[stage.number :], found[stage.number :], strict=True)
    left = [(one, 1000 * one.settings.duration_kimg - standing.num_images) for one, standing in later]
    return sum(max(images, 0.0) * costs[one.number] / costs[stage.number] for one, images in left)


def _remember_starts(recipe: Recipe, found: Sequence[Standing]) -> None:
    """Records what stages that were trained by an earlier version start from, so that a later change is noticed."""
    for stage, standing in zip(recipe.stages, found, strict=True):
        if standing.num_images and not standing.start_known and stage.number > 1:
            dist.by_main(partial(record_start, run_folder(stage.settings), stage.settings.start_from))
