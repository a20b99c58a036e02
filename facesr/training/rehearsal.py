"""Rehearsals: a run made tiny, so that a recipe can be tried from its first stage to its last in a minute on a CPU.

Networks stay of their kind and become small, losses stay what they are with the built-in judge in place of any other,
and pictures are synthetic, so that neither data nor weights are needed. What it trains is worth nothing.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from facesr.build import load_group
from facesr.config import TrainSettings

# Before a run's name: a rehearsal never lies where the run itself would.
PREFIX = "rehearsal_"
# Four, so that 1, 2 or 4 ranks can share them.
BATCH_SIZE, NUM_STEPS, NUM_TRAINED, NUM_VALIDATED = 4, 4, 16, 4
# Largest widths and depths, by the names that the networks here have for them.
SMALL = {
    "channels": 32,
    "num_channels": 16,
    "channels_up": 32,
    "num_groups": 1,
    "num_blocks": 1,
    "num_hidden": 64,
}


def rehearsal_of(settings: TrainSettings) -> list[str]:
    """Returns the overrides that make a run tiny: `NUM_STEPS` steps, its other lengths in proportion."""
    kimg = BATCH_SIZE * NUM_STEPS / 1000
    scale = kimg / settings.duration_kimg
    kind, unit = ("synthetic", "num_faces") if settings.embedder else ("dead_leaves", "num_pictures")
    return [
        f"name={PREFIX}{settings.name}",
        f"data={kind}",
        f"data.train.{unit}={NUM_TRAINED}",
        f"data.validation.{unit}={NUM_VALIDATED}",
        f"duration_kimg={kimg}",
        f"batch_size={BATCH_SIZE}",
        "accumulation_steps=1",
        "precision=auto",
        "compile=false",
        f"log_every_kimg={kimg / 2}",
        f"validation_every_kimg={kimg / 2}",
        f"state_every_kimg={kimg / 2}",
        f"ema_halflife_kimg={settings.ema_halflife_kimg * scale:.6g}",
        f"schedule.warmup_kimg={settings.schedule.warmup_kimg * scale:.6g}",
        f"schedule.step_kimg=[{','.join(f'{one * scale:.6g}' for one in settings.schedule.step_kimg)}]",
        "judges=[]",
        *(["embedder=builtin"] if settings.embedder else []),
        *_small("generator", settings.generator),
        *_small("discriminator", settings.discriminator),
        *(one for name, node in settings.losses.items() for one in _of_term(f"losses.{name}", node, scale)),
    ]


def _small(key: str, node: Mapping[str, Any]) -> Iterator[str]:
    """Yields what makes a network small."""
    for name, largest in SMALL.items():
        if isinstance(node.get(name), int) and node[name] > largest:
            yield f"{key}.{name}={largest}"


def _of_term(key: str, node: Mapping[str, Any], scale: float) -> Iterator[str]:
    """Yields what makes a loss term begin in proportion, and ask no network but the built-in judge."""
    yield f"{key}.start_kimg={node['start_kimg'] * scale:.6g}"
    builtin = load_group("embedder", "builtin")["_target_"]
    for name, inner in node.items():
        if isinstance(inner, Mapping) and inner.get("_target_") != builtin:
            yield f"embedder@{key}.{name}=builtin"
