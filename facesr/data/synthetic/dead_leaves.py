"""Built-in general pictures: objects of all sizes that hide each other, drawn by the dead-leaves model.

Objects ("leaves") fall on a canvas one upon the other. With sizes after a power law of exponent -3 the picture looks
alike at every scale, as photographs do: it has edges of every length, areas of every smoothness, and the
statistics of natural pictures to a surprising degree. Networks that restore can learn from such pictures alone.
Picture i is a pure function of (seed, i, width, height). To look at some:

    facesr pairs dead_leaves OUT --num 12

Source: A. Lee, D. Mumford, J. Huang, "Occlusion models for natural images", IJCV 41 (2001), section 3, the model and
the exponent; R. Achddou, Y. Gousseau, S. Ladjal, "Fully synthetic training for image restoration tasks", CVIU 233
(2023), sections 3 and 4, colour, textures and gradients on the leaves for training networks.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from facesr.data.packed.cache import cached_set
from facesr.data.packed.dataset_format import Row, SetPlan
from facesr.data.packed.writer import DatasetWriter
from facesr.data.synthetic.leaf import World, outline, surface
from facesr.processes import num_cores, worker_pool

RENDERER_VERSION = 1
OVERSAMPLING = 2  # canvas pixels per pixel: edges are then mixed from what lies on both sides, as in a camera
EXPONENT = 3.0  # density of radii is r^-3: every octave of sizes covers the same area
MAX_LEAVES = 5000
MIN_SIDE = 8  # pixels of a picture
MIN_TEXTURED = 12.0  # radius in canvas pixels; smaller leaves have one colour, no pattern would be seen
_NUM_SHAPES = 40  # of a picture's small leaves
_FIXED_BITS = 4  # OpenCV takes corners in sixteenths of a pixel
_NOISE_SLOPES = (0.6, 1.0, 1.6)  # of the amplitude: grain, the 1/f of natural pictures, clouds
_CHUNK = 25  # pictures a worker draws between two hand-overs
_POOL_FROM = 200  # fewer pictures are drawn sooner than worker processes start

Canvas = NDArray[np.uint8]


def draw(index: int, width: int, height: int, seed: int = 0) -> NDArray[np.uint8]:
    """Returns picture `index` of a world, (height, width, 3) RGB uint8: a pure function of the arguments."""
    # The size is part of the key: a larger picture is another one, not the same with a border.
    rng = np.random.default_rng(np.random.SeedSequence((seed, index, width, height)))
    rows, columns = OVERSAMPLING * height, OVERSAMPLING * width
    world = _world(rng, rows, columns)
    canvas = np.clip(surface(world, world.colour(), rows, columns), 0, 255).astype(np.uint8)
    radius, x, y = _places(rng, rows, columns)
    small_corners, small_colours = _small_leaves(world, radius, x, y)
    for number in range(len(radius)):
        if radius[number] < MIN_TEXTURED:
            cv2.fillPoly(canvas, [small_corners[number]], small_colours[number], cv2.LINE_8, _FIXED_BITS)
        else:
            _drop(world, canvas, outline(rng, radius[number]) + np.array((x[number], y[number])), radius[number])
    for _ in range(rng.poisson(0.6)):
        _twigs(world, canvas)
    return _photograph(world, canvas, width, height)


def _world(rng: np.random.Generator, rows: int, columns: int) -> World:
    """Palette and noise of a picture."""
    base = rng.choice((0.07, 0.25, 0.58, rng.uniform(0.0, 1.0)), p=(0.4, 0.2, 0.2, 0.2))  # earth, leaves, sky, any
    hues = base + rng.normal(0.0, rng.choice((0.03, 0.1, 0.3)), rng.integers(3, 8))
    light = rng.beta(1.5, 1.9, len(hues))  # darker ones are more common, as in photographs
    saturation = rng.beta(1.3, 3.5, len(hues))
    tone = np.clip(np.abs((hues[:, None] + (0.0, 2 / 3, 1 / 3)) % 1.0 * 6.0 - 3.0) - 1.0, 0.0, 1.0)
    colours = 255.0 * light[:, None] * (1.0 + saturation[:, None] * (tone - 1.0))
    spread = float(np.exp(rng.uniform(np.log(4.0), np.log(20.0))))
    return World(rng, colours.astype(np.float32), spread, _noise(rng, rows, columns))


def _noise(rng: np.random.Generator, rows: int, columns: int) -> NDArray[np.float32]:
    """Fields (k, rows, columns) of noise whose amplitude falls with frequency, mean 0, standard deviation 1."""
    # Drawn at the picture's size: anything finer would only be averaged out again.
    size = (-(-rows // OVERSAMPLING), -(-columns // OVERSAMPLING))
    frequency = np.hypot(np.fft.fftfreq(size[0])[:, None], np.fft.rfftfreq(size[1])[None, :])
    frequency[0, 0] = np.inf  # no mean
    spectrum = np.fft.rfft2(rng.standard_normal(size))
    fields = [np.fft.irfft2(spectrum / frequency**slope, size) for slope in _NOISE_SLOPES]
    enlarged = [cv2.resize(field / field.std(), (columns, rows)) for field in fields]
    return np.stack(enlarged).astype(np.float32)


def _places(
    rng: np.random.Generator, rows: int, columns: int
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Radii and centres (n,) each, in canvas pixels, in the order in which the leaves fall."""
    smallest = OVERSAMPLING * np.exp(rng.uniform(np.log(1.2), np.log(24.0)))
    radii = np.geomspace(smallest, OVERSAMPLING * rng.uniform(40.0, 200.0), 200)
    # A leaf is seen if its centre lies within a radius of the picture; geomspace has the density 1/r itself.
    reach = (columns + 2.0 * radii) * (rows + 2.0 * radii)
    chance = radii ** (1.0 - EXPONENT) * reach
    chance /= chance.sum()
    covered = float((chance * np.pi * radii**2 / reach).sum())  # share of the picture, by one leaf on average
    num_leaves = int(min(rng.uniform(1.0, 3.5) / covered, MAX_LEAVES))
    radius = rng.choice(radii, num_leaves, p=chance)
    x = rng.uniform(-radius, columns + radius)
    y = rng.uniform(-radius, rows + radius)
    return radius, x, y


