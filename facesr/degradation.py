"""Degradations: how a high-resolution picture becomes a low-resolution one, in the competition's way and in others.

A degradation is called with a batch and the place of its first picture in a run, and returns whole grey levels as an
8-bit file would hold them. Whatever is random in it is a pure function of (seed, place of the picture): a resumed run
draws what the uninterrupted one would have drawn, and a picture gets the same on one rank and on eight, in a batch or
alone. The official and the random one are for the whole batch at once, on its device. A chain, which studies use, goes
picture by picture with OpenCV's own JPEG. `blur` and `shrink` are differentiable, the whole is not: it rounds.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Protocol

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from facesr import draws
from facesr.errors import ConfigError
from facesr.faults.canvas import blurred, resized
from facesr.faults.kernels import DOWNSCALERS, gaussian_kernel, motion_kernel, shrink
from facesr.faults.passes import Generator, Pass, saved, through
from facesr.image import luma, round_to_grey_levels, to_float, to_uint8
from facesr.ranges import Range, Share
from facesr.resample import downscale_to_grey_levels, resize_matrix
from facesr.task import SCALE

_RANGES = (
    "blur_sigma", "motion_px", "resize", "noise_sigma", "poisson_photons", "jpeg_quality", "enlarge", "small",
)  # fmt: skip


class Degradation(Protocol):
    """A way from high to low resolution."""

    def __call__(self, high: Tensor, seed: int, position: int) -> Tensor:
        """Returns float32 (N, 3, h, w), whole multiples of 1/255 in [0, 1], for `high` (N, 3, 4h, 4w) in [0, 1].

        Args:
            high: the pictures, on any device.
            seed: decides every draw, together with
            position: the place of the batch's first picture in the run; the others follow.
        """
        ...


class Step(Protocol):
    """One fault of a picture."""

    def __call__(self, picture: Tensor, generator: Generator) -> Tensor:
        """Returns the picture (3, H, W) with the fault, about [0, 1], neither clamped nor rounded."""
        ...


def generators_at(seed: int, position: int, count: int) -> list[Generator]:
    """Returns one random generator for each of the `count` pictures from `position` on."""
    return draws.generators_at(seed, position, count, draws.DEGRADATION)


def blur(picture: Tensor, kernel: NDArray[np.float64]) -> Tensor:
    """Returns the picture (3, H, W) weighted by an odd, square kernel; beyond the border its last pixels go on."""
    height, width = picture.shape[-2:]
    return blurred(picture[None], [(height, width)], [kernel])[0]


@dataclass(frozen=True)
class GaussianBlur:
    """Blur with the same width on both axes."""

    sigma: float  # pixels

    def __call__(self, picture: Tensor, generator: Generator) -> Tensor:
        """Returns the picture (3, H, W) blurred."""
        return blur(picture, gaussian_kernel(self.sigma, self.sigma))


@dataclass(frozen=True)
class MotionBlur:
    """Straight movement of the camera while the shutter was open."""

    length_px: int
    degrees: float | None = None  # None: drawn for each picture

    def __call__(self, picture: Tensor, generator: Generator) -> Tensor:
        """Returns the picture (3, H, W) blurred."""
        degrees = generator.uniform(0.0, 180.0) if self.degrees is None else self.degrees
        return blur(picture, motion_kernel(self.length_px, degrees))


@dataclass(frozen=True)
class GaussianNoise:
    """Independent normal noise, the same everywhere."""

    sigma: float  # grey levels
    grey: bool = False  # the same in all three channels

    def __call__(self, picture: Tensor, generator: Generator) -> Tensor:
        """Returns the picture (3, H, W) with noise."""
        noise = generator.standard_normal((1 if self.grey else 3, *picture.shape[1:]), np.float32)
        return picture + torch.from_numpy(noise).to(picture) * (self.sigma / 255.0)


@dataclass(frozen=True)
class PoissonNoise:
    """Noise of counted light: a value v becomes Poisson(photons * v) / photons, so bright pixels vary most."""

    photons: float  # of a white pixel; fewer are noisier
    grey: bool = False  # the noise of the luma in all three channels

    def __call__(self, picture: Tensor, generator: Generator) -> Tensor:
        """Returns the picture (3, H, W) with noise."""
        clean = picture.detach().clamp(0.0, 1.0).double().cpu()
        if self.grey:
            clean = luma(clean)
        counted = torch.from_numpy(generator.poisson(clean.numpy() * self.photons)) / self.photons
        return picture + (counted - clean).to(picture)


@dataclass(frozen=True)
class Jpeg:
    """A stay in a JPEG file as OpenCV writes it, colours at half the resolution (4:2:0)."""

    quality: int  # 1 to 100, higher is better

    def __call__(self, picture: Tensor, generator: Generator) -> Tensor:
        """Returns the picture (3, H, W) rounded to 8 bits, compressed and read back."""
        pixels = cv2.cvtColor(to_uint8(picture[None])[0], cv2.COLOR_RGB2BGR)
        done, data = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, self.quality])
        if not done:
            raise ValueError("the picture could not be encoded as JPEG")
        decoded = np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR_RGB), np.uint8)
        return to_float(decoded[None])[0].to(picture)


@dataclass(frozen=True)
class Official:
    """The competition's own downscaling, exact to the grey level."""

    def __call__(self, high: Tensor, seed: int, position: int) -> Tensor:
        """Returns the official low-resolution batch; nothing in it is random."""
        return downscale_to_grey_levels(high)


