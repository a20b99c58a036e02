"""An ONNX file of `facesr export` as a generator: checked before it is run, by onnxruntime, on the CPU."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
import onnxruntime
import torch
from torch import Tensor, nn

from facesr.embedders.onnx import open_session
from facesr.errors import CheckpointError, ConfigError
from facesr.methods.onnx_about import MADE_WITH, OnnxAbout, is_exported, read_entries
from facesr.methods.onnx_rules import INPUT, OUTPUT, PROBE_PX, check_model
from facesr.task import SCALE

MAX_BYTES = 256 << 20
# Pictures of one call: larger calls take more memory and are no faster.
MAX_BATCH = 16
_LFS = b"version "


@dataclass(frozen=True)
class OnnxFile:
    """An opened file.

    Attributes:
        generator: restores (N, 3, h, w) to (N, 3, 4h, 4w).
        about: what the file says of itself.
        sha256: of the file. The snapshot's, which it states, is no more than a claim about these weights.
        packages: name -> version of what runs it.
    """

    generator: OnnxGenerator
    about: OnnxAbout
    sha256: str
    packages: Mapping[str, str]


class OnnxGenerator(nn.Module):
    """Restores pictures 4x by an onnxruntime session, without gradients: (N, 3, h, w) to (N, 3, 4h, 4w), unclamped."""

    whole_batches = True  # onnxruntime has threads of its own

    def __init__(self, model: bytes, path: Path, num_threads: int) -> None:
        """Opens a session of a checked model.

        Args:
            model: the bytes of the file.
            path: its place, for errors.
            num_threads: of onnxruntime inside one call.

        Raises:
            CheckpointError: onnxruntime cannot run it.
        """
        super().__init__()
        self._path = path
        try:
            self._session: Any = open_session(model, num_threads)
        except Exception as error:  # onnxruntime's exceptions share no base class
            raise CheckpointError(f"{path} cannot be opened by onnxruntime; export the snapshot again.") from error

    def forward(self, low: Tensor) -> Tensor:
        """Returns the restored faces, float32 (N, 3, 4h, 4w), unclamped.

        Raises:
            CheckpointError: the graph cannot restore pictures of this size, or gives another one.
            RuntimeError: a gradient is asked for.
        """
        if torch.is_grad_enabled() and low.requires_grad:
            raise RuntimeError(f"{self._path} is an ONNX file, through which no gradient flows; use its snapshot.")
        return torch.cat([self._restored(part) for part in torch.split(low, MAX_BATCH)])

    def _restored(self, low: Tensor) -> Tensor:
        num, channels, height, width = low.shape
        try:
            found = self._session.run([OUTPUT], {INPUT: low.detach().float().contiguous().numpy()})[0]
        except Exception as error:  # onnxruntime's exceptions share no base class
            raise CheckpointError(
                f"{self._path} cannot restore pictures of {width}x{height}; export the snapshot again."
            ) from error
        if found.shape != (num, channels, SCALE * height, SCALE * width):
            raise CheckpointError(
                f"{self._path} does not enlarge pictures of {width}x{height} {SCALE}x; export the snapshot again."
            )
        return torch.from_numpy(found)


def open_onnx(path: Path, device: torch.device) -> OnnxFile:
    """Returns an ONNX file of `facesr export`, which may come from a stranger, ready to restore on the CPU.

    Raises:
        CheckpointError: it is missing, damaged, no file of `facesr export`, or breaks a rule of
            `facesr.methods.onnx_rules`.
        ConfigError: the device is not the CPU.
    """
    if device.type != "cpu":
        raise ConfigError(f"{path} is an ONNX file, which runs on the CPU; give device=cpu, or method=SNAPSHOT.")
    data = _bytes_of(path)
    model, about = read_exported(data, path)
    del model
    generator = OnnxGenerator(data, path, torch.get_num_threads())
    generator.eval()
    # At other sizes each call checks what comes back.
    with torch.no_grad():
        generator(torch.full((1, 3, PROBE_PX, PROBE_PX), 0.5))
    packages = {"onnxruntime": str(onnxruntime.__version__)}
    return OnnxFile(generator, about, hashlib.sha256(data).hexdigest(), packages)


def read_exported(data: bytes, path: Path) -> tuple[onnx.ModelProto, OnnxAbout]:
    """Returns the checked model in the bytes of a file, and what it says of itself; nothing is run.

    Args:
        data: the file's bytes.
        path: its place, for errors.

    Raises:
        CheckpointError: see `open_onnx`.
    """
    if data.startswith(_LFS):
        raise CheckpointError(f"{path} is a pointer of Git LFS, not the file itself; fetch it with git lfs pull.")
    try:
        model = onnx.ModelProto.FromString(data)
        entries = {entry.key: entry.value for entry in model.metadata_props}
    except Exception as error:  # protobuf's errors are not onnx's own
        raise CheckpointError(f"{path} is no readable ONNX file; check that it is complete.") from error
    if not is_exported(entries):
        raise CheckpointError(
            f"{path} was not written by facesr export, so nothing says which judges its training knew; export a "
            "snapshot with: facesr export SNAPSHOT FILE.onnx."
        )
    if MADE_WITH in entries:
        raise CheckpointError(
            f"{path} was exported with --flip or --fixed, for other programs; export the snapshot again without them: "
            "facesr takes any size, and the mirror image by itself."
        )
    try:
        about = read_entries(entries)
        check_model(model)
    except ValueError as error:
        raise CheckpointError(f"{path} is no sound ONNX file of facesr: {error}; export the snapshot again.") from error
    # A name of the graph that is no UTF-8 comes as bytes, which nothing here expects.
    except (TypeError, AttributeError, LookupError) as error:
        raise CheckpointError(f"{path} is no sound ONNX file of facesr; export the snapshot again.") from error
    return model, about


def _bytes_of(path: Path) -> bytes:
    if not path.is_file():
        raise CheckpointError(f"{path} is not a file; give an ONNX file of facesr export.")
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror or error}.") from error
    if len(data) > MAX_BYTES:
        raise CheckpointError(f"{path} is larger than {MAX_BYTES >> 20} MiB, which no generator is; give another file.")
    return data
