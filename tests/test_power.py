"""Power readings, with a stand-in for NVML: its counter, its readings, its absence and its refusals."""

import sys
import time
from types import ModuleType, SimpleNamespace

import pytest
import torch

from facesr.power import CpuEnergy, PowerMeter, integrate

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
    assert PowerMeter(DEVICE, with_cpu=False).watts() == 200.0


def test_joules_from_the_counter(nvml):
    meter = PowerMeter(DEVICE, with_cpu=False)
    with meter:
        assert meter.joules is None
    assert meter.joules == 50.0 and meter.sources == ("NVML",)


def test_joules_from_readings_where_there_is_no_counter(nvml):
    nvml.nvmlDeviceGetTotalEnergyConsumption = refuse
    meter = PowerMeter(DEVICE, interval_seconds=0.01, with_cpu=False)
    start = time.perf_counter()
    with meter:
        time.sleep(0.05)
    most = 200.0 * (time.perf_counter() - start)
    assert meter.joules is not None and 200.0 * 0.05 <= meter.joules <= most


def test_refused_readings_are_none(nvml):
    nvml.nvmlDeviceGetTotalEnergyConsumption = nvml.nvmlDeviceGetPowerUsage = refuse
    meter = PowerMeter(DEVICE, with_cpu=False)
    with meter:
        pass
    assert meter.watts() is None and meter.joules is None


@pytest.mark.parametrize("failing", ["nvmlInit", "nvmlDeviceGetHandleByUUID"])
def test_machines_without_a_usable_nvml(nvml, failing):
    setattr(nvml, failing, lambda *arguments: refuse(None))
    assert PowerMeter(DEVICE, with_cpu=False).watts() is None


def test_without_pynvml(nvml, monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert PowerMeter(DEVICE, with_cpu=False).watts() is None


def test_without_counters_of_any_kind(tmp_path):
    meter = PowerMeter(torch.device("cpu"), rapl=tmp_path / "none")
    with meter:
        pass
    assert meter.watts() is None and meter.joules is None and meter.sources == ()


@pytest.fixture
def rapl(tmp_path):
    """Two packages, one with cores of its own below it, the platform, and a board's domain of another driver."""
    for domain, name in (
        ("intel-rapl:0", "package-0"),
        ("intel-rapl:0:0", "core"),
        ("intel-rapl:1", "package-1"),
        ("intel-rapl:2", "psys"),
        ("intel-rapl-mmio:0", "package-0"),
        ("dtpm", "package-0"),
    ):
        (tmp_path / domain).mkdir()
        (tmp_path / domain / "name").write_text(f"{name}\n")
        (tmp_path / domain / "max_energy_range_uj").write_text("10000000\n")
        (tmp_path / domain / "energy_uj").write_text("4000000\n")
    return tmp_path


def test_cpu_packages_count_once_each_and_come_round(rapl):
    energy = CpuEnergy(rapl)
    assert energy.joules() == 0.0
    for domain in rapl.iterdir():
        (domain / "energy_uj").write_text("5500000\n")
    assert energy.joules() == 3.0
    (rapl / "intel-rapl:1" / "energy_uj").write_text("500000\n")  # 4.5 J to the end of the range, 0.5 J after it
    assert energy.joules() == 5.0
    (rapl / "intel-rapl:0" / "energy_uj").unlink()
    assert energy.joules() is None


def test_device_and_packages_are_added_up(nvml, rapl):
    meter = PowerMeter(DEVICE, rapl=rapl)
    with meter:
        (rapl / "intel-rapl:0" / "energy_uj").write_text("6000000\n")
    assert meter.joules == 52.0 and meter.sources == ("NVML", "RAPL")
    without = PowerMeter(DEVICE, with_cpu=False, rapl=rapl)
    without.start()
    (rapl / "intel-rapl:0" / "energy_uj").write_text("9000000\n")
    assert without.stop() == 50.0 and without.sources == ("NVML",)


def test_packages_alone(rapl):
    meter = PowerMeter(torch.device("cpu"), rapl=rapl)
    meter.start()
    (rapl / "intel-rapl:1" / "energy_uj").write_text("4250000\n")
    assert meter.stop() == 0.25 and meter.sources == ("RAPL",) and meter.watts() is None


@pytest.mark.parametrize("broken", ["unreadable", "no range", "nothing"])
def test_packages_that_cannot_be_read_are_left_out(rapl, broken):
    for name in ("intel-rapl:0", "intel-rapl:1"):
        if broken == "unreadable":
            (rapl / name / "energy_uj").unlink()
        elif broken == "no range":
            (rapl / name / "max_energy_range_uj").write_text("\n")
        else:
            (rapl / name / "name").unlink()
    assert CpuEnergy(rapl).joules() is None


def test_integral():
    assert integrate([(0.0, 100.0), (2.0, 200.0), (3.0, 200.0)]) == 500.0
    assert integrate([(0.0, 100.0)]) is None
