"""Computes how large a sweep is before any of its values is made or its cells composed."""

import math
from collections.abc import Sequence

from hydra.conf import HydraConf
from hydra.core.override_parser.types import Override, RangeSweep
from omegaconf import OmegaConf

from specdec_bench.config.schema.ranges import Range, shortened
from specdec_bench.errors import ConfigError

MOST_CELLS = 10_000
"""The most cells in a sweep. Composing a cell takes a tenth of a second."""


_AT_A_TIME = Range(1, 1024, "no machine runs as many at once")
_OF_PLUGINS = {
    "sweeper.n_trials": Range(1, MOST_CELLS, "a sweep has at most as many cells"),
    "sweeper.n_jobs": _AT_A_TIME,
    "launcher.n_jobs": _AT_A_TIME,
    "launcher.array_parallelism": Range(1, MOST_CELLS, "a sweep has at most as many cells"),
    "launcher.timeout_min": Range(1, 525_600, "a year"),
}
"""Bounds of numbers that Hydra's sweepers and launchers do not check; beyond them, they do nothing or fail."""


def check_plugin_numbers(hydra: HydraConf) -> None:
    """Refuses numbers with which a sweeper or launcher would do nothing.

    Raises:
        ConfigError: naming the first of them.
    """
    for key, bound in _OF_PLUGINS.items():
        value = OmegaConf.select(hydra, key)  # type: ignore[arg-type]
        is_all_cores = key == "launcher.n_jobs" and value == -1
        if isinstance(value, int) and not is_all_cores:
            bound.check(f"hydra.{key}", value)


def check_size(overrides: Sequence[Override]) -> None:
    """Refuses a grid without cells, or with more than can be planned.

    Raises:
        ConfigError: naming what is swept.
    """
    for override in overrides:
        if override.is_interval_sweep():
            raise ConfigError(f"{override.input_line}: only hydra/sweeper=optuna_tpe chooses from it; list the values")
    # If two overrides have the same key, the later one wins.
    swept = {override.get_key_element(): override for override in overrides if override.is_discrete_sweep()}
    number = math.prod(_num_values(override) for override in swept.values())
    if number > MOST_CELLS:
        lines = shortened(" ".join(str(override.input_line) for override in swept.values()))
        raise ConfigError(f"{lines}: {number:,} cells; a sweep has at most {MOST_CELLS:,}, so sweep fewer values")


def _num_values(override: Override) -> int:
    """Returns how many values an override sweeps.

    Raises:
        ConfigError: it has none, or no end.
    """
    sweep = override.value()
    if not isinstance(sweep, RangeSweep):
        number = sum(1 for _ in override.sweep_iterator())
    elif sweep.step == 0 or not all(map(math.isfinite, (sweep.start or 0, sweep.stop or 0, sweep.step))):
        raise ConfigError(f"{override.input_line}: has no end; give finite numbers, and a step other than 0")
    else:
        number = max(0, math.ceil(((sweep.stop or 0) - (sweep.start or 0)) / sweep.step))
    if number == 0:
        raise ConfigError(f"{override.input_line}: has no values; give at least one")
    return number
