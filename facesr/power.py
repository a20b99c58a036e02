"""Electric power and energy: of an accelerator through NVML, of the CPU's packages through RAPL, where offered.

`pynvml` is optional (pip install nvidia-ml-py), and Linux lets only some users read RAPL's counters: what cannot be
read is left out, and where nothing can, every answer is None, never a guess. A reading is of the whole board or
package, whoever uses it; fans, disks and what the power supply loses are in neither.
"""

import importlib
import itertools
import re
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Any

import torch

from facesr.energy import Reading, this_machine

RAPL = Path("/sys/class/powercap")
# Domains of whole packages; those below one (intel-rapl:0:0, cores or memory) are part of it.
_PACKAGE = re.compile(r"intel-rapl:\d+")


class CpuEnergy:
    """The energy counters of this machine's CPU packages (RAPL: running average power limit).

    Source: Linux, Documentation/power/powercap/powercap.rst: ``energy_uj`` counts microjoules and begins again at 0
    after ``max_energy_range_uj``.
    """

    def __init__(self, folder: Path = RAPL) -> None:
        """Finds the packages whose counters may be read."""
        found = sorted(folder.iterdir()) if folder.is_dir() else []
        domains = [path for path in found if _PACKAGE.fullmatch(path.name)]
        self._ranges: dict[Path, int] = {}
        for domain in domains:
            counter, most = domain / "energy_uj", _whole_number(domain / "max_energy_range_uj")
            if most and _is_cpu(domain) and _whole_number(counter) is not None:
                self._ranges[counter] = most
        self._last: dict[Path, int] = {}

    def joules(self) -> float | None:
        """Returns the joules since the last call, 0 at the first one, None where no counter can be read.

        A counter may come round once between two calls, not twice: at 200 W and the usual range that takes 20 minutes.
        """
        now = {path: _whole_number(path) for path in self._ranges}
        read = {path: value for path, value in now.items() if value is not None}
        if not read or len(read) < len(now):
            return None
        before, self._last = self._last or read, read
        return sum((value - before[path]) % self._ranges[path] for path, value in read.items()) / 1e6


def _is_cpu(domain: Path) -> bool:
    # "psys" is the whole platform with the packages in it.
    try:
        return (domain / "name").read_text().startswith("package")
    except OSError:
        return False


def _whole_number(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None


class PowerMeter:
    """Reads the power of one device, and sums its energy while used as a context manager.

    Attributes:
        joules: energy of the last ``with`` block, of device and CPU packages together; None where neither can be
            measured.
        sources: what it was measured by, ``NVML`` and ``RAPL``.
        board_joules, cpu_joules: the two apart.
        seconds: of the last ``with`` block.
    """

    def __init__(
        self, device: torch.device, interval_seconds: float = 0.1, with_cpu: bool = True, rapl: Path = RAPL
    ) -> None:
        """Finds the device in NVML, and the CPU packages.

        Args:
            device: whose board is measured.
            interval_seconds: between readings inside a ``with`` block, where the board has no counter.
            with_cpu: whether the CPU packages count; of several ranks on one machine only one may count them.
            rapl: folder of the packages' counters.
        """
        self.joules: float | None = None
        self.sources: tuple[str, ...] = ()
        self.board_joules: float | None = None
        self.cpu_joules: float | None = None
        self.seconds, self._started = 0.0, time.perf_counter()
        self._cpu = CpuEnergy(rapl) if with_cpu else None
        self._interval_seconds = interval_seconds
        self._device = device
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
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Begins to measure."""
        self.joules, self._readings, self._started = None, [], time.perf_counter()
        if self._cpu is not None:
            self._cpu.joules()
        self._counter_start = self._counter()
        if self._counter_start is None and self._read_once():
            self._stop.clear()
            self._thread = threading.Thread(target=self._sample, name="power", daemon=True)
            self._thread.start()

    def stop(self) -> float | None:
        """Ends measuring and returns `joules` since the start."""
        board: float | None = None
        if self._counter_start is not None:
            end = self._counter()
            board = None if end is None else end - self._counter_start
        if self._thread is not None:
            self._stop.set()
            self._thread.join()
            self._thread = None
            self._read_once()
            board = integrate(self._readings)
        cpu = None if self._cpu is None else self._cpu.joules()
        self.board_joules, self.cpu_joules, self.seconds = board, cpu, time.perf_counter() - self._started
        measured = {name: value for name, value in (("NVML", board), ("RAPL", cpu)) if value is not None}
        self.joules, self.sources = sum(measured.values()) if measured else None, tuple(measured)
        return self.joules

    def reading(self, rank: int) -> Reading:
        """Returns what the last ``with`` block has measured, as this rank's share of a cluster's energy."""
        has_board = self._device.type == "cuda"
        name = torch.cuda.get_device_name(self._device) if has_board else "CPU"
        return Reading(rank, *this_machine(), name, self.seconds, has_board, self.board_joules, self.cpu_joules)

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
