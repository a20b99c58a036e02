"""What benchmarks share: the time of one call on a device."""

import time
from collections.abc import Callable

import torch


def seconds_of(work: Callable[[], object], device: torch.device, seconds: float) -> float:
    """Returns the mean seconds of one call, over at least `seconds` and two calls after a first one."""
    wait = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    work()
    wait()
    start, num_calls = time.perf_counter(), 0
    while num_calls < 2 or time.perf_counter() - start < seconds:
        work()
        num_calls += 1
    wait()
    return (time.perf_counter() - start) / num_calls