@dataclass(frozen=True)
class Chain:
    """Faults of the high-resolution picture, a downscaling by 4, faults of the low-resolution picture.

    The picture is rounded to 8 bits before and after the last faults, as if each had been a file.
    """

    before: tuple[Step, ...] = ()
    downscaler: str = "official"
    after: tuple[Step, ...] = ()

    def __call__(self, high: Tensor, seed: int, position: int) -> Tensor:
        """Returns the low-resolution batch."""
        generators = generators_at(seed, position, len(high))
        degraded = self._each(self.before, high, generators)
        height, width = high.shape[-2] // SCALE, high.shape[-1] // SCALE
        if self.downscaler == "official":
            low = downscale_to_grey_levels(degraded)
        else:
            low = round_to_grey_levels(shrink(degraded, self.downscaler, height, width))
        return round_to_grey_levels(self._each(self.after, low, generators)) if self.after else low

    @staticmethod
    def _each(steps: Sequence[Step], batch: Tensor, generators: Sequence[Generator]) -> Tensor:
        if not steps:
            return batch
        pictures: list[Tensor] = []
        for picture, generator in zip(batch, generators, strict=True):
            for step in steps:
                picture = step(picture, generator)
            pictures.append(picture)
        return torch.stack(pictures)


@dataclass(frozen=True)
class _Plan:
    """What is done to one picture."""

    first: Pass
    second: Pass
    quality: int  # of the last JPEG; 0 for none
    grows: bool  # in the first pass


