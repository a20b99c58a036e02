"""Any face recogniser as an ONNX file, run by onnxruntime on the CPU: for scoring, without gradients."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from facesr.embedders.resize import resize_to
from facesr.errors import ConfigError, WeightsError
from facesr.processes import num_cores
from facesr.ranges import GreyLevels, Range, Side
from facesr.weights import find_weights, sha256_of

# Pictures in one call of the session: larger calls take more memory and are no faster.
MAX_BATCH = 64


class OnnxEmbedder:
    """Unit embeddings of an ONNX recogniser whose one input is (N, 3, height, width) and whose first output (N, D).

    Attributes:
        width: of the network's input, in pixels.
        height: of the network's input, in pixels.
    """

    differentiable = False

    def __init__(
        self,
        file: str,
        width: Side,
        height: Side,
        mean: GreyLevels,
        scale: Annotated[float, Range(0, 1e6, above=True)],
        channels: Literal["rgb", "bgr"] = "rgb",
        weights: str | Path | None = None,
        sha256: str | None = None,
        name: str = "onnx",
        num_threads: Annotated[int, Range(1, 4_096)] | None = None,
    ) -> None:
        """Finds, checks and opens the file.

        Args:
            file: its name in $FACESR_WEIGHTS and in the cache.
            width: of the network's input, in pixels.
            height: of the network's input, in pixels.
            mean: the network sees (grey level - mean) / scale, with grey levels 0..255.
            scale: see `mean`.
            channels: their order at the network's input.
            weights: the file itself, wherever it lies.
            sha256: of the file, checked unless `weights` is given.
            name: the judge's name in reports.
            num_threads: of onnxruntime; None takes as many as cores that this process may use.

        Raises:
            ConfigError: a setting is out of range.
            WeightsError: no file, or one that does not take and give what is said above.
        """
        if channels not in ("rgb", "bgr"):
            raise ConfigError(f"embedder.channels={channels} is unknown; use rgb or bgr.")
        if min(width, height) < 1 or scale == 0:
            raise ConfigError("embedder.width, embedder.height and embedder.scale must be set and not be zero.")
        path = find_weights(file, key="embedder.weights", configured=weights, known_sha256=sha256)
        self.name = name
        self.width, self.height = width, height
        self.weights_sha256 = sha256_of(path)
        self._mean, self._scale, self._channels = mean, scale, channels
        self._session = _opened(path, num_threads or num_cores())
        self._input = _only_input(self._session, path)
        self.dim = self._probe(path)

    def _probe(self, path: Path) -> int:
        """Returns D after one blank picture, so that a wrong size is reported before the first score."""
        try:
            features = self._features(np.zeros((1, 3, self.height, self.width), np.float32))
        except Exception as error:  # onnxruntime's exceptions share no base class
            raise WeightsError(
                f"{path} does not take pictures of {self.width}x{self.height} (input {self._input.shape}); "
                "set embedder.width and embedder.height."
            ) from error
        if features.ndim != 2 or len(features) != 1:
            raise WeightsError(f"{path} gives {features.shape} for one picture where (1, D) is needed.")
        return int(features.shape[1])

    def _features(self, pixels: np.ndarray[Any, np.dtype[np.float32]]) -> np.ndarray[Any, np.dtype[np.float32]]:
        return np.asarray(self._session.run(None, {self._input.name: pixels})[0], np.float32)

    def to(self, device: torch.device | str) -> OnnxEmbedder:
        """Returns itself: onnxruntime stays on the CPU; embeddings go to the device of the pictures."""
        return self

    def __call__(self, batch: Tensor) -> Tensor:
        """Returns unit embeddings, float32 (N, D), of RGB pictures (N, 3, H, W) in [0, 1] of any size."""
        with torch.no_grad():
            pixels = (resize_to(batch.float(), self.width, self.height) * 255.0 - self._mean) / self._scale
            if self._channels == "bgr":
                pixels = pixels.flip(1)
            parts = [self._features(part.contiguous().cpu().numpy()) for part in torch.split(pixels, MAX_BATCH)]
            return F.normalize(torch.from_numpy(np.concatenate(parts)), dim=1).to(batch.device)


def open_session(model: str | bytes, num_threads: int) -> Any:
    """Returns onnxruntime's session of a file's path or of its bytes; its errors have no common base class."""
    # Not before a session is wanted: the package starts a thread as it is imported, and a process with threads cannot
    # fork (tests/ranks.py).
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = num_threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4  # whoever catches an error says it in one sentence
    # Idle workers would otherwise spin on cores that PyTorch needs between two calls.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def _opened(path: Path, num_threads: int) -> Any:
    try:
        return open_session(str(path), num_threads)
    except Exception as error:  # onnxruntime's exceptions share no base class
        raise WeightsError(f"{path} is no readable ONNX file; check that it is complete.") from error


def _only_input(session: Any, path: Path) -> Any:
    inputs = session.get_inputs()
    if len(inputs) != 1:
        raise WeightsError(f"{path} has {len(inputs)} inputs where one, the pictures, is needed.")
    return inputs[0]
