"""The metrics of a sweep's table, where they lie in a summary, and which way is better."""

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

Direction = Literal["minimize", "maximize"]


class Metric(NamedTuple):
    """Where a figure lies in the summary, and which way is better."""

    path: tuple[str, ...]
    better: Direction


METRICS = {
    "acceptance_length": Metric(("acceptance", "pooled", "acceptance_length"), "maximize"),
    "acceptance_length_drafted": Metric(("acceptance", "pooled", "acceptance_length_drafted"), "maximize"),
    "draft_acceptance_rate": Metric(("acceptance", "pooled", "draft_acceptance_rate"), "maximize"),
    "ttft_ms_p50": Metric(("latency", "ttft_ms", "p50"), "minimize"),
    "tpot_ms_mean": Metric(("latency", "tpot_ms", "mean"), "minimize"),
    "e2e_ms_mean": Metric(("latency", "e2e_ms", "mean"), "minimize"),
    "ttft_from_schedule_ms_p50": Metric(("latency", "ttft_from_schedule_ms", "p50"), "minimize"),
    "e2e_from_schedule_ms_mean": Metric(("latency", "e2e_from_schedule_ms", "mean"), "minimize"),
    "step_time_ms_p50": Metric(("latency", "step_time_ms", "p50"), "minimize"),
    "output_tps": Metric(("throughput", "output_tps"), "maximize"),
    "output_tps_steady": Metric(("throughput", "output_tps_steady"), "maximize"),
    "output_tps_per_user": Metric(("throughput", "output_tps_per_user"), "maximize"),
    "output_tps_per_request_mean": Metric(("throughput", "output_tps_per_request", "mean"), "maximize"),
}
"""By their names in the sweep's table."""


def metric_value(summary: Mapping[str, Any], name: str) -> float | None:
    """Returns a figure of a summary; None where it is undefined."""
    value: Any = summary
    for key in METRICS[name].path:
        value = value[key]
    return None if value is None else float(value)
