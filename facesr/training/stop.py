"""The loop's answer to a request to stop (facesr/signals.py): it saves first, and all ranks leave together."""

import signal
from types import FrameType

import torch

from facesr import dist
from facesr.signals import STOP_SIGNALS, requests

# With several ranks a request to stop is agreed on every so many steps.
STOP_CHECK_STEPS = 10


class StopRequest:
    """Remembers that a signal to stop came; the loop saves and leaves when every rank knows."""

    def __init__(self) -> None:
        self.came = False
        self._earlier = [signal.signal(number, self._note) for number in STOP_SIGNALS]
        requests.held = True

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.came = requests.came = True

    def agreed(self, num_steps: int, device: torch.device) -> bool:
        """Returns whether a rank was asked to stop; asked of the others only every few steps."""
        if dist.world_size() > 1 and num_steps % STOP_CHECK_STEPS:
            return False
        return dist.any_rank(self.came, device)

    def restore(self) -> None:
        """Puts the earlier handlers back."""
        requests.held = False
        for number, handler in zip(STOP_SIGNALS, self._earlier, strict=True):
            signal.signal(number, handler)
