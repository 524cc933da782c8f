"""The objective: a metric of a sweep's table, from a finished run's summary, that a sweeper is to improve."""

from specdec_bench.compare.columns import METRICS, metric_value
from specdec_bench.errors import ConfigError, EngineError
from specdec_bench.records.summary import Summary


def objective(summary: Summary, name: str) -> float:
    """Returns the value of the metric that a cell reports to Hydra.

    Raises:
        EngineError: it is undefined in this run, so that there is nothing to optimize.
    """
    value = metric_value(summary, name)
    if value is None:
        raise EngineError(f"objective={name}: undefined in this run (null in its summary), so it counts as failed")
    return value


def check_objective(name: str, direction: object = None) -> None:
    """Refuses an objective that is not a metric, or one that a sweeper would make worse.

    Args:
        name: the metric's.
        direction: the sweeper's `hydra.sweeper.direction`; None where it has none.

    Raises:
        ConfigError: naming the metrics to choose from, or the direction to pass.
    """
    if name not in METRICS:
        raise ConfigError(f"objective={name}: not a metric of the sweep's table; choose one of {', '.join(METRICS)}")
    better = METRICS[name].better
    given = str(getattr(direction, "name", direction))
    if direction is not None and given != better:
        raise ConfigError(
            f"hydra.sweeper.direction={given}: objective={name} is a metric that is better the "
            f"{'smaller' if better == 'minimize' else 'larger'}; pass hydra.sweeper.direction={better}"
        )
