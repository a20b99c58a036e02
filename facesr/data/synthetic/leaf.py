"""One leaf of a dead-leaves picture: the outline of an object, and what its surface looks like.

Lengths are pixels of the canvas that `facesr.data.synthetic.dead_leaves` draws on; colours are RGB float32 in grey
levels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Colour = NDArray[np.float32]  # (3,), grey levels 0..255
Surface = NDArray[np.float32]  # (h, w, 3), grey levels, not clipped

_LETTERS = "ABCDEFGHIKLMNOPRSTUVXYZabcdefghiklmnoprstuvxyz0123456789"
_CORNERS_PER_PIXEL = 0.6  # of a smooth outline's radius: the polygon stays within a fraction of a pixel of it


@dataclass(frozen=True)
class World:
    """What the leaves of one picture have in common.

    Attributes:
        rng: draws everything, in order, so that a picture is a function of its generator's seed.
        colours: (n, 3) grey levels, the picture's palette.
        spread: standard deviation of a leaf's colour about its palette colour, in grey levels.
        noise: (k, h, w) fields of 1/f noise with mean 0 and standard deviation 1, which surfaces take parts of.
    """

    rng: np.random.Generator
    colours: NDArray[np.float32]
    spread: float
    noise: NDArray[np.float32]

    def colour(self) -> Colour:
        """Returns a colour near one of the palette, (3,); lightness varies more than hue, as light does."""
        near = self.colours[self.rng.integers(len(self.colours))]
        light, tint = self.rng.standard_normal(), self.rng.standard_normal(3)
        shade = near + self.spread * (light + 0.3 * tint)
        colour: Colour = np.clip(shade, 0.0, 255.0).astype(np.float32)
        return colour

    def companion(self, colour: Colour) -> Colour:
        """Returns a second colour for a pattern: the first one lighter or darker, or, less often, another hue."""
        if self.rng.random() < 0.3:
            return self.colour()
        change = self.rng.uniform(0.1, 0.8) * (255.0 - colour if colour.mean() < 110 else -colour)
        return np.clip(colour + change, 0.0, 255.0).astype(np.float32)

    def between(self, low: float, high: float) -> float:
        """Returns a number of evenly spread logarithm between two positive ones."""
        return float(np.exp(self.rng.uniform(np.log(low), np.log(high))))


def outline(rng: np.random.Generator, radius: float) -> NDArray[np.float64]:
    """Returns the corners (n, 2) of a leaf about (0, 0) that covers about as much as a disc of `radius`."""
    kind = rng.choice(5, p=(0.22, 0.22, 0.2, 0.22, 0.14))
    num_smooth = int(np.clip(_CORNERS_PER_PIXEL * radius, 10, 90))
    angles = np.linspace(0.0, 2.0 * np.pi, num_smooth, endpoint=False)
    if kind == 0:  # disc
        points = np.stack([np.cos(angles), np.sin(angles)], 1)
    elif kind == 1:  # ellipse
        stretch = np.exp(rng.uniform(0.1, 0.8))
        points = np.stack([stretch * np.cos(angles), np.sin(angles) / stretch], 1)
    elif kind == 2:  # rectangle, often a long one: bars, poles, walls
        stretch = np.exp(rng.uniform(0.0, 1.3))
        half = np.sqrt(np.pi) / 2.0
        points = half * np.array([[stretch, 1 / stretch], [-stretch, 1 / stretch]])
        points = np.concatenate([points, -points])
    elif kind == 3:  # polygon of irregular corners
        angles = np.sort(rng.uniform(0.0, 2.0 * np.pi, rng.integers(3, 9)))
        points = rng.uniform(0.7, 1.5, len(angles))[:, None] * np.stack([np.cos(angles), np.sin(angles)], 1)
    else:  # blob: a circle with a few waves
        waves = np.arange(2, 6)
        heights = rng.normal(0.0, 0.35, 4) / waves
        reach = 1.0 + (heights[:, None] * np.cos(np.outer(waves, angles) + rng.uniform(0, 7, 4)[:, None])).sum(0)
        points = np.clip(reach, 0.3, 2.0)[:, None] * np.stack([np.cos(angles), np.sin(angles)], 1)
    turn = rng.uniform(0.0, 2.0 * np.pi) if rng.random() < 0.75 else 0.0  # made things stand upright
    cosine, sine = np.cos(turn), np.sin(turn)
    corners: NDArray[np.float64] = radius * points @ np.array([[cosine, sine], [-sine, cosine]])
    return corners


def surface(world: World, colour: Colour, height: int, width: int) -> Surface:
    """Returns a leaf's surface (height, width, 3): one colour, a gradient, a pattern, noise or writing."""
    kinds: tuple[Callable[[World, Colour, int, int], Surface], ...] = (_plain, _gradient, _stripes, _checks, _rough)
    if min(height, width) > 40:
        kinds = (*kinds, _writing)
    weights = np.array((0.2, 0.34, 0.11, 0.05, 0.25, 0.05)[: len(kinds)])
    chosen = kinds[world.rng.choice(len(kinds), p=weights / weights.sum())]
    return np.ascontiguousarray(chosen(world, colour, height, width))  # OpenCV draws on nothing else


