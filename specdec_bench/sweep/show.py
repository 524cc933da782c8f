"""Shows a sweep: its plan, its tables, its best cell."""

from collections.abc import Iterable, Sequence, Set
from pathlib import Path
from typing import TYPE_CHECKING

from rich.text import Text

from specdec_bench.archive import RunDirectory
from specdec_bench.compare.columns import metric_value
from specdec_bench.config.schema.experiment import Order
from specdec_bench.metrics.declared import Direction
from specdec_bench.records.unused import UnusedTree
from specdec_bench.report.console import console
from specdec_bench.report.run_table import dataset_warnings
from specdec_bench.report.text import literal
from specdec_bench.runner.cell import mark_interrupted
from specdec_bench.sweep.directory import SweepDirectory
from specdec_bench.sweep.plan import PlannedCell, in_running_order, num_engine_starts
from specdec_bench.sweep.plan_table import plan_table

if TYPE_CHECKING:
    from specdec_bench.compare.cell import SweepResult


def show_plan(cells: Sequence[PlannedCell], done: Set[int], order: Order, *, shares_engines: bool) -> None:
    """Prints a sweep's cells in the order in which they would run."""
    to_run = [planned for planned in cells if planned.number not in done]
    starts = num_engine_starts(to_run, order) if shares_engines else len(to_run)
    screen = console()
    print_unused((cell.config.dataset.name, cell.origin.get("unused")) for cell in (one.cell for one in cells))
    screen.print(plan_table(in_running_order(cells, order) if shares_engines else cells, done))
    screen.print(
        f"{len(cells)} cells, {len(done)} done; {len(to_run)} to run with {starts} engine starts"
        + ("" if shares_engines else " (under this launcher every job starts its own)"),
        soft_wrap=True,
    )


def show_sweep(sweep: SweepDirectory, archived: Sequence[RunDirectory]) -> "SweepResult | None":
    """Computes a sweep's tables, writes them beside its cells, prints and draws them, and returns them.

    Returns:
        None if no cell has a run.
    """
    from specdec_bench.report.html.page import collect_with_details, write_sweep_report
    from specdec_bench.report.sweep_plots import write_sweep_plots
    from specdec_bench.report.sweep_table import print_sweep, write_tables

    found = sweep.found()
    for line in found.not_taken:
        show_line(line)
    if not found.runs:
        return None
    result, details = collect_with_details(found.runs, archived)
    write_tables(result, sweep.path)
    write_sweep_plots(result, sweep.path)
    write_sweep_report(result, found.runs, details, sweep.path)
    datasets = (run.manifest().dataset for run in found.runs.values())
    print_unused((dataset.name or "", dataset.unused or None) for dataset in datasets)
    print_sweep(result, console(), path=str(sweep.path))
    return result


def show_line(text: str) -> None:
    """Prints a line about a sweep's folder."""
    console().print(text, markup=False, soft_wrap=True)


def print_unused(datasets: Iterable[tuple[str, UnusedTree | None]]) -> None:
    """Prints which parts of their datasets the cells do not use, each line once.

    Args:
        datasets: the name of each cell's dataset, and what is not used of it.
    """
    found = ((name, line) for name, unused in datasets for line in dataset_warnings(unused or {}))
    for name, line in dict.fromkeys(found):
        console().print(Text(literal(f"dataset={name}: {line}"), style="bold red"), soft_wrap=True)


def close_abandoned(run_dirs: Sequence[Path]) -> None:
    """Marks runs as interrupted if their processes ended without saying how."""
    for path in run_dirs:
        if RunDirectory.is_run(path) and (run := RunDirectory.open(path)).manifest().status == "started":
            mark_interrupted(run, "its process ended without saying how")


def show_best(sweep: SweepDirectory, objective: str, better: Direction) -> None:
    """Prints which of a search's finished cells has the best objective."""
    finished = [(number, run) for number, run in sweep.runs() if run.manifest().status == "finished"]
    values = {
        number: (value, run)
        for number, run in finished
        if (value := metric_value(run.summary(), objective)) is not None
    }
    if values:
        value, run = (min if better == "minimize" else max)(values.values(), key=lambda pair: pair[0])
        console().print(
            f"best {objective} of {len(values)} cells: {value:.6g} in {run.path} "
            f"({' '.join(run.manifest().overrides)})",
            markup=False,
            soft_wrap=True,
        )
