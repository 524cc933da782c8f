"""A value with its 95% interval."""

from specdec_bench.records.request import Record


class Interval(Record, frozen=True, kw_only=True):
    """A value with the ends of its 95% interval, which are None if the interval is unknown."""

    value: float | None
    low: float | None = None
    high: float | None = None
