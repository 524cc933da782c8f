"""The command line: `python run.py OVERRIDES` composes and runs an experiment.

`replay`, `summarize` and `check` take a run directory instead, `prepare` a dataset. Only what is needed to
compose and refuse an experiment is imported here; engines, numpy and plots come later.
"""

import contextlib
import functools
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import hydra
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.types import Override, RangeSweep
from hydra.errors import ConfigCompositionException, HydraException
from hydra.types import RunMode
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from specdec_bench import flags
from specdec_bench.archive import files
from specdec_bench.archive.layout import MULTIRUN, RunDirectory
from specdec_bench.archive.redact import REDACTED, redact_hydra_folder, redacted_yaml
from specdec_bench.config import compose
from specdec_bench.config.compose import CONF
from specdec_bench.config.schema import NO_BASELINE, Order
from specdec_bench.errors import ConfigError, RunInterrupted, SpecDecBenchError
from specdec_bench.explain import explain, first_line, is_hydras_own
from specdec_bench.job import Job, JobFailed, cell_of, print_error, remove_unused
from specdec_bench.sweep import directory, jobs
from specdec_bench.sweep.grid import check_plugin_numbers
from specdec_bench.sweep.launchers import JobLost, patiently
from specdec_bench.sweep.objective import FIGURES, check_objective
from specdec_bench.sweep.plan import PlannedCell, Planner, without_hydra

if TYPE_CHECKING:
    from hydra._internal.hydra import Hydra
    from hydra.core.utils import JobReturn

    from specdec_bench.runner.cell import Cell

CONFIG = "config"

FAILED = 1
BAD_INPUT = 2


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
    except (ValueError, RecursionError) as error:
        if not is_hydras_own(error):
            raise
        is_nested = isinstance(error, RecursionError)
        _exit(BAD_INPUT, "brackets or references are nested too deeply" if is_nested else first_line(error))
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
    asked = flags.parse(arguments)
    if asked.runs_nothing:
        hydra.main(version_base="1.3", config_path=str(CONF), config_name=CONFIG)(lambda _: None)()
        return
    overrides = asked.overrides
    with initialize_config_dir(str(CONF), version_base="1.3"):
        app = GlobalHydra.instance().hydra
        assert app is not None
        if asked.is_sweep:
            overrides = [*overrides, "hydra.mode=MULTIRUN"]
        if asked.resume is not None:
            overrides = _resumed(overrides, asked.resume)
        composed = _composed(app, overrides)
        app.compose_config = lambda **_: composed  # type: ignore[method-assign]
        check_objective(composed.objective)
        if composed.hydra.mode == RunMode.MULTIRUN:
            _run_sweep(app, composed, overrides, is_resumed=asked.resume is not None, is_dry_run=asked.is_dry_run)
        else:
            for name in ("baseline", "control", "order"):
                if composed[name] not in (NO_BASELINE, False, Order.engines):
                    raise ConfigError(f"{name}={composed[name]}: is of a sweep; pass -m")
            _run_single(app, composed, overrides, is_dry_run=asked.is_dry_run)


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
    given = [override for override in overrides if override != "hydra.mode=MULTIRUN"]
    if all(override.startswith(("hydra.", "hydra/")) for override in given):
        plan = directory.SweepDirectory(folder).plan()
        assert plan is not None
        began_with = [*plan.overrides, *(plan.hydra_overrides if not given else ())]
        if any(REDACTED in override for override in began_with):
            raise ConfigError(f"resume={resume}: it began with a secret, which no archive keeps; give its overrides")
        overrides = [*began_with, *overrides]
    return [*overrides, f"hydra.sweep.dir={jobs.quoted(folder)}"]


def _run_sweep(app: "Hydra", composed: DictConfig, overrides: list[str], *, is_resumed: bool, is_dry_run: bool) -> None:
    """Runs the cells of a grid, or those that another sweeper chooses."""
    check_plugin_numbers(composed.hydra)
    swept = jobs.sweep_overrides(app.config_loader, composed)
    runs_here, is_grid = jobs.runs_here(composed), jobs.is_grid(composed)

    def job(largest_concurrency: int) -> Job:
        return Job(
            largest_concurrency=largest_concurrency,
            command=tuple(sys.argv),
            working_dir=str(Path.cwd()),
            runs_here=runs_here,
            returns_objective=not is_grid,
        )

    given = jobs.hydra_overrides(composed.hydra)
    chosen, by_replicates = composed.hydra.runtime.choices, composed.order == Order.replicates
    folder = Path(composed.hydra.sweep.dir)
    if not runs_here:
        jobs.make_absolute(composed)
    with _removing_unused(folder):
        if is_grid:
            if by_replicates and not runs_here:
                raise ConfigError(
                    f"order={Order.replicates.name}: hydra/launcher={chosen['hydra/launcher']} runs cells in an order "
                    "of its own; leave out one of them"
                )
            prepare = functools.partial(cell_of, command=sys.argv, prompts={})
            planner = Planner(app.config_loader, composed, prepare)
            cells = planner.plan(swept)
            sized = job(planner.largest_concurrency)
            _run_grid(app, composed, cells, sized, given, is_resumed=is_resumed, is_dry_run=is_dry_run)
        elif is_resumed or is_dry_run or composed.baseline != NO_BASELINE or composed.control or by_replicates:
            raise ConfigError(
                f"hydra/sweeper={chosen['hydra/sweeper']}: chooses its cells as it goes; resume, {flags.DRY_RUN}, "
                "baseline, control and order need Hydra's basic sweeper"
            )
        else:
            check_objective(composed.objective, composed.hydra.sweeper.get("direction"))
            _run_search(app, composed, job(_largest_concurrency(swept)), overrides)


