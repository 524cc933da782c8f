"""Runs planned cells as Hydra jobs: one after another in this process, or through another launcher."""

import functools
from collections.abc import Callable, Iterator, Sequence

from hydra._internal.callbacks import Callbacks
from hydra._internal.core_plugins.basic_launcher import BasicLauncher
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.conf import HydraConf
from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, configure_log, run_job, setup_globals
from hydra.errors import InstantiationException
from hydra.experimental.callback import Callback
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

from specdec_bench.archive import files
from specdec_bench.errors import ConfigError
from specdec_bench.sweep import landing
from specdec_bench.sweep.plan import PlannedCell, in_running_order

_FULL_ERROR_HINT = ", set env var HYDRA_FULL_ERROR=1 to see chained exception."


def sweep_overrides(loader: ConfigLoader, composed: DictConfig) -> list[Override]:
    """Returns the overrides to sweep: those of a chosen YAML, then those of the command line, which win.

    Raises:
        OverrideParseException: one of them is not a valid override.
    """
    swept = OmegaConf.to_container(composed.hydra.sweeper.params) if composed.hydra.sweeper.get("params") else {}
    assert isinstance(swept, dict)
    lines = [f"{key!s}={value}" for key, value in swept.items()] + task_overrides(composed.hydra)
    return OverridesParser.create(config_loader=loader).parse_overrides(lines)


def task_overrides(hydra: HydraConf) -> list[str]:
    """Returns the experiment's overrides as they were given, from Hydra's settings of a job or a sweep."""
    overrides = OmegaConf.to_container(hydra.overrides.task, resolve=False)
    assert isinstance(overrides, list)
    return overrides


def is_grid(composed: DictConfig) -> bool:
    """Says whether Hydra's basic sweeper is chosen. Its grid can be planned; others decide as results come in."""
    return bool(composed.hydra.sweeper._target_ == _target(BasicSweeper))


def runs_here(composed: DictConfig) -> bool:
    """Says whether jobs run one after another in this process, where they can share engines."""
    return bool(composed.hydra.launcher._target_ == _target(BasicLauncher))


def hydra_overrides(hydra: HydraConf) -> list[str]:
    """Returns the overrides of Hydra's own settings that a resumed sweep keeps: all but its folder and mode."""
    given = OmegaConf.to_container(hydra.overrides.hydra, resolve=False)
    assert isinstance(given, list)
    return [override for override in given if not override.startswith(("hydra.mode=", f"{landing.SWEEP_DIR}="))]


def not_given_again(began_with: Sequence[str], given: Sequence[str]) -> list[str]:
    """Returns the overrides of Hydra's own settings that a sweep began with, less those replaced now.

    A newly chosen launcher or sweeper does not inherit the settings of the one before.
    """
    keys = {override.lstrip("+~").partition("=")[0] for override in given}
    replaced = tuple(f"hydra.{kind}." for kind in ("launcher", "sweeper") if f"hydra/{kind}" in keys)
    kept = [override for override in began_with if override.lstrip("+~").partition("=")[0] not in keys]
    return [override for override in kept if not (replaced and override.lstrip("+~").startswith(replaced))]


def check_plugins(loader: ConfigLoader, composed: DictConfig) -> None:
    """Refuses callbacks, a launcher or a sweeper that cannot be created with their settings.

    Raises:
        ConfigError: saying why.
    """
    try:
        callbacks = Callbacks(composed)
        context = HydraContext(config_loader=loader, callbacks=callbacks)
        plugins = Plugins.instance()
        if not is_grid(composed):
            plugins.instantiate_sweeper(hydra_context=context, task_function=lambda _: None, config=composed)
        elif not runs_here(composed):
            plugins.instantiate_launcher(hydra_context=context, task_function=lambda _: None, config=composed)
    except InstantiationException as error:
        reason = " ".join(str(error).replace(_FULL_ERROR_HINT, "").split())
        raise ConfigError(f"hydra.callbacks, hydra.launcher or hydra.sweeper: {reason}; correct it") from None
    for made in callbacks.callbacks:
        if not isinstance(made, Callback):
            raise ConfigError(f"hydra.callbacks: {made} is not a Hydra callback; give its class as _target_")


def launch(
    cells: Sequence[PlannedCell],
    loader: ConfigLoader,
    composed: DictConfig,
    run_planned: Callable[[PlannedCell], None],
    run_composed: TaskFunction,
) -> Iterator[tuple[PlannedCell, JobReturn]]:
    """Runs the cells and yields each with its job's result: as it ends here, or when all have ended elsewhere.

    Args:
        cells: those to run.
        loader: Hydra's.
        composed: the sweep as a whole.
        run_planned: runs a cell in this process; Hydra's global configuration is then the job's.
        run_composed: runs a job from its tree alone, in a process that another launcher starts.

    Raises:
        LauncherError: another launcher could not run them.
    """
    callbacks = Callbacks(composed)
    context = HydraContext(config_loader=loader, callbacks=callbacks)
    callbacks.on_multirun_start(config=composed, config_name=composed.hydra.job.config_name)
    setup_globals()
    if runs_here(composed):
        for planned in in_running_order(cells, composed.order):
            with files.naming(planned.run_dir):  # which Hydra makes
                result = run_job(
                    hydra_context=context,
                    task_function=functools.partial(_run, planned, run_planned),
                    config=planned.composed,
                    job_dir_key="hydra.sweep.dir",
                    job_subdir_key="hydra.sweep.subdir",
                )
            yield planned, result
            configure_log(composed.hydra.hydra_logging, composed.hydra.verbose)
    elif cells:
        configure_log(composed.hydra.hydra_logging, composed.hydra.verbose)
        launcher = Plugins.instance().instantiate_launcher(
            hydra_context=context, task_function=run_composed, config=composed
        )
        # A launcher numbers its jobs consecutively, but a resumed sweep has gaps.
        size = composed.hydra.sweeper.get("max_batch_size") or len(cells)
        for batch in (cells[first : first + size] for first in range(0, len(cells), size)):
            overrides = [[*cell.overrides, f"{landing.SUBDIR}={landing.quote(cell.subdir)}"] for cell in batch]
            yield from zip(batch, launcher.launch(overrides, initial_job_idx=batch[0].number), strict=True)
    callbacks.on_multirun_end(config=composed, config_name=composed.hydra.job.config_name)


def _run(planned: PlannedCell, run_planned: Callable[[PlannedCell], None], _: DictConfig) -> None:
    run_planned(planned)


def _target(plugin: type) -> str:
    return f"{plugin.__module__}.{plugin.__qualname__}"
