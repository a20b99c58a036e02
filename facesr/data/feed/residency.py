"""Where the training faces lie: on the device, where no batch has to be sent, or in the host's memory map."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from facesr.errors import ConfigError

# Share of the free accelerator memory that the training faces may take under residency=auto.
MAX_DEVICE_SHARE = 0.4
PART_BYTES = 256 * 1024 * 1024  # of the faces, on their way to a device


def check_residency(residency: str) -> None:
    """Raises ConfigError unless `residency` is auto, device or host."""
    if residency not in ("auto", "device", "host"):
        raise ConfigError(f"data.residency={residency} is unknown; choose auto, device or host.")


def choose_residency(residency: str, num_bytes: int, device: torch.device) -> str:
    """Returns where training faces of so many bytes lie, ``device`` or ``host``; none of them is read for it.

    Raises:
        ConfigError: see `check_residency`.
    """
    check_residency(residency)
    if residency != "auto":
        return residency
    if device.type != "cuda":
        # The memory map is already in this memory; copying it would only double it.
        return "host"
    free, _ = torch.cuda.mem_get_info(device)
    return "device" if num_bytes < MAX_DEVICE_SHARE * free else "host"


def on_device(images: NDArray[np.uint8], device: torch.device) -> Tensor:
    """Returns pictures (N, H, W, 3) on a device, read once in order; the host holds one part of them at a time."""
    found = torch.empty(images.shape, dtype=torch.uint8, device=device)
    step = max(1, PART_BYTES // max(1, images[:1].nbytes))
    for first in range(0, len(images), step):
        found[first : first + step] = torch.from_numpy(np.array(images[first : first + step])).to(device)
    return found


def view_of(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Returns what single pictures (H, W, 3) are read from: a memory map's own indexing is slow."""
    return np.asarray(images) if isinstance(images, np.ndarray) else images