def _run_grid(
    app: "Hydra",
    composed: DictConfig,
    cells: list[PlannedCell],
    job: Job,
    hydra_overrides: list[str],
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
        commands.show_plan(cells, _done(sweep, cells, is_resumed), composed.order, shares_engines=job.runs_here)
        return
    with sweep:  # what is done is looked up by the one that holds the folder
        done = _done(sweep, cells, is_resumed)
        if sweep.plan() is None:
            given = jobs.task_overrides(composed.hydra)
            sweep.write_plan(directory.as_plan(cells, sweep.path, given, hydra_overrides, str(composed.baseline)))
        # Not Hydra's own way, which would put secrets on the disk for a job to take out again.
        files.write_atomically(sweep.path / MULTIRUN, [redacted_yaml(composed)])
        to_run = [planned for planned in cells if planned.number not in done]
        results: list[JobReturn] = []
        try:
            for planned in to_run:
                sweep.set_aside(planned)
            with patiently(lambda _: None):
                for planned, result in jobs.launch(to_run, app.config_loader, composed, _run_planned, job):
                    results.append(result)
                    if not job.runs_here and (failure := _failure(result)) is not None:
                        print_error(f"job {planned.number}: {failure}")
        finally:
            if not job.runs_here:
                commands.close_abandoned([planned.run_dir for planned in to_run])
            commands.show_sweep(sweep, archived)
            unbegun = [str(planned.number) for planned in cells if not RunDirectory.is_run(planned.run_dir)]
            if not job.runs_here and unbegun:
                print_error(f"never begun: job {', '.join(unbegun)}; resume={sweep.path} runs what is not finished")
    _raise_first_failure(results)


def _run_search(app: "Hydra", composed: DictConfig, job: Job, overrides: list[str]) -> None:
    """Has another sweeper choose and run cells, and shows what came out of all of them.

    Raises:
        JobFailed: the first job that failed; its error has been printed.
    """
    from specdec_bench import commands

    sweep = directory.SweepDirectory(Path(composed.hydra.sweep.dir))
    results: list[JobReturn] = []

    def note(returned: "Sequence[JobReturn]") -> None:
        for number, result in enumerate(returned, start=len(results)):
            if not job.runs_here and (failure := _failure(result)) is not None:
                print_error(f"job {number}: {failure}")
        results.extend(returned)

    with sweep:
        if sweep.plan() is not None or sweep.runs():
            raise ConfigError(f"hydra.sweep.dir={sweep.path}: already holds a sweep; choose another folder")
        try:
            with patiently(note):
                app.multirun(CONFIG, job, overrides)
        except ValueError:  # Optuna knows no best of trials that all failed
            if any(_failure(result) is None for result in results):
                raise
        finally:
            commands.close_abandoned([run.path for _, run in sweep.runs()])
            commands.show_sweep(sweep, [])
            commands.show_best(sweep, composed.objective, FIGURES[composed.objective].better)
    _raise_first_failure(results)


def _failure(result: "JobReturn") -> Exception | None:
    """Returns why a job failed, without Hydra's own words on stderr."""
    from hydra.core.utils import JobStatus

    return None if result.status == JobStatus.COMPLETED else result._return_value


def _raise_first_failure(results: "Sequence[JobReturn]") -> None:
    failures = [failure for failure in map(_failure, results) if failure is not None]
    for failure in failures:
        raise JobFailed(str(failure), FAILED) if isinstance(failure, JobLost) else failure


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
        print_error(f"job {planned.number}: {error}")
        raise JobFailed(str(error), error.exit_status) from error


def _run_single(app: "Hydra", composed: DictConfig, overrides: list[str], *, is_dry_run: bool) -> None:
    """Runs one experiment, once all that can be checked beforehand is."""
    composed.hydra.mode = RunMode.RUN
    HydraConfig.instance().set_config(composed)
    run_dir = Path(composed.hydra.run.dir)
    if RunDirectory.is_run(run_dir):
        raise ConfigError(f"hydra.run.dir={run_dir}: already holds a run; choose another folder")
    cell = cell_of(without_hydra(composed), jobs.task_overrides(composed.hydra), command=sys.argv)
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
    """Returns the largest load.concurrency that overrides name; 1 if none does."""
    values: list[Any] = []
    for override in overrides:
        if override.key_or_group == "load.concurrency":
            value = override.value()
            if isinstance(value, RangeSweep) and isinstance(swept := value.range(), range):
                values += [*swept[:1], *swept[-1:]]  # a search may choose from any number of them
            else:
                values += override.sweep_iterator() if override.is_sweep_override() else [value]
    return max((value for value in values if isinstance(value, int)), default=1)


def _run(cell: "Cell") -> None:
    """Runs a checked cell into Hydra's output directory."""
    from specdec_bench.commands import run_and_show

    hydra_config = HydraConfig.get()
    run_dir = Path(hydra_config.runtime.output_dir)
    redact_hydra_folder(run_dir)
    run_and_show(cell, run_dir, draws=hydra_config.mode != RunMode.MULTIRUN)


@contextlib.contextmanager
def _removing_unused(folder: Path) -> Iterator[None]:
    """Takes back the folder, and those above it that had to be made for it, where the block leaves nothing in them."""
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        yield
    finally:
        for path in made:
            remove_unused(path)


def _exit(status: int, message: str) -> NoReturn:
    print_error(message)
    raise SystemExit(status)


if __name__ == "__main__":
    main()