@dataclass(frozen=True)
class SecondOrder:
    """Blur, resize, noise, JPEG, and all of it once more, with parameters drawn for each picture.

    Ranges are [mild end, harsh end]; values are drawn evenly between the mild end and `strength` of the way to the
    harsh one. The first pass ends between full size and `resize`, or above full size by `enlarge`; the second one at a
    quarter of the full size, or at a picture smaller by `small`, which is then enlarged to the quarter as `facesr
    restore` enlarges a small face. At the end some are saved as JPEG once more.

    The whole batch is degraded at once on its device; noise is drawn on the CPU. The noise of counted light is normal
    with the variance of the counts.

    Source: X. Wang et al., "Real-ESRGAN: training real-world blind super-resolution with pure synthetic data", ICCV
    workshops 2021, section 3.2. Left out are its generalised and plateau-shaped kernels and its sinc filter; motion
    blur, small pictures, the last JPEG and the share of official ones are ours.

    Raises:
        ConfigError: a range, a share or a downscaler is not as it has to be.
    """

    strength: Annotated[float, Range(0, 1, above=True)]
    blur_sigma: Sequence[
        Annotated[float, Range(0, 100)]
    ]  # pixels of the picture as it is then, on each of two turned axes
    motion_share: Share  # of blurs that are motion instead
    motion_px: Sequence[Annotated[float, Range(1, 1_000)]]
    resize: Sequence[Annotated[float, Range(0.25, 1)]]  # factor of the first pass
    downscalers: Sequence[str]  # one is drawn for each pass
    noise_sigma: Sequence[Annotated[float, Range(0, 255)]]  # grey levels
    poisson_share: Share  # of noises that are Poisson noise instead
    poisson_photons: Sequence[Annotated[float, Range(1, 1e9)]]
    grey_share: Share  # of noises that are the same in all channels
    jpeg_quality: Sequence[Annotated[float, Range(1, 100)]]
    # Runs of before these keys had none of this.
    official_share: Share = 0.0  # of pictures that get the official downscaling and nothing else
    blur_share: Share = 1.0  # of passes that blur
    noise_share: Share = 1.0  # of passes with noise
    jpeg_share: Share = 1.0  # of passes that end as JPEG
    enlarge_share: Share = 0.0  # of first passes that enlarge instead
    enlarge: Sequence[Annotated[float, Range(1, 4)]] = (1.0, 1.0)
    small_share: Share = 0.0  # of second passes that end below a quarter
    small: Sequence[Annotated[float, Range(0.1, 1)]] = (1.0, 1.0)  # as a factor of the quarter
    resaved_share: Share = 0.0  # of pictures that are saved as JPEG once more, at a quarter

    def __post_init__(self) -> None:
        for name in _RANGES:
            values = getattr(self, name)
            if len(values) != 2:
                raise ConfigError(f"degradation.{name}={list(values)} has to be two numbers: mild, harsh.")
        unknown = [name for name in self.downscalers if name not in DOWNSCALERS]
        if unknown or not self.downscalers:
            raise ConfigError(
                f"degradation.downscalers has {', '.join(unknown) or 'no name'}; choose from {', '.join(DOWNSCALERS)}."
            )

    def __call__(self, high: Tensor, seed: int, position: int) -> Tensor:
        """Returns the low-resolution batch."""
        height, width = high.shape[-2:]
        low = high.new_empty((len(high), 3, height // SCALE, width // SCALE), dtype=torch.float32)
        generators = generators_at(seed, position, len(high))
        plans = [self._plan(generator, height, width) for generator in generators]
        plain = [i for i, plan in enumerate(plans) if plan is None]
        if plain:
            low[plain] = downscale_to_grey_levels(high[plain])
        # A canvas's size must not depend on the batch, so the few pictures that grow have one of their own.
        grown = (round(height * max(self.enlarge)), round(width * max(self.enlarge)))
        for grows, shape in ((False, (height, width)), (True, grown)):
            chosen = {i: plan for i, plan in enumerate(plans) if plan and plan.grows == grows}
            if chosen:
                places, own = list(chosen), [generators[i] for i in chosen]
                low[places] = self._together(high[places].float(), list(chosen.values()), own, shape)
        return low

    def _together(
        self, high: Tensor, plans: Sequence[_Plan], generators: Sequence[Generator], shape: tuple[int, int]
    ) -> Tensor:
        height, width = high.shape[-2:]
        quarter = (height // SCALE, width // SCALE)
        firsts, seconds = [plan.first for plan in plans], [plan.second for plan in plans]
        canvas = through(high, [(height, width)] * len(plans), firsts, generators, shape)
        canvas = through(canvas, [step.size for step in firsts], seconds, generators, quarter)
        grid = [quarter] * len(plans)
        if self.small_share:
            sizes = [step.size for step in seconds]
            canvas = resized(canvas, sizes, grid, [resize_matrix] * len(plans), quarter)
        return saved(round_to_grey_levels(canvas), grid, [plan.quality for plan in plans])

    def _plan(self, generator: Generator, height: int, width: int) -> _Plan | None:
        """Returns what is done to a picture; None for the official downscaling alone."""
        if generator.random() < self.official_share:
            return None
        enlarges = generator.random() < self.enlarge_share
        factor_first = self._between(self.enlarge if enlarges else self.resize, generator)
        first = self._pass(generator, round(height * factor_first), round(width * factor_first))
        factor = self._between(self.small, generator) if generator.random() < self.small_share else 1.0
        size = (max(1, round(height // SCALE * factor)), max(1, round(width // SCALE * factor)))
        second = self._pass(generator, *size)
        return _Plan(first, second, self._quality(generator, self.resaved_share), factor_first > 1.0)

    def _pass(self, generator: Generator, height: int, width: int) -> Pass:
        kernel = None
        if generator.random() < self.blur_share:
            if generator.random() < self.motion_share:
                kernel = motion_kernel(round(self._between(self.motion_px, generator)), generator.uniform(0.0, 180.0))
            else:
                widths = [self._between(self.blur_sigma, generator) for _ in range(2)]
                kernel = gaussian_kernel(widths[0], widths[1], generator.uniform(0.0, math.pi))
        downscaler = str(generator.choice(list(self.downscalers)))
        sigma = photons = 0.0
        grey = False
        if generator.random() < self.noise_share:
            grey = bool(generator.random() < self.grey_share)
            if generator.random() < self.poisson_share:
                photons = self._between(self.poisson_photons, generator)
            else:
                sigma = self._between(self.noise_sigma, generator)
        quality = self._quality(generator, self.jpeg_share)
        return Pass((height, width), kernel, downscaler, sigma, photons, grey, quality)

    def _quality(self, generator: Generator, share: float) -> int:
        return round(self._between(self.jpeg_quality, generator)) if generator.random() < share else 0

    def _between(self, ends: Sequence[float], generator: Generator) -> float:
        return float(ends[0] + self.strength * generator.random() * (ends[1] - ends[0]))