def _small_leaves(
    world: World, radius: NDArray[np.float64], x: NDArray[np.float64], y: NDArray[np.float64]
) -> tuple[NDArray[np.int32], list[list[float]]]:
    """Corners (n, k, 2) in OpenCV's fixed point, and colours; these leaves are many, so they are made all at once."""
    rng = world.rng
    shapes = [outline(rng, 1.0) for _ in range(_NUM_SHAPES)]
    most = max(map(len, shapes))
    # A polygon may repeat its last corner.
    unit = np.stack([np.concatenate([shape, shape[-1:].repeat(most - len(shape), 0)]) for shape in shapes])
    corners = radius[:, None, None] * unit[rng.integers(_NUM_SHAPES, size=len(radius))]
    corners += np.stack([x, y], 1)[:, None]
    near = world.colours[rng.integers(len(world.colours), size=len(radius))]
    light, tint = rng.standard_normal((len(radius), 1)), rng.standard_normal((len(radius), 3))
    colours = np.clip(near + world.spread * (light + 0.3 * tint), 0.0, 255.0)
    return _fixed(corners), colours.tolist()


def _fixed(points: NDArray[np.float64]) -> NDArray[np.int32]:
    fixed: NDArray[np.int32] = np.round(points * 2**_FIXED_BITS).astype(np.int32)
    return fixed


def _drop(world: World, canvas: Canvas, corners: NDArray[np.float64], radius: float) -> None:
    """Draws one textured leaf upon what is there."""
    rng, colour = world.rng, world.colour()
    blur = world.between(1.0, 6.0) if rng.random() < 0.15 else 0.0  # out of focus
    border = int(3 * blur) + 2
    left, top = np.maximum(np.floor(corners.min(0)).astype(int) - border, 0)
    right, bottom = np.minimum(np.ceil(corners.max(0)).astype(int) + border, canvas.shape[1::-1])
    if right - left < 2 or bottom - top < 2:
        return
    mask = np.zeros((bottom - top, right - left), np.uint8)
    inside = _fixed(corners - (left, top))
    cv2.fillPoly(mask, [inside], 255, cv2.LINE_AA, _FIXED_BITS)
    below = canvas[top:bottom, left:right]
    if rng.random() < 0.15:
        _shade_below(world, below, mask, radius)
    if blur:
        mask = cv2.GaussianBlur(mask, (0, 0), blur)
    painted = surface(world, colour, bottom - top, right - left)
    if rng.random() < 0.12:  # an edge line, as drawn and built things have
        width = int(world.between(1.0, 6.0))
        ink = tuple(float(value) for value in world.companion(colour))
        cv2.polylines(painted, [inside], True, ink, 2 * width, cv2.LINE_AA, _FIXED_BITS)
    share = mask.astype(np.float32) * np.float32(1.0 / 255.0)
    paint = cv2.convertScaleAbs(np.maximum(painted, 0.0, out=painted))
    below[:] = cv2.blendLinear(paint, np.ascontiguousarray(below), share, 1.0 - share)


def _shade_below(world: World, below: Canvas, mask: NDArray[np.uint8], radius: float) -> None:
    """Darkens what lies beside a leaf, as its shadow does; within the leaf's own box."""
    offset = world.rng.uniform(-0.25, 0.25, 2) * radius
    moved = cv2.warpAffine(mask, np.array([[1, 0, offset[0]], [0, 1, offset[1]]]), mask.shape[::-1])
    shadow = cv2.GaussianBlur(moved, (0, 0), world.between(1.0, max(1.5, 0.15 * radius)))
    strength = world.rng.uniform(0.2, 0.6)
    below[:] = (below * (1.0 - strength * shadow[..., None].astype(np.float32) / 255.0)).astype(np.uint8)


