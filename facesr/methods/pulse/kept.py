"""Results of searches on disk, a file a face, so that a stopped run goes on and no face is searched twice.

A file's name is the digest of everything that decides its content: the input's pixels, the search's settings, the
generator's weights and the code (`facesr.methods.pulse.code`). Ranks and programs that run at once may share the
folder.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from facesr.errors import DataError
from facesr.files import whole_file
from facesr.methods.pulse.code import search_code_sha256
from facesr.methods.pulse.search import Found

_TENSORS = ("picture", "downscaled", "restored", "latents")
# Those that not every result has.
_SPREAD = ("mean", "deviation")
_STATUS = "status"


def key_of(low: NDArray[np.uint8], deciding: Mapping[str, Any]) -> str:
    """Returns the name of a face's result, 64 hexadecimal digits.

    Args:
        low: the input, uint8 (h, w, 3).
        deciding: everything else that moves the result, plain containers.
    """
    height, width = low.shape[:2]
    facts = json.dumps({**deciding, "size": [width, height], "code": search_code_sha256()}, sort_keys=True)
    return hashlib.sha256(facts.encode() + b"\0" + low.tobytes()).hexdigest()


class Kept:
    """A folder of results."""

    def __init__(self, folder: Path) -> None:
        """Takes a folder, which is made at the first result."""
        self._folder = folder

    def get(self, key: str) -> Found | None:
        """Returns the result of that name, None where there is none or it is damaged."""
        path = self._path(key)
        if not path.is_file():
            return None
        try:
            with safe_open(path, "pt") as file:
                status = json.loads((file.metadata() or {})[_STATUS])
                tensors = {name: file.get_tensor(name).numpy() for name in (*_TENSORS, *_SPREAD) if name in file.keys()}  # noqa: SIM118
            return Found(**tensors, **status)
        except (OSError, SafetensorError, ValueError, KeyError, TypeError):
            return None

    def put(self, key: str, found: Found) -> None:
        """Keeps a result; its file is whole or absent.

        Raises:
            DataError: it cannot be written.
        """
        path = self._path(key)
        status = {name: value for name, value in vars(found).items() if name not in (*_TENSORS, *_SPREAD)}
        held = {name: vars(found)[name] for name in (*_TENSORS, *_SPREAD) if vars(found)[name] is not None}
        tensors = {name: torch.from_numpy(np.ascontiguousarray(value)) for name, value in held.items()}
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with whole_file(path) as temporary:
                save_file(tensors, temporary, metadata={_STATUS: json.dumps(status)})
        except (OSError, SafetensorError) as error:
            raise DataError(
                f"{path} cannot be written ({error}); set FACESR_CACHE to a folder with free space."
            ) from error

    def _path(self, key: str) -> Path:
        return self._folder / key[:2] / f"{key}.safetensors"
