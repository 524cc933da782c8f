"""capacity.json: what a search for the highest rate found."""

from specdec_bench.records.interval import Interval
from specdec_bench.records.request import SCHEMA_VERSION, Record


class Bracket(Record, frozen=True, kw_only=True):
    """Where a search ended."""

    passed: float | None
    """The highest load that passed; None if none did."""
    failed: float | None
    """The lowest load above it that failed; None if none did."""


class CapacityProbe(Record, frozen=True, kw_only=True):
    """One rate that was tried."""

    rate: float
    share_within_slo: float
    """Over all of its runs."""
    is_backlog_growing: bool
    passed: bool
    num_judged: int
    """Requests that finished or failed, in all of its runs."""
    is_client_saturated: bool
    runs: tuple[str, ...]
    """Their folders, relative to the search's."""


class CapacitySide(Record, frozen=True, kw_only=True):
    """What was found for one method."""

    method: str
    bracket: Bracket
    capacity: Interval
    """In conversations per second; null where the bracket is open."""
    probes: tuple[CapacityProbe, ...]


class CapacityResult(Record, frozen=True, kw_only=True):
    """capacity.json."""

    schema_version: int = SCHEMA_VERSION
    status: str
    """`started` or `finished`."""
    overrides: tuple[str, ...]
    objectives: dict[str, float]
    settings: dict[str, float]
    """The options of `capacity`."""
    is_below_default: bool
    """Whether its probes are shorter than the default, which says little of a service that runs for hours."""
    synthetic: str | None = None
    sides: tuple[CapacitySide, ...] = ()
    ratio: Interval = Interval(value=None)
    """Capacity with speculation over capacity without."""
