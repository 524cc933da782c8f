"""The figures of a sweep's table that a finished run's summary gives, and which of them a sweeper is to improve."""

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from specdec_bench.errors import ConfigError, EngineError

Direction = Literal["minimize", "maximize"]


class Figure(NamedTuple):
    """Where a figure lies in the summary, and which way is better."""

    path: tuple[str, ...]
    better: Direction


FIGURES = {
    "acceptance_length": Figure(("acceptance", "pooled", "acceptance_length"), "maximize"),
    "acceptance_length_drafted": Figure(("acceptance", "pooled", "acceptance_length_drafted"), "maximize"),
    "draft_acceptance_rate": Figure(("acceptance", "pooled", "draft_acceptance_rate"), "maximize"),
    "ttft_ms_p50": Figure(("latency", "ttft_ms", "p50"), "minimize"),
    "tpot_ms_mean": Figure(("latency", "tpot_ms", "mean"), "minimize"),
    "e2e_ms_mean": Figure(("latency", "e2e_ms", "mean"), "minimize"),
    "step_time_ms_p50": Figure(("latency", "step_time_ms", "p50"), "minimize"),
    "output_tps": Figure(("throughput", "output_tps"), "maximize"),
    "output_tps_steady": Figure(("throughput", "output_tps_steady"), "maximize"),
    "output_tps_per_user": Figure(("throughput", "output_tps_per_user"), "maximize"),
    "output_tps_per_request_mean": Figure(("throughput", "output_tps_per_request", "mean"), "maximize"),
}
"""By their names in the sweep's table."""


def figure(summary: Mapping[str, Any], name: str) -> float | None:
    """Returns a figure of a summary; None where it is undefined."""
    value: Any = summary
    for key in FIGURES[name].path:
        value = value[key]
    return None if value is None else float(value)


def objective(summary: Mapping[str, Any], name: str) -> float:
    """Returns the figure that a cell gives to Hydra.

    Raises:
        EngineError: it is undefined in this run, so that there is nothing to optimize.
    """
    value = figure(summary, name)
    if value is None:
        raise EngineError(f"objective={name}: undefined in this run (null in its summary), so it counts as failed")
    return value


def check_objective(name: str, direction: object = None) -> None:
    """Refuses an objective that is no figure, or one that a sweeper would make worse.

    Args:
        name: the figure's.
        direction: the sweeper's `hydra.sweeper.direction`; None where it has none.

    Raises:
        ConfigError: naming what there is, or the direction to pass.
    """
    if name not in FIGURES:
        raise ConfigError(f"objective={name}: no figure of the sweep's table; choose one of {', '.join(FIGURES)}")
    better = FIGURES[name].better
    given = str(getattr(direction, "name", direction))
    if direction is not None and given != better:
        raise ConfigError(
            f"hydra.sweeper.direction={given}: objective={name} is one figure that is better the "
            f"{'smaller' if better == 'minimize' else 'larger'}; pass hydra.sweeper.direction={better}"
        )