def _twigs(world: World, canvas: Canvas) -> None:
    """Draws a bundle of thin curved lines: hair, grass, wires, branches."""
    rng = world.rng
    size = np.array(canvas.shape[1::-1])
    start, turn = rng.uniform(0.0, 1.0, 2) * size, rng.uniform(0.0, 2.0 * np.pi)
    base, thickness = world.colour(), int(rng.integers(1, 5))
    spread, length = world.between(0.02, 0.5), world.between(30.0, 60.0 + 1.5 * float(size.max()))
    for _ in range(int(world.between(3.0, 80.0))):
        steps = np.linspace(0.0, 1.0, 12)
        angle = turn + spread * rng.standard_normal() + rng.normal(0.0, 0.6) * steps
        path = np.cumsum(np.stack([np.cos(angle), np.sin(angle)], 1), 0) * length / 12
        points = start + rng.normal(0.0, 0.12, 2) * size * spread + path
        colour = np.clip(base + rng.normal(0.0, 18.0), 0.0, 255.0).tolist()
        cv2.polylines(canvas, [_fixed(points)], False, colour, thickness, cv2.LINE_AA, _FIXED_BITS)


def _photograph(world: World, canvas: Canvas, width: int, height: int) -> NDArray[np.uint8]:
    """Returns the canvas as a camera has it, (height, width, 3): uneven light, some lenses soft, some grain."""
    rng = world.rng
    picture = cv2.resize(canvas.astype(np.float32), (width, height), interpolation=cv2.INTER_AREA)
    if rng.random() < 0.5:
        picture = cv2.GaussianBlur(picture, (0, 0), rng.uniform(0.3, 0.9))
    x, y = np.linspace(-1.0, 1.0, width, dtype=np.float32), np.linspace(-1.0, 1.0, height, dtype=np.float32)[:, None]
    slope = rng.normal(0.0, 0.12, 2).astype(np.float32)
    light = np.clip(1.0 + slope[0] * x + slope[1] * y, 0.4, 1.6)
    contrast, black = rng.uniform(0.75, 1.1), rng.uniform(0.0, 12.0)
    picture = picture * (light * contrast)[..., None] + black
    if rng.random() < 0.3:
        picture = picture + rng.normal(0.0, rng.uniform(0.5, 2.5), picture.shape)
    levels: NDArray[np.uint8] = (np.clip(picture, 0.0, 255.0) + 0.5).astype(np.uint8)
    return levels


def render_pictures(num: int, width: int, height: int, seed: int = 0, first: int = 0) -> NDArray[np.uint8]:
    """Returns pictures first..first+num-1 of a world, (num, height, width, 3) RGB uint8.

    Raises:
        ValueError: a number is negative, or a side is below 8.
    """
    if min(num, seed, first) < 0 or min(width, height) < MIN_SIDE:
        raise ValueError(f"num, seed and first must be at least 0, width and height at least {MIN_SIDE}")
    pictures = np.empty((num, height, width, 3), np.uint8)
    for row in range(num):
        pictures[row] = draw(first + row, width, height, seed)
    return pictures


def _render_chunks(num: int, side: int, seed: int, first: int, num_workers: int | None) -> Iterator[NDArray[np.uint8]]:
    """Yields the same pictures in order, some at a time; `num_workers` None means every core for a large set."""
    if num_workers is None:
        num_workers = num_cores() if num >= _POOL_FROM else 0
    starts = range(first, first + num, _CHUNK)
    counts = [min(_CHUNK, first + num - start) for start in starts]
    fixed = ([side] * len(counts), [side] * len(counts), [seed] * len(counts), starts)
    if num_workers <= 1:
        yield from map(render_pictures, counts, *fixed)
        return
    with worker_pool(num_workers, "free some and run the same command again") as pool:
        yield from pool.map(render_pictures, counts, *fixed)


def dead_leaves_cache(
    num_pictures: int,
    patch_px: int,
    margin_px: int,
    seed: int,
    first: int,
    cache_dir: Path,
    num_workers: int | None = None,
) -> Path:
    """Folder of a prepared dataset of square pictures below `cache_dir`: drawn once, found by later calls.

    Raises:
        DataError: the cache cannot be written.
    """
    if num_pictures < 1 or patch_px < MIN_SIDE or min(margin_px, seed, first) < 0:
        raise ValueError(
            f"num_pictures must be at least 1, patch_px at least {MIN_SIDE}, margin_px, seed and first at least 0"
        )
    sources = [f"dead_leaves/{seed}/{index}" for index in range(first, first + num_pictures)]
    settings = {"source": "dead_leaves", "seed": seed, "first": first, "pictures": num_pictures}
    plan = SetPlan(patch_px, patch_px, margin_px, sources, [""] * num_pictures, settings, RENDERER_VERSION)

    def write(folder: Path) -> None:
        with DatasetWriter(folder, plan) as writer:
            for pictures in _render_chunks(num_pictures, patch_px + 2 * margin_px, seed, first, num_workers):
                writer.append(pictures, [Row(hashlib.sha256(picture.tobytes()).hexdigest()) for picture in pictures])
            writer.finish()

    size = f"{patch_px}px-margin{margin_px}"
    return cached_set(
        cache_dir, f"dead_leaves-v{RENDERER_VERSION}-{size}-seed{seed}-from{first}-n{num_pictures}", write
    )
