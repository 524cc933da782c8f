"""What a metric's declaration says. The metrics themselves are in `declarations`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Literal, NamedTuple

from specdec_bench.records.request import Record

if TYPE_CHECKING:
    from specdec_bench.metrics.acceptance import RequestAcceptance
    from specdec_bench.metrics.timing import RequestTimes

Family = Literal["acceptance", "latency", "throughput", "client", "comparison", "o200k_base"]
Direction = Literal["minimize", "maximize"]
UNKNOWN = float("nan")


class Terms(NamedTuple):
    """One request's contribution to a metric that is a ratio of two sums over requests.

    (0, 0) means that the request contributes nothing. An unknown term is NaN and makes the metric undefined.
    """

    numerator: float
    denominator: float


class Metric(Record, frozen=True, kw_only=True):
    """One metric."""

    name: str
    """As in summary.json; its suffix is the unit."""
    family: Family
    formula: str
    unit: str = ""
    better: Direction | None = None
    """None if neither higher nor lower is better."""
    path: tuple[str, ...] = ()
    """Where it is in the summary; empty if it is computed from several runs, or is a way to compute other metrics."""
    header: str = ""
    """The header of its column in a table."""
    short_header: str = ""
    """The same in a table that has the family's name as its title."""
    column: str | None = None
    """The statistic of its distribution in the sweep's table, or "" for a single number; None if the table lacks it."""
    terms: Callable[[RequestAcceptance, RequestTimes], Terms] | None = None
    """Numerator and denominator of one request, where the metric is a ratio of sums."""
    interval: Literal["conversations", "repeats"] | None = None
    """What its interval is over, if it has one. The interval of a ratio of sums is always over conversations."""
    elsewhere: str = ""
    """What other tools call it, and what else they use its name for."""
