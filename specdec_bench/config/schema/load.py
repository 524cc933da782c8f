"""How requests are offered over time. What runs a load is in `specdec_bench.load`, in the module of its name."""

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

from omegaconf import MISSING

from specdec_bench.config.schema.ranges import (
    CLIENTS,
    CONCURRENCY,
    CONVERSATIONS,
    DURATION_S,
    RATE,
    SEED,
    SPEED,
    TIMES,
    TIMES_OR_NONE,
    WINDOW_S,
    Bounded,
    FreeText,
    require,
)

if TYPE_CHECKING:
    from specdec_bench.records.manifest import LoadLabel

AUTO = "auto"
CLIENTS_KEY = "load.clients"
WHOLE_NUMBER = re.compile("0|[1-9][0-9]{0,8}")


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
    """Whether so many requests are in flight as the axis says, all the time."""

    name: str = MISSING
    num_warmup: Annotated[int, TIMES_OR_NONE] = 1
    """Requests sent before the measured window, in no metric."""
    repeats: Annotated[int, TIMES] = 1
    """How often the whole dataset is run within the window."""
    clients: str = "1"
    """Processes that send the requests of the window, for engines behind HTTP. auto takes one for every 256 requests in
    flight, or for every 25,600 tokens per second that the rate brings at most, if these are fewer; and at most one less
    than there are cores."""

    def __post_init__(self) -> None:
        Bounded.__post_init__(self)
        value, number, most = self.clients, self.num_clients, self.max_in_flight
        fix = f"give a whole number, or {AUTO}"
        require(value == AUTO or number is not None, CLIENTS_KEY, value, fix)
        if number is None:
            is_bounded = most is not None or self.conversations_per_s is not None
            fix = "nothing bounds the requests that need clients; give load.max_in_flight, or a number of clients"
            require(is_bounded, CLIENTS_KEY, value, fix)
            return
        CLIENTS.check(CLIENTS_KEY, number)
        fix = f"not every client would have a request in flight, for there are {most} at most; lower it, or use {AUTO}"
        require(most is None or number <= max(most, 1), CLIENTS_KEY, value, fix)

    @property
    def num_clients(self) -> int | None:
        """`clients` as a number; None for auto."""
        return int(self.clients) if WHOLE_NUMBER.fullmatch(self.clients) else None

    @property
    def conversations_per_s(self) -> float | None:
        """The highest rate at which conversations arrive; None where that is not known."""
        return None

    @property
    def max_in_flight(self) -> int | None:
        """Requests in flight at most; None where nothing bounds them."""
        return int(getattr(self, self.AXIS)) if self.BOUNDS_IN_FLIGHT else None

    @property
    def decides_number(self) -> bool:
        """Whether the load says how many conversations there are, instead of the dataset and `repeats`."""
        return False

    @property
    def label(self) -> "LoadLabel":
        """What tables and plots call it."""
        from specdec_bench.records.manifest import LoadLabel  # archives' records: not for a refusal

        return LoadLabel(
            axis=self.AXIS,
            value=getattr(self, self.AXIS),
            title=self.TITLE,
            unit=self.UNIT,
            max_in_flight=self.max_in_flight if self.BOUNDS_IN_FLIGHT else None,
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
    """Conversations that arrive at scheduled times, whether or not those before them have ended."""

    think_time_s: Annotated[float, DURATION_S] = 0.0
    """Seconds from the end of a reply to when the conversation's next turn is due."""
    duration_s: Annotated[float | None, WINDOW_S] = None
    """Seconds within which conversations arrive. The dataset begins again as often as it is used up."""
    num_conversations: Annotated[int | None, CONVERSATIONS] = None
    """How many conversations arrive. The dataset begins again as often as it is used up."""
    max_in_flight: Annotated[int | None, CONCURRENCY] = None
    """Requests in flight at most; null: no limit. A request beyond it waits, in the order in which it was due, and is
    timed from when it was due."""

    def __post_init__(self) -> None:
        LoadConfig.__post_init__(self)
        fix = "leave it or load.duration_s null: either of them says how many conversations there are"
        both = self.duration_s is not None and self.num_conversations is not None
        require(not both, "load.num_conversations", self.num_conversations, fix)
        fix = "the load says how many conversations there are, and repeats the dataset as needed; leave it at 1"
        require(not self.decides_number or self.repeats == 1, "load.repeats", self.repeats, fix)

    @property
    def decides_number(self) -> bool:
        """Whether the load says how many conversations there are."""
        return self.duration_s is not None or self.num_conversations is not None


@dataclass(kw_only=True)
class RateLoad(OpenLoad):
    """Conversations that arrive at a rate."""

    AXIS: ClassVar[str] = "rate"
    TITLE: ClassVar[str] = "conversations per second"
    UNIT: ClassVar[str] = "conversations/s"

    rate: Annotated[float, RATE] = 1.0
    """Conversations per second, on average."""
    ramp_s: Annotated[float, DURATION_S] = 0.0
    """Seconds over which the rate grows evenly from 0, at the beginning."""

    def __post_init__(self) -> None:
        OpenLoad.__post_init__(self)
        num_expected = self.rate * (self.duration_s or 0)
        fix = f"at {self.rate:g} conversations/s, more than {CONVERSATIONS.most:,} conversations; lower one of them"
        require(num_expected <= CONVERSATIONS.most, "load.duration_s", self.duration_s, fix)

    @property
    def conversations_per_s(self) -> float:
        """The rate, which a ramp does not exceed."""
        return self.rate


@dataclass(kw_only=True)
class PoissonLoad(RateLoad):
    """Arrivals that know nothing of one another, as those of many users: exponential gaps, drawn at random."""

    name: str = "poisson"
    arrival_seed: Annotated[int | None, SEED] = None
    """Draws the gaps; null takes the experiment's `seed`. Other arrivals then get the same prompts and sampling."""


@dataclass(kw_only=True)
class ConstantLoad(RateLoad):
    """Arrivals at equal gaps."""

    name: str = "constant"


@dataclass(kw_only=True)
class TraceLoad(OpenLoad):
    """Arrivals at the times that a file lists."""

    AXIS: ClassVar[str] = "speed"
    TITLE: ClassVar[str] = "times the trace's speed"
    UNIT: ClassVar[str] = "x the trace's speed"

    name: str = "trace"
    path: str = MISSING
    """A text file with one arrival per line, in seconds from the beginning; see `specdec_bench.config.trace_file`."""
    arrivals: Annotated[str | None, FreeText()] = None
    """The arrival times of `path`, which the project fills in, so that the archive holds them."""
    speed: Annotated[float, SPEED] = 1.0
    """How many times as fast conversations arrive as in the file: its times are divided by this."""

    @property
    def decides_number(self) -> bool:
        """The trace says how many conversations there are."""
        return True


OPTIONS: dict[str, type[LoadConfig]] = {
    "closed": ClosedLoad,
    "poisson": PoissonLoad,
    "constant": ConstantLoad,
    "trace": TraceLoad,
}
"""The dataclass behind each option of the group."""
