"""The command line: `python run.py OVERRIDES` composes and runs an experiment.

`replay`, `summarize` and `check` take a run directory instead, `prepare` a dataset. Only what is needed to
compose and refuse an experiment is imported here; engines, numpy and plots come later.
"""

import contextlib
import functools
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import hydra
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.types import Override
from hydra.errors import ConfigCompositionException, HydraException
from hydra.types import RunMode
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from specdec_bench.archive import files
from specdec_bench.archive.layout import HYDRA, LOG, RunDirectory
from specdec_bench.archive.redact import REDACTED, redact_hydra_folder, redacted_yaml
from specdec_bench.config import compose
from specdec_bench.config.compose import CONF
from specdec_bench.config.schema import NO_BASELINE
from specdec_bench.errors import ConfigError, RunInterrupted, SpecDecBenchError
from specdec_bench.explain import explain, first_line, is_hydras_own
from specdec_bench.sweep import directory
from specdec_bench.sweep.jobs import is_grid, launch, runs_here, sweep_overrides, task_overrides
from specdec_bench.sweep.plan import PlannedCell, Planner, without_hydra

if TYPE_CHECKING:
    from hydra._internal.hydra import Hydra
    from hydra.core.utils import JobReturn

    from specdec_bench.records import Prompt
    from specdec_bench.runner.cell import Cell

CONFIG = "config"
MULTIRUN = "multirun.yaml"
"""What Hydra saves of a sweep, beside its cells."""

DRY_RUN = "--dry-run"

FAILED = 1
BAD_INPUT = 2


class JobFailed(Exception):  # noqa: N818  (it is no error any more: its job's error has been printed)
    """A job of a sweep failed. Hydra goes on with the next one, and raises the first of these at the end."""

    def __init__(self, exit_status: int) -> None:
        super().__init__(exit_status)
        self.exit_status = exit_status


def main(arguments: list[str] | None = None) -> None:
    """Runs what the arguments (default: the process's) say. Exits 0, 1 (a run failed), 2 (bad input) or 130.

    A sweep exits as the first of its jobs that failed.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        match arguments:
            case ["replay" | "summarize" | "check" | "prepare" as command, *rest]:
                from specdec_bench import commands  # which imports what composing an experiment does not need

                sys.exit(getattr(commands, command)(rest))
            case ["run", *rest]:
                _compose_and_run(rest)
            case _:
                _compose_and_run(arguments)
    except JobFailed as failure:
        raise SystemExit(failure.exit_status) from None
    except SpecDecBenchError as error:
        _exit(error.exit_status, str(error))
    except (HydraException, OmegaConfBaseException) as error:
        _exit(BAD_INPUT, explain(error))
    except ValueError as error:
        if not is_hydras_own(error):
            raise
        _exit(BAD_INPUT, first_line(error))
    except OSError as error:
        _exit(FAILED, f"{error.filename}: {error.strerror}" if error.filename else str(error))
    except KeyboardInterrupt:
        _exit(RunInterrupted.exit_status, "interrupted")


def _compose_and_run(arguments: list[str]) -> None:
    """Runs an experiment or a sweep.

    hydra.main would compose it twice, first only to learn hydra.mode (a fifth of a second), and would write into
    the run directory before the experiment can be refused. So it serves only the flags that run nothing.
    """
    compose.register_schemas()
    sys.argv = [sys.argv[0], *arguments]
    # Hydra then raises its errors instead of printing them over several lines.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    resume = [argument.partition("=")[2] for argument in arguments if argument.startswith("resume=")]
    is_sweep = bool(resume) or not {"-m", "--multirun"}.isdisjoint(arguments)
    is_dry_run = DRY_RUN in arguments
    ours = ("-m", "--multirun", "-r", "--run", DRY_RUN)
    overrides = [argument for argument in arguments if argument not in ours and not argument.startswith("resume=")]
    if any(override.startswith("-") for override in overrides):
        hydra.main(version_base="1.3", config_path=str(CONF), config_name=CONFIG)(run_job)()
        return
    with initialize_config_dir(str(CONF), version_base="1.3"):
        app = GlobalHydra.instance().hydra
        assert app is not None
        if is_sweep:
            overrides.append("hydra.mode=MULTIRUN")
        if resume:
            overrides = _resumed(overrides, resume[-1])
        composed = _composed(app, overrides)
        app.compose_config = lambda **_: composed  # type: ignore[method-assign]
        if composed.hydra.mode == RunMode.MULTIRUN:
            swept = sweep_overrides(app.config_loader, composed)
            largest_concurrency = _largest_concurrency(swept)
            run_cell = functools.partial(run_job, largest_concurrency=largest_concurrency)
            with _removing_unused(Path(composed.hydra.sweep.dir)):
                if is_grid(composed):
                    prepare = functools.partial(_cell, largest_concurrency=largest_concurrency, prompts={})
                    cells = Planner(app.config_loader, composed, prepare).plan(swept)
                    _run_grid(app, composed, cells, run_cell, is_resumed=bool(resume), is_dry_run=is_dry_run)
                elif resume or is_dry_run or composed.baseline != NO_BASELINE or composed.control:
                    raise ConfigError(
                        f"hydra/sweeper={composed.hydra.sweeper._target_}: chooses its cells as it goes; resume, "
                        f"{DRY_RUN}, baseline and control need Hydra's basic sweeper"
                    )
                else:
                    app.multirun(CONFIG, run_cell, overrides)
        else:
            for name in ("baseline", "control"):
                if composed[name] not in (NO_BASELINE, False):
                    raise ConfigError(f"{name}={composed[name]}: is of a sweep; pass -m")
            _run_single(app, composed, overrides, is_dry_run=is_dry_run)


def _composed(app: "Hydra", overrides: list[str]) -> DictConfig:
    """Returns the composed experiment or sweep, with Hydra's own settings."""
    try:
        return app.compose_config(CONFIG, overrides, RunMode.RUN)
    except ConfigCompositionException as error:
        if "--multirun" not in str(error):
            raise
        # Several values for one key: a sweep if -m was given, or if a chosen YAML sets hydra.mode.
        composed = app.compose_config(CONFIG, overrides, RunMode.MULTIRUN)
        if composed.hydra.mode != RunMode.MULTIRUN:
            raise
        return composed


