"""Whether the settings of a run go together and its parts can be built, before anything is."""

from facesr import dist
from facesr.build import check_node
from facesr.config import TrainSettings
from facesr.data.feed.order import check_shares
from facesr.data.feed.residency import check_residency
from facesr.errors import ConfigError
from facesr.gradients import check_gradient_sync
from facesr.places import Place
from facesr.snapshots.shipped import check_start
from facesr.training.schedule import learning_rate_factor


def check(settings: TrainSettings) -> None:
    """Raises ConfigError for settings that do not go together, or a part that cannot be built."""
    if settings.batch_size % dist.world_size():
        raise ConfigError(
            f"batch_size={settings.batch_size} does not divide by {dist.world_size()} ranks; choose a multiple."
        )
    share = settings.batch_size // dist.world_size()
    if share % settings.accumulation_steps:
        raise ConfigError(
            f"accumulation_steps={settings.accumulation_steps} does not divide the {share} faces of a rank; "
            "choose a divisor."
        )
    learning_rate_factor(settings.schedule, 0.0, settings.duration_kimg)
    if not settings.losses:
        raise ConfigError("losses is empty; give at least one term, for example losses.pixel.")
    if all(node.get("start_kimg", 0) > 0 for node in settings.losses.values()):
        raise ConfigError("no term of losses takes part from the first image on; give one of them start_kimg=0.")
    if settings.start_from is not None:
        check_start(settings.start_from)
    check_gradient_sync(settings.gradient_sync, settings.gradient_precision)
    check_residency(settings.data.residency)
    if settings.data.pose_shares:
        check_shares(settings.data.pose_shares)
    check_parts(settings)


def check_parts(settings: TrainSettings) -> None:
    """Raises ConfigError for a part whose class, arguments or numbers are not as they have to be; builds none."""
    parts = [
        ("data.train", settings.data.train, Place.DATA, ()),
        ("data.validation", settings.data.validation, Place.DATA, ()),
        ("degradation", settings.degradation, Place.DEGRADATION, ()),
        ("generator", settings.generator, Place.GENERATOR, ()),
        ("generator_optimizer", settings.generator_optimizer, Place.OPTIMIZER, ("params",)),
        ("discriminator", settings.discriminator, Place.DISCRIMINATOR, ()),
        ("discriminator_optimizer", settings.discriminator_optimizer, Place.OPTIMIZER, ("params",)),
        ("embedder", settings.embedder, Place.EMBEDDER, ()),
        *((f"losses.{name}", node, Place.LOSS, ()) for name, node in settings.losses.items()),
    ]
    for key, node, place, extra in parts:
        if node:
            check_node(node, place, key, extra)
