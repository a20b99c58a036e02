"""What a run takes, measured on a few of its steps: how long they last, and what they keep in memory.

The run's own parts are used up by it: its weights move, at a learning rate that is next to nothing.
"""

import itertools
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from facesr.config import TrainSettings
from facesr.methods.restore import restore_batch
from facesr.training.run import Parts
from facesr.training.step import train_step, update_average
from facesr.training.validation import Validator

# The first steps take longer: memory is asked for, kernels are chosen or compiled.
WARM_UP_STEPS, MEASURED_STEPS = 2, 10
# Validation pictures that are restored and scored to know how long all of them take.
VALIDATED = 16
# Share of the learning rate: what is measured is no training, and must not explode.
_RATE = 1e-6


@dataclass(frozen=True)
class Phase:
    """A stretch of a run in which the same loss terms take part.

    Attributes:
        first_kimg: thousands of images at its start.
        last_kimg: at its end.
        step_seconds: mean of `MEASURED_STEPS` steps, the waiting for faces included.
        data_seconds: of that, spent waiting for faces.
    """

    first_kimg: float
    last_kimg: float
    step_seconds: float
    data_seconds: float


def phase_bounds(settings: TrainSettings) -> list[tuple[float, float]]:
    """Returns where the phases of a run begin and end, in thousands of images: a term's start begins a new one."""
    starts = {float(node.get("start_kimg", 0.0)) for node in settings.losses.values()}
    bounds = [0.0, *sorted(one for one in starts if 0.0 < one < settings.duration_kimg), settings.duration_kimg]
    return list(itertools.pairwise(bounds))


def measured_phase(parts: Parts, settings: TrainSettings, bounds: tuple[float, float], device: torch.device) -> Phase:
    """Returns how long a step takes in a phase, on the run's own faces."""
    batches = parts.feed.batches(0)
    start = waited = 0.0
    for number in range(WARM_UP_STEPS + MEASURED_STEPS):
        if number == WARM_UP_STEPS:
            _wait(device)
            start, waited = time.perf_counter(), 0.0
        before = time.perf_counter()
        high = next(batches)
        waited += time.perf_counter() - before
        one_step(parts, settings, high, number * settings.batch_size, bounds[0])
    _wait(device)
    seconds = (time.perf_counter() - start) / MEASURED_STEPS
    return Phase(*bounds, seconds, waited / MEASURED_STEPS)


def one_step(parts: Parts, settings: TrainSettings, high: Tensor, clock: int, kimg: float) -> None:
    """Does one step of training on this rank's faces, as the loop does.

    Args:
        parts: changed.
        settings: of the run.
        high: float32 (n, 3, H, W) in [0, 1].
        clock: images before that batch; says which landmarks belong to it.
        kimg: decides which loss terms take part.
    """
    landmarks = None
    if any(term.needs_landmarks for term in parts.gan.terms.values()):
        landmarks = parts.feed.landmarks(clock).chunk(settings.accumulation_steps)
    for optimizer in (parts.gan.generator_optimizer, parts.gan.discriminator_optimizer):
        for group in optimizer.param_groups if optimizer is not None else []:
            group.setdefault("initial_lr", group["lr"])
            group["lr"] = group["initial_lr"] * _RATE
    train_step(parts.gan, high.chunk(settings.accumulation_steps), kimg, landmarks)
    update_average(parts.gan, settings.batch_size, clock + settings.batch_size, settings.ema_halflife_kimg)


def validation_seconds(parts: Parts, device: torch.device) -> float:
    """Returns how long it takes to restore and score all validation pictures, from the first `VALIDATED` of them."""
    number = len(parts.pairs.names)
    shown = slice(0, min(VALIDATED, number))
    pairs = parts.pairs
    few = replace(pairs, names=pairs.names[shown], low=pairs.low[shown], high=pairs.high[shown])
    validator = Validator(few, parts.judges, device, parts.ranking)
    average = parts.gan.average
    # The first time also embeds the originals, which a run does once.
    validator.score(lambda low: restore_batch(average, low), average)
    start = time.perf_counter()
    validator.score(lambda low: restore_batch(average, low), average)
    return (time.perf_counter() - start) * number / len(few.names)


def bytes_of(tensors: Iterable[Tensor]) -> int:
    """Returns the bytes of tensors."""
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def optimizer_bytes(optimizer: torch.optim.Optimizer | None) -> int:
    """Returns the bytes that an optimiser keeps between steps; 0 before the first one."""
    if optimizer is None:
        return 0
    states: Iterable[dict[str, Any]] = optimizer.state.values()
    return bytes_of(value for state in states for value in state.values() if isinstance(value, Tensor))


def trained_weights(optimizer: torch.optim.Optimizer | None) -> list[Tensor]:
    """Returns the weights that an optimiser moves: a network may be trained in part."""
    return [] if optimizer is None else [weight for group in optimizer.param_groups for weight in group["params"]]


class Kept:
    """Counts the bytes that are kept for a backward pass: each memory once, weights left out.

    Attributes:
        peak: most of them at one time so far.
    """

    def __init__(self, *modules: nn.Module | None) -> None:
        self.peak = 0
        self._now = 0
        self._holders: dict[int, int] = {}
        tensors = [one for module in modules if module is not None for one in [*module.parameters(), *module.buffers()]]
        self._own = {tensor.untyped_storage().data_ptr() for tensor in tensors}

    @contextmanager
    def counting(self) -> Iterator[None]:
        """Counts what is kept by the operations of the block, which run as they are written, not compiled."""
        with (
            torch.compiler.set_stance("force_eager"),
            torch.autograd.graph.saved_tensors_hooks(self._pack, lambda held: held.tensor),
        ):
            yield

    def _pack(self, tensor: Tensor) -> "_Held":
        return _Held(self, tensor)

    def take(self, place: int, size: int) -> None:
        """Notes a holder of a memory."""
        if place in self._own:
            return
        if self._holders.setdefault(place, 0) == 0:
            self._now += size
            self.peak = max(self.peak, self._now)
        self._holders[place] += 1

    def leave(self, place: int, size: int) -> None:
        """Notes that a holder is gone."""
        if place in self._own:
            return
        self._holders[place] -= 1
        if self._holders[place] == 0:
            self._now -= size


class _Held:
    """A tensor that is kept until the backward pass lets it go."""

    def __init__(self, kept: Kept, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        self._kept, self._place, self._size = kept, storage.data_ptr(), storage.nbytes()
        self.tensor = tensor
        kept.take(self._place, self._size)

    def __del__(self) -> None:
        self._kept.leave(self._place, self._size)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