def _resumed(overrides: list[str], resume: str) -> list[str]:
    """Returns the overrides of a sweep that is to go on: those given, or else those that it began with."""
    folder = directory.find(resume, Path("outputs"))
    if given := [override for override in overrides if override.startswith("hydra.sweep.dir=")]:
        raise ConfigError(f"{given[0]}: resume={resume} goes on in {folder}; leave one of them out")
    if overrides == ["hydra.mode=MULTIRUN"]:
        plan = directory.SweepDirectory(folder).plan()
        assert plan is not None
        if any(REDACTED in override for override in plan.overrides):
            raise ConfigError(f"resume={resume}: it began with a secret, which no archive keeps; give its overrides")
        overrides = [*plan.overrides, *overrides]
    quoted = str(folder).replace("\\", "\\\\").replace("'", "\\'")
    return [*overrides, f"hydra.sweep.dir='{quoted}'"]


def _run_grid(
    app: "Hydra",
    composed: DictConfig,
    cells: list[PlannedCell],
    run_composed: Callable[[DictConfig], None],
    *,
    is_resumed: bool,
    is_dry_run: bool,
) -> None:
    """Runs what is not done yet of a planned sweep, and shows what came out of all of it.

    Raises:
        JobFailed: the first job that failed; its error has been printed.
    """
    from specdec_bench import commands

    sweep = directory.SweepDirectory(Path(composed.hydra.sweep.dir))
    archived = commands.archived_baselines(str(composed.baseline), cells)
    if is_dry_run:
        commands.show_plan(cells, _done(sweep, cells, is_resumed), shares_engines=runs_here(composed))
        return
    with sweep:  # what is done is looked up by the one that holds the folder
        done = _done(sweep, cells, is_resumed)
        if sweep.plan() is None:
            given = task_overrides(composed.hydra)
            sweep.write_plan(directory.as_plan(cells, sweep.path, given, str(composed.baseline)))
        # Not Hydra's own way, which would put secrets on the disk for a job to take out again.
        files.write_atomically(sweep.path / MULTIRUN, [redacted_yaml(composed)])
        to_run = [planned for planned in cells if planned.number not in done]
        results: list[JobReturn] = []
        try:
            for planned in to_run:
                sweep.set_aside(planned)
            results.extend(launch(to_run, app.config_loader, composed, _run_planned, run_composed))
        finally:
            commands.show_sweep(sweep, archived)
    for result in results:
        _ = result.return_value  # raises what the job raised


def _done(sweep: directory.SweepDirectory, cells: list[PlannedCell], is_resumed: bool) -> set[int]:
    """Returns the job numbers of the cells that need not run.

    Raises:
        ConfigError: the folder holds a sweep that is not to be gone on with, or one of other cells.
    """
    plan = sweep.plan()
    if plan is not None:
        if not is_resumed:
            raise ConfigError(f"hydra.sweep.dir={sweep.path}: already holds a sweep; pass resume={sweep.path}")
        directory.check_same_cells(plan, cells, sweep.path)
    return {planned.number for planned in cells if sweep.is_finished(planned)}


