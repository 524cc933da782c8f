"""How much energy the accelerators took over the measured window."""

from typing import Literal

from specdec_bench.records.request import Record


class AcceleratorEnergy(Record, frozen=True, kw_only=True):
    """One accelerator."""

    uuid: str
    name: str
    energy_j: float
    """Over the window."""
    idle_power_w: float
    """Before the warm-up, with the engine started and nothing in flight."""
    source: Literal["counter", "sampled power"]
    """The driver's counter of energy; or, where an accelerator has none, its power every 100 ms."""


class Energy(Record, frozen=True, kw_only=True):
    """All accelerators of an engine; those of other processes that use them are included."""

    accelerators: tuple[AcceleratorEnergy, ...] = ()
    """Empty if nothing was measured."""
    window_s: float | None = None
    """Between the readings."""
    missing: str | None = None
    """Why nothing was measured."""
