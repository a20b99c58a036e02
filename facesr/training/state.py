"""The training state: everything that the next step depends on, as plain containers and tensors.

Order of faces and augmentation are functions of the seed and the clock (`facesr.data.feed.loader`), so the clock is
the data's position. Restoring a state on a CPU gives the very bits of the uninterrupted run.
"""

import random
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from facesr.errors import CheckpointError, WeightsError
from facesr.training.step import GanState
from facesr.weights import load_into

STATE_FORMAT = 1


@dataclass(frozen=True)
class Part:
    """A run's place in a longer plan.

    Attributes:
        label: what the plan calls the run.
        images_after: what comes after the run, in images of this run that take as long, 0 or more.
    """

    label: str
    images_after: float


@dataclass
class Clock:
    """Where a run stands.

    Attributes:
        num_images: faces seen over all ranks.
        seconds: time spent training, validation and saving left out.
        best_score: best validation score of the ranking metric so far, negative where lower is better.
        lowest_loss: lowest smoothed loss so far, what an explosion is measured against.
        smoothed_loss: the smoothed loss.
        joules: energy of accelerators and CPUs, validation and saving included; NaN where some of it is not known.
        rate_factor: factor of the learning rate, halved by a rollback.
        num_rollbacks: rollbacks so far.
    """

    num_images: int = 0
    seconds: float = 0.0
    best_score: float = float("-inf")
    lowest_loss: float = float("inf")
    smoothed_loss: float = float("nan")
    joules: float = 0.0
    rate_factor: float = 1.0
    num_rollbacks: int = 0

    @property
    def kimg(self) -> float:
        """Thousands of images seen."""
        return self.num_images / 1000.0


def pack_state(gan: GanState, clock: Clock, config_sha256: str) -> dict[str, Any]:
    """Returns the state of a run as plain containers that ``torch.load(weights_only=True)`` reads back."""
    numpy_state = np.random.get_state(legacy=True)
    state: dict[str, Any] = {
        "format": STATE_FORMAT,
        "config_sha256": config_sha256,
        "clock": vars(clock).copy(),
        "num_steps": gan.num_steps,
        "generator": gan.generator.state_dict(),
        "average": gan.average.state_dict(),
        "generator_optimizer": gan.generator_optimizer.state_dict(),
        "scaler": gan.scaler.state_dict(),
        "rng": {
            "torch": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state() if torch.cuda.is_available() else None,
            "numpy": [numpy_state[0], numpy_state[1].tolist(), *numpy_state[2:]],  # type: ignore[index]
            "python": _as_lists(random.getstate()),
        },
    }
    if gan.discriminator is not None and gan.discriminator_optimizer is not None:
        state["discriminator"] = gan.discriminator.state_dict()
        state["discriminator_optimizer"] = gan.discriminator_optimizer.state_dict()
    return state


def unpack_state(state: dict[str, Any], gan: GanState, *config_sha256: str) -> Clock:
    """Puts a saved state into the gan and the random generators, and returns its clock.

    Args:
        state: what `pack_state` made.
        gan: of the same configuration.
        config_sha256: digests of configurations that it may belong to (`facesr.training.rundir.state_digests`).

    Raises:
        CheckpointError: the state belongs to another configuration or version.
    """
    if state.get("format") != STATE_FORMAT or state.get("config_sha256") not in config_sha256:
        raise CheckpointError("the saved training state belongs to another configuration; choose another name=....")
    _load(gan.generator, state["generator"])
    _load(gan.average, state["average"])
    gan.generator_optimizer.load_state_dict(state["generator_optimizer"])
    gan.scaler.load_state_dict(state["scaler"])
    gan.num_steps = state["num_steps"]
    if gan.discriminator is not None and gan.discriminator_optimizer is not None:
        _load(gan.discriminator, state["discriminator"])
        gan.discriminator_optimizer.load_state_dict(state["discriminator_optimizer"])
    rng = state["rng"]
    torch.set_rng_state(rng["torch"])
    if rng["cuda"] is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(rng["cuda"])
    name, keys, *rest = rng["numpy"]
    np.random.set_state((name, np.array(keys, np.uint32), *rest))
    random.setstate(_as_tuples(rng["python"]))
    return Clock(**state["clock"])


def _load(network: nn.Module, tensors: dict[str, Tensor]) -> None:
    """Puts saved tensors into a network, which an earlier version may have built otherwise."""
    try:
        load_into(network, tensors, "the saved training state")
    except WeightsError as error:
        raise CheckpointError(
            f"the saved training state holds another {type(network).__name__} than this version of facesr builds; "
            "choose another name=..., or finish the run with the version that began it."
        ) from error


def _as_lists(value: Any) -> Any:
    return [_as_lists(inner) for inner in value] if isinstance(value, tuple) else value


def _as_tuples(value: Any) -> Any:
    return tuple(_as_tuples(inner) for inner in value) if isinstance(value, list) else value
