"""Requests to stop: SIGTERM from a user or a scheduler, SIGUSR1 as Slurm sends it before the time limit."""

import signal
from types import FrameType

import torch

from facesr import dist

# With several ranks a request to stop is agreed on every so many steps.
STOP_CHECK_STEPS = 10


class StopRequest:
    """Remembers that SIGTERM or SIGUSR1 came; the loop saves and leaves when every rank knows."""

    signals = (signal.SIGTERM, signal.SIGUSR1)

    def __init__(self) -> None:
        self.came = False
        self._earlier = [signal.signal(number, self._note) for number in self.signals]

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.came = True

    def agreed(self, num_steps: int, device: torch.device) -> bool:
        """Returns whether a rank was asked to stop; asked of the others only every few steps."""
        if dist.world_size() > 1 and num_steps % STOP_CHECK_STEPS:
            return False
        return dist.any_rank(self.came, device)

    def restore(self) -> None:
        """Puts the earlier handlers back."""
        for number, handler in zip(self.signals, self._earlier, strict=True):
            signal.signal(number, handler)
