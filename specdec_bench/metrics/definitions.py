"""The formula of every metric, stored beside the numbers, because tools use the same names for other things."""

from collections.abc import Mapping

from specdec_bench.metrics.declarations import METRICS

DEFINITIONS = {metric.name: metric.formula for metric in METRICS if metric.family not in ("comparison", "o200k_base")}


def changed_definitions(stored: Mapping[str, str]) -> dict[str, str]:
    """Returns the summary's formula, by name, of each metric whose formula has changed since."""
    return {name: formula for name, formula in stored.items() if DEFINITIONS.get(name, formula) != formula}
