"""What the parts of the harness expect of each other, as typing protocols (structural, nothing to inherit)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from torch import Tensor


@runtime_checkable
class Embedder(Protocol):
    """A face recogniser used as a judge.

    Attributes:
        name: the configuration's name, e.g. ``facenet_vggface2``.
        dim: length D of an embedding.
        weights_sha256: sha256 of the weights file, the identity of the judge in every report.
        differentiable: whether gradients flow from the embedding to the pictures.
    """

    name: str
    dim: int
    weights_sha256: str
    differentiable: bool

    def __call__(self, batch: Tensor) -> Tensor:
        """Returns unit embeddings, float32 (N, D), of RGB pictures (N, 3, H, W) in [0, 1] of any size."""
        ...


@dataclass(frozen=True)
class MetricInputs:
    """One batch of pictures to score, all float32 in [0, 1], made from uint8 pictures.

    Attributes:
        restored: (N, 3, H, W), what is scored.
        high: (N, 3, H, W), the truth.
        low: (N, 3, H/4, W/4), the input it was restored from, or None when it is not known.
    """

    restored: Tensor
    high: Tensor
    low: Tensor | None = None


class Column(Protocol):
    """A figure per picture, with what a reader needs to know about it as data.

    Attributes:
        name: key in summary.json, e.g. ``psnr_rgb`` or ``is/facenet_vggface2``.
        unit: e.g. ``dB`` or ``1``.
        higher_is_better: direction.
        version: raised by any change that may move a score.
        conditions: the protocol of the figure in a few words: colour, border, rounding, model.
    """

    name: str
    unit: str
    higher_is_better: bool
    version: int
    conditions: str


@runtime_checkable
class Metric(Column, Protocol):
    """A column that is computed from the pictures.

    Attributes:
        needs_low: whether `MetricInputs.low` must be given.
    """

    needs_low: bool

    def __call__(self, inputs: MetricInputs) -> NDArray[np.float64]:
        """Returns one finite value per picture, float64 (N,)."""
        ...


@runtime_checkable
class LatentGenerator(Protocol):
    """A generator of faces whose latent space can be searched.

    Attributes:
        name: the configuration's name, e.g. ``eigenfaces``.
        weights_sha256: of its weights file; empty for one without.
        num_latents: vectors L of one face (18 for StyleGAN at 1024 pixels); with tiled latents all are equal.
        latent_dim: length D of a vector, 512.
        size: (width, height) of a picture.
        noise_shapes: shapes (1, h, w) of the noise maps, or (M, h, w) of latent maps; empty for a generator without.
        noise_constants: maps of these shapes where the generator was made for maps that never change; else empty, and
            a search draws them.
        mapped_mean: float32 (D,), mean of the mapping outputs passed through the inverse of their last activation.
        mapped_std: float32 (D,), their standard deviation; `map` is activation(latents * mapped_std + mapped_mean).
    """

    name: str
    weights_sha256: str
    num_latents: int
    latent_dim: int
    size: tuple[int, int]
    noise_shapes: tuple[tuple[int, int, int], ...]
    noise_constants: tuple[Tensor, ...]
    mapped_mean: Tensor
    mapped_std: Tensor

    def map(self, latents: Tensor) -> Tensor:
        """Returns what the synthesis takes, (N, L, D), for standard normal latents (N, L, D)."""
        ...

    def synthesise(self, mapped: Tensor, noises: Sequence[Tensor]) -> Tensor:
        """Returns pictures (N, 3, height, width), about [0, 1] and not clamped, differentiable in both arguments.

        Args:
            mapped: (N, L, D).
            noises: one map (N, 1, h, w) for each of `noise_shapes`.
        """
        ...


class FaceSet(Protocol):
    """Faces held as one uint8 array, in memory or memory-mapped.

    Attributes:
        images: uint8 (N, H + 2 * margin, W + 2 * margin, 3), RGB.
        margin: pixels stored around the crop on each side, for augmentation without borders.
        identity: int64 (N,), -1 where unknown.
        landmarks: float32 (N, 5, 2), x and y in pixels of the crop without margin, pixel centres at whole numbers; NaN
            where unknown. Left eye, right eye, nose tip, left and right mouth corner as seen in the picture.
        weights: float64 (N,) of mean 1, how often each face comes in an epoch on average; None: once.
    """

    images: NDArray[np.uint8]
    margin: int
    identity: NDArray[np.int64]
    landmarks: NDArray[np.float32]
    weights: NDArray[np.float64] | None

    def __len__(self) -> int: ...
