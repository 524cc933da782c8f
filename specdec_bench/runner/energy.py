"""Reads the energy of the accelerators that an engine uses, through NVIDIA's management library (NVML).

The accelerators are read twice: just before the first measured request is sent, and after the last one has ended.
"""

import os
import threading
import time
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, Literal, Self

from specdec_bench.records.energy import AcceleratorEnergy, Energy

IDLE_S = 1.0
"""How long idle power is measured."""
SHORTEST_S = 1.0
"""The counter advances about every tenth of a second, so that a shorter window would be too inaccurate."""
SAMPLE_EVERY_S = 0.1


class _Counter:
    """The driver's counter."""

    name: Literal["counter"] = "counter"

    def __init__(self, nvml: Any, device: Any) -> None:
        self._nvml, self._device = nvml, device
        self.read_j()

    def read_j(self) -> float:
        """Returns the energy since some fixed time."""
        return float(self._nvml.nvmlDeviceGetTotalEnergyConsumption(self._device)) / 1e3

    def stop(self) -> None:
        """Runs nothing in the background."""


class _SampledPower:
    """Adds up the power, which a thread reads every 100 ms."""

    name: Literal["sampled power"] = "sampled power"

    def __init__(self, nvml: Any, device: Any) -> None:
        self._nvml, self._device = nvml, device
        self._samples = [self._sample()]
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _sample(self) -> tuple[float, float]:
        return time.perf_counter(), self._nvml.nvmlDeviceGetPowerUsage(self._device) / 1e3

    def _run(self) -> None:
        while not self._over.wait(SAMPLE_EVERY_S):
            self._samples.append(self._sample())

    def read_j(self) -> float:
        """Returns the energy since the first sample."""
        self._samples.append(self._sample())
        ordered = sorted(self._samples)
        return sum((end - start) * (one + two) / 2 for (start, one), (end, two) in pairwise(ordered))

    def stop(self) -> None:
        """Ends the thread."""
        self._over.set()
        self._thread.join()


class EnergyMeter:
    """A context manager around the measured window.

    It never fails a run: where energy cannot be read, the result says why.
    """

    def __init__(self, num_accelerators: int, *, is_elsewhere: bool = False) -> None:
        """Finds the accelerators.

        Args:
            num_accelerators: that the engine uses: the first ones that it can see.
            is_elsewhere: whether the engine may run on another machine.
        """
        self._missing: str | None = None
        self._devices: list[tuple[str, str, _Counter | _SampledPower]] = []
        self._idle_w: list[float] = []
        self._window_s: float | None = None
        self._is_wanted = num_accelerators > 0
        if is_elsewhere:
            self._missing = "the server may run on another machine"
        elif self._is_wanted:
            self._open(num_accelerators)

    def _open(self, num_accelerators: int) -> None:
        try:
            import pynvml as nvml

            nvml.nvmlInit()
            handles = [nvml.nvmlDeviceGetHandleByIndex(index) for index in range(nvml.nvmlDeviceGetCount())]
            found = [(handle, nvml.nvmlDeviceGetUUID(handle), nvml.nvmlDeviceGetName(handle)) for handle in handles]
            chosen = choose(num_accelerators, [(uuid, name) for _, uuid, name in found], os.environ)
            for index in chosen:
                handle, uuid, name = found[index]
                self._devices.append((uuid, name, _source(nvml, handle)))
        except (ImportError, ValueError) as error:
            self._missing = str(error)
        except Exception as error:  # noqa: BLE001  (NVML's own, which cannot be named without it)
            self._missing = f"NVML: {error}"
        if self._missing is not None:
            self._stop()

    def measure_idle(self) -> None:
        """Measures idle power. Blocks for a second if there is an accelerator to read."""
        if not self._devices:
            return
        began_s, before = time.perf_counter(), self._read()
        time.sleep(IDLE_S)
        after, took_s = self._read(), time.perf_counter() - began_s
        if self._missing is not None:
            return
        self._idle_w = [(end - start) / took_s for start, end in zip(before, after, strict=True)]

    def _read(self) -> list[float]:
        """Returns joules, or nothing once a reading has failed."""
        try:
            return [source.read_j() for _, _, source in self._devices]
        except Exception as error:  # noqa: BLE001  (an accelerator may fall off its bus)
            self._missing = f"NVML: {error}"
            self._stop()
            return []

    def _stop(self) -> None:
        for _, _, source in self._devices:
            source.stop()
        self._devices = []

    def __enter__(self) -> Self:
        self._before, self._began_s = self._read(), time.perf_counter()
        return self

    def __exit__(self, *_: object) -> None:
        self._window_s, self._after = time.perf_counter() - self._began_s, self._read()

    def result(self) -> Energy | None:
        """Returns what was read; None if the engine uses no accelerator."""
        if self._missing is not None or not self._devices:
            return Energy(missing=self._missing) if self._is_wanted else None
        if self._window_s is None or self._window_s < SHORTEST_S:
            self._stop()
            shorter = f"the measured window is shorter than {SHORTEST_S:g} s"
            return Energy(missing="the run ended before its measured window" if self._window_s is None else shorter)
        taken_j = [end - start for start, end in zip(self._before, self._after, strict=True)]
        accelerators = tuple(
            AcceleratorEnergy(uuid=uuid, name=name, energy_j=joules, idle_power_w=idle, source=source.name)
            for (uuid, name, source), joules, idle in zip(self._devices, taken_j, self._idle_w, strict=True)
        )
        self._stop()
        return Energy(accelerators=accelerators, window_s=self._window_s)


def _source(nvml: Any, device: Any) -> _Counter | _SampledPower:
    try:
        return _Counter(nvml, device)
    except nvml.NVMLError_NotSupported:
        return _SampledPower(nvml, device)


def choose(count: int, devices: Sequence[tuple[str, str]], environment: Mapping[str, str]) -> list[int]:
    """Returns NVML's indices of the accelerators that CUDA numbers 0 to count - 1.

    NVML numbers accelerators by their place on the bus. CUDA does so only if it is told to or if all are of one kind;
    otherwise the fastest is its first.

    Args:
        count: how many are used.
        devices: UUID and name of every accelerator, as NVML numbers them.
        environment: variables of the process.

    Raises:
        ValueError: they cannot be told.
    """
    visible = environment.get("CUDA_VISIBLE_DEVICES")
    names = list(map(str, range(len(devices)))) if visible is None else [name.strip() for name in visible.split(",")]
    has_numbers = any(name.isdecimal() for name in names[:count])
    if has_numbers and len({name for _, name in devices}) > 1 and environment.get("CUDA_DEVICE_ORDER") != "PCI_BUS_ID":
        raise ValueError("accelerators of several kinds are numbered only by CUDA; set CUDA_DEVICE_ORDER=PCI_BUS_ID")
    chosen = []
    for name in names[:count]:
        if name.isdecimal():
            matching = [int(name)] if int(name) < len(devices) else []
        else:
            matching = [index for index, (uuid, _) in enumerate(devices) if name and uuid.startswith(name)]
        if len(matching) != 1:
            raise ValueError(f"CUDA_VISIBLE_DEVICES={visible}: {name} names no single accelerator of NVML's")
        chosen += matching
    if len(chosen) < count:
        raise ValueError(f"the engine uses {count} accelerators, and NVML has {len(chosen)} that are visible")
    return chosen
