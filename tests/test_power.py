"""Power readings, with a stand-in for NVML: its counter, its readings, its absence and its refusals."""

import sys
import time
from types import ModuleType, SimpleNamespace

import pytest
import torch

from facesr.power import PowerMeter, integrate

DEVICE = torch.device("cuda", 0)


class NVMLError(Exception):
    pass


def refuse(handle):
    raise NVMLError


@pytest.fixture
def nvml(monkeypatch):
    """A machine with one board of 200 W whose energy counter grows by 50 J a reading."""
    module = ModuleType("pynvml")
    counted = iter(range(1_000_000, 2_000_000, 50_000))
    module.NVMLError = NVMLError
    module.nvmlInit = lambda: None
    module.nvmlDeviceGetHandleByUUID = {"GPU-12-34": "board"}.__getitem__
    module.nvmlDeviceGetPowerUsage = {"board": 200_000}.__getitem__
    module.nvmlDeviceGetTotalEnergyConsumption = lambda handle: next(counted)
    monkeypatch.setitem(sys.modules, "pynvml", module)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(uuid="12-34"))
    return module


def test_watts(nvml):
    assert PowerMeter(DEVICE).watts() == 200.0


def test_joules_from_the_counter(nvml):
    meter = PowerMeter(DEVICE)
    with meter:
        assert meter.joules is None
    assert meter.joules == 50.0


def test_joules_from_readings_where_there_is_no_counter(nvml):
    nvml.nvmlDeviceGetTotalEnergyConsumption = refuse
    meter = PowerMeter(DEVICE, interval_seconds=0.01)
    start = time.perf_counter()
    with meter:
        time.sleep(0.05)
    most = 200.0 * (time.perf_counter() - start)
    assert meter.joules is not None and 200.0 * 0.05 <= meter.joules <= most


def test_refused_readings_are_none(nvml):
    nvml.nvmlDeviceGetTotalEnergyConsumption = nvml.nvmlDeviceGetPowerUsage = refuse
    meter = PowerMeter(DEVICE)
    with meter:
        pass
    assert meter.watts() is None and meter.joules is None


@pytest.mark.parametrize("failing", ["nvmlInit", "nvmlDeviceGetHandleByUUID"])
def test_machines_without_a_usable_nvml(nvml, failing):
    setattr(nvml, failing, lambda *arguments: refuse(None))
    assert PowerMeter(DEVICE).watts() is None


def test_without_pynvml(nvml, monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert PowerMeter(DEVICE).watts() is None


def test_cpu():
    meter = PowerMeter(torch.device("cpu"))
    with meter:
        pass
    assert meter.watts() is None and meter.joules is None


def test_integral():
    assert integrate([(0.0, 100.0), (2.0, 200.0), (3.0, 200.0)]) == 500.0
    assert integrate([(0.0, 100.0)]) is None
