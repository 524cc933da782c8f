"""The command line: `python run.py OVERRIDES` composes and runs an experiment.

`replay`, `summarize` and `check` take a run directory instead, `prepare` a dataset. Only what is needed to
compose and refuse an experiment is imported here; engines, numpy and plots come later.
"""

import atexit
import contextlib
import functools
import gc
import io
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import hydra
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.types import Override, RangeSweep
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from specdec_bench import composing, flags, signals
from specdec_bench.archive import files, redact
from specdec_bench.archive.hydra_files import learn_composed, redact_yaml, redacted_yaml
from specdec_bench.archive.layout import MULTIRUN, RunDirectory
from specdec_bench.composing import CONFIG, MULTIRUN_MODE, OUTPUTS
from specdec_bench.config import compose, own_files
from specdec_bench.config.compose import CONF
from specdec_bench.config.schema import NO_BASELINE, Order
from specdec_bench.errors import ArchiveError, ConfigError, LauncherError, RunInterrupted, SpecDecBenchError
from specdec_bench.explain import explain, is_hydras_own
from specdec_bench.help import help_text
from specdec_bench.job import Job, JobFailed, cell_of
from specdec_bench.report.streams import guard_streams, print_error
from specdec_bench.sweep import directory, jobs, landing, latest
from specdec_bench.sweep.claims import claim
from specdec_bench.sweep.grid import check_plugin_numbers
from specdec_bench.sweep.launchers import JobLost, patiently
from specdec_bench.sweep.objective import FIGURES, check_objective
from specdec_bench.sweep.plan import PlannedCell, Planner, without_hydra
from specdec_bench.sweep.settings import check_settings

from . import __version__

if TYPE_CHECKING:
    from hydra._internal.hydra import Hydra
    from hydra.core.utils import JobReturn

    from specdec_bench.report.progress import Cells
    from specdec_bench.runner.cell import Cell


FAILED = 1
BAD_INPUT = 2


