"""Degradations: how a high-resolution picture becomes a low-resolution one, in the competition's way and in others.

A degradation is called with a batch and the place of its first picture in a run, and returns whole grey levels as an
8-bit file would hold them. Whatever is random in it is a pure function of (seed, place of the picture): a resumed run
draws what the uninterrupted one would have drawn, and a picture gets the same on one rank and on eight, in a batch or
alone. The official one is for the whole batch at once; the others go picture by picture, noise and JPEG on the CPU,
because every picture has parameters of its own. `blur` and `shrink` are differentiable, the whole is not: it rounds.
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
from torch.nn import functional

from facesr import draws
from facesr.errors import ConfigError
from facesr.image import luma, round_to_grey_levels, to_float, to_uint8
from facesr.ranges import Range, Share
from facesr.resample import downscale_to_grey_levels, resize
from facesr.task import SCALE

DOWNSCALERS = ("official", "bicubic", "nearest", "bilinear", "area", "lanczos")
LANCZOS_LOBES = 3
# Kernels end where a Gaussian has fallen to a hundredth.
_SIGMAS = 3.0

Generator = np.random.Generator


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


def shrink(batch: Tensor, downscaler: str, height: int, width: int) -> Tensor:
    """Returns the batch (N, 3, H, W) resized to (N, 3, height, width), unrounded and unclamped.

    ``official`` is the competition's antialiased cubic interpolation (`facesr.resample`), ``lanczos`` antialiased with
    three lobes, ``area`` the mean over a pixel's area; ``bicubic`` (a = -0.75), ``bilinear`` and ``nearest`` (the pixel
    at or after the centre) look at the neighbours only and alias.

    Raises:
        ConfigError: the downscaler is unknown.

    Source: OpenCV's resize with INTER_CUBIC, INTER_LINEAR and INTER_AREA, and Pillow's with LANCZOS and NEAREST, which
    ``tests/test_degradation.py`` compares with.
    """
    match downscaler:
        case "official":
            return resize(batch, height, width)
        case "lanczos":
            rows, columns = (
                torch.from_numpy(lanczos_matrix(*sizes)).to(batch)
                for sizes in ((batch.shape[-2], height), (batch.shape[-1], width))
            )
            return torch.matmul(torch.matmul(rows, batch), columns.t())
        case "bicubic" | "bilinear":
            return functional.interpolate(batch, (height, width), mode=downscaler, align_corners=False)
        case "area":
            return functional.interpolate(batch, (height, width), mode="area")
        case "nearest":
            return functional.interpolate(batch, (height, width), mode="nearest-exact")
    raise ConfigError(f"downscaler {downscaler} is unknown; choose one of {', '.join(DOWNSCALERS)}.")


def lanczos_matrix(size_in: int, size_out: int) -> NDArray[np.float64]:
    """Returns the (size_out, size_in) matrix that resizes one axis with a Lanczos window of three lobes, rows sum to 1.

    When shrinking, the kernel is stretched by the factor; at the border it is cut off.

    Source: C. E. Duchon, "Lanczos filtering in one and two dimensions", J. Appl. Meteor. 18, 1979, equation 9.
    """
    stretch = max(size_in / size_out, 1.0)
    centre = (np.arange(size_out) + 0.5) * size_in / size_out
    x = (np.arange(size_in) + 0.5 - centre[:, None]) / stretch
    weights = np.where(np.abs(x) < LANCZOS_LOBES, np.sinc(x) * np.sinc(x / LANCZOS_LOBES), 0.0)
    matrix: NDArray[np.float64] = weights / weights.sum(axis=1, keepdims=True)
    return matrix


def gaussian_kernel(sigma_x: float, sigma_y: float, radians: float = 0.0) -> NDArray[np.float64]:
    """Returns a Gaussian kernel (K, K) that sums to 1; its standard deviations, in pixels, lie along turned axes."""
    reach = np.arange(-math.ceil(_SIGMAS * max(sigma_x, sigma_y)), math.ceil(_SIGMAS * max(sigma_x, sigma_y)) + 1)
    y, x = np.meshgrid(reach, reach, indexing="ij")
    along = math.cos(radians) * x + math.sin(radians) * y
    across = math.cos(radians) * y - math.sin(radians) * x
    # A width of zero leaves the middle alone.
    kernel = np.exp(-0.5 * ((along / max(sigma_x, 1e-6)) ** 2 + (across / max(sigma_y, 1e-6)) ** 2))
    total: NDArray[np.float64] = kernel / kernel.sum()
    return total


def motion_kernel(length_px: int, degrees: float) -> NDArray[np.float64]:
    """Returns the kernel (K, K) of a straight, even movement over `length_px` pixels, which sums to 1.

    0 degrees is sideways and 90 upright. The path's points, one pixel apart, are shared among their four neighbours.
    """
    radius = (length_px - 1) // 2 + 1
    kernel = np.zeros((2 * radius + 1, 2 * radius + 1))
    for offset in np.arange(length_px) - (length_px - 1) / 2:
        # Rounded, so that a sine of 1e-17 does not spread a straight path over two rows.
        x = round(radius + offset * math.cos(math.radians(degrees)), 9)
        y = round(radius - offset * math.sin(math.radians(degrees)), 9)
        left, top = math.floor(x), math.floor(y)
        for row, share_y in ((top, 1 - (y - top)), (top + 1, y - top)):
            for column, share_x in ((left, 1 - (x - left)), (left + 1, x - left)):
                kernel[row, column] += share_y * share_x / length_px
    return kernel


def blur(picture: Tensor, kernel: NDArray[np.float64]) -> Tensor:
    """Returns the picture (3, H, W) weighted by an odd, square kernel; beyond the border its last pixels go on."""
    radius = kernel.shape[0] // 2
    padded = functional.pad(picture[None], (radius,) * 4, mode="replicate")
    weight = torch.from_numpy(kernel).to(picture).expand(3, 1, -1, -1)
    return functional.conv2d(padded, weight, groups=3)[0]


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
class SecondOrder:
    """Blur, resize, noise, JPEG, and all of it once more, with parameters drawn for each picture.

    Ranges are [mild end, harsh end]; values are drawn evenly between the mild end and `strength` of the way to the
    harsh one. The first pass ends between full size and `resize`, the second one at a quarter of the full size.

    Source: X. Wang et al., "Real-ESRGAN: training real-world blind super-resolution with pure synthetic data", ICCV
    workshops 2021, section 3.2. Left out are its generalised and plateau-shaped kernels, its sinc filter, and enlarging
    in the first pass; motion blur is ours.

    Raises:
        ConfigError: a range, a share or a downscaler is not as it has to be.
    """

    strength: Annotated[float, Range(0, 1, above=True)]
    blur_sigma: Sequence[
        Annotated[float, Range(0, 100)]
    ]  # pixels of the picture as it is then, on each of two turned axes
    motion_share: Share  # of passes that blur by motion instead
    motion_px: Sequence[Annotated[float, Range(1, 1_000)]]
    resize: Sequence[Annotated[float, Range(0.25, 1)]]  # factor of the first pass
    downscalers: Sequence[str]  # one is drawn for each pass
    noise_sigma: Sequence[Annotated[float, Range(0, 255)]]  # grey levels
    poisson_share: Share  # of passes with Poisson noise instead
    poisson_photons: Sequence[Annotated[float, Range(1, 1e9)]]
    grey_share: Share  # of passes with noise that is the same in all channels
    jpeg_quality: Sequence[Annotated[float, Range(1, 100)]]

    def __post_init__(self) -> None:
        for name in ("blur_sigma", "motion_px", "resize", "noise_sigma", "poisson_photons", "jpeg_quality"):
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
        pictures: list[Tensor] = []
        for picture, generator in zip(high, generators_at(seed, position, len(high)), strict=True):
            factor = self._between(self.resize, generator)
            once = self._pass(picture, generator, round(height * factor), round(width * factor))
            pictures.append(self._pass(once, generator, height // SCALE, width // SCALE))
        return round_to_grey_levels(torch.stack(pictures))

    def _between(self, ends: Sequence[float], generator: Generator) -> float:
        return float(ends[0] + self.strength * generator.random() * (ends[1] - ends[0]))

    def _pass(self, picture: Tensor, generator: Generator, height: int, width: int) -> Tensor:
        if generator.random() < self.motion_share:
            picture = MotionBlur(round(self._between(self.motion_px, generator)))(picture, generator)
        else:
            widths = [self._between(self.blur_sigma, generator) for _ in range(2)]
            picture = blur(picture, gaussian_kernel(widths[0], widths[1], generator.uniform(0.0, math.pi)))
        downscaler = str(generator.choice(list(self.downscalers)))
        picture = shrink(picture[None], downscaler, height, width)[0].clamp(0.0, 1.0)
        grey = bool(generator.random() < self.grey_share)
        if generator.random() < self.poisson_share:
            picture = PoissonNoise(self._between(self.poisson_photons, generator), grey)(picture, generator)
        else:
            picture = GaussianNoise(self._between(self.noise_sigma, generator), grey)(picture, generator)
        return Jpeg(round(self._between(self.jpeg_quality, generator)))(picture, generator)
