"""Embeddings of originals, kept so that the same pictures are not embedded again for every method that is scored.

Kept in memory, or in files below a folder: ``<judge>/<batch>.npy``. The batch's name is a digest of its pixels. The
judge's name is a digest of its weights and of its answer to a fixed picture, so that a judge that looks at pictures
in another way (size, channel order, scaling, resizing) never meets embeddings of this one.
"""

import contextlib
import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from facesr.files import whole_file
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

    def embeddings(
        self, judge: Embedder, levels: Tensor, embed: Callable[[], NDArray[np.float32]]
    ) -> NDArray[np.float32]:
        """Returns the embeddings (N, D) of a batch of grey levels (N, 3, H, W), by `embed` where none are kept."""
        key = self._key(judge, levels)
        if self._folder is None:
            if key not in self._found:
                self._found[key] = embed()
            return self._found[key]
        path = self._folder / f"{key}.npy"
        kept = _read(path, (len(levels), judge.dim))
        if kept is None:
            kept = embed()
            _write(path, kept)
        return kept

    def _key(self, judge: Embedder, levels: Tensor) -> str:
        if id(judge) not in self._judges:
            self._judges[id(judge)] = _name_of(judge, levels.device)
        digest = hashlib.sha256(repr(tuple(levels.shape)).encode())
        digest.update(levels.byte().cpu().numpy().tobytes())
        return f"{self._judges[id(judge)]}/{digest.hexdigest()}"


def _read(path: Path, shape: tuple[int, int]) -> NDArray[np.float32] | None:
    try:
        kept = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        # Not there, or cut off by a kill: embedded again.
        return None
    fits = kept.shape == shape and kept.dtype == np.float32 and np.isfinite(kept).all()
    return np.asarray(kept, np.float32) if fits else None


def _write(path: Path, embeddings: NDArray[np.float32]) -> None:
    """Writes a file; a folder that cannot be written only costs time later."""
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(path) as temporary, temporary.open("wb") as file:
            np.save(file, embeddings)


def _name_of(judge: Embedder, device: torch.device) -> str:
    """Returns a name that another network, or another way of looking at pictures, does not have."""
    # Coloured noise of fixed bytes: every pixel counts, and no mirror image or swap of channels looks alike.
    noise = np.frombuffer(hashlib.shake_256(b"facesr").digest(3 * 112 * 96), np.uint8).reshape(1, 3, 112, 96)
    with torch.inference_mode():
        answer = judge(torch.from_numpy(noise.astype(np.float32) / 255.0).to(device)).float().cpu().numpy()
    # Adding zero makes -0 a 0.
    rounded = answer.round(_DECIMALS) + 0.0
    precision = getattr(judge, "precision", "fp32")
    facts = f"{judge.name}\0{judge.weights_sha256}\0{'' if precision == 'fp32' else precision}".encode()
    return f"{judge.name}-{hashlib.sha256(facts + rounded.tobytes()).hexdigest()[:16]}"