def _run_planned(planned: PlannedCell) -> None:
    """Runs a planned cell as the job that Hydra has set up.

    Raises:
        JobFailed: the error has been printed.
    """
    try:
        _run(planned.cell)
    except RunInterrupted as error:
        _exit(error.exit_status, str(error))  # ends the whole sweep
    except SpecDecBenchError as error:
        _print_error(f"job {planned.number}: {error}")
        raise JobFailed(error.exit_status) from error


def _run_single(app: "Hydra", composed: DictConfig, overrides: list[str], *, is_dry_run: bool) -> None:
    """Runs one experiment, once all that can be checked beforehand is."""
    composed.hydra.mode = RunMode.RUN
    HydraConfig.instance().set_config(composed)
    run_dir = Path(composed.hydra.run.dir)
    if RunDirectory.is_run(run_dir):
        raise ConfigError(f"hydra.run.dir={run_dir}: already holds a run; choose another folder")
    cell = _cell(without_hydra(composed), task_overrides(composed.hydra))
    if is_dry_run:
        from specdec_bench import commands

        commands.show_cell(cell)
        return

    def run(_: DictConfig) -> None:
        try:
            _run(cell)
        except SpecDecBenchError as error:
            # Not raised, for Hydra would print its own words about it.
            _exit(error.exit_status, str(error))

    with _removing_unused(run_dir):
        app.run(CONFIG, run, overrides)


def _largest_concurrency(overrides: list[Override]) -> int:
    """Returns the largest load.concurrency of a sweep; 1 if it sweeps none."""
    values: list[Any] = []
    for override in overrides:
        if override.key_or_group == "load.concurrency":
            values += override.sweep_iterator() if override.is_sweep_override() else [override.value()]
    return max((value for value in values if isinstance(value, int)), default=1)


def run_job(composed: DictConfig, largest_concurrency: int = 1) -> None:
    """Runs one composed experiment of a sweep into Hydra's output directory.

    Args:
        composed: Hydra's tree.
        largest_concurrency: of the sweep's cells.

    Raises:
        JobFailed: the error has been printed.
    """
    hydra_config = HydraConfig.get()
    try:
        multirun = Path(hydra_config.sweep.dir) / MULTIRUN
        is_sweep = hydra_config.mode == RunMode.MULTIRUN and multirun.is_file()
        _run(_cell(composed, task_overrides(hydra_config), largest_concurrency), multirun if is_sweep else None)
    except RunInterrupted as error:
        _exit(error.exit_status, str(error))  # ends the whole sweep
    except SpecDecBenchError as error:
        is_sweep = hydra_config.mode == RunMode.MULTIRUN
        _print_error(f"job {hydra_config.job.num}: {error}" if is_sweep else str(error))
        raise JobFailed(error.exit_status) from error
    finally:
        _remove_unused(Path(hydra_config.runtime.output_dir))


def _cell(
    composed: DictConfig,
    overrides: Sequence[str],
    largest_concurrency: int = 1,
    prompts: dict[str, "list[Prompt]"] | None = None,
) -> "Cell":
    """Returns the checked cell; `prompts` keeps those that were read, which the cells of a sweep share."""
    from specdec_bench.runner.cell import Cell, check, load_prompts

    config = compose.experiment(composed, largest_concurrency)
    check(config)
    key = repr((config.dataset, config.seed, config.model))
    prompts = {} if prompts is None else prompts
    if key not in prompts:
        prompts[key] = load_prompts(config)
    return Cell(config=config, prompts=prompts[key], command=sys.argv, overrides=overrides)


def _run(cell: "Cell", multirun: Path | None = None) -> None:
    """Runs a checked cell into Hydra's output directory. `multirun` is what Hydra itself saved of a sweep."""
    from specdec_bench.commands import run_and_show

    hydra_config = HydraConfig.get()
    run_dir = Path(hydra_config.runtime.output_dir)
    redact_hydra_folder(run_dir, multirun)
    run_and_show(cell, run_dir, draws=hydra_config.mode != RunMode.MULTIRUN)


@contextlib.contextmanager
def _removing_unused(folder: Path) -> Iterator[None]:
    """Takes back the folder, and those above it that had to be made for it, where the block leaves nothing in them."""
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        yield
    finally:
        for path in made:
            _remove_unused(path)


def _remove_unused(folder: Path) -> None:
    """Removes a folder that holds nothing but what Hydra wrote before the experiment was refused."""
    if folder.is_dir() and {entry.name for entry in folder.iterdir()} <= {HYDRA, LOG, MULTIRUN}:
        shutil.rmtree(folder)


def _print_error(message: str) -> None:
    sys.stderr.write("error: " + " ".join(message.split()) + "\n")


def _exit(status: int, message: str) -> NoReturn:
    _print_error(message)
    raise SystemExit(status)


if __name__ == "__main__":
    main()
