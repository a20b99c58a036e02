"""The stream of training batches: which faces come when, where they lie, and how they reach the device.

The order (`facesr.data.feed.order`) is a pure function of (seed, clock), and a rank takes its contiguous share of the
global batch. So the clock alone is the data's position, and resuming needs nothing else.
"""

import queue
import threading
from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from facesr.config import DataSettings
from facesr.data.feed.augment import augment, draw, move_landmarks
from facesr.data.feed.order import Order, pose_weights
from facesr.data.feed.residency import choose_residency, on_device, view_of
from facesr.errors import ConfigError, DataError
from facesr.protocols import FaceSet

NUM_PREFETCHED = 4


class Feed:
    """Endless batches of augmented high-resolution faces for one rank.

    Args:
        faces: the training faces.
        settings: residency, poses and augmentation.
        seed: decides order and augmentation.
        batch_size: faces per step over all ranks.
        rank, world_size: this rank, and the number of ranks, which must divide `batch_size`.
        device: where the batches are wanted.

    Raises:
        ConfigError: the batch does not divide by the ranks, residency is unknown, or pictures that are not square
            are to be turned.
        DataError: there are fewer faces than one batch holds; shares of poses: see `pose_weights`.
    """

    def __init__(
        self,
        faces: FaceSet,
        settings: DataSettings,
        *,
        seed: int,
        batch_size: int,
        rank: int,
        world_size: int,
        device: torch.device,
    ) -> None:
        if batch_size % world_size:
            raise ConfigError(f"batch_size={batch_size} does not divide by {world_size} ranks; choose a multiple.")
        if len(faces) < batch_size:
            raise DataError(
                f"the training set has {len(faces)} faces, fewer than batch_size={batch_size}; "
                "give more faces or a smaller batch_size."
            )
        height, width = (side - 2 * faces.margin for side in faces.images.shape[1:3])
        if settings.augmentation.turn > 0 and height != width:
            raise ConfigError(
                f"data.augmentation.turn={settings.augmentation.turn} turns square pictures only, and the training "
                f"set holds {width}x{height} ones; set data.augmentation.turn=0."
            )
        self.faces, self.settings, self.seed, self.device = faces, settings, seed, device
        self.batch_size, self.share, self.rank = batch_size, batch_size // world_size, rank
        shares, weights = settings.pose_shares, faces.weights
        weights = pose_weights(faces.landmarks, shares, before=weights) if shares else weights
        self.order = Order(len(faces), seed, weights)
        self.residency = choose_residency(settings.residency, faces.images.nbytes, device)
        self._resident = on_device(faces.images, device) if self.residency == "device" else None

    def batches(self, clock: int) -> Iterator[Tensor]:
        """Yields high-resolution batches, float32 (share, 3, H, W) in whole grey levels, from `clock` on."""
        # On a CPU the reading thread would compete with the step for the same cores.
        source = self._prefetched(clock) if self.residency == "host" and self.device.type == "cuda" else None
        while True:
            raw = next(source) if source is not None else self._raw(clock)
            draws = draw(self.settings.augmentation, self.batch_size, self.seed, clock)
            mine = draws.part(self.rank * self.share, (self.rank + 1) * self.share)
            yield augment(raw.permute(0, 3, 1, 2).float() / 255.0, mine, self.faces.margin)
            clock += self.batch_size

    def landmarks(self, clock: int) -> Tensor:
        """Returns the landmarks in the batch at `clock`, float32 (share, 5, 2), moved as its faces are.

        Order and changes are functions of seed and clock: this asks for them again, and `batches` knows nothing of it.
        """
        first, last = self.rank * self.share, (self.rank + 1) * self.share
        known = self.faces.landmarks[self.order.at(clock + first, self.share)]
        draws = draw(self.settings.augmentation, self.batch_size, self.seed, clock).part(first, last)
        height, width = (side - 2 * self.faces.margin for side in self.faces.images.shape[1:3])
        return torch.from_numpy(move_landmarks(known, draws, height, width)).to(self.device)

    def _raw(self, clock: int) -> Tensor:
        """Returns this rank's share of the uint8 faces (share, H, W, 3) at `clock`, on the device."""
        indices = self.order.at(clock + self.rank * self.share, self.share)
        if self._resident is not None:
            return self._resident[torch.from_numpy(indices).to(self.device)]
        return self._read(indices).to(self.device)

    def _read(self, indices: NDArray[np.int64]) -> Tensor:
        """Returns uint8 faces (N, H, W, 3) from the dataset's memory."""
        faces = view_of(self.faces.images)
        found = np.empty((len(indices), *faces.shape[1:]), np.uint8)
        # Reading a memory map in ascending order keeps the disk sequential. One by one and to its place is five times
        # as fast as gathering all and sorting them back, which touches each face three times.
        for place in np.argsort(indices).tolist():
            found[place] = faces[indices[place]]
        return torch.from_numpy(found)

    def _prefetched(self, clock: int) -> Iterator[Tensor]:
        """Yields what `_raw` would, read ahead by a thread and copied from pinned memory."""
        ready: queue.Queue[Tensor | BaseException] = queue.Queue(NUM_PREFETCHED)
        stop = threading.Event()

        def read() -> None:
            position = clock
            while not stop.is_set():
                try:
                    indices = self.order.at(position + self.rank * self.share, self.share)
                    item: Tensor | BaseException = self._read(indices).pin_memory()
                except Exception as error:
                    item = error
                while not stop.is_set():
                    try:
                        ready.put(item, timeout=0.5)
                        break
                    except queue.Full:
                        continue
                position += self.batch_size

        thread = threading.Thread(target=read, name="facesr-feed", daemon=True)
        thread.start()
        try:
            while True:
                item = ready.get()
                if isinstance(item, BaseException):
                    raise item
                yield item.to(self.device, non_blocking=True)
        finally:
            stop.set()
