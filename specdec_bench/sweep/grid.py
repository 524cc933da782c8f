"""Runs the cells of a planned grid that are not finished."""

import functools
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig

from specdec_bench.archive import files
from specdec_bench.archive.hydra_files import redacted_yaml
from specdec_bench.archive.layout import RunDirectory
from specdec_bench.archive.names import MULTIRUN
from specdec_bench.config.schema.engine import ServerEngine
from specdec_bench.config.schema.experiment import NO_BASELINE, Order
from specdec_bench.errors import (
    ArchiveError,
    ConfigError,
    JobFailed,
    LauncherError,
    RunInterrupted,
    SharingError,
)
from specdec_bench.report.progress import Cells
from specdec_bench.report.streams import print_error
from specdec_bench.runner import signals
from specdec_bench.share.tracking import create_tracker
from specdec_bench.sweep import directory, landing, latest, launch
from specdec_bench.sweep.baselines import archived_baselines
from specdec_bench.sweep.claims import claim
from specdec_bench.sweep.compose_cell import compose_cell
from specdec_bench.sweep.grid_size import check_plugin_numbers
from specdec_bench.sweep.job import Job, failure_of, raise_first_failure
from specdec_bench.sweep.launchers import wait_for_all_jobs
from specdec_bench.sweep.objective import check_objective
from specdec_bench.sweep.plan import PlannedCell, Planner
from specdec_bench.sweep.run_cell import run_job
from specdec_bench.sweep.search import largest_concurrency, run_search
from specdec_bench.sweep.show import close_abandoned, show_line, show_plan, show_sweep
from specdec_bench.sweep.tracked import log_sweep

if TYPE_CHECKING:
    from hydra._internal.hydra import Hydra
    from hydra.core.utils import JobReturn

    from specdec_bench.compare.cell import SweepResult


def run_sweep(app: "Hydra", composed: DictConfig, overrides: list[str], *, is_resumed: bool, is_dry_run: bool) -> None:
    """Runs the cells of a grid, or those that another sweeper chooses."""
    check_plugin_numbers(composed.hydra)
    swept = launch.sweep_overrides(app.config_loader, composed)
    runs_here, is_grid = launch.runs_here(composed), launch.is_grid(composed)

    def job(largest_concurrency: int) -> Job:
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
    launch.check_plugins(app.config_loader, composed)
    if is_grid:
        if by_replicates and not runs_here:
            raise ConfigError(
                f"order={Order.replicates.name}: hydra/launcher={chosen['hydra/launcher']} runs cells in an order "
                "of its own; leave out one of them"
            )
        prepare = functools.partial(compose_cell, command=sys.argv, prompts={})
        planner = Planner(app.config_loader, composed, prepare)
        cells = planner.plan(swept)
        sized = job(planner.largest_concurrency)
        try:
            _run_grid(app, composed, folder, cells, sized, is_resumed=is_resumed, is_dry_run=is_dry_run)
        except (KeyboardInterrupt, LauncherError):
            # After a signal, a LauncherError only says that the launcher's processes got it too.
            if not signals.times_stopped() or not directory.SweepDirectory(folder).plan_path.is_file():
                raise
            raise RunInterrupted(f"interrupted; resume={folder} runs what is not finished") from None
    elif is_resumed or is_dry_run or composed.baseline != NO_BASELINE or composed.control or by_replicates:
        raise ConfigError(
            f"hydra/sweeper={chosen['hydra/sweeper']}: chooses its cells as it goes; resume, --dry-run, "
            "baseline, control and order need Hydra's basic sweeper"
        )
    else:
        check_objective(composed.objective, composed.hydra.sweeper.get("direction"))
        try:
            run_search(app, composed, folder, job(largest_concurrency(swept)), overrides)
        except KeyboardInterrupt:
            if not directory.SweepDirectory(folder).runs():
                raise
            raise RunInterrupted(f"interrupted; what was measured is in {folder}") from None