@guard_streams()
def main(arguments: list[str] | None = None) -> None:
    """Runs what the arguments (default: the process's) say. Exits 0, 1 (a run failed), 2 (bad input) or 130.

    A sweep exits as the first of its jobs that failed.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    logging.raiseExceptions = False  # a log on a full disk is no reason for a traceback
    # Composing makes a hundred thousand objects, nearly all of which stay: collecting garbage among them, and once
    # more as the process ends, takes a quarter of the time of a refusal.
    gc.disable()
    atexit.register(gc.freeze)
    redact.begin()
    redact.learn_arguments(arguments)
    try:
        match arguments:
            case ["replay" | "summarize" | "check" | "prepare" as command, *rest]:
                from specdec_bench import commands  # which imports what composing an experiment does not need

                gc.enable()
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
        _exit(BAD_INPUT, explain(error, arguments))
    except (ValueError, RecursionError) as error:
        if not is_hydras_own(error):
            raise
        is_nested = isinstance(error, RecursionError)
        _exit(BAD_INPUT, "brackets or references are nested too deeply" if is_nested else explain(error, arguments))
    except OSError as error:
        _exit(FAILED, f"{error.filename}: {error.strerror}" if error.filename else str(error))
    except KeyboardInterrupt:
        _exit(RunInterrupted.exit_status, "interrupted")
    finally:
        gc.enable()


def _compose_and_run(arguments: list[str]) -> None:
    """Runs an experiment or a sweep.

    hydra.main would compose it twice, first only to learn hydra.mode (a fifth of a second), and would write into
    the run directory before the experiment can be refused. So it serves only the flags that run nothing.
    """
    if "--version" in arguments:
        sys.stdout.write(f"specdec-bench {__version__}\n")
        return
    own_files.register()
    sys.argv = [sys.argv[0], *arguments]
    # Hydra then raises its errors instead of printing them over several lines.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    asked = flags.parse(arguments)
    if asked.shows_help:
        sys.stdout.write(help_text([Path(asked.config_dir)] if asked.config_dir else []))
        return
    compose.register_schemas()
    if asked.runs_nothing:
        shown = io.StringIO()
        try:
            with contextlib.redirect_stdout(shown):
                hydra.main(version_base="1.3", config_path=str(CONF), config_name=CONFIG)(lambda _: None)()
        finally:
            sys.stdout.write(redact.redact_yaml_text(shown.getvalue()))
        return
    overrides = asked.overrides
    with initialize_config_dir(str(CONF), version_base="1.3"):
        app = GlobalHydra.instance().hydra
        assert app is not None
        if asked.is_sweep:
            overrides = [*overrides, MULTIRUN_MODE]
        if asked.resume is not None:
            overrides = composing.resumed(overrides, asked.resume)
        composed = composing.compose_all(app, overrides)
        learn_composed(composed)
        gc.enable()
        app.compose_config = lambda **_: composed  # type: ignore[method-assign]
        check_settings(composed, is_sweep=composed.hydra.mode == RunMode.MULTIRUN)
        check_objective(composed.objective)
        if composed.hydra.mode == RunMode.MULTIRUN:
            _run_sweep(app, composed, overrides, is_resumed=asked.resume is not None, is_dry_run=asked.is_dry_run)
        else:
            for name in ("baseline", "control", "order"):
                if composed[name] not in (NO_BASELINE, False, Order.engines):
                    raise ConfigError(f"{name}={composed[name]}: is of a sweep; pass -m")
            _run_single(app, composed, overrides, is_dry_run=asked.is_dry_run)


def _run_sweep(app: "Hydra", composed: DictConfig, overrides: list[str], *, is_resumed: bool, is_dry_run: bool) -> None:
    """Runs the cells of a grid, or those that another sweeper chooses."""
    check_plugin_numbers(composed.hydra)
    swept = jobs.sweep_overrides(app.config_loader, composed)
    runs_here, is_grid = jobs.runs_here(composed), jobs.is_grid(composed)

    def job(largest_concurrency: int) -> Job:
        from specdec_bench.report.progress import Cells

        return Job(
            largest_concurrency=largest_concurrency,
            command=tuple(sys.argv),
            working_dir=str(Path.cwd()),
            runs_here=runs_here,
            returns_objective=not is_grid,
            cells=Cells(total=None, is_verbose=composed.verbose) if runs_here and not is_grid else None,
        )

    chosen, by_replicates = composed.hydra.runtime.choices, composed.order == Order.replicates
    folder = landing.find_sweep_folder(composed)
    jobs.check_plugins(app.config_loader, composed)
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
        try:
            _run_grid(app, composed, folder, cells, sized, is_resumed=is_resumed, is_dry_run=is_dry_run)
        except (KeyboardInterrupt, LauncherError):
            # A launcher's processes that got the signal too are what it tells of.
            if not signals.times_stopped() or not directory.SweepDirectory(folder).plan_path.is_file():
                raise
            raise RunInterrupted(f"interrupted; resume={folder} runs what is not finished") from None
    elif is_resumed or is_dry_run or composed.baseline != NO_BASELINE or composed.control or by_replicates:
        raise ConfigError(
            f"hydra/sweeper={chosen['hydra/sweeper']}: chooses its cells as it goes; resume, {flags.DRY_RUN}, "
            "baseline, control and order need Hydra's basic sweeper"
        )
    else:
        check_objective(composed.objective, composed.hydra.sweeper.get("direction"))
        try:
            _run_search(app, composed, folder, job(_largest_concurrency(swept)), overrides)
        except KeyboardInterrupt:
            if not directory.SweepDirectory(folder).runs():
                raise
            raise RunInterrupted(f"interrupted; what was measured is in {folder}") from None


def _run_grid(
    app: "Hydra",
    composed: DictConfig,
    folder: Path,
    cells: list[PlannedCell],
    job: Job,
    *,
    is_resumed: bool,
    is_dry_run: bool,
) -> None:
    """Runs what is not done yet of a planned sweep, and shows what came out of all of it.

    Raises:
        JobFailed: the first job that failed; its error has been printed.
    """
    from specdec_bench import commands
    from specdec_bench.archive import files
    from specdec_bench.report.progress import Cells
    from specdec_bench.sweep import directory
    from specdec_bench.sweep.launchers import patiently

    sweep = directory.SweepDirectory(folder)
    archived = commands.archived_baselines(str(composed.baseline), cells)
    folders = {} if is_resumed else landing.find_cell_folders([(cell.number, cell.composed) for cell in cells], folder)
    is_new = landing.is_named_by_clock(composed, landing.SWEEP_DIR)
    done = set() if is_new else _done(sweep, cells, folders)
    if is_dry_run:
        commands.show_plan(cells, done, composed.order, shares_engines=job.runs_here)
        return
    asked, hydra_overrides = jobs.task_overrides(composed.hydra), jobs.hydra_overrides(composed.hydra)
    # Jobs elsewhere need a name that is the same in every process, whatever folder it works in.
    folder = folder if job.runs_here else folder.absolute()
    with claim(folder, landing.SWEEP_DIR, is_new=is_new) as claimed, directory.SweepDirectory(claimed) as sweep:
        landing.settle_sweep(composed, claimed)
        done = _done(sweep, cells, folders)  # once more, by the one that holds the folder
        if sweep.plan() is None:
            sweep.write_plan(directory.as_plan(cells, asked, hydra_overrides, str(composed.baseline)))
        latest.record(sweep.path, OUTPUTS)
        # Not Hydra's own way, which would put secrets on the disk for a job to take out again.
        files.write_atomically(sweep.path / MULTIRUN, [redacted_yaml(composed)])
        to_run = [planned for planned in cells if planned.number not in done]
        results: list[JobReturn] = []
        unwritten: ArchiveError | None = None
        try:
            for planned in to_run:
                if moved := sweep.set_aside(planned):
                    commands.show_line(moved)
            with patiently(lambda _: None):
                progress = Cells(total=len(cells), done=len(done), is_verbose=composed.verbose)
                run_planned = functools.partial(_run_planned, progress)
                for planned, result in jobs.launch(to_run, app.config_loader, composed, run_planned, job):
                    results.append(result)
                    if not job.runs_here and (failure := _failure(result)) is not None:
                        print_error(f"job {planned.number}: {failure}")
        finally:
            if not job.runs_here:
                commands.close_abandoned([planned.run_dir for planned in to_run])
            try:
                commands.show_sweep(sweep, archived)
            except ArchiveError as error:  # beside whatever else has gone wrong on that disk
                unwritten = error
                print_error(str(error))
            unbegun = [str(planned.number) for planned in cells if not RunDirectory.is_run(planned.run_dir)]
            if not job.runs_here and unbegun:
                print_error(f"never begun: job {', '.join(unbegun)}; resume={sweep.path} runs what is not finished")
    _raise_first_failure(results)
    if unwritten is not None:
        raise JobFailed(str(unwritten), unwritten.exit_status)


def _run_search(app: "Hydra", composed: DictConfig, folder: Path, job: Job, overrides: list[str]) -> None:
    """Has another sweeper choose and run cells, and shows what came out of all of them.

    Raises:
        JobFailed: the first job that failed; its error has been printed.
    """
    from specdec_bench import commands
    from specdec_bench.sweep import directory

    check_landing = landing.SearchLanding(app.config_loader, composed, folder)
    is_new = landing.is_named_by_clock(composed, landing.SWEEP_DIR)
    results: list[JobReturn] = []

    def note(returned: "Sequence[JobReturn]") -> None:
        for number, result in enumerate(returned, start=len(results)):
            if not job.runs_here and (failure := _failure(result)) is not None:
                print_error(f"job {number}: {failure}")
        results.extend(returned)

    folder = folder if job.runs_here else folder.absolute()
    with claim(folder, landing.SWEEP_DIR, is_new=is_new) as claimed, directory.SweepDirectory(claimed) as sweep:
        if sweep.is_sweep() or sweep.runs():
            raise ConfigError(f"hydra.sweep.dir={sweep.path}: already holds a sweep; choose another folder")
        landing.settle_sweep(composed, claimed)
        try:
            with patiently(note, check_landing):
                app.multirun(CONFIG, job, overrides)
        except ValueError:  # Optuna knows no best of trials that all failed
            if any(_failure(result) is None for result in results):
                raise
        finally:
            for path in sweep.path.glob("*.yaml"):  # the sweeper's own
                redact_yaml(path)
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


def _done(sweep: directory.SweepDirectory, cells: list[PlannedCell], folders: dict[int, str]) -> set[int]:
    """Settles where the cells land and returns the job numbers of those that need not run.

    Args:
        sweep: where they land.
        cells: all of them.
        folders: of a new sweep, by job number; empty for one that goes on, whose plan says so.

    Raises:
        ConfigError: the folder holds a sweep that was not asked to go on, one of other cells, or other things.
    """
    from specdec_bench.sweep import directory

    plan = sweep.plan()
    if plan is None or folders:
        if plan is not None:
            raise ConfigError(f"hydra.sweep.dir={sweep.path}: already holds a sweep; pass resume={sweep.path}")
        directory.place_new(cells, folders, sweep)
        return set()
    directory.place(cells, plan, sweep)
    return {planned.number for planned in cells if sweep.is_finished(planned)}


def _run_planned(cells: "Cells", planned: PlannedCell) -> None:
    """Runs a planned cell as the job that Hydra has set up.

    Raises:
        JobFailed: the error has been printed.
    """
    try:
        _run(planned.cell, cells)
    except RunInterrupted:
        raise KeyboardInterrupt from None  # ends the whole sweep, which tells how it goes on
    except SpecDecBenchError as error:
        print_error(f"job {planned.number}: {error}")
        raise JobFailed(str(error), error.exit_status) from error


def _run_single(app: "Hydra", composed: DictConfig, overrides: list[str], *, is_dry_run: bool) -> None:
    """Runs one experiment, once all that can be checked beforehand is."""
    composed.hydra.mode = RunMode.RUN
    folder = landing.find_run_folder(composed)
    jobs.check_plugins(app.config_loader, composed)
    HydraConfig.instance().set_config(composed)
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
        except KeyboardInterrupt:
            if not RunDirectory.is_run(claimed):
                raise
            _exit(RunInterrupted.exit_status, f"interrupted; what was measured is in {claimed}")

    is_new = landing.is_named_by_clock(composed, landing.RUN_DIR)
    with claim(folder, landing.RUN_DIR, is_new=is_new) as claimed, files.naming(claimed):
        landing.settle_run(composed, claimed)
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


def _run(cell: "Cell", cells: "Cells | None" = None) -> None:
    """Runs a checked cell into Hydra's output directory."""
    from specdec_bench.commands import run_and_show

    hydra_config = HydraConfig.get()
    run_dir = Path(hydra_config.runtime.output_dir)
    run_and_show(cell, run_dir, draws=hydra_config.mode != RunMode.MULTIRUN, cells=cells)


def _exit(status: int, message: str) -> NoReturn:
    print_error(message)
    raise SystemExit(status)


if __name__ == "__main__":
    main()
