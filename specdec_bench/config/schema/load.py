"""How requests are offered over time. What runs a load is in `specdec_bench.load`, in the module of its name."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

from omegaconf import MISSING

from specdec_bench.config.schema.ranges import (
    CONCURRENCY,
    DURATION_S,
    RATE,
    TIMES,
    TIMES_OR_NONE,
    Bounded,
)

if TYPE_CHECKING:
    from specdec_bench.records.manifest import LoadLabel


@dataclass(kw_only=True)
class LoadConfig(Bounded):
    """How requests are offered."""

    GROUP: ClassVar[str] = "load"
    AXIS: ClassVar[str]
    """The field that says how much load there is: sweeps are drawn against it."""
    TITLE: ClassVar[str]
    """What the axis counts, as a plot names it."""
    UNIT: ClassVar[str]
    """The same in few words, as a table's header or after a number."""
    BOUNDS_IN_FLIGHT: ClassVar[bool] = False
    """Whether at most so many requests are in flight as the axis says."""

    name: str = MISSING
    num_warmup: Annotated[int, TIMES_OR_NONE] = 1
    """Requests sent before the measured window, in no figure."""
    repeats: Annotated[int, TIMES] = 1
    """How often the whole dataset is run within the window."""

    @property
    def max_in_flight(self) -> int | None:
        """Requests in flight at most; None where nothing bounds them."""
        return int(getattr(self, self.AXIS)) if self.BOUNDS_IN_FLIGHT else None

    @property
    def label(self) -> "LoadLabel":
        """What tables and plots call it."""
        from specdec_bench.records.manifest import LoadLabel  # archives' records: not for a refusal

        return LoadLabel(
            axis=self.AXIS,
            value=getattr(self, self.AXIS),
            title=self.TITLE,
            unit=self.UNIT,
            max_in_flight=self.max_in_flight,
        )


@dataclass(kw_only=True)
class ClosedLoad(LoadConfig):
    """A fixed number of conversations in flight; the next starts when one ends."""

    AXIS: ClassVar[str] = "concurrency"
    TITLE: ClassVar[str] = "requests in flight"
    UNIT: ClassVar[str] = "in flight"
    BOUNDS_IN_FLIGHT: ClassVar[bool] = True

    name: str = "closed"
    concurrency: Annotated[int, CONCURRENCY] = 1


@dataclass(kw_only=True)
class OpenLoad(LoadConfig):
    """Conversations that arrive at a rate, whether or not those before them have ended."""

    AXIS: ClassVar[str] = "rate"
    TITLE: ClassVar[str] = "conversations per second"
    UNIT: ClassVar[str] = "conversations/s"

    rate: Annotated[float, RATE] = 1.0
    """Conversations per second, on average."""
    ramp_s: Annotated[float, DURATION_S] = 0.0
    """Seconds over which the rate grows evenly from 0, at the beginning."""
    think_time_s: Annotated[float, DURATION_S] = 0.0
    """Seconds from the end of a reply to when the conversation's next turn is due."""


@dataclass(kw_only=True)
class PoissonLoad(OpenLoad):
    """Arrivals that know nothing of one another, as those of many users: exponential gaps, drawn with `seed`."""

    name: str = "poisson"


@dataclass(kw_only=True)
class ConstantLoad(OpenLoad):
    """Arrivals at equal gaps."""

    name: str = "constant"


OPTIONS: dict[str, type[LoadConfig]] = {
    "closed": ClosedLoad,
    "poisson": PoissonLoad,
    "constant": ConstantLoad,
}
"""The dataclass behind each option of the group."""
