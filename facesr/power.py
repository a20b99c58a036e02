"""Electric power of an accelerator, read through NVML where the machine offers it.

`pynvml` is optional (pip install nvidia-ml-py): without it, without an NVIDIA device or without the right to
read it every answer is None, never a guess. A reading is of the whole board, whoever uses it.
"""

import importlib
import itertools
import threading
import time
from types import TracebackType
from typing import Any

import torch


class PowerMeter:
    """Reads the power of one device, and sums its energy while used as a context manager.

    Attributes:
        joules: energy of the last ``with`` block, None where it cannot be measured.
    """

    def __init__(self, device: torch.device, interval_seconds: float = 0.1) -> None:
        """Finds the device in NVML; `interval_seconds` is the time between readings inside a ``with`` block."""
        self.joules: float | None = None
        self._interval_seconds = interval_seconds
        self._nvml, self._handle = _find(device)
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._counter_start: float | None = None
        self._readings: list[tuple[float, float]] = []

    def watts(self) -> float | None:
        """Returns the power drawn now in watts, None where NVML does not offer it."""
        if self._handle is None:
            return None
        try:
            return float(self._nvml.nvmlDeviceGetPowerUsage(self._handle)) / 1000.0
        except self._nvml.NVMLError:
            return None

    def _counter(self) -> float | None:
        """Returns the joules counted by the device since its driver was loaded (Volta and later)."""
        if self._handle is None:
            return None
        try:
            return float(self._nvml.nvmlDeviceGetTotalEnergyConsumption(self._handle)) / 1000.0
        except self._nvml.NVMLError:
            return None

    def __enter__(self) -> "PowerMeter":
        self.joules, self._readings = None, []
        self._counter_start = self._counter()
        if self._counter_start is None and self._read_once():
            self._stop.clear()
            self._thread = threading.Thread(target=self._sample, name="power", daemon=True)
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._counter_start is not None:
            end = self._counter()
            self.joules = None if end is None else end - self._counter_start
        if self._thread is not None:
            self._stop.set()
            self._thread.join()
            self._thread = None
            self._read_once()
            self.joules = integrate(self._readings)

    def _read_once(self) -> bool:
        power = self.watts()
        if power is not None:
            self._readings.append((time.perf_counter(), power))
        return power is not None

    def _sample(self) -> None:
        while not self._stop.wait(self._interval_seconds):
            self._read_once()


def integrate(readings: list[tuple[float, float]]) -> float | None:
    """Returns the joules under (seconds, watts) readings by the trapezoidal rule, None for fewer than two."""
    if len(readings) < 2:
        return None
    pairs = itertools.pairwise(readings)
    return sum((right[0] - left[0]) * (left[1] + right[1]) / 2.0 for left, right in pairs)


def _find(device: torch.device) -> tuple[Any, Any]:
    """Returns the pynvml module and the device's handle, (None, None) where there is none."""
    if device.type != "cuda" or not torch.cuda.is_available():
        return None, None
    try:
        nvml = importlib.import_module("pynvml")
    except ImportError:
        return None, None
    try:
        nvml.nvmlInit()
        # By UUID: NVML counts the boards of the machine, torch those of CUDA_VISIBLE_DEVICES.
        uuid = str(torch.cuda.get_device_properties(device).uuid)
        name = uuid if uuid.startswith(("GPU-", "MIG-")) else f"GPU-{uuid}"
        return nvml, nvml.nvmlDeviceGetHandleByUUID(name)
    except nvml.NVMLError:
        return None, None
