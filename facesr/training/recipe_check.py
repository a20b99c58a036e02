"""Whether every stage of a recipe can be trained, found out before the first one is: data, judges, networks."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import Tensor, nn

from facesr import dist
from facesr.build import build
from facesr.config import TrainSettings
from facesr.data.feed.loader import Feed
from facesr.errors import FaceSRError
from facesr.models.counting import count_macs_of
from facesr.places import Place
from facesr.protocols import FaceSet
from facesr.snapshots.shipped import start_files, start_weights
from facesr.snapshots.snapshot import digest_of
from facesr.training.check import check
from facesr.training.precision import choose_precision
from facesr.training.recipe import Recipe, Stage
from facesr.training.run import build_players, check_landmarks, open_judges
from facesr.training.stages import Standing
from facesr.weights import as_weights_of, check_fit

# Low-resolution pixels of the competition's faces; costs are compared, so that any size does.
_HEIGHT, _WIDTH = 28, 24


def check_stages(recipe: Recipe, found: Sequence[Standing], device: torch.device) -> dict[int, float]:
    """Builds every stage that is not finished, and returns what a face costs each, in multiply-accumulates.

    Data comes first: it is what is missing right after cloning, and judges may have to be fetched.

    Args:
        recipe: what is to be trained.
        found: where its stages stand.
        device: where it is to be trained.

    Returns:
        The cost of the generator alone by the number of the stage.

    Raises:
        FaceSRError: a stage cannot be built, or its network does not take the weights of the one before; it is named.
    """
    todo = [stage for stage, standing in zip(recipe.stages, found, strict=True) if not standing.finished]
    faces: dict[str, FaceSet] = {}
    seen: set[str] = set()
    for stage in todo:
        with _told(stage):
            check(stage.settings)
            _check_data(stage.settings, faces, seen)
    costs: dict[int, float] = {}
    weights: dict[str, Tensor] = {}
    for stage in todo:
        with _told(stage):
            generator = _check_networks(stage, faces, seen, device)
            if stage.number > 1:
                files = start_files(stage.settings.start_from or "")
                weights = weights or start_weights(files)
                check_fit(generator, as_weights_of(generator, weights), " with ".join(map(str, files)))
            weights = {name: value.detach().cpu() for name, value in generator.state_dict().items()}
            costs[stage.number] = cost_of(generator, device)
    return costs


@contextmanager
def _told(stage: Stage) -> Iterator[None]:
    try:
        yield
    except FaceSRError as error:
        raise type(error)(f"{stage.label}: {error}") from error


def _check_data(settings: TrainSettings, faces: dict[str, FaceSet], seen: set[str]) -> None:
    """Opens a stage's datasets, each once."""
    key = digest_of(settings.data.train)
    if key not in faces:
        faces[key] = dist.in_turn(lambda: build(settings.data.train, Place.DATA, key="data.train"))
    # On the host: what is looked at here is whether its faces can be had in the order that is asked for.
    Feed(
        faces[key],
        replace(settings.data, residency="host"),
        seed=settings.seed,
        batch_size=settings.batch_size,
        rank=dist.rank(),
        world_size=dist.world_size(),
        device=torch.device("cpu"),
    )
    validation = digest_of(settings.data.validation)
    if validation not in seen:
        dist.in_turn(lambda: build(settings.data.validation, Place.DATA, key="data.validation"))
        seen.add(validation)


def _check_networks(stage: Stage, faces: dict[str, FaceSet], seen: set[str], device: torch.device) -> nn.Module:
    """Builds a stage's networks, losses and judges, and returns its generator, untrained."""
    settings = stage.settings
    settings = replace(settings, precision=choose_precision(settings.precision, device))
    judges = digest_of({"embedder": settings.embedder, "judges": settings.judges})
    if judges not in seen:
        dist.in_turn(lambda: open_judges(settings))
        seen.add(judges)
    # Only the first one's start is there already.
    gan = build_players(settings if stage.number == 1 else replace(settings, start_from=None), device)
    check_landmarks(gan.terms, faces[digest_of(settings.data.train)])
    return gan.generator


def cost_of(generator: nn.Module, device: torch.device) -> float:
    """Returns the multiply-accumulates of a generator for one face; 1 where a layer of it cannot be counted."""
    try:
        return float(count_macs_of(generator, torch.zeros(1, 3, _HEIGHT, _WIDTH, device=device)))
    except TypeError:
        return 1.0