def _refuse_shared_servers(to_run: list[PlannedCell], composed: DictConfig) -> None:
    """Refuses cells side by side on one server: each would be in the other's times, and in the server's counters.

    Raises:
        ConfigError: naming the server.
    """
    launcher = composed.hydra.runtime.choices["hydra/launcher"]
    engines = [(planned.cell.config.engine, planned.cell.config.spec) for planned in to_run]
    urls = Counter(engine.url_for(spec) for engine, spec in engines if isinstance(engine, ServerEngine))
    for url, num_cells in urls.items():
        if url is not None and num_cells > 1:
            raise ConfigError(
                f"engine.url={url}: hydra/launcher={launcher} would run {num_cells} cells on this server side by side; "
                "set hydra.sweeper.max_batch_size=1"
            )


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
    """Runs the cells of a planned sweep that are not finished, and shows the results of all cells.

    Raises:
        JobFailed: the first job that failed; its error has been printed.
    """
    sweep = directory.SweepDirectory(folder)
    archived = archived_baselines(str(composed.baseline), cells)
    tracker = create_tracker(composed)
    folders = {} if is_resumed else landing.find_cell_folders([(cell.number, cell.composed) for cell in cells], folder)
    is_new = landing.is_named_by_clock(composed, landing.SWEEP_DIR)
    done = set() if is_new else _done(sweep, cells, folders)
    if not job.runs_here and composed.hydra.sweeper.get("max_batch_size") != 1:
        _refuse_shared_servers([planned for planned in cells if planned.number not in done], composed)
    if is_dry_run:
        show_plan(cells, done, composed.order, shares_engines=job.runs_here)
        return
    if tracker is not None:
        tracker.connect()
    asked, hydra_overrides = launch.task_overrides(composed.hydra), launch.hydra_overrides(composed.hydra)
    # Jobs in other processes need a path that does not depend on the working directory.
    folder = folder if job.runs_here else folder.absolute()
    with claim(folder, landing.SWEEP_DIR, is_new=is_new) as claimed, directory.SweepDirectory(claimed) as sweep:
        landing.settle_sweep(composed, claimed)
        done = _done(sweep, cells, folders)  # checked again, now that this process holds the folder
        if sweep.plan() is None:
            sweep.write_plan(directory.as_plan(cells, asked, hydra_overrides, str(composed.baseline)))
        latest.record(sweep.path, latest.OUTPUTS)
        # Hydra's own way would write secrets to the disk, for a job to remove again.
        files.write_atomically(sweep.path / MULTIRUN, [redacted_yaml(composed)])
        to_run = [planned for planned in cells if planned.number not in done]
        results: list[JobReturn] = []
        shown: SweepResult | None = None
        unwritten: ArchiveError | SharingError | None = None
        try:
            for planned in to_run:
                if moved := sweep.set_aside(planned):
                    show_line(moved)
            with wait_for_all_jobs(lambda _: None):
                progress = Cells(total=len(cells), done=len(done), is_verbose=composed.verbose)

                def run_planned(planned: PlannedCell) -> None:
                    run_job(lambda: planned.cell, number=planned.number, cells=progress)

                for planned, result in launch.launch(to_run, app.config_loader, composed, run_planned, job):
                    results.append(result)
                    if not job.runs_here and (failure := failure_of(result)) is not None:
                        print_error(f"job {planned.number}: {failure}")
        finally:
            if not job.runs_here:
                close_abandoned([planned.run_dir for planned in to_run])
            try:
                shown = show_sweep(sweep, archived)
            except ArchiveError as error:  # reported beside any other failure on that disk
                unwritten = error
                print_error(str(error))
            unbegun = [str(planned.number) for planned in cells if not RunDirectory.is_run(planned.run_dir)]
            if not job.runs_here and unbegun:
                print_error(f"not started: job {', '.join(unbegun)}; resume={sweep.path} runs what is not finished")
        if tracker is not None and shown is not None:
            unwritten = log_sweep(tracker, sweep, shown) or unwritten
    raise_first_failure(results)
    if unwritten is not None:
        raise JobFailed(str(unwritten), unwritten.exit_status)


def _done(sweep: directory.SweepDirectory, cells: list[PlannedCell], folders: dict[int, str]) -> set[int]:
    """Settles where the cells land and returns the job numbers of those that need not run.

    Args:
        sweep: where they land.
        cells: all of them.
        folders: by job number, for a new sweep; empty for a resumed one, whose plan names them.

    Raises:
        ConfigError: the folder holds a sweep and resume was not given, a sweep of other cells, or other things.
    """
    plan = sweep.plan()
    if plan is None or folders:
        if plan is not None:
            raise ConfigError(f"hydra.sweep.dir={sweep.path}: already holds a sweep; pass resume={sweep.path}")
        directory.place_new(cells, folders, sweep)
        return set()
    directory.place(cells, plan, sweep)
    return {planned.number for planned in cells if sweep.is_finished(planned)}
