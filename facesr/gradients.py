"""The mean over ranks of one network's gradients: sent after the backward pass, or bucket by bucket while it goes on.

Buckets hold the weights in the reverse of the order in which the network names them, roughly that of the backward
pass. Which weight lies where follows from the network alone, and a bucket leaves only after the one before it, so all
ranks send the same buckets in the same order, whatever order gradients come in and whichever do not come at all.
"""

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from facesr import dist
from facesr.errors import ConfigError

GRADIENT_SYNCS = ("flat", "overlap")
# What gradients are rounded to on their way. They are summed in it, too.
GRADIENT_PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16}
# Roughly how many buckets a network has: the last one, which nothing hides, holds an eighth, and eight latencies are
# little beside the time that weights in the millions take.
NUM_BUCKETS = 8
# Gradients begin at multiples of so many values (64 bytes): products of MKL may depend on where an operand lies.
_ALIGNED = 16


def check_gradient_sync(sync: str, precision: str) -> None:
    """Raises ConfigError for a way of sending gradients, or a precision of them, that is unknown."""
    for key, value, known in (("sync", sync, GRADIENT_SYNCS), ("precision", precision, GRADIENT_PRECISIONS)):
        if value not in known:
            raise ConfigError(f"gradient_{key}={value} is unknown; choose {' or '.join(known)}.")


class GradientMean:
    """Replaces the gradients of a network by their means over ranks, once. Does nothing for one rank.

    A gradient that a rank lacks counts as zero; one that all lack stays None.

    Args:
        parameters: of the network, in the same order on every rank; those that want no gradient are left out.
        sync: flat (one message, sent by `wait`) or overlap (buckets, sent by `sending`).
        precision: fp32, or bf16: half the bytes, and each value is off by at most about n / 2^8 times the mean of its
            sizes on the n ranks.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], sync: str = "flat", precision: str = "fp32") -> None:
        self._buckets: list[_Bucket] = []
        self._dtype = GRADIENT_PRECISIONS[precision]
        self._num_sent = 0
        self._overlaps = sync == "overlap"
        if dist.is_alone():
            return
        self._channel = dist.channel_apart() if self._overlaps else None
        backwards = [each for each in parameters if each.requires_grad][::-1]
        limit = sum(each.numel() for each in backwards) / NUM_BUCKETS if self._overlaps else math.inf
        for parameter in backwards:
            if not self._buckets or self._buckets[-1].size >= limit:
                self._buckets.append(_Bucket())
            self._buckets[-1].add(parameter)
        self._bucket_of = {id(each): number for number, one in enumerate(self._buckets) for each in one.parameters}

    @contextmanager
    def sending(self, last: bool = True) -> Iterator[None]:
        """Sends each bucket while the backward pass inside the block goes on, all of them by its end.

        Args:
            last: whether this is the step's last backward pass that reaches these weights; in others nothing is sent.

        Raises:
            RuntimeError: it was not the last one.
        """
        if not (last and self._overlaps and self._buckets):
            yield
            return
        hooks = [
            parameter.register_post_accumulate_grad_hook(self._arrived)  # type: ignore[no-untyped-call]
            for bucket in self._buckets
            for parameter in bucket.parameters
        ]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()
        self._send(len(self._buckets))

    def _arrived(self, parameter: Tensor) -> None:
        """Notes that a gradient is whole, and sends what is complete as far as no earlier bucket waits."""
        number = self._bucket_of[id(parameter)]
        if number < self._num_sent:
            raise RuntimeError("a gradient was added to after it had been sent; only the last backward pass may send")
        self._buckets[number].awaited.discard(id(parameter))
        ready = self._num_sent
        while ready < len(self._buckets) and not self._buckets[ready].awaited:
            ready += 1
        self._send(ready)

    def _send(self, end: int) -> None:
        """Sends the buckets up to but not `end` that have not been sent."""
        while self._num_sent < end:
            self._buckets[self._num_sent].send(self._channel, self._dtype)
            self._num_sent += 1

    def wait(self) -> None:
        """Sends what has not been sent, and puts the means into the parameters' ``grad``."""
        self._send(len(self._buckets))
        for bucket in self._buckets:
            bucket.receive()
        self._buckets = []


class _Bucket:
    """Gradients that are sent together, and behind them a flag for each that says whether there is one.

    Attributes:
        parameters: whose gradients they are.
        size: number of values so far, flags left out.
        awaited: ids of the parameters whose gradients are not whole.
    """

    def __init__(self) -> None:
        self.parameters: list[nn.Parameter] = []
        self.size = 0
        self.awaited: set[int] = set()
        self._starts: list[int] = []
        self._own: list[bool] = []

    def add(self, parameter: nn.Parameter) -> None:
        """Takes up one parameter more."""
        self.parameters.append(parameter)
        self.awaited.add(id(parameter))
        self._starts.append(self.size)
        self.size += -(-parameter.numel() // _ALIGNED) * _ALIGNED

    @torch.no_grad()
    def send(self, channel: Any, dtype: torch.dtype) -> None:
        """Starts the sum over ranks of what the gradients are now."""
        first = self.parameters[0]
        self._flat = torch.zeros(self.size + len(self.parameters), dtype=dtype, device=first.device)
        self._own = [one.grad is not None for one in self.parameters]
        for start, one in zip(self._starts, self.parameters, strict=True):
            if one.grad is not None:
                _piece(self._flat, start, one).copy_(one.grad)
        flags = self._flat[self.size :]
        if all(self._own):
            flags.fill_(1.0)
        else:
            flags.copy_(torch.tensor(self._own, dtype=torch.float32))
        self._finish = dist.sum_started(self._flat, channel)

    @torch.no_grad()
    def receive(self) -> None:
        """Waits for the sum, and makes the means the parameters' gradients."""
        self._finish()
        # A rank that has all gradients asks no flag: on a GPU asking waits for the device.
        some = self._own if all(self._own) else [flag > 0 for flag in self._flat[self.size :].tolist()]
        mean = self._flat.float()
        mean /= dist.world_size()
        for parameter, start, exists in zip(self.parameters, self._starts, some, strict=True):
            if exists:
                parameter.grad = _piece(mean, start, parameter).to(parameter.dtype)


def _piece(flat: Tensor, start: int, parameter: nn.Parameter) -> Tensor:
    """Returns where a gradient lies in a flat buffer, its axes in the memory order of the parameter: a plain copy."""
    channels_last = parameter.ndim == 4 and parameter.is_contiguous(memory_format=torch.channels_last)
    if parameter.is_contiguous() or channels_last:
        return flat.as_strided(parameter.shape, parameter.stride(), start)
    return flat[start : start + parameter.numel()].view(parameter.shape)
