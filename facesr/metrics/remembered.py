"""Embeddings of originals, kept so that the same pictures are not embedded again for every method that is scored.

Kept in memory, or in files below a folder: ``<judge>/<batch>.npy``. The batch's name is a digest of its pixels. The
judge's name is a digest of its weights and of its answer to a fixed picture, so that a judge that looks at pictures
in another way (size, channel order, scaling, resizing) never meets embeddings of this one.
"""

import contextlib
import hashlib
import os
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from facesr.protocols import Embedder

# Decimals of the answer that count: float32 rounding differs with threads and devices, other preprocessing by more.
_DECIMALS = 3


class RememberedEmbeddings:
    """Embeddings by digest of a batch.

    Args:
        folder: where files are kept; None keeps them in memory.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        self._found: dict[str, NDArray[np.float32]] = {}
        self._judges: dict[int, str] = {}

    def get(self, judge: Embedder, levels: Tensor) -> NDArray[np.float32] | None:
        """Returns the embeddings (N, D) of a batch of grey levels (N, 3, H, W), or None."""
        key = self._key(judge, levels)
        if self._folder is None or key in self._found:
            return self._found.get(key)
        try:
            kept = np.load(self._folder / f"{key}.npy", allow_pickle=False)
        except (OSError, ValueError, EOFError):
            # Not there, or cut off by a kill: embedded again.
            return None
        fits = kept.shape == (len(levels), judge.dim) and kept.dtype == np.float32 and np.isfinite(kept).all()
        return np.asarray(kept, np.float32) if fits else None

    def put(self, judge: Embedder, levels: Tensor, embeddings: NDArray[np.float32]) -> None:
        """Keeps the embeddings of a batch; a folder that cannot be written only costs time later."""
        key = self._key(judge, levels)
        if self._folder is None:
            self._found[key] = embeddings
            return
        path = self._folder / f"{key}.npy"
        temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        with contextlib.suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            with temporary.open("wb") as file:
                np.save(file, embeddings)
            temporary.replace(path)

    def _key(self, judge: Embedder, levels: Tensor) -> str:
        if id(judge) not in self._judges:
            self._judges[id(judge)] = _name_of(judge, levels.device)
        digest = hashlib.sha256(repr(tuple(levels.shape)).encode())
        digest.update(levels.byte().cpu().numpy().tobytes())
        return f"{self._judges[id(judge)]}/{digest.hexdigest()}"


def _name_of(judge: Embedder, device: torch.device) -> str:
    """Returns a name that another network, or another way of looking at pictures, does not have."""
    # Coloured noise of fixed bytes: every pixel counts, and no mirror image or swap of channels looks alike.
    noise = np.frombuffer(hashlib.shake_256(b"facesr").digest(3 * 112 * 96), np.uint8).reshape(1, 3, 112, 96)
    with torch.inference_mode():
        answer = judge(torch.from_numpy(noise.astype(np.float32) / 255.0).to(device)).float().cpu().numpy()
    # Adding zero makes -0 a 0.
    rounded = answer.round(_DECIMALS) + 0.0
    facts = f"{judge.name}\0{judge.weights_sha256}\0".encode()
    return f"{judge.name}-{hashlib.sha256(facts + rounded.tobytes()).hexdigest()[:16]}"
