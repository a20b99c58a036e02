"""Spherical gradient descent: a batch of faces is searched together, and each as if it were alone.

A face has its own start, drawn from its pixels and the seed, its own loss, its own best picture and its own
end: a face that is found leaves the batch, and the rest gets cheaper. Whatever the end, a face has a result.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from facesr.config import PulseSettings
from facesr.errors import ImageError
from facesr.image import to_uint8
from facesr.methods.pulse.covariance import inverse_covariance
from facesr.methods.pulse.encoder import Guesses, encoder_for, unrounded
from facesr.methods.pulse.objective import Objective
from facesr.methods.pulse.operator import Operator
from facesr.methods.pulse.originals import Wanted
from facesr.methods.pulse.schedule import factor
from facesr.methods.pulse.sphere import Variables
from facesr.methods.pulse.spread import Moments
from facesr.protocols import LatentGenerator

OPTIMIZERS: dict[str, Callable[[list[Tensor], float], torch.optim.Optimizer]] = {
    "adam": lambda searched, rate: torch.optim.Adam(searched, lr=rate),
    "sgd": lambda searched, rate: torch.optim.SGD(searched, lr=rate),
    "sgdm": lambda searched, rate: torch.optim.SGD(searched, lr=rate, momentum=0.9),
    "adamax": lambda searched, rate: torch.optim.Adamax(searched, lr=rate),
}
PRECISIONS = ("float32", "bfloat16")
# Of a drawn vector's length: how far from the mean face a search with a prior begins. Seeds begin elsewhere.
NEAR = 0.1


@dataclass(frozen=True)
class Found:
    """What the search found for one face, at its best step.

    Attributes:
        picture: uint8 (H, W, 3), the generator's picture.
        downscaled: uint8 (h, w, 3), its downscaling.
        restored: uint8 (4h, 4w, 3), the framed picture.
        best_l2: mean square between downscaling and input, in [0, 1] squared, before rounding.
        measure: what the best step and the best of several seeds are chosen by: the loss with a prior, else best_l2.
        best_step: the step that it belongs to, from 0.
        num_steps: steps that were taken.
        seed: the seed that won.
        converged: whether best_l2 is at most eps.
        latents: float32 (L, D), or (1, D) where all vectors of a face are one.
        num_alike: with pulse.spread, how many seeds were found within eps; else 0.
        mean, deviation: their mean picture, uint8 (H, W, 3), and its standard deviation (`Moments`), uint8 (H, W);
            None where fewer than two were found.
    """

    picture: NDArray[np.uint8]
    downscaled: NDArray[np.uint8]
    restored: NDArray[np.uint8]
    best_l2: float
    measure: float
    best_step: int
    num_steps: int
    seed: int
    converged: bool
    latents: NDArray[np.float32]
    num_alike: int = 0
    mean: NDArray[np.uint8] | None = None
    deviation: NDArray[np.uint8] | None = None


# Called after each step with its number, what is searched, and the lowest mean square of the faces still searched.
Watcher = Callable[[int, Variables, float], None]


def search(
    generator: LatentGenerator,
    operator: Operator,
    low: Tensor,
    settings: PulseSettings,
    watcher: Watcher | None = None,
    wanted: Wanted | None = None,
) -> list[Found]:
    """Returns what was found for each face of `low`, float32 (N, 3, h, w) in [0, 1]; of several seeds the best.

    Raises:
        ImageError: the generator's answer is not finite at any step.
    """
    seeds = range(settings.seed, settings.seed + settings.num_seeds)
    digests = [hashlib.sha256(picture.tobytes()).digest() for picture in to_uint8(low)]
    starts = [(digest, seed) for digest in digests for seed in seeds]
    faces = [number for number in range(len(low)) for _ in seeds]
    best: list[Found | None] = [None] * len(low)
    moments = [Moments() for _ in digests]
    # So many seeds as one likes: no more starts than a batch are searched, or their pictures held, at once.
    at_once = max(settings.batch_size, 1)
    for first in range(0, len(starts), at_once):
        part = faces[first : first + at_once]
        some = None if wanted is None else wanted.rows(part)
        rows = _search_rows(generator, operator, low[part], starts[first : first + at_once], settings, watcher, some)
        for number, found in zip(part, rows, strict=True):
            before = best[number]
            if before is None or found.measure < before.measure:
                best[number] = found
            if settings.spread and found.converged:
                moments[number].add(found.picture)
    return [
        replace(found, **moments[number].as_dict()) if settings.spread else found
        for number, found in enumerate(best)
        if found is not None
    ]


def _search_rows(
    generator: LatentGenerator,
    operator: Operator,
    low: Tensor,
    starts: Sequence[tuple[bytes, int]],
    settings: PulseSettings,
    watcher: Watcher | None,
    wanted: Wanted | None,
) -> list[Found]:
    variables = _begun(generator, operator, low, starts, settings)
    optimizer = OPTIMIZERS[settings.optimizer](variables.searched, settings.learning_rate)
    weights = (settings.l2_weight, settings.l1_weight, settings.geocross_weight)
    inverse = inverse_covariance(generator) if settings.covariance_weight else None
    objective = Objective(*weights, settings.eps, settings.covariance_weight, inverse, settings.prior_weight)
    best = _Best(variables.latents)
    alive = torch.arange(len(low), device=low.device)
    for step in range(settings.steps):
        for group in optimizer.param_groups:
            group["lr"] = settings.learning_rate * factor(settings.schedule, step, settings.steps)
        picture, mapped = _pictures(generator, variables, settings)
        downscaled = operator.downscale(picture)
        loss, square = objective(downscaled, low[alive], mapped, variables.searched)
        if wanted is not None:
            loss = loss + settings.identity_weight * wanted.rows(alive).distance(operator.frame(picture))
        # With a prior the likeliest face is wanted, not the first that fits: every face takes all steps.
        measure = loss.detach() if settings.prior_weight else square
        best.update(alive, step, measure, square, picture, downscaled, variables.latents)
        # A value that is not finite compares as false; its face goes on, and may yet recover.
        going = ~(square <= settings.eps) | bool(settings.prior_weight)
        if watcher is not None:
            watcher(step, variables, float(square.min()))
        if not bool(going.any()) or step == settings.steps - 1:
            break
        optimizer.zero_grad(set_to_none=True)
        loss.sum().backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        if not bool(going.all()):
            rows = going.nonzero()[:, 0]
            variables.keep_(rows, optimizer)
            alive = alive[rows]
        variables.project_()
    return best.found(operator, [seed for _, seed in starts], settings.eps)


def _pictures(generator: LatentGenerator, variables: Variables, settings: PulseSettings) -> tuple[Tensor, Tensor]:
    """Returns pictures (N, 3, H, W) in [0, 1], with a gradient also where they are clamped, and mapped latents."""
    latents = variables.latents.expand(-1, generator.num_latents, -1)
    with torch.autocast(latents.device.type, torch.bfloat16, enabled=settings.precision == "bfloat16"):
        mapped = generator.map(latents)
        picture = generator.synthesise(mapped, variables.noises).float()
    # What is written is clamped, so that is what has to fit; a clamped pixel must still know the way back.
    return picture + (picture.clamp(0.0, 1.0) - picture).detach(), mapped


def _begun(
    generator: LatentGenerator,
    operator: Operator,
    low: Tensor,
    starts: Sequence[tuple[bytes, int]],
    settings: PulseSettings,
) -> Variables:
    """Returns where each row begins, a function of its face's pixels and its seed alone.

    Random numbers are drawn on the CPU, so that a GPU starts from the same place. The last noise map is zero, as PULSE
    has it; a generator that was made for certain maps starts from those, a search with a prior near the mean face.
    """
    num_vectors = 1 if settings.tiled_latents else generator.num_latents
    draws = [hashlib.sha256(digest + str(seed).encode()).digest()[:8] for digest, seed in starts]
    numbers = [int.from_bytes(draw, "big") >> 1 for draw in draws]
    if settings.start == "encoder" and isinstance(generator, Guesses):
        guessed, guessed_maps = generator.guess(unrounded(low, numbers))
        num_trained = min(settings.num_trained_noises, len(guessed_maps))
        return Variables(guessed, guessed_maps, num_trained, on_spheres=not settings.prior_weight)
    latents: list[Tensor] = []
    noises: list[list[Tensor]] = []
    for number in numbers:
        drawn = torch.Generator().manual_seed(number)
        latents.append(torch.randn(num_vectors, generator.latent_dim, generator=drawn))
        if not generator.noise_constants:
            noises.append([torch.randn(shape, generator=drawn) for shape in generator.noise_shapes])
    begun = torch.stack(latents).to(low.device)
    if settings.start == "encoder":
        encoder = encoder_for(generator, operator, settings.encoder_pairs)
        begun = encoder.start(low, numbers)[:, None].repeat(1, num_vectors, 1)
    maps = [torch.stack(column).to(low.device) for column in zip(*noises, strict=True)]
    if settings.prior_weight:
        # From near the mean face, without anything in the maps: what is unlikely has to be asked for.
        begun = NEAR * begun
        num_trained = min(settings.num_trained_noises, len(maps))
        return Variables(begun, [torch.zeros_like(one) for one in maps], num_trained, on_spheres=False)
    if maps:
        maps[-1].zero_()
    else:
        maps = [constant.to(low.device).repeat(len(starts), 1, 1, 1) for constant in generator.noise_constants]
    num_trained = min(settings.num_trained_noises, max(len(maps) - 1, 0))
    return Variables(begun, maps, num_trained)


class _Best:
    """The best step so far of each row: its picture, its downscaling and its latents belong to one another."""

    def __init__(self, latents: Tensor) -> None:
        num_rows = len(latents)
        self._latents = latents.detach().clone()
        self._measure = torch.full((num_rows,), float("inf"))
        self._square = torch.full((num_rows,), float("inf"))
        self._step = [0] * num_rows
        self._taken = [0] * num_rows
        self._picture: Tensor | None = None
        self._downscaled: Tensor | None = None

    @torch.no_grad()
    def update(
        self,
        alive: Tensor,
        step: int,
        measure: Tensor,
        square: Tensor,
        picture: Tensor,
        downscaled: Tensor,
        latents: Tensor,
    ) -> None:
        """Takes over what is better than before by its measure; one that is not finite never is."""
        if self._picture is None or self._downscaled is None:
            self._picture, self._downscaled = torch.zeros_like(picture), torch.zeros_like(downscaled)
            self._square, self._measure = self._square.to(square.device), self._measure.to(square.device)
        better = measure < self._measure[alive]
        rows = alive[better]
        self._measure[rows] = measure[better]
        self._square[rows] = square[better]
        self._picture[rows] = picture.detach()[better]
        self._downscaled[rows] = downscaled.detach()[better]
        self._latents[rows] = latents.detach()[better]
        for row in alive.tolist():
            self._taken[row] = step + 1
        for row in rows.tolist():
            self._step[row] = step

    @torch.no_grad()
    def found(self, operator: Operator, seeds: Sequence[int], eps: float) -> list[Found]:
        """Returns every row's result.

        Raises:
            ImageError: a row was never finite.
        """
        if self._picture is None or self._downscaled is None or not bool(torch.isfinite(self._square).all()):
            raise ImageError(
                "the generator's pictures hold values that are not finite; give pulse.precision=float32, "
                "or a lower pulse.learning_rate."
            )
        pictures, downscaled = to_uint8(self._picture), to_uint8(self._downscaled)
        restored = to_uint8(operator.frame(self._picture))
        latents = self._latents.float().cpu().numpy()
        return [
            Found(
                picture=pictures[row],
                downscaled=downscaled[row],
                restored=restored[row],
                best_l2=square,
                measure=measure,
                best_step=self._step[row],
                num_steps=self._taken[row],
                seed=seeds[row],
                converged=square <= eps,
                latents=latents[row],
            )
            for row, (square, measure) in enumerate(zip(self._square.tolist(), self._measure.tolist(), strict=True))
        ]
