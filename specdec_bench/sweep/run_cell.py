"""Runs one cell, whether it is the only one, one of a grid or a job on another host."""

import logging
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode

from specdec_bench.archive import RunDirectory
from specdec_bench.errors import ArchiveError, SpecDecBenchError
from specdec_bench.report.console import console
from specdec_bench.report.progress import Cells, RunProgress
from specdec_bench.report.show_run import show_run, show_verdict
from specdec_bench.runner.cell import Cell, run_cell
from specdec_bench.sweep.show import _print_unused

logger = logging.getLogger(__name__)


def run_and_show(
    cell: Cell, run_dir: Path, *, prints: bool = True, draws: bool = True, cells: Cells | None = None
) -> RunDirectory:
    """Runs the cell, then prints its table and its verdict and draws its plots; of a failed run, what there is.

    Args:
        cell: checked.
        run_dir: where it is archived.
        prints: whether the terminal is this cell's, and not that of several which run at once.
        draws: False in a sweep, which has plots of its own: those of a cell take longer than all else around it.
        cells: how far the sweep is of which it is a cell, and which wants a line of it instead of its table.

    Raises:
        SpecDecBenchError: as the run ended.
    """
    try:
        with RunProgress(disable=not prints, cells=cells) as progress:
            run = run_cell(cell, run_dir, progress.update)
    except SpecDecBenchError:
        run = RunDirectory(run_dir)
        if run.summary_path.is_file() and run.summary().requests.finished:
            try:
                show_run(run, prints=prints, draws=draws, cells=cells)
            except ArchiveError as unwritten:  # beside the reason why the run ended, which goes to the user
                logger.error("%s", unwritten)
        raise
    show_run(run, prints=prints, draws=draws, cells=cells)
    if prints:
        show_verdict(run)
    return run


def show_cell(cell: Cell) -> None:
    """Prints what would be run."""
    _print_unused([{"name": cell.config.dataset.name, **cell.origin}])
    console().print(
        f"1 cell {cell.identity.cell_id[:12]}: {sum(len(p.turns) for p in cell.prompts)} turns of {len(cell.prompts)} "
        f"conversations x {cell.config.load.repeats} on engine={cell.config.engine.name}, spec={cell.config.spec.name}",
        markup=False,
        soft_wrap=True,
    )


def run_into_output(cell: Cell, cells: Cells | None = None) -> None:
    """Runs a checked cell into Hydra's output directory."""
    hydra_config = HydraConfig.get()
    run_dir = Path(hydra_config.runtime.output_dir)
    run_and_show(cell, run_dir, draws=hydra_config.mode != RunMode.MULTIRUN, cells=cells)