def _plain(world: World, colour: Colour, height: int, width: int) -> Surface:
    return np.full((height, width, 3), colour, np.float32)


def _phase(world: World, height: int, width: int) -> tuple[Surface, Surface]:
    """Two coordinates (height, width, 1) at right angles, in canvas pixels, turned at random."""
    turn = world.rng.uniform(0.0, 2.0 * np.pi)
    cosine, sine = np.float32(np.cos(turn)), np.float32(np.sin(turn))
    x, y = np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32)[:, None]
    return (cosine * x + sine * y)[..., None], (cosine * y - sine * x)[..., None]


def _mix(first: Colour, second: Colour, share: Surface) -> Surface:
    return (first + (second - first) * share).astype(np.float32)


def _gradient(world: World, colour: Colour, height: int, width: int) -> Surface:
    along, _ = _phase(world, height, width)
    share = (along - along.min()) / max(float(np.ptp(along)), 1.0)
    end = colour + np.float32(world.rng.normal(0.0, 45.0)) + world.rng.normal(0.0, 10.0, 3).astype(np.float32)
    return _mix(colour, end.astype(np.float32), share ** np.float32(world.between(0.5, 2.0)))


def _waves(world: World, along: Surface, sharpness: float) -> Surface:
    """Values in [0, 1] that rise and fall along a coordinate; a high sharpness makes stripes with hard edges."""
    # The shortest waves are what a quarter of the size cannot hold, the longest are broad bands.
    length = world.between(5.0, 80.0)
    wave = np.sin(along * np.float32(2.0 * np.pi / length) + np.float32(world.rng.uniform(0.0, 7.0)))
    share: Surface = np.clip(0.5 + 0.5 * sharpness * wave, 0.0, 1.0).astype(np.float32)
    return share


def _stripes(world: World, colour: Colour, height: int, width: int) -> Surface:
    along, across = _phase(world, height, width)
    if world.rng.random() < 0.4:  # bent ones
        bend = world.rng.uniform(2.0, 12.0)
        along = along + np.float32(bend) * np.sin(across * np.float32(2.0 * np.pi / world.between(40.0, 200.0)))
    sharpness = 1.0 if world.rng.random() < 0.4 else 6.0
    return _mix(colour, world.companion(colour), _waves(world, along, sharpness))


def _checks(world: World, colour: Colour, height: int, width: int) -> Surface:
    along, across = _phase(world, height, width)
    first, second = _waves(world, along, 6.0), _waves(world, across, 6.0)
    # Squares of a board, or a grid of bars as windows and fences have it.
    share = np.abs(first - second) if world.rng.random() < 0.5 else first * second
    return _mix(colour, world.companion(colour), share.astype(np.float32))


def _rough(world: World, colour: Colour, height: int, width: int) -> Surface:
    field = world.noise[world.rng.integers(len(world.noise))]
    top = world.rng.integers(0, max(field.shape[0] - height, 0) + 1)
    left = world.rng.integers(0, max(field.shape[1] - width, 0) + 1)
    part = field[top : top + height, left : left + width, None]
    strength = np.float32(world.between(2.0, 36.0))
    tint = (1.0 + 0.25 * world.rng.standard_normal(3)).astype(np.float32)
    rough: Surface = (colour + strength * part * tint).astype(np.float32)
    return rough


def _writing(world: World, colour: Colour, height: int, width: int) -> Surface:
    ink = np.zeros((height, width), np.uint8)
    size = world.between(0.35, 1.6)
    line = int(26 * size) + 4
    thickness = int(world.rng.integers(1, 4))
    for base in range(line, height + line, line):
        words = "".join(
            " " if world.rng.random() < 0.18 else _LETTERS[world.rng.integers(len(_LETTERS))]
            for _ in range(int(width / (14 * size)) + 2)
        )
        font = cv2.FONT_HERSHEY_SIMPLEX if size < 0.9 else cv2.FONT_HERSHEY_DUPLEX
        cv2.putText(ink, words, (int(-10 * size), base), font, size, 255, thickness, cv2.LINE_AA)
    return _mix(colour, world.companion(colour), ink[..., None].astype(np.float32) / 255.0)
