"""Runs one cell: the only one, one of a grid, a launcher's job, or a replay."""

import contextlib
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from hydra.core.hydra_config import HydraConfig

from specdec_bench.archive import RunDirectory
from specdec_bench.archive.redact import redact_text
from specdec_bench.errors import ArchiveError, JobFailed, RunInterrupted, SpecDecBenchError
from specdec_bench.load import base as loads
from specdec_bench.report.console import console
from specdec_bench.report.progress import Cells, RunProgress
from specdec_bench.report.show_run import show_run, show_verdict
from specdec_bench.report.streams import exit_with_error, print_error
from specdec_bench.runner.cell import Cell, run_cell
from specdec_bench.sweep.objective import objective
from specdec_bench.sweep.show import print_unused

if TYPE_CHECKING:
    from specdec_bench.metrics.summary import Samples

logger = logging.getLogger(__name__)


def run_job(
    make_cell: Callable[[], Cell],
    *,
    number: int | None = None,
    runs_here: bool = True,
    cells: Cells | None = None,
    judged_by: str | None = None,
    on_finished: Callable[[RunDirectory], None] | None = None,
) -> float | None:
    """Runs a cell as the job that Hydra has set up, and reports its failure to the user or the sweep.

    Args:
        make_cell: returns the checked cell; if it raises, the job has failed.
        number: the job's in its sweep, or None for the only cell, which draws its plots and ends the process.
        runs_here: whether it runs in the command's process, which prints its results.
        cells: the sweep's progress.
        judged_by: the metric to return to a sweeper that optimizes.
        on_finished: receives the archived run.

    Raises:
        SystemExit: the only cell failed; the error has been printed.
        JobFailed: a cell of a sweep failed; the error has been printed if it runs here.
        KeyboardInterrupt: the user stopped it; the whole sweep ends and says how to resume it.
    """
    run_dir = Path(HydraConfig.get().runtime.output_dir)
    with _told(run_dir, number, runs_here=runs_here):
        run = run_and_show(make_cell(), run_dir, prints=runs_here, draws=number is None, cells=cells)
        if on_finished is not None:
            on_finished(run)
        return None if judged_by is None else objective(run.summary(), judged_by)


@contextlib.contextmanager
def _told(run_dir: Path, number: int | None, *, runs_here: bool) -> Iterator[None]:
    """Reports what the block raises, as `run_job` documents."""
    try:
        yield
    except KeyboardInterrupt:
        if number is not None or not RunDirectory.is_run(run_dir):
            raise
        exit_with_error(RunInterrupted.exit_status, f"interrupted; what was measured is in {run_dir}")
    except SpecDecBenchError as error:
        if number is None:
            # Not raised, because Hydra would print its own message about it.
            exit_with_error(error.exit_status, str(error))
        if runs_here and isinstance(error, RunInterrupted):
            raise KeyboardInterrupt from None
        if runs_here:
            print_error(f"job {number}: {error}")
        raise JobFailed(redact_text(" ".join(str(error).split())), error.exit_status) from None


def run_and_show(
    cell: Cell, run_dir: Path, *, prints: bool = True, draws: bool = True, cells: Cells | None = None
) -> RunDirectory:
    """Runs the cell, prints its table and verdict, and draws its plots; for a failed run, shows what there is.

    Args:
        cell: checked.
        run_dir: where it is archived.
        prints: whether this cell has the terminal to itself, instead of sharing it with others that run at once.
        draws: False in a sweep, which has its own plots. A cell's plots take longer than all else around it.
        cells: progress of the cell's sweep, which shows a line for the cell instead of its table.

    Raises:
        SpecDecBenchError: the error that ended the run.
    """
    samples: Samples | None = None

    def keep(found: "Samples") -> None:
        nonlocal samples
        samples = found

    try:
        with RunProgress(disable=not prints, cells=cells) as progress:
            run = run_cell(cell, run_dir, progress.update, keep)
    except SpecDecBenchError:
        run = RunDirectory(run_dir)
        if run.summary_path.is_file() and run.summary().requests.finished:
            try:
                show_run(run, samples, prints=prints, draws=draws, cells=cells)
            except ArchiveError as unwritten:  # the user gets the reason why the run ended
                logger.error("%s", unwritten)
        raise
    show_run(run, samples, prints=prints, draws=draws, cells=cells)
    if prints:
        show_verdict(run)
    return run


def show_cell(cell: Cell) -> None:
    """Prints what would be run."""
    print_unused([(cell.config.dataset.name, cell.origin.get("unused"))])
    of_dataset = len(cell.prompts) * cell.config.load.repeats
    num_conversations = loads.create(cell.config.load, cell.config.seed, of_dataset).num_conversations
    console().print(
        f"1 cell {cell.identity.cell_id[:12]}: {sum(len(p.turns) for p in cell.prompts)} turns of {len(cell.prompts)} "
        f"prompts, {num_conversations} conversations on engine={cell.config.engine.name}, spec={cell.config.spec.name}",
        markup=False,
        soft_wrap=True,
    )
