"""The metrics of a sweep's table, where they are in a summary, and which direction is better."""

from operator import attrgetter
from typing import NamedTuple

from specdec_bench.metrics.declarations import METRICS as DECLARED
from specdec_bench.metrics.declarations import column_name
from specdec_bench.metrics.declared import Direction
from specdec_bench.records.summary import Summary


class Column(NamedTuple):
    """Where a column's value is in the summary, which direction is better, and its header in tables."""

    path: tuple[str, ...]
    better: Direction
    header: str


METRICS = {
    column_name(metric): Column(
        path=(*metric.path, metric.column) if metric.column else metric.path,
        better=metric.better,
        header=f"{metric.header} {metric.column}".rstrip(),
    )
    for metric in DECLARED
    if metric.column is not None and metric.better is not None
}
"""By their names in the sweep's table."""


def metric_value(summary: Summary, name: str) -> float | None:
    """Returns a metric of a summary; None if it is undefined."""
    value: float | None = attrgetter(".".join(METRICS[name].path))(summary)
    return None if value is None else float(value)
