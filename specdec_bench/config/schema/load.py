"""How requests are offered over time."""

from dataclasses import dataclass
from typing import Annotated, ClassVar

from omegaconf import MISSING

from specdec_bench.config.schema.ranges import (
    CONCURRENCY,
    TIMES,
    TIMES_OR_NONE,
    Bounded,
)


@dataclass(kw_only=True)
class LoadConfig(Bounded):
    """How requests are offered."""

    GROUP: ClassVar[str] = "load"

    name: str = MISSING
    num_warmup: Annotated[int, TIMES_OR_NONE] = 1
    """Requests sent before the measured window, in no figure."""
    repeats: Annotated[int, TIMES] = 1
    """How often the whole dataset is run within the window."""


@dataclass(kw_only=True)
class ClosedLoad(LoadConfig):
    """A fixed number of conversations in flight; the next starts when one ends."""

    name: str = "closed"
    concurrency: Annotated[int, CONCURRENCY] = 1


OPTIONS: dict[str, type] = {
    "closed": ClosedLoad,
}
"""The dataclass behind each option of the group."""
