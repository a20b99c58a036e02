"""What the built-in judge is taught: the teacher's embeddings, and its inner features in short.

Part of `facesr.training.distill.distill`. A student that is shown embeddings alone learns the persons of its pictures
better than how to tell strangers apart. The teacher's inner features say how it sees each place of a face, which is the
same for everybody.

Source: Romero et al., "FitNets: hints for thin deep nets", ICLR 2015.
"""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from facesr.data.packed.cache import cached_set
from facesr.embedders.facenet import DIM, FaceNet
from facesr.embedders.frozen import Precision
from facesr.image import to_float
from facesr.training.distill.faces import Pictures, batches, bicubic_copies
from facesr.training.precision import has_bf16

Vectors = NDArray[np.float32]


@dataclass(frozen=True)
class Hint:
    """A layer of the teacher, the size it is brought to, and how many of its principal axes are taught."""

    layer: str
    height: int
    width: int
    num_axes: int


# One for each of the student's stages, at its size; the last is what the embedding is made of.
HINTS = (Hint("repeat_1", 14, 12, 48), Hint("repeat_2", 7, 6, 128), Hint("repeat_3", 3, 3, 192))
_AXES_FROM = 384  # pictures that show the principal axes, and as many bicubic ones


@dataclass(frozen=True)
class Lessons:
    """What the teacher says of pictures (N, 2, 112, 96, 3).

    Attributes:
        vectors: unit embeddings (N, 2, 512).
        hints: for each of `HINTS` features (N, 2, C, h, w) of mean square 1.
    """

    vectors: Vectors
    hints: list[NDArray[np.float16]]


class Teacher:
    """FaceNet, its embeddings and its inner features along their principal axes."""

    def __init__(self, weights: Path | None, pictures: Pictures, seed: int = 0) -> None:
        """Loads FaceNet and finds the principal axes of its inner features from some pictures (N, 112, 96, 3).

        Raises:
            WeightsError: as `FaceNet` does.
        """
        precision: Precision = "bf16" if has_bf16(torch.device("cpu")) else "fp32"
        self.network = FaceNet("vggface2", weights=weights, precision=precision)
        self._found: list[Tensor] = []
        for hint in HINTS:
            layer = self.network.network.get_submodule(hint.layer)
            layer.register_forward_hook(lambda _layer, _inputs, output: self._found.append(output))
        some = pictures[np.random.default_rng(seed).permutation(len(pictures))[:_AXES_FROM]]
        seen = [self._see(part)[1] for part in batches(np.concatenate([some, bicubic_copies(some)]))]
        self._axes = [
            principal_axes(torch.cat([maps[number].movedim(1, -1).flatten(0, -2) for maps in seen]), hint.num_axes)
            for number, hint in enumerate(HINTS)
        ]

    def _see(self, pictures: Pictures) -> tuple[Tensor, list[Tensor]]:
        """Returns unit embeddings (N, 512) and all channels of the inner features, at the student's sizes."""
        self._found.clear()
        # With gradients enabled FaceNet runs in PyTorch, whose layers can be listened to, and not by onnxruntime. None
        # are computed: neither its weights nor the pictures ask for any.
        with torch.enable_grad():
            vectors = self.network(to_float(pictures))
            maps = [
                F.interpolate(found.float(), size=(hint.height, hint.width), mode="bilinear", antialias=True)
                for hint, found in zip(HINTS, self._found, strict=True)
            ]
        return vectors, maps

    def teach(self, pairs: Pictures, folder: Path, label: str) -> Lessons:
        """Returns the lessons of pairs (N, 2, 112, 96, 3); made once, kept below the folder (60 kB a pair)."""
        digest = hashlib.sha256(np.ascontiguousarray(pairs).data)
        digest.update(repr((self.network.weights_sha256, self.network.precision, HINTS)).encode())
        for mean, axes in self._axes:
            digest.update(mean.numpy().data)
            digest.update(axes.numpy().data)
        names = ["vectors", *(hint.layer for hint in HINTS)]

        def write(fresh: Path) -> None:
            self._write(pairs, [fresh / f"{name}.npy" for name in names], label)
            made = {"teacher": self.network.name, "num_pairs": len(pairs)}
            (fresh / "set.json").write_text(json.dumps(made), encoding="utf-8")

        kept = cached_set(folder, f"{self.network.name}-{digest.hexdigest()[:16]}", write)
        vectors, *hints = (np.load(kept / f"{name}.npy", mmap_mode="r") for name in names)
        return Lessons(vectors, hints)

    def _write(self, pairs: Pictures, files: list[Path], label: str) -> None:
        shapes = [(DIM,), *((hint.num_axes, hint.height, hint.width) for hint in HINTS)]
        arrays = [
            np.lib.format.open_memmap(
                file, mode="w+", dtype=np.float16 if number else np.float32, shape=(len(pairs), 2, *shape)
            )
            for number, (file, shape) in enumerate(zip(files, shapes, strict=True))
        ]
        start, done = time.monotonic(), 0
        for part in batches(pairs):
            vectors, maps = self._see(part.reshape(-1, *part.shape[2:]))
            short = [along(found, mean, axes) for found, (mean, axes) in zip(maps, self._axes, strict=True)]
            for array, value in zip(arrays, [vectors, *short], strict=True):
                array[done : done + len(part)] = value.reshape(len(part), 2, *value.shape[1:]).numpy()
            done += len(part)
            if done % 1280 == 0:
                print(f"teacher, {label}: {done} of {len(pairs)} pairs, {time.monotonic() - start:.0f} s", flush=True)
        for array in arrays:
            array.flush()


def principal_axes(features: Tensor, num_axes: int) -> tuple[Tensor, Tensor]:
    """Returns the mean (C,) of features (M, C) and their first principal axes (C, num_axes).

    The axes are scaled alike, so that what they show has mean square 1.
    """
    mean = features.mean(0)
    centred = features - mean
    variance, axes = torch.linalg.eigh(centred.t() @ centred / len(features))
    scale = variance[-num_axes:].mean().clamp(min=1e-12).sqrt()
    return mean, (axes[:, -num_axes:].flip(1) / scale).contiguous()


def along(features: Tensor, mean: Tensor, axes: Tensor) -> Tensor:
    """Returns features (N, C, h, w) along the axes (C, K), (N, K, h, w)."""
    return ((features.movedim(1, -1) - mean) @ axes).movedim(-1, 1)
