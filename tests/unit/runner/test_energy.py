"""The energy meter on a stand-in of NVML, whose accelerators draw a constant power of a stand-in of time."""

import sys
import types
from typing import Any

import pytest

from specdec_bench.runner import energy
from specdec_bench.runner.energy import EnergyMeter, choose

H100, L4 = "NVIDIA H100", "NVIDIA L4"


class Nvml(types.ModuleType):
    """Accelerators by index: UUID, name and power in W. The clock is advanced by the tests."""

    class NVMLError(Exception):
        pass

    class NVMLError_NotSupported(NVMLError):  # noqa: N801, N818  (NVML's own name)
        pass

    def __init__(self, *devices: tuple[str, str, float], has_counter: bool = True) -> None:
        super().__init__("pynvml")
        self.devices, self.has_counter, self.now_s, self.is_lost = devices, has_counter, 100.0, False

    def nvmlInit(self) -> None: ...  # noqa: N802

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802
        return len(self.devices)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:  # noqa: N802
        return index

    def nvmlDeviceGetUUID(self, device: int) -> str:  # noqa: N802
        return self.devices[device][0]

    def nvmlDeviceGetName(self, device: int) -> str:  # noqa: N802
        return self.devices[device][1]

    def nvmlDeviceGetTotalEnergyConsumption(self, device: int) -> int:  # noqa: N802
        if self.is_lost:
            raise self.NVMLError("GPU is lost")
        if not self.has_counter:
            raise self.NVMLError_NotSupported("Not Supported")
        return round(self.now_s * self.devices[device][2] * 1e3)

    def nvmlDeviceGetPowerUsage(self, device: int) -> int:  # noqa: N802
        return round(self.devices[device][2] * 1e3)


@pytest.fixture
def nvml(monkeypatch: pytest.MonkeyPatch) -> Any:
    def install(*devices: tuple[str, str, float], **options: Any) -> Nvml:
        module = Nvml(*devices, **options)
        monkeypatch.setitem(sys.modules, "pynvml", module)
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        monkeypatch.setattr(energy.time, "perf_counter", lambda: module.now_s)

        def sleep(seconds: float) -> None:
            module.now_s += seconds

        monkeypatch.setattr(energy.time, "sleep", sleep)
        return module

    return install


def test_energy_is_the_counters_over_the_window(nvml: Any) -> None:
    stand_in = nvml(("GPU-a", H100, 300.0), ("GPU-b", H100, 200.0), ("GPU-c", H100, 50.0))
    meter = EnergyMeter(2)
    meter.measure_idle()
    stand_in.devices = (("GPU-a", H100, 300.0), ("GPU-b", H100, 200.0), ("GPU-c", H100, 50.0))
    with meter:
        stand_in.now_s += 4
    found = meter.result()
    assert found is not None
    assert [(one.uuid, one.energy_j, one.idle_power_w, one.source) for one in found.accelerators] == [
        ("GPU-a", 1200, 300, "counter"),
        ("GPU-b", 800, 200, "counter"),
    ]
    assert (found.window_s, found.missing) == (4, None)


def test_power_is_sampled_where_there_is_no_counter(nvml: Any) -> None:
    stand_in = nvml(("GPU-a", L4, 70.0), has_counter=False)
    meter = EnergyMeter(1)
    meter.measure_idle()
    with meter:
        stand_in.now_s += 10
    found = meter.result()
    assert found is not None
    assert found.accelerators[0].energy_j == pytest.approx(700)
    assert found.accelerators[0].source == "sampled power"


def test_a_short_window_is_not_measured(nvml: Any) -> None:
    stand_in = nvml(("GPU-a", H100, 300.0))
    meter = EnergyMeter(1)
    meter.measure_idle()
    with meter:
        stand_in.now_s += 0.5
    found = meter.result()
    assert found is not None
    assert (found.accelerators, found.missing) == ((), "the measured window is shorter than 1 s")


def test_an_accelerator_that_is_lost_fails_no_run(nvml: Any) -> None:
    stand_in = nvml(("GPU-a", H100, 300.0))
    meter = EnergyMeter(1)
    meter.measure_idle()
    with meter:
        stand_in.now_s += 4
        stand_in.is_lost = True
    found = meter.result()
    assert found is not None
    assert found.missing == "NVML: GPU is lost"


def test_one_that_is_lost_while_idle_fails_no_run(nvml: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in = nvml(("GPU-a", H100, 300.0))
    meter = EnergyMeter(1)
    monkeypatch.setattr(energy.time, "sleep", lambda _: setattr(stand_in, "is_lost", True))
    meter.measure_idle()
    with meter:
        stand_in.now_s += 4
    found = meter.result()
    assert found is not None
    assert found.missing == "NVML: GPU is lost"


def test_a_run_that_is_stopped_before_its_window_says_so(nvml: Any) -> None:
    nvml(("GPU-a", H100, 300.0))
    meter = EnergyMeter(1)
    meter.measure_idle()
    found = meter.result()
    assert found is not None
    assert found.missing == "the run ended before its measured window"


def test_without_accelerators_there_is_nothing_to_say(nvml: Any) -> None:
    nvml(("GPU-a", H100, 300.0))
    meter = EnergyMeter(0)
    meter.measure_idle()
    with meter:
        pass
    assert meter.result() is None


def test_the_accelerators_of_another_machine_are_not_read(nvml: Any) -> None:
    nvml(("GPU-a", H100, 300.0))
    found = EnergyMeter(1, is_elsewhere=True).result()
    assert found is not None
    assert found.missing == "the server may run on another machine"


ALIKE = [("GPU-a", H100), ("GPU-b", H100), ("GPU-ab", H100)]
MIXED = [("GPU-a", L4), ("GPU-b", H100)]


@pytest.mark.parametrize(
    ("count", "devices", "environment", "chosen"),
    [
        (2, ALIKE, {}, [0, 1]),
        (1, ALIKE, {"CUDA_VISIBLE_DEVICES": "2,0"}, [2]),
        (2, ALIKE, {"CUDA_VISIBLE_DEVICES": "2, 0"}, [2, 0]),
        (1, ALIKE, {"CUDA_VISIBLE_DEVICES": "GPU-b"}, [1]),
        (1, MIXED, {"CUDA_VISIBLE_DEVICES": "GPU-b"}, [1]),
        (1, MIXED, {"CUDA_DEVICE_ORDER": "PCI_BUS_ID"}, [0]),
    ],
)
def test_the_accelerators_are_those_that_cuda_sees(
    count: int, devices: list[tuple[str, str]], environment: dict[str, str], chosen: list[int]
) -> None:
    assert choose(count, devices, environment) == chosen


@pytest.mark.parametrize(
    ("count", "devices", "environment", "reason"),
    [
        (1, MIXED, {}, "CUDA_DEVICE_ORDER=PCI_BUS_ID"),
        (1, ALIKE, {"CUDA_VISIBLE_DEVICES": "GPU-a"}, "GPU-a names no single"),
        (1, ALIKE, {"CUDA_VISIBLE_DEVICES": "7"}, "7 names no single"),
        (1, ALIKE, {"CUDA_VISIBLE_DEVICES": "MIG-1"}, "MIG-1 names no single"),
        (1, ALIKE, {"CUDA_VISIBLE_DEVICES": ""}, "names no single"),
        (4, ALIKE, {}, "has 3 that are visible"),
    ],
)
def test_accelerators_that_cannot_be_told_are_refused(
    count: int, devices: list[tuple[str, str]], environment: dict[str, str], reason: str
) -> None:
    with pytest.raises(ValueError, match=reason):
        choose(count, devices, environment)
